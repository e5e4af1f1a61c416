"""Hashes of images: where they are stored, and how an index streams past those of a batch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.held import Held
from jobs.runtime.session import arrow_rows
from jobs.runtime.table_scan import Streamed, having
from jobs.runtime.tables import Warehouse
from schemas import image_signals

# Rows of one transport batch: 2.5 MB. The session's own setting is made for media.
_ARROW_ROWS: Final = 100_000

# Columns of the entries, and batches of rows -> rows.
Compare = Callable[[tuple[np.ndarray, ...], Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def stored_hashes(warehouse: Warehouse, images: DataFrame, names: Sequence[str]) -> DataFrame:
    """The hashes that images were given when they were scored.

    Hashes do not depend on the networks: any signal set's will do.

    Args:
        warehouse: has `silver.image_signals`.
        images: `media_sha256`.
        names: of the hashes' columns.

    Returns:
        `media_sha256`, `names`; no row of an image that was not scored.
    """
    signals = having(warehouse, image_signals.TABLE, "media_sha256", images, names)
    some = (F.first(name, ignorenulls=True).alias(name) for name in names)
    return signals.groupBy("media_sha256").agg(*some)


def scanned(
    entries: Held, others: Streamed, compare: Compare, schema: str, *, slice_rows: int
) -> DataFrame:
    """Compare every row with every entry: the rows are read once for each slice of entries.

    Args:
        entries: columns of numbers and booleans without null.
        others: rows to stream.
        compare: finds what there is to find for a slice of the entries, in the others' columns and
            `is_old`.
        schema: of what it finds.
        slice_rows: entries that a task holds, and the driver sees, at a time.

    Returns:
        what was found, computed.
    """
    spark = entries.frame.sparkSession
    with arrow_rows(spark, _ARROW_ROWS):
        found = [_compared(part, others, compare, schema) for part in _slices(entries, slice_rows)]
    return reduce(DataFrame.unionByName, found or [spark.createDataFrame([], schema)])


def _slices(entries: Held, slice_rows: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The entries on the driver, a slice at a time."""
    count = -(-entries.rows // slice_rows)
    number = F.pmod(F.xxhash64(*entries.frame.columns), F.lit(count))
    for n in range(count):
        rows = entries.frame.where(number == n).toArrow()
        yield tuple(column.to_numpy() for column in rows.itercolumns())


def _compared(
    part: tuple[np.ndarray, ...], others: Streamed, compare: Compare, schema: str
) -> DataFrame:
    sent = others.frame.sparkSession.sparkContext.broadcast(part)
    try:
        return others.map_in_arrow(partial(_compare, sent, compare), schema).localCheckpoint()
    finally:
        sent.destroy()


def _compare(
    sent: Broadcast[tuple[np.ndarray, ...]], compare: Compare, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    return compare(sent.value, batches)
