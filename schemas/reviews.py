"""What was looked at for a label, what took that label over, and from which row."""

from typing import Final

from pyspark.sql.types import (
    FloatType,
    IntegerType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "ops.reviews"
GRAIN: Final = "one sample of one review x revision"
KEY: Final = ("review", "sample_id", "revision")
# What a sample is to its review.
REPRESENTATIVE: Final = "representative"
MEMBER: Final = "member"
AUDIT: Final = "audit"
UNCOVERED: Final = "uncovered"
UNPLACED: Final = "unplaced"
ROLES: Final = (REPRESENTATIVE, MEMBER, AUDIT, UNCOVERED, UNPLACED)
# Where a label comes from.
REVIEWED: Final = "reviewed"
PROPAGATED: Final = "propagated"
SCHEMA: Final = StructType(
    [
        field("review", StringType(), "name of the review"),
        field("sample_id", StringType(), "the sample"),
        field(
            "role",
            StringType(),
            "representative (reviewed for those near it), member (takes its label over), audit (a"
            " member that is reviewed too), uncovered (near to no representative) or unplaced (no"
            " usable embedding of image and text)",
        ),
        field(
            "representative_id",
            StringType(),
            "sample that stands for it, itself included; null: none does",
            nullable=True,
        ),
        field(
            "distance",
            FloatType(),
            "1 - cosine to the nearest representative, in [0, 2]; null of the unplaced",
            nullable=True,
        ),
        field("label", StringType(), "null: nobody said yet, or nobody will", nullable=True),
        field(
            "label_source",
            StringType(),
            "reviewed, or propagated from the representative; null: no label",
            nullable=True,
        ),
        field("revision", IntegerType(), "from 0; a row supersedes those of lesser revisions"),
        field("settings", StringType(), "what the review was started with, as JSON"),
        field("reviewed_at", TimestampType(), "UTC, when the row was written"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("reviewed_at", "batch", "run_id")
CLUSTER_BY: Final = ("review", "sample_id")
CHECKS: Final = {
    "role_is_known": f"role IN ({', '.join(repr(role) for role in ROLES)})",
    "label_has_source": "(label IS NULL) = (label_source IS NULL)",
    "representative_stands_for_itself": (
        f"role <> '{REPRESENTATIVE}' OR (representative_id = sample_id AND distance = 0)"
    ),
    "uncovered_has_no_label": f"role NOT IN ('{UNCOVERED}', '{UNPLACED}') OR label IS NULL",
}
