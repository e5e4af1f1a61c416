"""The curated clips of a recipe: what its gate let through."""

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

from schemas import clip_pairs
from schemas.field import field

PREFIX: Final = "gold.clips_"  # names of recipes of clips begin so, behind the dot
TABLE: Final = PREFIX + "{rest}"  # `gold.table` of a recipe: `rest` is its name without `clips_`
GRAIN: Final = "one kept clip of one sample"
KEY: Final = ("sample_id",)
SCHEMA: Final = StructType(
    [
        field("sample_id", StringType(), "the clip as delivered"),
        field("video_sample_id", StringType(), "the sample that brought the video"),
        field("clip_id", StringType(), "of `silver.clips`"),
        field("media_sha256", StringType(), "the video: its place is in bronze.media"),
        field("ingest_ordinal", LongType(), "order of arrival among clips"),
        field("dump", StringType(), "name of the delivery"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("sample_key", StringType(), "key of the video in its shard"),
        field("url", StringType(), "where the video was found, if known", nullable=True),
        field("caption", StringType(), "the video's text as delivered; empty where it has none"),
        field("captions", ArrayType(clip_pairs.CAPTION), "every text of the clip and who wrote it"),
        field("clip_index", IntegerType(), "of the clip in its video, from 0"),
        field("start_ms", LongType(), "when it begins; the video's first frame is at 0"),
        field("end_ms", LongType(), "when it is over"),
        field("start_frame", LongType(), "its first frame, from 0"),
        field("end_frame", LongType(), "the frame after its last one"),
        field("fps", DoubleType(), "frames / duration"),
        field("width_px", IntegerType(), "width as displayed"),
        field("height_px", IntegerType(), "height as displayed"),
        field("motion_score", FloatType(), "mean speed, in diagonals a second", nullable=True),
        field("sharpness_mean", FloatType(), "mean variance of the Laplacian", nullable=True),
        field("luminance_mean", FloatType(), "mean BT.601 luma, in [0, 1]", nullable=True),
        field("has_audio", BooleanType(), "there is sound in the span", nullable=True),
        field("loudness_lufs", FloatType(), "null without sound", nullable=True),
        field("speech_fraction", FloatType(), "share of the sound that is speech", nullable=True),
        field("clip_score", FloatType(), "cosine of key frames and caption", nullable=True),
        field("nsfw_score_max", FloatType(), "of the key frame likeliest not safe", nullable=True),
        field("aesthetic_score_mean", FloatType(), "mean over key frames", nullable=True),
        field("watermark_score_max", FloatType(), "of the key frame likeliest so", nullable=True),
        field("text_fraction_max", FloatType(), "share of the picture that is text", nullable=True),
        field("faces_max", IntegerType(), "most faces in a key frame", nullable=True),
        field("clip_signal_set", StringType(), "signal set of the clip's row"),
        field("signal_set", StringType(), "signal set of its row of `silver.clip_pairs`"),
        field("recipe_version", StringType(), "version of the recipe that keeps it"),
        field("published_at", TimestampType(), "UTC"),
        field("run_id", StringType(), "run that published it"),
    ]
)
VOLATILE: Final = ("published_at", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final = {
    "is_a_clips_ordinal": f"ingest_ordinal >= {clip_pairs.FIRST_ORDINAL}",
    "has_length": "end_ms > start_ms AND end_frame > start_frame",
}
