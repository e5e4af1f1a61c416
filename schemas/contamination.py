"""Samples that share content with a benchmark's item, by the registry as it was when they met.

A hit is a fact and is never taken back: what counts are the hits of the registry as it is now.
"""

from typing import Final

from pyspark.sql.types import FloatType, LongType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "silver.contamination"
GRAIN: Final = "one sample x benchmark item x method x registry"
KEY: Final = ("registry", "sample_id", "benchmark", "item_id", "method")
EXACT_TEXT: Final = "exact_text"
TEXT_13GRAM: Final = "text_13gram"
TEXT_8GRAM: Final = "text_8gram"
EXACT_IMAGE: Final = "exact_image"
PHASH: Final = "phash"
COSINE: Final = "cosine"
METHODS: Final = (EXACT_TEXT, TEXT_13GRAM, TEXT_8GRAM, EXACT_IMAGE, PHASH, COSINE)
SCHEMA: Final = StructType(
    [
        field("registry", StringType(), "digest of ops.benchmark_items and of the methods' rules"),
        field("sample_id", StringType(), "the sample"),
        field("ingest_ordinal", LongType(), "the sample's order of arrival"),
        field("benchmark", StringType(), "name of the benchmark"),
        field("item_id", StringType(), "its item"),
        field("method", StringType(), f"what they share: {', '.join(METHODS)}"),
        field(
            "score",
            FloatType(),
            "text_*gram: share of the item's n-grams; phash: 1 - Hamming distance / 64; cosine of"
            " the embeddings; exact_*: 1",
        ),
        field("found_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("found_at", "batch", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final = {
    "known_method": f"method IN ({', '.join(map(repr, METHODS))})",
    "score_is_share": "score > 0 AND score <= 1.001",
}
