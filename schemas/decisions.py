"""What a recipe decided of every sample, and why."""

from typing import Final

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "ops.decisions"
TAKEN_DOWN: Final = "taken_down"  # the reason against what a takedown removed; no rule gives it
GRAIN: Final = "sample x recipe version, and a row for each later change of the decision"
KEY: Final = ("recipe", "recipe_version", "sample_id")
REVISION: Final = "revision"  # of the rows of a key the greatest holds: `ops.current_decisions`
# Delta enforces no NOT NULL inside an array.
REASON: Final = StructType(
    [
        field("reason", StringType(), "name of the reason, e.g. clip_score", nullable=True),
        field("rule", StringType(), "rule of the recipe that gave it", nullable=True),
        field("signal", StringType(), "signal the rule looked at", nullable=True),
        field("value", StringType(), "the signal's value; null: it was missing", nullable=True),
        field("threshold", StringType(), "what the rule asked, e.g. >= 0.21", nullable=True),
    ]
)
SCHEMA: Final = StructType(
    [
        field("recipe", StringType(), "name of the recipe"),
        field("recipe_version", StringType(), "digest of its resolved rules"),
        field("sample_id", StringType(), "the sample"),
        field("ingest_ordinal", LongType(), "the sample's order of arrival"),
        field("is_kept", BooleanType(), "no rule rejects it"),
        field(
            "first_reason", StringType(), "reason of the first rule that rejects it", nullable=True
        ),
        field("reasons", ArrayType(REASON), "every rule that rejects it, in the recipe's order"),
        field("revision", IntegerType(), "0 at first; one more at each change of the decision"),
        field("decided_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("decided_at", "batch", "run_id")
CLUSTER_BY: Final = ("recipe", "recipe_version", "sample_id")
CHECKS: Final = {"kept_has_no_reason": "is_kept = (size(reasons) = 0)"}
