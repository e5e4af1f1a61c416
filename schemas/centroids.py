"""What the cells of `silver.semantic_index` are: found once, the same until it is built anew."""

from typing import Final

from pyspark.sql.types import (
    BinaryType,
    DoubleType,
    IntegerType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.centroids"
GRAIN: Final = "the centroids of the index: one row"
KEY: Final = ("digest",)
SCHEMA: Final = StructType(
    [
        field("digest", StringType(), "sha256 of the shape and the bytes of the vectors"),
        field("k", IntegerType(), "how many; cells are 0 to k - 1"),
        field("dimension", IntegerType(), "length of an embedding"),
        field("clip_model", StringType(), "sha256 of the network whose embeddings they divide"),
        field("vectors", BinaryType(), "k x dimension unit vectors, row by row, float32 LE"),
        field(
            "mean_cosine",
            DoubleType(),
            "mean cosine to the nearest centroid of embeddings that were not fitted, in [-1, 1]",
        ),
        field("low_cosine", DoubleType(), "1 % quantile of the same"),
        field("trained_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("trained_at", "batch")
CLUSTER_BY: Final = ()
CHECKS: Final = {"is_whole": "length(vectors) = 4L * k * dimension"}
