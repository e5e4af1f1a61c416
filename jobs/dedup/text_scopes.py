"""Within what texts are compared: all that ever came, their dump, or it and its neighbours.

Dumps stand in the order in which their first shard was discovered, which nothing that comes later
changes: a dump that is added goes behind all others, wherever the configuration lists it. Each has
two windows, one with the dump before it and one with the dump after it, whether that has come or
not; texts that share a window are compared.
"""

from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructType

from jobs.runtime.config import Dedup
from jobs.runtime.tables import Warehouse
from schemas import shards
from schemas.field import field

_WINDOWS: Final = StructType(
    [
        field("dump", StringType(), "name of the delivery"),
        field("scopes", ArrayType(StringType()), "its windows"),
    ]
)
# Scopes of a text, by `dedup.text_scope`.
EACH: Final = {"all": 1, "dump": 1, "neighbours": 2}


def scoped(warehouse: Warehouse, texts: DataFrame, settings: Dedup) -> DataFrame:
    """Texts with their `scopes`, an array of `EACH` strings; where all are compared, without.

    Args:
        warehouse: knows the order of dumps.
        texts: `dump` and more; a dump that was never discovered fails the task.
        settings: the scope.
    """
    if not settings.is_by_dump:
        return texts
    if settings.text_scope == "dump":
        return texts.withColumn("scopes", F.array("dump"))
    said = F.concat(F.lit("no shard was discovered of the dump "), "dump")
    known = F.coalesce("scopes", F.raise_error(said))
    return texts.join(F.broadcast(_windows(warehouse)), "dump", "left").withColumn("scopes", known)


def _windows(warehouse: Warehouse) -> DataFrame:
    """`dump`, `scopes`; rows of the driver, as the configuration's dumps are."""
    first = warehouse.read(shards.TABLE).groupBy("dump").agg(F.min("shard_ordinal").alias("first"))
    rows = [
        {"dump": row.dump, "scopes": [str(place), str(place + 1)]}
        for place, row in enumerate(first.orderBy("first").collect())
    ]
    return warehouse.local(rows, _WINDOWS)
