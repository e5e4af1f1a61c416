"""The telling hashes of each distinct image together: candidates for crops are verified by them.

Rows lie in the order of their nodes, in small row groups, so that a few are read by their nodes
without the rest (`jobs/runtime/lookup.py`).
"""

from typing import Final

from pyspark.sql.types import ArrayType, LongType, StringType, StructType

from schemas.field import field
from schemas.layout import LOOKED_UP, Layout

TABLE: Final = "silver.crop_segments"
GRAIN: Final = "one distinct image"
KEY: Final = ("node",)
HASHES: Final = "hashes"
SCHEMA: Final = StructType(
    [
        field("node", LongType(), "ordinal of the first sample that brought the image"),
        field(
            HASHES,
            ArrayType(LongType()),
            "those of silver.image_signals.crop_hash that tell something, ascending; empty: none",
        ),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("node",), LOOKED_UP)
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
