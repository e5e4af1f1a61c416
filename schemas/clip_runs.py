"""The runs of each distinct clip: candidates are verified by them, whatever their age.

Rows lie in the order of their nodes, in small row groups, so that a few are read by their nodes
without the rest (`jobs/runtime/lookup.py`).
"""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType

from schemas import clips
from schemas.field import field
from schemas.layout import LOOKED_UP, Layout

TABLE: Final = "silver.clip_runs"
GRAIN: Final = "one distinct clip"
KEY: Final = ("node",)
RUNS: Final = "phash_runs"
SCHEMA: Final = StructType(
    [
        field("node", LongType(), "ordinal of the first that brought the clip"),
        field(RUNS, clips.SCHEMA[RUNS].dataType, "as in silver.clips", nullable=True),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("node",), LOOKED_UP)
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
