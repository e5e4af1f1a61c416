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
        field("mirrored_phash", LongType(), "phash of the mirror image, likewise", nullable=True),
        field(
            "sharpness",
            FloatType(),
            "variance of the Laplacian of the grey image at 256 px, >= 0",
            nullable=True,
        ),
        field(
            "dhash",
            LongType(),
            "64-bit difference hash, ImageHash bit order, as a signed integer",
            nullable=True,
        ),
        field(
            "crop_hash",
            ArrayType(LongType()),
            "difference hashes of 1 to 16 segments, the largest first; a crop shares some",
            nullable=True,
        ),
        field(
            "entropy_bits",
            FloatType(),
            "Shannon entropy of the grey histogram in bits, in [0, 8]",
            nullable=True,
        ),
        field("luminance_mean", FloatType(), "mean BT.601 luma, in [0, 1]", nullable=True),
        field(
            "luminance_std",
            FloatType(),
            "standard deviation of the luma, in [0, 0.5]",
            nullable=True,
        ),
        field(
            "dark_fraction",
            FloatType(),
            "share of pixels at grey levels up to 8 of 255, in [0, 1]",
            nullable=True,
        ),
        field(
            "bright_fraction",
            FloatType(),
            "share of pixels at grey levels from 253 of 255, in [0, 1]",
            nullable=True,
        ),
        field(
            "border_fraction",
            FloatType(),
            "share of the area in bars and frames of one colour, in [0, 1]; 1 = one colour",
            nullable=True,
        ),
        field(
            "content_box",
            StructType(
                [  # nullable, as Spark has what it reads of Parquet
                    field("left_px", IntegerType(), "first column", nullable=True),
                    field("top_px", IntegerType(), "first row", nullable=True),
                    field("right_px", IntegerType(), "column after the last", nullable=True),
                    field("bottom_px", IntegerType(), "row after the last", nullable=True),
                ]
            ),
            "what the bars leave; zeros: nothing",
            nullable=True,
        ),
        field(
            "dominant_colours",
            ArrayType(
                StructType(
                    [
                        field("rgb", IntegerType(), "0xRRGGBB, sRGB", nullable=True),
                        field("fraction", FloatType(), "of the pixels, in (0, 1]", nullable=True),
                    ]
                )
            ),
            "1 to 5 colours by median cut, the most frequent first",
            nullable=True,
        ),
        field(
            "colourfulness",
            FloatType(),
            "Hasler and Suesstrunk's M3, >= 0; 33 is moderately, 82 highly colourful",
            nullable=True,
        ),
        field(
            "code_fraction",
            FloatType(),
            "share of the area that QR and bar codes cover, in [0, 1]",
            nullable=True,
        ),
        field(
            "code_count",
            IntegerType(),
            "QR and bar codes that can be read at 512 px",
            nullable=True,
        ),
        field(
            "text_fraction",
            FloatType(),
            "share of the picture that lines of text cover, in [0, 1]",
            nullable=True,
        ),
        field("text_regions", IntegerType(), "lines of text found", nullable=True),
        field("faces", IntegerType(), "faces found", nullable=True),
        field(
            "face_fraction",
            FloatType(),
            "share of the picture that all faces' boxes cover, in [0, 1]",
            nullable=True,
        ),
        field(
            "largest_face_fraction",
            FloatType(),
            "share that the largest face's box covers, in [0, 1]; 0 = none",
            nullable=True,
        ),
        field(
            "face_confidence",
            FloatType(),
            "highest face probability in the picture, in [0, 1], found or not",
            nullable=True,
        ),
        field("watermark_score", FloatType(), "watermark probability, in [0, 1]", nullable=True),
        field("nsfw_score", FloatType(), "NSFW probability, in [0, 1]", nullable=True),
        field("clip_embedding", BinaryType(), "unit vector, little-endian float16", nullable=True),
        field("clip_dimension", IntegerType(), "length of the embedding", nullable=True),
        field(
            "aesthetic_score",
            FloatType(),
            "how people would rate the picture, on its head's scale, mostly 1 to 10",
            nullable=True,
        ),
        field(
            "nsfw_head_score",
            FloatType(),
            "NSFW score by a head on the CLIP embedding; a probability, if the head gives one",
            nullable=True,
        ),
        field(
            "violence_score",
            FloatType(),
            "how much nearer the embedding is to the prompt of violence than to the other, in"
            " cosine; > 0: nearer",
            nullable=True,
        ),
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
_SHARES: Final = (
    "nsfw_score",
    "dark_fraction",
    "bright_fraction",
    "border_fraction",
    "code_fraction",
    "text_fraction",
    "face_fraction",
    "largest_face_fraction",
    "face_confidence",
    "watermark_score",
)
CHECKS: Final = {
    f"{name}_is_share": f"{name} IS NULL OR {name} BETWEEN 0 AND 1" for name in _SHARES
}
