"""Near copies among chosen samples by SemDeDup's rule: what each is like, and which stay."""

from typing import Final

from pyspark.sql.types import (
    BooleanType,
    FloatType,
    IntegerType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

PREFIX: Final = "gold.semdedup_"
TABLE: Final = PREFIX + "{name}"
GRAIN: Final = "one chosen sample, kept or not"
KEY: Final = ("sample_id",)
SCHEMA: Final = StructType(
    [
        field("sample_id", StringType(), "the sample"),
        field(
            "cell",
            IntegerType(),
            "the cell that it is nearest to, from 0; null: no usable embedding of its image",
            nullable=True,
        ),
        field(
            "rank",
            IntegerType(),
            "its place among the rows of its cell by the keep rule, from 1; null likewise",
            nullable=True,
        ),
        field(
            "most_similar",
            FloatType(),
            "greatest cosine to one that ranks before it, whether that stays or not, in [0, 1]:"
            " for any eps, it goes where most_similar > 1 - eps; null likewise: it stays",
            nullable=True,
        ),
        field("nearest_id", StringType(), "which one that is; null: none", nullable=True),
        field("is_kept", BooleanType(), "whether it stays by the eps that was asked for"),
        field("settings", StringType(), "what the table was made with, as JSON"),
        field("published_at", TimestampType(), "UTC"),
        field("run_id", StringType(), "run that published it"),
    ]
)
VOLATILE: Final = ("published_at", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final = {
    "rank_is_positive": "rank IS NULL OR rank >= 1",
    "most_similar_is_share": "most_similar IS NULL OR most_similar BETWEEN 0 AND 1",
    "unusable_is_kept": "cell IS NOT NULL OR (most_similar IS NULL AND is_kept)",
}


def table(name: str) -> str:
    """Name of a table of near copies.

    >>> table("small")
    'gold.semdedup_small'
    """
    return TABLE.format(name=name)
