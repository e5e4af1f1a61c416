"""A signal as a column function, for SQL and notebooks: the stage's own operator over a column."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql.types import ArrayType, DataType, StructField, StructType

from udfs.column_function import column_function

Operator = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]


def signal_function(
    operator: Operator, columns: Sequence[str], *, value: str, signals: StructType
) -> Callable[..., Column]:
    """Iterator pandas UDF ``(images or texts) -> what the operator says of them``.

    Its values are those of the stage's columns, since the operator is the stage's. What is null
    or refused gives null.

    Args:
        operator: (key, value) batches -> rows of ``signals``, same order and count.
        columns: those to return: of one its values, of more a struct.
        value: the operator's name for what it looks at, ``content`` or ``caption``.
        signals: what the operator emits; its first column is the key.
    """
    key = signals.names[0]

    def scored(values: Iterator[pd.Series]) -> Iterator[pa.RecordBatch]:
        return iter(operator(_batches(values, key, value)))

    def one(values: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for rows in scored(values):
            yield _objects(rows[columns[0]])

    def many(values: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for rows in scored(values):
            yield pd.DataFrame({column: _objects(rows[column]) for column in columns})

    if len(columns) == 1:
        return column_function(one, _plain(signals[columns[0]].dataType))
    return column_function(many, _plain(StructType([signals[column] for column in columns])))


def _plain(dtype: DataType) -> DataType:
    """The type without comments: Spark finds what a function gives to be of another type."""
    if isinstance(dtype, ArrayType):
        return ArrayType(_plain(dtype.elementType))
    if isinstance(dtype, StructType):
        return StructType([StructField(f.name, _plain(f.dataType)) for f in dtype])
    return dtype


def _batches(values: Iterator[pd.Series], key: str, value: str) -> Iterator[pa.RecordBatch]:
    seen = 0
    for series in values:
        keys = [str(number) for number in range(seen, seen + len(series))]
        seen += len(series)
        content = pa.Array.from_pandas(series)
        yield pa.RecordBatch.from_arrays([pa.array(keys, pa.string()), content], [key, value])


def _objects(column: pa.Array) -> pd.Series:
    # As objects: a missing 64-bit hash would make floats of all its neighbours.
    return pd.Series(column.to_pylist(), dtype=object)
