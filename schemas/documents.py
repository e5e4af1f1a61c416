"""Interleaved pages: texts and images in reading order."""

from typing import Final

from pyspark.sql.types import (
    ArrayType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
)

from schemas.field import field

TABLE: Final = "silver.documents"
GRAIN: Final = "one interleaved page"
KEY: Final = ("document_id",)
ITEM: Final = StructType(  # nullable throughout: Delta takes no NOT NULL inside an array
    [
        field("position", IntegerType(), "dense, from 0, in reading order", nullable=True),
        field("kind", StringType(), "text or image", nullable=True),
        field("text", StringType(), "the text; of an image, its alt text", nullable=True),
        field("url", StringType(), "of an image, absolute", nullable=True),
        field("url_sha256", StringType(), "of an image: key of bronze.fetches", nullable=True),
        field("path", StringType(), "of an image: file of the dump it is", nullable=True),
        field("xpath", StringType(), "where in the page", nullable=True),
    ]
)
SCHEMA: Final = StructType(
    [
        field(
            "document_id",
            StringType(),
            "128 bits, hex, of sha256 over (dump, shard, sample_key, occurrence)",
        ),
        field(
            "ingest_ordinal",
            LongType(),
            "order of arrival, what first means: shard ordinal * 2^32 + position",
        ),
        field("dump", StringType(), "name of the delivery"),
        field("shard", StringType(), "path relative to the dump's root"),
        field("sample_key", StringType(), "key of the page in its shard"),
        field("occurrence", IntegerType(), "0 for the first item of this key in the shard"),
        field("url", StringType(), "of the page", nullable=True),
        field("title", StringType(), "of the page", nullable=True),
        field("crawled_at", TimestampType(), "UTC", nullable=True),
        field("items", ArrayType(ITEM), "texts and images in order"),
        field("image_count", IntegerType(), "images among the items"),
        field("text_chars", LongType(), "characters (code points) of all texts"),
        field("markdown", StringType(), "the page as Markdown: ![alt](url) where an image stands"),
        field(
            "extra",
            MapType(StringType(), StringType()),
            "the dump's other facts about the page",
            nullable=True,
        ),
        field("ingested_at", TimestampType(), "UTC"),
        field("batch", StringType(), "stage/checkpoint/batch that wrote the row"),
        field("run_id", StringType(), "run that wrote the row"),
    ]
)
VOLATILE: Final = ("ingested_at", "batch", "run_id")
CLUSTER_BY: Final = ("document_id",)
CHECKS: Final = {"has_items": "size(items) > 0"}
