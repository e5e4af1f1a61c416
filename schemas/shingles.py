"""The shingles of each distinct text: candidates are verified by them, whatever their age.

Rows lie in the order of their nodes, in small row groups, so that a few are read by their nodes
without the rest (`jobs/runtime/lookup.py`).
"""

from typing import Final

from pyspark.sql.types import BinaryType, LongType, StringType, StructType

from schemas.field import field
from schemas.layout import LOOKED_UP, Layout

TABLE: Final = "silver.shingles"
GRAIN: Final = "one distinct text"
KEY: Final = ("node",)
SCHEMA: Final = StructType(
    [
        field("node", LongType(), "ordinal of the first sample that brought the text"),
        field(
            "shingles",
            BinaryType(),
            "hashes of its distinct shingles, ascending, uint32 LE; of an only one 18 bytes of its"
            " SHA-1; null of a blank text",
            nullable=True,
        ),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("node",), LOOKED_UP, compression="none")
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
