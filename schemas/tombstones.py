"""What was taken down: a re-crawl does not bring it back."""

from typing import Final

from pyspark.sql.types import StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "ops.tombstones"
GRAIN: Final = "one removed key"
KEY: Final = ("kind", "key")
SCHEMA: Final = StructType(
    [
        field("kind", StringType(), "sample_id, media_sha256 or url_sha256: what the key names"),
        field("key", StringType(), "the digest, hex, lower case; never the content"),
        field("removed_at", TimestampType(), "UTC"),
        field("run_id", StringType(), "run that removed it"),
    ]
)
VOLATILE: Final = ("removed_at", "run_id")
CLUSTER_BY: Final = ()
CHECKS: Final = {"known_kind": "kind IN ('sample_id', 'media_sha256', 'url_sha256')"}
