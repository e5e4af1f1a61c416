"""Distinct media, stored once however many items share them: their bytes, or where they lie."""

from typing import Final

from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "bronze.media"
GRAIN: Final = "one distinct content"
KEY: Final = ("media_sha256",)
SCHEMA: Final = StructType(
    [
        field("media_sha256", StringType(), "sha256 of the bytes as they came, hex"),
        field("md5", StringType(), "md5 of the bytes as they came, hex: blocklists come in it"),
        field("sha1", StringType(), "sha1 of the bytes as they came, hex: blocklists come in it"),
        field("size_bytes", LongType(), "length of the bytes"),
        field("mime", StringType(), "type by magic bytes"),
        field("header_width_px", IntegerType(), "width by the header, before orientation"),
        field("header_height_px", IntegerType(), "height by the header, before orientation"),
        field(
            "content",
            BinaryType(),
            "the bytes; what EXIF or XMP say of place, serial numbers and owner is overwritten;"
            " null of media that are kept by reference",
            nullable=True,
        ),
        field(
            "root",
            StringType(),
            "of the dump that holds the bytes, as its shard was discovered; null where they are"
            " here",
            nullable=True,
        ),
        field(
            "path",
            StringType(),
            "relative to the root: the file that the bytes lie in as they are",
            nullable=True,
        ),
        field("offset_bytes", LongType(), "where in the file they begin", nullable=True),
        field(
            "video",
            StructType(
                [  # nullable, as Spark has what it reads of Parquet
                    field("container", StringType(), "FFmpeg's name of the demuxer", nullable=True),
                    field("duration_s", DoubleType(), "null: not told", nullable=True),
                    field("fps", DoubleType(), "frames a second, on average", nullable=True),
                    field(
                        "is_variable_fps",
                        BooleanType(),
                        "the average is not the rate of the clock",
                        nullable=True,
                    ),
                    field(
                        "rotation_deg",
                        IntegerType(),
                        "0, 90, 180 or 270: clockwise, what shows the picture upright",
                        nullable=True,
                    ),
                    field(
                        "video_codec",
                        StringType(),
                        "of the first stream, as FFmpeg calls it",
                        nullable=True,
                    ),
                    field(
                        "audio_codec",
                        StringType(),
                        "of the first stream; null: no sound",
                        nullable=True,
                    ),
                    field("audio_streams", IntegerType(), "number of them", nullable=True),
                    field("subtitle_streams", IntegerType(), "number of them", nullable=True),
                    field("created_at", TimestampType(), "UTC, if it is told", nullable=True),
                ]
            ),
            "what the container of a video says; null of images",
            nullable=True,
        ),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("root", "batch", "run_id")
CLUSTER_BY: Final = ()  # wide rows: clustering would rewrite the pixels
CHECKS: Final = {
    "has_bytes": "size_bytes > 0",
    "is_here_or_there": "content IS NOT NULL OR (path IS NOT NULL AND offset_bytes >= 0)",
}
