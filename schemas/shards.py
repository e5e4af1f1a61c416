"""The manifest: every shard of every dump, and every reading of it that was asked for."""

from typing import Final

from pyspark.sql.types import IntegerType, LongType, MapType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "bronze.shards"
GRAIN: Final = "one shard of one dump, at one revision"
KEY: Final = ("dump", "shard", "revision")
SCHEMA: Final = StructType(
    [
        field("dump", StringType(), "name of the delivery, from the configuration"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("revision", IntegerType(), "0 as first discovered; one more at each later row"),
        field(
            "cause",
            StringType(),
            "new; changed: it is not what it was, nothing is read; retry: read again for what is"
            " not there yet",
        ),
        field("root", StringType(), "the dump's root when the shard was discovered"),
        field("format", StringType(), "source that reads it, e.g. webdataset"),
        field(
            "options",
            MapType(StringType(), StringType()),
            "what the configuration says of such a dump, e.g. which column holds the URL",
        ),
        field("size_bytes", LongType(), "size at discovery"),
        field("modified_at", TimestampType(), "modification time at discovery, UTC"),
        field(
            "first_position",
            LongType(),
            "item of the shard that the reading begins with: 0, or where the one before stopped",
        ),
        field(
            "shard_ordinal",
            LongType(),
            "dense, from 0, in order of discovery; a shard read on keeps its own",
        ),
        field("discovered_at", TimestampType(), "when the manifest took it up, UTC"),
        field("run_id", StringType(), "run that discovered it"),
    ]
)
VOLATILE: Final = ("root", "modified_at", "discovered_at", "run_id")
CLUSTER_BY: Final = ("dump",)
CHECKS: Final = {
    "size_not_negative": "size_bytes >= 0",
    "first_position_not_negative": "first_position >= 0",
}
