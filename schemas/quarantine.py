"""Input that could not be judged, with the error and never the content."""

from typing import Final

from pyspark.sql.types import IntegerType, LongType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "ops.quarantine"
GRAIN: Final = "one bad input or poisoned row"
KEY: Final = ("quarantine_id",)
SCHEMA: Final = StructType(
    [
        field(
            "quarantine_id",
            StringType(),
            "sha256, hex, over the stage and what the input is known by",
        ),
        field("stage", StringType(), "stage that met it"),
        field("error_class", StringType(), "one of schemas.error_classes"),
        field(
            "detail",
            StringType(),
            "what went wrong, at most 500 characters, never the content",
            nullable=True,
        ),
        field("dump", StringType(), "name of the delivery"),
        field("shard", StringType(), "path relative to the dump's root"),
        field(
            "sample_key", StringType(), "key of the item in its shard, if it has one", nullable=True
        ),
        field("member", StringType(), "name of the member met, escaped", nullable=True),
        field("shard_offset_bytes", LongType(), "where in the shard", nullable=True),
        field("size_bytes", LongType(), "size as declared, if known", nullable=True),
        field("url", StringType(), "of the item, if it has one", nullable=True),
        field("host", StringType(), "of that URL, ASCII", nullable=True),
        field("position", LongType(), "of the entry in its shard, from 0", nullable=True),
        field("attempt", IntegerType(), "0 the first time; one more at each retry"),
        field("sample_id", StringType(), "the sample, if ingest had accepted it", nullable=True),
        field("media_sha256", StringType(), "the media, if it was read", nullable=True),
        field("quarantined_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("quarantined_at", "batch", "run_id")
CLUSTER_BY: Final = ("error_class",)
CHECKS: Final[dict[str, str]] = {}
