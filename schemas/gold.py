"""The curated set of a recipe: what its gate let through."""

from typing import Final

from pyspark.sql.types import (
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "gold.{recipe}"
GRAIN: Final = "one kept sample"
KEY: Final = ("sample_id",)
SCHEMA: Final = StructType(
    [
        field("sample_id", StringType(), "the sample"),
        field("ingest_ordinal", LongType(), "the sample's order of arrival"),
        field("dump", StringType(), "name of the delivery"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("sample_key", StringType(), "key of the item in its shard"),
        field("url", StringType(), "where the media was found, if known", nullable=True),
        field("caption", StringType(), "the text"),
        field("language", StringType(), "most probable language of the text", nullable=True),
        field("media_sha256", StringType(), "the image: bytes are in bronze.media"),
        field("mime", StringType(), "type of the image"),
        field("width_px", IntegerType(), "width as displayed"),
        field("height_px", IntegerType(), "height as displayed"),
        field("phash", LongType(), "64-bit perceptual hash", nullable=True),
        field("sharpness", FloatType(), "variance of the Laplacian", nullable=True),
        field("clip_score", FloatType(), "cosine of image and text, in [-1, 1]", nullable=True),
        field(
            "align_level",
            IntegerType(),
            "how many edges of the recipe's levels its score reaches; null: no levels, or no score",
            nullable=True,
        ),
        field("nsfw_score", FloatType(), "NSFW probability, in [0, 1]", nullable=True),
        field("signal_set", StringType(), "signal set of the pair"),
        field("recipe_version", StringType(), "version of the recipe that keeps it"),
        field("published_at", TimestampType(), "UTC"),
        field("run_id", StringType(), "run that published it"),
    ]
)
VOLATILE: Final = ("published_at", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final[dict[str, str]] = {}


def table(recipe: str) -> str:
    """Name of a recipe's gold table.

    >>> table("default")
    'gold.default'
    """
    return TABLE.format(recipe=recipe)
