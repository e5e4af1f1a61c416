"""Frames that stand for a clip, as pictures: scored as images are, by their own bytes."""

from typing import Final

from pyspark.sql.types import (
    BinaryType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.keyframes"
GRAIN: Final = "one chosen frame of one video x signal set"
KEY: Final = ("video_sha256", "frame", "signal_set")
FRAME: Final = StructType(
    [  # all nullable, as Spark has what it reads of Parquet
        field("frame", LongType(), "its index in the video, from 0", nullable=True),
        field("time_ms", LongType(), "when it is shown; the first frame is at 0", nullable=True),
        field("media_sha256", StringType(), "sha256 of the JPEG's bytes, hex", nullable=True),
        field("width_px", IntegerType(), "of the JPEG, upright", nullable=True),
        field("height_px", IntegerType(), "of the JPEG, upright", nullable=True),
        field("size_bytes", LongType(), "of the JPEG", nullable=True),
        field("content", BinaryType(), "the JPEG", nullable=True),
    ]
)
SCHEMA: Final = StructType(
    [
        field("video_sha256", StringType(), "sha256 of the video's bytes, hex"),
        field("clip_id", StringType(), "of `silver.clips`: the clip that it stands for"),
        *(field(f.name, f.dataType, f.metadata["comment"]) for f in FRAME.fields),
        field("signal_set", StringType(), "signal set of the clip"),
        field("scored_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("scored_at", "batch", "run_id")
CLUSTER_BY: Final = ("video_sha256",)
CHECKS: Final = {"has_content": "length(content) = size_bytes"}
