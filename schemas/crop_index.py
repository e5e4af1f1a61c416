"""What later images are found by as crops: the telling hashes of each distinct one, in order."""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType

from schemas.field import field
from schemas.layout import Layout

TABLE: Final = "silver.crop_index"
GRAIN: Final = "one hash of one distinct image"
KEY: Final = ("node", "hash")
SCHEMA: Final = StructType(
    [
        field("hash", LongType(), "64-bit difference hash of a segment, signed"),
        field("node", LongType(), "ordinal of the first sample that brought the image"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("hash",), delta=("hash", "node"))
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
