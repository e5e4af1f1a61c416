"""Where later embeddings look for near ones: cells and a code of each image, sorted by cell."""

from typing import Final

from pyspark.sql.types import BinaryType, IntegerType, LongType, StringType, StructType

from schemas.field import field
from schemas.layout import Layout

TABLE: Final = "silver.semantic_index"
GRAIN: Final = "one distinct image whose embedding has a direction x cell"
KEY: Final = ("node", "cell")
SCHEMA: Final = StructType(
    [
        field("cell", IntegerType(), "number of a centroid in silver.centroids"),
        field("node", LongType(), "ordinal of the first sample that brought the image"),
        field("code", BinaryType(), "sides of 512 hyperplanes that the embedding lies on"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("cell", "node"))
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
