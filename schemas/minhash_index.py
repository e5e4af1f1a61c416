"""What later texts are compared with: a key for each band of a text's MinHash, sorted by key."""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType

from schemas.field import field
from schemas.layout import Layout

TABLE: Final = "silver.minhash_index"
GRAIN: Final = "one band of one distinct text"
KEY: Final = ("node", "key")
SCHEMA: Final = StructType(
    [
        field("key", LongType(), "64-bit hash of the band's number and its rows' least hashes"),
        field("node", LongType(), "ordinal of the first sample that brought the text"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("key",), delta=("key", "node"))
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
