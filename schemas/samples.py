"""Items as they came: what a dump says of each, before anything is judged."""

from typing import Final

from pyspark.sql.types import (
    BooleanType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "bronze.samples"
GRAIN: Final = "one item of one dump"
KEY: Final = ("sample_id",)
IMAGE_TEXT: Final = "image_text"
VIDEO_TEXT: Final = "video_text"
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
        field("dump", StringType(), "name of the delivery"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("sample_key", StringType(), "key of the item in its shard, e.g. 000012"),
        field("occurrence", IntegerType(), "0 for the first item of this key in the shard"),
        field(
            "member",
            StringType(),
            "name of the media member, e.g. 000012.jpg; null of fetched media",
            nullable=True,
        ),
        field(
            "shard_offset_bytes",
            LongType(),
            "where the media bytes begin in the shard; null in a compressed one, where no place"
            " holds them as they are",
            nullable=True,
        ),
        field("size_bytes", LongType(), "size of the media"),
        field("modality", StringType(), f"{IMAGE_TEXT} or {VIDEO_TEXT}"),
        field(
            "caption",
            StringType(),
            "text as delivered, UTF-8; empty of a video that came without",
        ),
        field("text_sha256", StringType(), "sha256 of the caption's UTF-8 bytes, hex"),
        field("url", StringType(), "where the media was found, if the dump says so", nullable=True),
        field(
            "url_sha256",
            StringType(),
            "sha256 of the normalised URL, hex; null where there is none that is valid",
            nullable=True,
        ),
        field("mime", StringType(), "type by the media's own magic bytes"),
        field(
            "is_extension_mismatch",
            BooleanType(),
            "the member's extension names another type; of fetched media, the server's header",
        ),
        field("media_sha256", StringType(), "sha256 of the media bytes, hex"),
        field("header_width_px", IntegerType(), "width by the header, before orientation"),
        field("header_height_px", IntegerType(), "height by the header, before orientation"),
        field(
            "extra",
            MapType(StringType(), StringType()),
            "the dump's other facts about the item",
            nullable=True,
        ),
        field("ingested_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("ingested_at", "batch", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final = {"occurrence_not_negative": "occurrence >= 0"}
