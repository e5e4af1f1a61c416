"""Which samples another recipe would move, and why: no network runs."""

from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import curate
from jobs import recipe as recipes
from jobs.judged import Judged
from jobs.recipe import Recipe
from jobs.runtime.errors import NotFound
from jobs.runtime.tables import Warehouse

COLUMNS: Final = ("sample_id", "movement", "reasons_before", "reasons_after")


def diff(warehouse: Warehouse, judged: Judged, before: Recipe, after: Recipe) -> DataFrame:
    """The samples that one recipe keeps and the other does not.

    Args:
        warehouse: has the tables.
        judged: what both judge.
        before: the recipe as it is.
        after: the recipe as it would be.

    Returns:
        `sample_id`, `movement` (joins or leaves), the reasons under both (struct arrays).

    Raises:
        NotFound: nothing of what they judge is there yet.
    """
    if not warehouse.exists(judged.table):
        raise NotFound(f"table {judged.table} is not in {warehouse.root}; run the pipeline first")
    registry = before.registry or after.registry
    candidates = curate.all_candidates(warehouse, judged, registry)
    told = candidates.select(
        "sample_id",
        recipes.reasons(before).alias("reasons_before"),
        recipes.reasons(after).alias("reasons_after"),
    )
    was_kept, is_kept = F.size("reasons_before") == 0, F.size("reasons_after") == 0
    return (
        told.where(was_kept != is_kept)
        .withColumn("movement", F.when(is_kept, "joins").otherwise("leaves"))
        .select(*COLUMNS)
    )


def summary(moved: DataFrame) -> list[dict[str, object]]:
    """How many move, by direction and by the reason that is new or gone."""
    deciding = F.when(F.col("movement") == "leaves", F.col("reasons_after")).otherwise(
        F.col("reasons_before")
    )
    counted = (
        moved.withColumn("reason", F.get(deciding, F.lit(0))["reason"])
        .groupBy("movement", "reason")
        .count()
        .orderBy("movement", F.desc("count"), "reason")
    )
    return [row.asDict() for row in counted.collect()]
