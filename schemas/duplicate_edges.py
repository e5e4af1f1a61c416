"""Verified links between near copies: a maximum spanning forest of each kind.

From it the clusters at any threshold stricter than the kind's own follow exactly; looser ones do
not, for links below the bound were never kept.
"""

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
from schemas.layout import Layout

TABLE: Final = "silver.duplicate_edges"
GRAIN: Final = "one link of the forest of a kind, and a row for each later change of it"
KEY: Final = ("kind", "a", "b")
REVISION: Final = "revision"
SCHEMA: Final = StructType(
    [
        field("kind", StringType(), "kind of duplicate, as in silver.duplicates"),
        field("a", LongType(), "the older content: ordinal of its first sample"),
        field("b", LongType(), "the younger"),
        field("similarity", FloatType(), "of the two, as the kind measures it"),
        field(
            "a_score",
            DoubleType(),
            "what the keep rule compares; null: it keeps the first",
            nullable=True,
        ),
        field("b_score", DoubleType(), "likewise", nullable=True),
        field("cluster", LongType(), "least content of the cluster, by the whole forest"),
        field("is_forest", BooleanType(), "false: a better link has taken its place"),
        field("revision", IntegerType(), "0 at first; one more at each change"),
        field("linked_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("linked_at", "batch", "run_id")
LAYOUT: Final = Layout(("kind", "cluster"), repeating=("kind", "batch", "run_id"))
CLUSTER_BY: Final = ("kind", "cluster")
CHECKS: Final = {"older_first": "a < b"}
