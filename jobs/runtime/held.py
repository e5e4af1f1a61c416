"""A frame that is computed once, and what was counted of it on the way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F


@dataclass(frozen=True, kw_only=True)
class Held:
    """Rows that executors hold; lost with an executor: the batch then fails and runs again.

    Attributes:
        frame: the rows.
        rows: how many.
        said: name of an aggregate -> its value.
    """

    frame: DataFrame
    rows: int
    said: Mapping[str, Any]

    def within(self, key: str) -> Column:
        """A condition on other rows, as `tables.within`, of a frame held with its `span`."""
        return F.col(key).between(self.said["least"], self.said["greatest"])


def computed(frame: DataFrame) -> DataFrame:
    """The frame's rows as they are now, on the disks of executors.

    Not in their memory: 5 M links beside the tasks that read them were more than the heap of an
    executor of 700 MB (exit 52, `make bench-components`).
    """
    return frame.localCheckpoint(storageLevel=StorageLevel.DISK_ONLY)


def span(key: str) -> dict[str, Column]:
    """Aggregates for `held`: the least and the greatest of a key."""
    return {"least": F.min(key), "greatest": F.max(key)}


def held(frame: DataFrame, **aggregates: Column) -> Held:
    """Compute a frame, and count it without a job more.

    The counting is the last step of the job, where Spark counts a task once however often it is
    tried: an aggregate is as exact as a query's.

    Args:
        frame: to compute.
        aggregates: of all its rows, such as ``last=F.max("ingest_ordinal")``.
    """
    counting = Observation()
    named = [value.alias(name) for name, value in aggregates.items()]
    rows = computed(frame.observe(counting, F.count(F.lit(1)).alias("rows"), *named))
    said = counting.get
    return Held(frame=rows, rows=said["rows"], said={name: said[name] for name in aggregates})
