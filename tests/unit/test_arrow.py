import pyarrow as pa
from pyspark.sql.types import LongType, MapType, StringType, StructType

from udfs.arrow import record_batch

SCHEMA = StructType().add("n", LongType()).add("m", MapType(StringType(), StringType()))


def test_rows_become_columns_and_what_is_missing_is_null() -> None:
    batch = record_batch([{"n": 1, "m": {"a": "b"}}, {"m": None}, {"m": {}}], SCHEMA)

    assert batch.column("n").to_pylist() == [1, None, None]
    assert batch.column("m").to_pylist() == [[("a", "b")], None, []]
    assert pa.types.is_map(batch.schema.field("m").type)


def test_no_rows_are_an_empty_batch_of_the_schema() -> None:
    assert record_batch([], SCHEMA).num_rows == 0
