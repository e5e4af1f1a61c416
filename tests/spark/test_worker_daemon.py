import gc
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession


def test_what_a_worker_has_imported_is_not_collected_after_each_task(spark: SparkSession) -> None:
    def told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            figures = {"frozen": [gc.get_freeze_count()], "others": [len(gc.get_objects())]}
            yield pa.RecordBatch.from_pydict(figures)

    asked = spark.range(1).coalesce(1).mapInArrow(told, "frozen long, others long")
    (row,) = asked.collect()

    assert row.frozen > 5 * row.others
