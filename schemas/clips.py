"""Spans of videos, and everything measured on each in one pass over its video."""

from typing import Final

from pyspark.sql.types import (
    ArrayType,
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

TABLE: Final = "silver.clips"
GRAIN: Final = "one span of one video x signal set; those of a video tile it"
KEY: Final = ("clip_id", "signal_set")
SIGNALS: Final = StructType(
    [  # all nullable, as Spark has what it reads of Parquet
        field(
            "clip_id",
            StringType(),
            "uuid5 of the URL namespace over <media_sha256>_<start_frame>_<end_frame>",
            nullable=True,
        ),
        field("clip_index", IntegerType(), "of the clip in its video, from 0", nullable=True),
        field("start_ms", LongType(), "when it begins; the first frame is at 0", nullable=True),
        field("end_ms", LongType(), "when it is over: the next one's start", nullable=True),
        field("start_frame", LongType(), "its first frame, from 0", nullable=True),
        field("end_frame", LongType(), "the frame after its last one", nullable=True),
        field("frames", LongType(), "number of frames", nullable=True),
        field("fps", DoubleType(), "frames / duration", nullable=True),
        field(
            "begins_by",
            StringType(),
            "start of the video, shot, split of a long shot, stride; key: a key frame near one",
            nullable=True,
        ),
        field("width_px", IntegerType(), "width as displayed, rotation applied", nullable=True),
        field("height_px", IntegerType(), "height as displayed, rotation applied", nullable=True),
        field(
            "sampled_frames", IntegerType(), "frames that signals were measured on", nullable=True
        ),
        field(
            "motion_score",
            FloatType(),
            "mean speed of what is seen, in diagonals of the frame a second, >= 0",
            nullable=True,
        ),
        field("motion_score_max", FloatType(), "the same where most moves, >= 0", nullable=True),
        field(
            "static_fraction", FloatType(), "share of steps in which nothing moves", nullable=True
        ),
        field("is_static", BooleanType(), "nothing moves in nearly all steps", nullable=True),
        field("black_fraction", FloatType(), "share of black frames", nullable=True),
        field(
            "frozen_fraction",
            FloatType(),
            "share of steps to a frame that is the same to the bit",
            nullable=True,
        ),
        field(
            "sharpness_mean",
            FloatType(),
            "mean over frames of the variance of the Laplacian at 256 px, of small frames",
            nullable=True,
        ),
        field("sharpness_min", FloatType(), "that of the least sharp frame", nullable=True),
        field("luminance_mean", FloatType(), "mean BT.601 luma, in [0, 1]", nullable=True),
        field("luminance_min", FloatType(), "that of the darkest frame", nullable=True),
        field("luminance_std", FloatType(), "mean contrast within a frame", nullable=True),
        field("dark_fraction", FloatType(), "share of pixels up to level 8 of 255", nullable=True),
        field(
            "bright_fraction", FloatType(), "share of pixels from level 253 of 255", nullable=True
        ),
        field(
            "letterbox_fraction",
            FloatType(),
            "share of the height that bars take above and below throughout",
            nullable=True,
        ),
        field(
            "pillarbox_fraction",
            FloatType(),
            "share of the width that bars take left and right throughout",
            nullable=True,
        ),
        field("has_audio", BooleanType(), "there is sound in the span", nullable=True),
        field(
            "loudness_lufs",
            FloatType(),
            "integrated loudness by ITU-R BS.1770, mono; null without sound",
            nullable=True,
        ),
        field(
            "silence_fraction",
            FloatType(),
            "share of 100 ms windows under -60 dB; null without sound",
            nullable=True,
        ),
        field(
            "speech_fraction",
            FloatType(),
            "share of 32 ms windows that are speech; null without sound, or where it is not asked",
            nullable=True,
        ),
        field(
            "phash_runs",
            ArrayType(
                StructType(
                    [
                        field("phash", LongType(), "of the run's first frame", nullable=True),
                        field("information", IntegerType(), "its sure bits", nullable=True),
                        field("frames", IntegerType(), "frames of the run", nullable=True),
                    ]
                )
            ),
            "runs of like sampled frames in order, without bars: 64-bit perceptual hashes as signed"
            " integers; what copies of the clip share",
            nullable=True,
        ),
    ]
)
SCHEMA: Final = StructType(
    [
        field("media_sha256", StringType(), "sha256 of the video's bytes, hex"),
        *(field(f.name, f.dataType, f.metadata["comment"]) for f in SIGNALS.fields[:12]),
        *SIGNALS.fields[12:],
        field("signal_set", StringType(), "digest of the rules' versions and their settings"),
        field("scored_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("scored_at", "batch", "run_id")
CLUSTER_BY: Final = ("media_sha256",)
_SHARES: Final = tuple(name for name in SIGNALS.names if name.endswith("_fraction"))
CHECKS: Final = {
    "has_frames": "frames = end_frame - start_frame AND frames > 0",
    "has_length": "end_ms > start_ms",
    **{f"{name}_is_share": f"{name} IS NULL OR {name} BETWEEN 0 AND 1" for name in _SHARES},
}
