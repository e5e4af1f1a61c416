"""Items whose image and text have both been scored, with what only the two together tell."""

from typing import Final

from pyspark.sql.types import FloatType, LongType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "silver.pairs"
GRAIN: Final = "one sample x signal sets"
KEY: Final = ("sample_id", "signal_set")
SCHEMA: Final = StructType(
    [
        field("sample_id", StringType(), "the sample"),
        field("ingest_ordinal", LongType(), "the sample's order of arrival"),
        field("media_sha256", StringType(), "its image"),
        field("text_sha256", StringType(), "its text"),
        field(
            "clip_score",
            FloatType(),
            "cosine of the two CLIP embeddings, in [-1, 1]",
            nullable=True,
        ),
        field("image_signal_set", StringType(), "signal set of the image's row"),
        field("text_signal_set", StringType(), "signal set of the text's row"),
        field("signal_set", StringType(), "digest of the two"),
        field("paired_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("paired_at", "batch", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final = {
    "clip_score_is_cosine": "clip_score IS NULL OR clip_score BETWEEN -1.001 AND 1.001"
}
