"""The manifest: every shard of every dump, discovered once."""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "bronze.shards"
GRAIN: Final = "one shard of one dump"
KEY: Final = ("dump", "shard")
SCHEMA: Final = StructType(
    [
        field("dump", StringType(), "name of the delivery, from the configuration"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("uri", StringType(), "where the shard was when it was discovered"),
        field("format", StringType(), "source that reads it, e.g. webdataset"),
        field("size_bytes", LongType(), "size at discovery"),
        field("modified_at", TimestampType(), "modification time at discovery, UTC"),
        field("shard_ordinal", LongType(), "dense, from 0, in order of discovery"),
        field("discovered_at", TimestampType(), "when the manifest took it up, UTC"),
        field("run_id", StringType(), "run that discovered it"),
    ]
)
VOLATILE: Final = ("uri", "modified_at", "discovered_at", "run_id")
CLUSTER_BY: Final = ("dump",)
CHECKS: Final = {"size_not_negative": "size_bytes >= 0"}
