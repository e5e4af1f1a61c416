"""Input that a rule turned away before bronze: judged, not kept, and why."""

from typing import Final

from pyspark.sql.types import IntegerType, LongType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "ops.rejects"
GRAIN: Final = "one input that a rule turned away, at one attempt"
KEY: Final = ("stage", "input_id")
SCHEMA: Final = StructType(
    [
        field("stage", StringType(), "stage that turned it away"),
        field(
            "input_id",
            StringType(),
            "sha256, hex, over the stage, what the input is known by and the attempt",
        ),
        field("reason", StringType(), "one of schemas.reject_reasons"),
        field(
            "detail",
            StringType(),
            "value and limit, the directive or the id of the blocklist; never the content",
            nullable=True,
        ),
        field(
            "matched",
            StringType(),
            "the hash or domain that stands on a blocklist",
            nullable=True,
        ),
        field("attempt", IntegerType(), "0 the first time; one more at each retry"),
        field("dump", StringType(), "name of the delivery"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("sample_key", StringType(), "key of the item; null if blocklisted", nullable=True),
        field("sample_id", StringType(), "name the sample has or would have", nullable=True),
        field("url", StringType(), "of the item; null if blocklisted or tombstoned", nullable=True),
        field("size_bytes", LongType(), "of the media, if it was read", nullable=True),
        field("rejected_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("rejected_at", "batch", "run_id")
CLUSTER_BY: Final = ("reason",)
CHECKS: Final[dict[str, str]] = {}
