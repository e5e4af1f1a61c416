"""Everything measured on a distinct text."""

from typing import Final

from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    FloatType,
    IntegerType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.text_signals"
GRAIN: Final = "one distinct text x signal set"
KEY: Final = ("text_sha256", "signal_set")
SIGNALS: Final = StructType(
    [
        field("text_sha256", StringType(), "sha256 of the text's UTF-8 bytes, hex"),
        field(
            "status", StringType(), "ok, or the error class that kept the text from being scored"
        ),
        field("detail", StringType(), "what went wrong, without content", nullable=True),
        field("chars", IntegerType(), "Unicode code points", nullable=True),
        field("words", IntegerType(), "whitespace-separated tokens", nullable=True),
        field(
            "letter_fraction",
            FloatType(),
            "share of code points that are letters, in [0, 1]",
            nullable=True,
        ),
        field(
            "digit_fraction",
            FloatType(),
            "share of code points that are decimal digits, in [0, 1]",
            nullable=True,
        ),
        field(
            "upper_fraction",
            FloatType(),
            "share of letters that are upper case, in [0, 1]",
            nullable=True,
        ),
        field(
            "language",
            StringType(),
            "most probable language, ISO 639 code as lid.176 names it",
            nullable=True,
        ),
        field(
            "language_score", FloatType(), "probability of that language, in [0, 1]", nullable=True
        ),
        field("clip_embedding", BinaryType(), "unit vector, little-endian float16", nullable=True),
        field("clip_dimension", IntegerType(), "length of the embedding", nullable=True),
        field("provider", StringType(), "execution provider that ran the network", nullable=True),
    ]
)  # what the operator emits
SCHEMA: Final = StructType(
    [
        *SIGNALS.fields,
        field("signal_set", StringType(), "digest of the rules' versions and the models' sha256"),
        field("clip_model", StringType(), "sha256 of the CLIP text network", nullable=True),
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
CLUSTER_BY: Final = ("text_sha256",)
CHECKS: Final = {
    "language_score_is_probability": "language_score IS NULL OR language_score BETWEEN 0 AND 1"
}
