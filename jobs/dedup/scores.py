"""What the keep rule compares: nothing, when the first of a cluster stands for it, or a signal."""

from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.lookup import lookup
from jobs.runtime.tables import Warehouse, belonging
from schemas import image_signals, pairs, text_signals

FIRST: Final = "first"


def scores(warehouse: Warehouse, keep: str, ordinals: DataFrame) -> DataFrame:
    """The score of each sample; null where the rule is `first`, or nothing was measured.

    Args:
        warehouse: holds pairs and signals.
        keep: `first`, or a numeric column of pairs, image signals or text signals.
        ordinals: `ingest_ordinal`, distinct.

    Returns:
        `ingest_ordinal`, `score`, one row each.
    """
    if keep == FIRST:
        return ordinals.withColumn("score", F.lit(None).cast("double"))
    keys = ("media_sha256", "text_sha256")
    own = [keep] if keep in pairs.SCHEMA.names else []
    paired = lookup(warehouse, pairs.TABLE, "ingest_ordinal", ordinals, (*keys, *own))
    paired = paired.localCheckpoint()
    if not own:
        module, key = (
            (image_signals, keys[0])
            if keep in image_signals.SCHEMA.names
            else (text_signals, keys[1])
        )
        measured = belonging(warehouse.read(module.TABLE).select(key, keep), paired, key)
        paired = paired.join(measured, key, "left")
    # Of several signal sets the best value: which came first would depend on the batches.
    best = paired.groupBy("ingest_ordinal").agg(F.max(F.col(keep).cast("double")).alias("score"))
    return ordinals.join(best, "ingest_ordinal", "left")
