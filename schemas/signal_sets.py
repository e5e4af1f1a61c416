"""What a signal set is made of, so that a later set can take over what it shares."""

from typing import Final

from pyspark.sql.types import ArrayType, StringType, StructType, TimestampType

from schemas.field import field

TABLE: Final = "ops.signal_sets"
GRAIN: Final = "one signal of one signal set"
KEY: Final = ("signal_set", "signal")
SCHEMA: Final = StructType(
    [
        field("signal_set", StringType(), "digest of the rules' versions and the models' sha256"),
        field("table", StringType(), "where the set's rows are"),
        field("signal", StringType(), "name of the signal, as the configuration lists it"),
        field("version", StringType(), "what its values depend on, models' sha256 included"),
        field("columns", ArrayType(StringType()), "the columns it fills"),
        field("described_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("described_at", "batch", "run_id")
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
