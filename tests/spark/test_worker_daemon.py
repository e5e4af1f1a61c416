import gc
import os
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

import pyarrow as pa
from pyspark.sql import SparkSession

TASKS = 6  # more than Spark keeps workers for one task at a time on two cores


def test_what_a_worker_has_imported_is_not_collected_after_each_task(spark: SparkSession) -> None:
    def told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            frozen, others = gc.get_freeze_count(), len(gc.get_objects())
            sys.modules["a_module_that_comes"] = ModuleType("a_module_that_comes")
            figures = {"worker": [os.getpid()], "frozen": [frozen], "others": [others]}
            yield pa.RecordBatch.from_pydict(figures)

    asked = spark.range(1).coalesce(1).mapInArrow(told, "worker long, frozen long, others long")
    rows = [row for _ in range(TASKS) for row in asked.collect()]

    again = next(row for n, row in enumerate(rows) if row.worker in {r.worker for r in rows[:n]})
    first = next(row for row in rows if row.worker == again.worker)
    assert again.frozen > first.frozen
    assert again.frozen > again.others
