"""The ledger: every batch of every stage adds up here, or is not written."""

from typing import Final

from pyspark.sql.types import (
    DoubleType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "ops.batches"
GRAIN: Final = "one batch of one stage"
KEY: Final = ("stage", "checkpoint", "batch_id")
SCHEMA: Final = StructType(
    [
        field("stage", StringType(), "name of the stage"),
        field(
            "checkpoint",
            StringType(),
            "what the stage's progress is kept for: signal set, recipe version",
        ),
        field("batch_id", LongType(), "micro-batch, from 0"),
        field("rows_in", LongType(), "rows the stage met, counted by its reader"),
        field("rows_kept", LongType(), "rows with a result, counted from the result table"),
        field(
            "rows_rejected", LongType(), "rows judged and not kept, counted from what was written"
        ),
        field(
            "rows_quarantined",
            LongType(),
            "rows that could not be judged, counted from what was written",
        ),
        field("rows_reused", LongType(), "of the kept, those whose result was there already"),
        field("input_versions", MapType(StringType(), LongType()), "table -> version read"),
        field(
            "output_versions",
            MapType(StringType(), LongType()),
            "table -> version after the batch",
        ),
        field("started_at", TimestampType(), "UTC"),
        field("duration_s", DoubleType(), "wall time of the batch"),
        field("batch", StringType(), "the name its rows carry"),
        field("run_id", StringType(), "run that did it"),
    ]
)
VOLATILE: Final = (
    "input_versions",
    "output_versions",
    "started_at",
    "duration_s",
    "batch",
    "run_id",
)
CLUSTER_BY: Final = ("stage",)
CHECKS: Final = {
    "adds_up": "rows_in = rows_kept + rows_rejected + rows_quarantined",
    "reused_are_kept": "rows_reused <= rows_kept",
}
