"""A coreset: a few rows of each cluster, together an exact number."""

from typing import Final

from pyspark.sql.types import FloatType, IntegerType, StringType, StructType, TimestampType

from schemas.field import field

PREFIX: Final = "gold.coreset_"
TABLE: Final = PREFIX + "{coreset}"
GRAIN: Final = "one chosen sample"
KEY: Final = ("sample_id",)
SCHEMA: Final = StructType(
    [
        field("sample_id", StringType(), "the sample"),
        field("cluster", IntegerType(), "its cluster of this coreset, from 0"),
        field("rank", IntegerType(), "its place among the rows of its cluster by the rule, from 1"),
        field("rule", StringType(), "what is ranked by: middle, near, far or score"),
        field("distance", FloatType(), "1 - cosine to the cluster's centroid, in [0, 2]"),
        field("score", FloatType(), "cosine of its image and text, in [-1, 1]", nullable=True),
        field("settings", StringType(), "what the coreset was made with, as JSON"),
        field("published_at", TimestampType(), "UTC"),
        field("run_id", StringType(), "run that published it"),
    ]
)
VOLATILE: Final = ("published_at", "run_id")
CLUSTER_BY: Final = ("sample_id",)
CHECKS: Final = {"rank_is_positive": "rank >= 1"}


def table(coreset: str) -> str:
    """Name of a coreset's table.

    >>> table("small")
    'gold.coreset_small'
    """
    return TABLE.format(coreset=coreset)
