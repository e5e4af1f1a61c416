"""What later samples are compared with exactly: 128 bits of a fingerprint for each content."""

from typing import Final

from pyspark.sql.types import DoubleType, LongType, StringType, StructType

from schemas.field import field
from schemas.layout import Layout

TABLE: Final = "silver.exact_index"
GRAIN: Final = "one content of a kind, and a row each time a better sample stands for it"
KEY: Final = ("kind", "high", "low", "survivor")
SCHEMA: Final = StructType(
    [
        field("kind", StringType(), "exact kind, as in silver.duplicates"),
        field("high", LongType(), "first 64 bits of the content's fingerprint, signed"),
        field("low", LongType(), "the next 64"),
        field("node", LongType(), "ordinal of the first sample that brought the content"),
        field("survivor", LongType(), "ordinal of the sample that stands for it"),
        field("score", DoubleType(), "of the survivor; null: the first is kept", nullable=True),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("kind", "high"), repeating=("kind", "batch"))
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
