"""Quarantined inputs that were given another chance; their rows in quarantine are history."""

from typing import Final

from pyspark.sql.types import StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "ops.retries"
GRAIN: Final = "one quarantined input that was sent back"
KEY: Final = ("quarantine_id",)
SCHEMA: Final = StructType(
    [
        field("quarantine_id", StringType(), "row of ops.quarantine that no longer stands"),
        field("retried_at", TimestampType(), "UTC"),
        field("run_id", StringType(), "run that sent it back"),
    ]
)
VOLATILE: Final = ("retried_at", "run_id")
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
