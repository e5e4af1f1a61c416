import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql.types import ArrayType, LongType, StringType, StructType

from schemas.field import field
from udfs.signal_function import signal_function

SIGNALS = StructType(
    [
        field("key", StringType(), "k"),
        field("size", LongType(), "of the content", nullable=True),
        field("sizes", ArrayType(StructType([field("size", LongType(), "s")])), "x", nullable=True),
    ]
)
LARGE = 2**62 + 1  # no float holds it


def operator(batches):
    """Rows one by one: other batches than came."""
    for batch in batches:
        for content in batch["content"].to_pylist():
            size = None if content is None else LARGE + len(content)
            row = {"key": "x", "size": size, "sizes": None if size is None else [{"size": size}]}
            yield pa.RecordBatch.from_pylist([row])


def said(columns: list[str], *values: bytes | None):
    function = signal_function(operator, columns, value="content", signals=SIGNALS)
    return list(function.func(iter([pd.Series(list(values)), pd.Series([b"last"])])))


def test_one_column_gives_its_values_whole_numbers_whole() -> None:
    assert [value for series in said(["size"], b"a", None) for value in series] == [
        LARGE + 1,
        None,
        LARGE + 4,
    ]


def test_more_columns_give_a_struct() -> None:
    frames = said(["key", "size"], b"a", None)

    assert [tuple(row) for frame in frames for row in frame.itertuples(index=False)] == [
        ("x", LARGE + 1),
        ("x", None),
        ("x", LARGE + 4),
    ]


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (["size"], "bigint"),
        (["key", "size"], "struct<key:string,size:bigint>"),
        (["sizes"], "array<struct<size:bigint>>"),
    ],
)
def test_the_type_is_that_of_the_table_without_its_comments(columns: list[str], kind: str) -> None:
    function = signal_function(operator, columns, value="content", signals=SIGNALS)

    assert function.returnType.simpleString() == kind
    assert "metadata" not in function.returnType.json().replace('"metadata":{}', "")
