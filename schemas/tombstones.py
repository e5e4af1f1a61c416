"""What was taken down: a re-crawl does not bring it back."""

from typing import Final

from pyspark.sql.types import StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "ops.tombstones"
GRAIN: Final = "one removed key: as asked for, or of a sample that such a key named"
KEY: Final = ("kind", "key")
SCHEMA: Final = StructType(
    [
        field("kind", StringType(), "sample_id, media_sha256 or url_sha256: what the key names"),
        field("key", StringType(), "the digest, hex, lower case; never the content"),
        field(
            "asked",
            StringType(),
            "the key that was asked for, as kind:key: itself, or what a sample was found by",
        ),
        field("reason", StringType(), "why, as told by who asked; null: not told", nullable=True),
        field("removed_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that removed it"),
    ]
)
VOLATILE: Final = ("removed_at", "batch", "run_id")
CLUSTER_BY: Final = ()
SAMPLE: Final = "sample_id"
MEDIA: Final = "media_sha256"
URL: Final = "url_sha256"
KINDS: Final = (SAMPLE, MEDIA, URL)
CHECKS: Final = {"known_kind": f"kind IN ({', '.join(map(repr, KINDS))})"}
