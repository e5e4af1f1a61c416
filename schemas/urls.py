"""Items whose media must be fetched: a URL and its text, as a dump lists them."""

from typing import Final

from pyspark.sql.types import IntegerType, LongType, MapType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "bronze.urls"
GRAIN: Final = "one item of one dump to be fetched, at one attempt"
KEY: Final = ("sample_id", "attempt")
SCHEMA: Final = StructType(
    [
        field(
            "sample_id",
            StringType(),
            "128 bits, hex, of sha256 over (dump, shard, sample_key, occurrence)",
        ),
        field(
            "ingest_ordinal",
            LongType(),
            "order of arrival, what first means: shard ordinal * 2^32 + position",
        ),
        field("attempt", IntegerType(), "0 as the dump brought it; one more at each retry"),
        field("dump", StringType(), "name of the delivery"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("sample_key", StringType(), "key of the item in its shard"),
        field("occurrence", IntegerType(), "0 for the first item of this key in the shard"),
        field("caption", StringType(), "text as delivered, UTF-8"),
        field("text_sha256", StringType(), "sha256 of the caption's UTF-8 bytes, hex"),
        field("url", StringType(), "where the media is to be had, as delivered"),
        field("url_sha256", StringType(), "sha256 of the normalised URL, hex"),
        field("host", StringType(), "of the URL, ASCII"),
        field(
            "extra",
            MapType(StringType(), StringType()),
            "the dump's other facts about the item",
            nullable=True,
        ),
        field("listed_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("listed_at", "batch", "run_id")
CLUSTER_BY: Final = ()  # read once, in the order written
CHECKS: Final = {"attempt_not_negative": "attempt >= 0"}
