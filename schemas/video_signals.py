"""What one pass over a video's frames found of it as a whole; its clips are in `silver.clips`."""

from typing import Final

from pyspark.sql.types import (
    BooleanType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.video_signals"
GRAIN: Final = "one distinct video x signal set"
KEY: Final = ("media_sha256", "signal_set")
FACTS: Final = StructType(
    [
        field("media_sha256", StringType(), "sha256 of the bytes, hex"),
        field(
            "status", StringType(), "ok, or the error class that kept the video from being scored"
        ),
        field("detail", StringType(), "what was wrong, without content", nullable=True),
        field("width_px", IntegerType(), "width as displayed, rotation applied", nullable=True),
        field("height_px", IntegerType(), "height as displayed, rotation applied", nullable=True),
        field("frames", LongType(), "frames decoded", nullable=True),
        field("key_frames", LongType(), "of them, key frames", nullable=True),
        field("fps", DoubleType(), "frames decoded / duration decoded", nullable=True),
        field("duration_ms", LongType(), "until the end of the last frame", nullable=True),
        field(
            "decoded_fraction",
            FloatType(),
            "duration decoded / duration by the header; null where the header tells none",
            nullable=True,
        ),
        field("damaged_packets", LongType(), "of pictures, that gave none", nullable=True),
        field(
            "repaired_times",
            LongType(),
            "frames whose time was missing or no later than the one before",
            nullable=True,
        ),
        field(
            "damaged_subtitles",
            LongType(),
            "packets of subtitles that could not be read, and texts of which not all was kept",
            nullable=True,
        ),
        field("sampled_frames", LongType(), "frames that signals were measured on", nullable=True),
        field(
            "distinct_frames",
            LongType(),
            "of the sampled frames, those that showed something new: of them key frames are taken",
            nullable=True,
        ),
        field("has_audio", BooleanType(), "sound was decoded", nullable=True),
        field("clips", LongType(), "number of clips", nullable=True),
    ]
)
SCHEMA: Final = StructType(
    [
        *FACTS.fields,
        field("signal_set", StringType(), "digest of the rules' versions and their settings"),
        field("scored_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("scored_at", "batch", "run_id")
CLUSTER_BY: Final = ("media_sha256",)
CHECKS: Final = {
    "has_clips": "status <> 'ok' OR clips > 0",
    "has_frames": "status <> 'ok' OR frames > 0",
}
