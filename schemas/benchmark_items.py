"""What must not be trained on: items of the benchmarks that models are measured with.

Held are their texts and what their images are known by, never the images.
"""

from typing import Final

from pyspark.sql.types import (
    BinaryType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "ops.benchmark_items"
GRAIN: Final = "one item of one benchmark"
KEY: Final = ("benchmark", "item_id")
SCHEMA: Final = StructType(
    [
        field("benchmark", StringType(), "name of the benchmark"),
        field("item_id", StringType(), "the item's own id, or its place in what was added"),
        field("text", StringType(), "its text; null: it has none", nullable=True),
        field("text_sha256", StringType(), "sha256 of the text's UTF-8 bytes, hex", nullable=True),
        field("media_sha256", StringType(), "sha256 of its image's bytes, hex", nullable=True),
        field(
            "phash",
            LongType(),
            "64-bit DCT perceptual hash of the image, as in silver.image_signals",
            nullable=True,
        ),
        field("embedding", BinaryType(), "unit vector, little-endian float16", nullable=True),
        field(
            "embedding_model",
            StringType(),
            "sha256 of the CLIP image network that gave it; only its own are compared",
            nullable=True,
        ),
        field("added_at", TimestampType(), "UTC"),
        field("run_id", StringType(), "run that added it"),
    ]
)
VOLATILE: Final = ("added_at", "run_id")
CLUSTER_BY: Final = ()
CHECKS: Final = {"has_content": "text IS NOT NULL OR media_sha256 IS NOT NULL"}
