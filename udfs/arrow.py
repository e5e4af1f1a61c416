"""Rows of Python values as Arrow, typed by a table's schema."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import MapType, StructType


def record_batch(rows: Sequence[Mapping[str, object]], schema: StructType) -> pa.RecordBatch:
    """One record batch of the schema's columns; a key that a row lacks is null.

    >>> from pyspark.sql.types import LongType
    >>> record_batch([{"n": 1}, {}], StructType().add("n", LongType())).column("n").to_pylist()
    [1, None]
    """
    arrow = to_arrow_schema(schema)
    columns = []
    for f, target in zip(schema.fields, arrow, strict=True):
        values = [row.get(f.name) for row in rows]
        if isinstance(f.dataType, MapType):
            # Arrow takes a map as its pairs.
            values = [None if value is None else list(value.items()) for value in values]  # type: ignore[attr-defined]
        columns.append(pa.array(values, type=target.type))
    return pa.RecordBatch.from_arrays(columns, schema=arrow)
