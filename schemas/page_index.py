"""The pages that each image stands on, as many as say whether they are too many.

Rows lie in the order of their nodes, in small row groups, so that a few are read by their nodes
without the rest (`jobs/runtime/lookup.py`).
"""

from typing import Final

from pyspark.sql.types import LongType, StringType, StructType

from schemas.field import field
from schemas.layout import LOOKED_UP, Layout

TABLE: Final = "silver.page_index"
GRAIN: Final = "one page of one distinct image, of an image one page more than the bound at most"
KEY: Final = ("node", "high", "low")
SCHEMA: Final = StructType(
    [
        field("node", LongType(), "ordinal of the first sample that brought the image"),
        field("high", LongType(), "first 64 bits of the page's canonical URL's sha256, signed"),
        field("low", LongType(), "the next 64"),
        field("ordinal", LongType(), "of the first sample of the image that named the page"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
    ]
)
VOLATILE: Final = ("batch",)
LAYOUT: Final = Layout(("node",), LOOKED_UP, delta=("node", "ordinal"))
CLUSTER_BY: Final = ()
CHECKS: Final[dict[str, str]] = {}
