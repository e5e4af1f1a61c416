"""What later images are compared with: a perceptual hash for each content, sorted by hash."""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType

from schemas.field import field
from schemas.layout import Layout

TABLE: Final = "silver.phash_index"
GRAIN: Final = "one distinct image"
KEY: Final = ("node",)
SCHEMA: Final = StructType(
    [
        field("phash", LongType(), "64-bit DCT hash, signed"),
        field(
            "mirrored_phash",
            LongType(),
            "that of the mirror image; null where mirror images are not looked for",
            nullable=True,
        ),
        field("node", LongType(), "ordinal of the first sample that brought the image"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("phash",), delta=("phash", "node"))
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
