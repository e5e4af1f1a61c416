"""Clips of delivered videos with the signals of their key frames and texts: what recipes judge."""

from typing import Final

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.clip_pairs"
GRAIN: Final = "one clip of one sample x signal sets"
KEY: Final = ("sample_id", "signal_set")
# Clips have ordinals of their own behind all of samples, so that a table may hold both.
FIRST_ORDINAL: Final = 1 << 62
# Of the clip's key frames, by their rows in `silver.image_signals`; null where none has one.
OF_KEYFRAMES: Final = StructType(
    [
        field("keyframes", IntegerType(), "key frames that were scored", nullable=True),
        field("nsfw_score_max", FloatType(), "of the key frame likeliest not safe", nullable=True),
        field("nsfw_score_mean", FloatType(), "mean over key frames", nullable=True),
        field("nsfw_head_score_max", FloatType(), "of the head on embeddings", nullable=True),
        field("violence_score_max", FloatType(), "likewise", nullable=True),
        field("aesthetic_score_mean", FloatType(), "mean over key frames", nullable=True),
        field("watermark_score_max", FloatType(), "of the key frame likeliest so", nullable=True),
        field("text_fraction_max", FloatType(), "share of the picture that is text", nullable=True),
        field("text_fraction_mean", FloatType(), "mean over key frames", nullable=True),
        field("faces_max", IntegerType(), "most faces in a key frame", nullable=True),
        field("face_fraction_max", FloatType(), "share of the picture in faces", nullable=True),
        field(
            "clip_embedding",
            BinaryType(),
            "mean of the key frames' unit embeddings, made unit: float16, little-endian",
            nullable=True,
        ),
        field("clip_dimension", IntegerType(), "length of the embedding", nullable=True),
        field("clip_model", StringType(), "sha256 of the image network", nullable=True),
    ]
)
# Delta enforces no NOT NULL inside an array.
CAPTION: Final = StructType(
    [
        field(
            "annotator",
            StringType(),
            "sample: as delivered; else of silver.captions",
            nullable=True,
        ),
        field("language", StringType(), "as the annotator tells it", nullable=True),
        field("text", StringType(), "UTF-8, never empty", nullable=True),
        field("text_sha256", StringType(), "sha256 of its UTF-8 bytes, hex", nullable=True),
        field("clip_score", FloatType(), "mean cosine with the key frames", nullable=True),
        field(
            "clip_score_max", FloatType(), "cosine with the key frame most like it", nullable=True
        ),
    ]
)
SCHEMA: Final = StructType(
    [
        field(
            "sample_id",
            StringType(),
            "128 bits, hex, of sha256 over (sample of the video, clip_id): the clip as delivered",
        ),
        field("ingest_ordinal", LongType(), f"order of arrival among clips, from {FIRST_ORDINAL}"),
        field("video_sample_id", StringType(), "the sample that brought the video"),
        field("media_sha256", StringType(), "the video"),
        field("clip_id", StringType(), "of `silver.clips`"),
        field("clip_index", IntegerType(), "of the clip in its video, from 0"),
        field("text_sha256", StringType(), "the sample's text"),
        *OF_KEYFRAMES.fields,
        field("clip_score", FloatType(), "of the sample's text; null without one", nullable=True),
        field("clip_score_max", FloatType(), "likewise, of the best key frame", nullable=True),
        field("captions", ArrayType(CAPTION), "every text of the clip and who wrote it"),
        field("clip_signal_set", StringType(), "signal set of the clip's row"),
        field("image_signal_set", StringType(), "signal set of its key frames' rows"),
        field("text_signal_set", StringType(), "signal set of its texts' rows"),
        field("signal_set", StringType(), "digest of the three"),
        field("paired_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("paired_at", "batch", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final = {
    "is_a_clips_ordinal": f"ingest_ordinal >= {FIRST_ORDINAL}",
    "clip_score_is_cosine": "clip_score IS NULL OR clip_score BETWEEN -1.001 AND 1.001",
}
