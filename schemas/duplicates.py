"""The verdict of each kind of duplicate search on each sample, "unique" included.

The table is also the index that later batches are matched against.
"""

from typing import Final

from pyspark.sql.types import (
    BooleanType,
    FloatType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.duplicates"
GRAIN: Final = "one sample x kind"
KEY: Final = ("kind", "sample_id")
KINDS: Final = ("exact_pair", "exact_media", "phash")
SCHEMA: Final = StructType(
    [
        field(
            "kind",
            StringType(),
            "exact_pair (text and bytes), exact_media (bytes) or phash (hash within the radius)",
        ),
        field("sample_id", StringType(), "the sample"),
        field("ingest_ordinal", LongType(), "the sample's order of arrival"),
        field("media_sha256", StringType(), "its image"),
        field(
            "fingerprint",
            StringType(),
            "what the kind compares: hex digest, or the 64-bit hash as 16 hex digits",
        ),
        field("is_duplicate", BooleanType(), "an earlier sample matches"),
        field(
            "representative_id",
            StringType(),
            "earliest matching sample; the sample itself when unique",
        ),
        field("similarity", FloatType(), "1 = equal; phash: 1 - Hamming distance / 64"),
        field("cluster_id", StringType(), "sample that the chain of representatives ends in"),
        field("decided_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("decided_at", "batch", "run_id")
CLUSTER_BY: Final = ("kind", "fingerprint")
CHECKS: Final = {"unique_represents_itself": "is_duplicate OR representative_id = sample_id"}
