"""What the keep rule compares: nothing, when the first of a cluster stands for it, or a signal."""

from collections.abc import Mapping
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.lookup import lookup
from jobs.runtime.tables import Warehouse, belonging
from schemas import image_signals, pairs, text_signals

FIRST: Final = "first"


def scored(
    rows: DataFrame, warehouse: Warehouse, keep: str, columns: Mapping[str, str]
) -> DataFrame:
    """Rows with the scores of the samples that they name.

    Args:
        rows: any.
        warehouse: holds pairs and signals.
        keep: `first`, or a numeric column of pairs, image signals or text signals.
        columns: column of ordinals -> name of the new column; it is null where the rule is
            `first`, or nothing was measured.
    """
    if keep == FIRST:
        return rows.withColumns({name: F.lit(None).cast("double") for name in columns.values()})
    named = rows.select(F.explode(F.array(*columns)).alias("ingest_ordinal")).distinct()
    best = _scores(warehouse, keep, named).localCheckpoint()
    for ordinal, name in columns.items():
        of_column = best.select(F.col("ingest_ordinal").alias(ordinal), F.col("score").alias(name))
        rows = rows.join(of_column, ordinal, "left")
    return rows


def _scores(warehouse: Warehouse, keep: str, ordinals: DataFrame) -> DataFrame:
    """`ingest_ordinal`, `score` of the samples that were measured, one row each."""
    keys = ("media_sha256", "text_sha256")
    own = [keep] if keep in pairs.SCHEMA.names else []
    paired = lookup(warehouse, pairs.TABLE, "ingest_ordinal", ordinals, (*keys, *own))
    if not own:
        paired = paired.localCheckpoint()
        module, key = (
            (image_signals, keys[0])
            if keep in image_signals.SCHEMA.names
            else (text_signals, keys[1])
        )
        measured = belonging(warehouse.read(module.TABLE).select(key, keep), paired, key)
        paired = paired.join(measured, key, "left")
    # Of several signal sets the best value: which came first would depend on the batches.
    return paired.groupBy("ingest_ordinal").agg(F.max(F.col(keep).cast("double")).alias("score"))
