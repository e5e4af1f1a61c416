"""A column with its comment, as every table module writes it."""

from pyspark.sql.types import DataType, StructField


def field(name: str, dtype: DataType, comment: str, *, nullable: bool = False) -> StructField:
    """A column whose comment travels into the Delta table.

    >>> from pyspark.sql.types import LongType
    >>> field("size_bytes", LongType(), "size of the member").metadata
    {'comment': 'size of the member'}
    """
    return StructField(name, dtype, nullable, {"comment": comment})
