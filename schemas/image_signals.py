"""Everything measured on an image in one pass over its bytes."""

from typing import Final

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.image_signals"
GRAIN: Final = "one distinct image x signal set"
KEY: Final = ("media_sha256", "signal_set")
SIGNALS: Final = StructType(
    [
        field("media_sha256", StringType(), "sha256 of the bytes, hex"),
        field(
            "status", StringType(), "ok, or the error class that kept the image from being scored"
        ),
        field(
            "detail",
            StringType(),
            "what the decoder or a model said, without content",
            nullable=True,
        ),
        field("format", StringType(), "decoder's name of the format, e.g. JPEG", nullable=True),
        field("mode", StringType(), "pixel mode as stored, e.g. RGB, CMYK, I;16, P", nullable=True),
        field("width_px", IntegerType(), "width as displayed, orientation applied", nullable=True),
        field(
            "height_px", IntegerType(), "height as displayed, orientation applied", nullable=True
        ),
        field("frames", IntegerType(), "number of frames; the first is scored", nullable=True),
        field("is_animated", BooleanType(), "more than one frame", nullable=True),
        field("has_alpha", BooleanType(), "had transparency, scored on white", nullable=True),
        field(
            "exif_orientation",
            IntegerType(),
            "EXIF orientation, 1 to 8; 1 = upright or none",
            nullable=True,
        ),
        field(
            "phash",
            LongType(),
            "64-bit DCT perceptual hash, ImageHash bit order, as a signed integer",
            nullable=True,
        ),
        field(
            "sharpness",
            FloatType(),
            "variance of the Laplacian of the grey image at 256 px, >= 0",
            nullable=True,
        ),
        field("nsfw_score", FloatType(), "NSFW probability, in [0, 1]", nullable=True),
        field("clip_embedding", BinaryType(), "unit vector, little-endian float16", nullable=True),
        field("clip_dimension", IntegerType(), "length of the embedding", nullable=True),
        field("provider", StringType(), "execution provider that ran the networks", nullable=True),
    ]
)  # what the operator emits
SCHEMA: Final = StructType(
    [
        *SIGNALS.fields,
        field("signal_set", StringType(), "digest of the rules' versions and the models' sha256"),
        field("clip_model", StringType(), "sha256 of the CLIP image network", nullable=True),
        field("nsfw_model", StringType(), "sha256 of the NSFW network", nullable=True),
        field(
            "computed",
            ArrayType(StringType()),
            "signals that ran for this row; the others were taken over from earlier sets",
        ),
        field("scored_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("computed", "scored_at", "batch", "run_id")
CLUSTER_BY: Final = ("media_sha256",)
CHECKS: Final = {"nsfw_is_probability": "nsfw_score IS NULL OR nsfw_score BETWEEN 0 AND 1"}
