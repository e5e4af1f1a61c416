import gc
import os
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

import pyarrow as pa
from pyspark.sql import Row, SparkSession

MOST_TASKS = 50  # more than the idle workers of earlier tests, which take turns


def test_what_a_worker_has_imported_is_not_collected_after_each_task(spark: SparkSession) -> None:
    def told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            frozen, others = gc.get_freeze_count(), len(gc.get_objects())
            sys.modules["a_module_that_comes"] = ModuleType("a_module_that_comes")
            figures = {"worker": [os.getpid()], "frozen": [frozen], "others": [others]}
            yield pa.RecordBatch.from_pydict(figures)

    asked = spark.range(1).coalesce(1).mapInArrow(told, "worker long, frozen long, others long")
    told_by: dict[int, Row] = {}
    for _ in range(MOST_TASKS):
        (again,) = asked.collect()
        first = told_by.setdefault(again.worker, again)
        if first is not again:
            break

    assert first is not again
    assert again.frozen > first.frozen
    assert again.frozen > again.others


def test_no_archive_is_read_before_each_task(spark: SparkSession) -> None:
    def told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            read = [entry for entry in sys.path_importer_cache if os.path.isfile(entry)]
            yield pa.RecordBatch.from_pydict({"read": [read]})

    (row,) = spark.range(1).coalesce(1).mapInArrow(told, "read array<string>").collect()

    assert row.read == []
