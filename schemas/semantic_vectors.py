"""The embedding of each distinct image that was compared: candidates are verified by it.

Rows lie in the order of their nodes, in small row groups, so that a few are read by their nodes
without the rest (`jobs/runtime/lookup.py`).
"""

from typing import Final

from pyspark.sql.types import BinaryType, LongType, StringType, StructType

from schemas.field import field
from schemas.layout import LOOKED_UP, Layout

TABLE: Final = "silver.semantic_vectors"
GRAIN: Final = "one distinct image"
KEY: Final = ("node",)
SCHEMA: Final = StructType(
    [
        field("node", LongType(), "ordinal of the first sample that brought the image"),
        field(
            "embedding",
            BinaryType(),
            "as silver.image_signals has it, float16 LE; null: there was none by the model of the"
            " index, and the image is like no other",
            nullable=True,
        ),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("node",), LOOKED_UP)
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
