"""What later clips are found by: the telling hashes of each distinct clip, sorted by hash."""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType

from schemas.field import field
from schemas.layout import Layout

TABLE: Final = "silver.clip_index"
GRAIN: Final = "one hash of one distinct clip"
KEY: Final = ("node", "phash")
SCHEMA: Final = StructType(
    [
        field("phash", LongType(), "64-bit DCT hash of a run of its frames, signed"),
        field("node", LongType(), "ordinal of the first that brought the clip"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("phash",), delta=("phash", "node"))
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
