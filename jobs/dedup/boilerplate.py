"""Images that stand on more pages than a bound: logos, icons and banners.

An image is known by its bytes, a page by its canonical URL, which samples of crawls bring along.
One page more than the bound says all, so that no more of an image are stored: one that stands
everywhere costs no more than others. All samples of an image share its verdict, those that name no
page too.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.dedup.exact import halves
from udfs.canonical_url import url_fingerprint

_PAGE: Final = ("node", "high", "low")


def pages(samples: DataFrame) -> DataFrame:
    """The pages that samples say their images stand on.

    Args:
        samples: `node`, `ingest_ordinal`, `page_url` (null, or not to be read: it is on none).

    Returns:
        `node`, `high`, `low` (128 bits of the page's fingerprint), `ordinal` of the first sample
        that named it; each page of an image once.
    """
    named = samples.where("page_url IS NOT NULL").select("node", "ingest_ordinal", "page_url")
    printed = named.mapInArrow(_printed, "node long, high long, low long, ordinal long")
    return printed.where("high IS NOT NULL").groupBy(*_PAGE).agg(F.min("ordinal").alias("ordinal"))


def _printed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        high, low = halves([url_fingerprint(url) for url in batch["page_url"].to_pylist()])
        columns = {"high": high, "low": low, "ordinal": batch["ingest_ordinal"]}
        yield pa.RecordBatch.from_pydict({"node": batch["node"], **columns})


def standing(brought: DataFrame, known: DataFrame, max_pages: int) -> DataFrame:
    """The pages that images stand on, as many of each as say whether they are too many.

    Args:
        brought: as `pages` gives them.
        known: rows of `silver.page_index` before, of the same images.
        max_pages: on which an image may stand.

    Returns:
        columns of `brought`, and `is_new`; of an image at most `max_pages` + 1, first those that
        are known, then those that came first.
    """
    columns = (*_PAGE, "ordinal")
    news = brought.select(*columns).join(known.select(*_PAGE), [*_PAGE], "left_anti")
    both = known.select(*columns, F.lit(False).alias("is_new")).unionByName(
        news.withColumn("is_new", F.lit(True))
    )
    order = Window.partitionBy("node").orderBy("is_new", "ordinal", "high", "low")
    placed = both.withColumn("place", F.row_number().over(order))
    return placed.where(F.col("place") <= max_pages + 1).drop("place")


def boilerplate(found: DataFrame, max_pages: int) -> DataFrame:
    """Images that stand on more pages than they may.

    Args:
        found: as `standing` gives them.
        max_pages: likewise.

    Returns:
        what `near.verdicts` asks of contents, the image's first sample standing for all; and
        `is_late`: they did not before.
    """
    return (
        found.groupBy("node")
        .agg(F.count("*").alias("pages"), F.count_if(~F.col("is_new")).alias("known"))
        .where(F.col("pages") > max_pages)
        .select(
            "node",
            F.col("node").alias("cluster"),
            F.col("node").alias("elder"),
            F.lit(1.0).cast("float").alias("similarity"),
            F.lit(True).alias("is_duplicate"),
            (F.col("known") <= max_pages).alias("is_late"),
        )
    )
