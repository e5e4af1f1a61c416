"""What a task does with all links that it is given: functions for ``mapInArrow``.

A task's links are held together, since any two may belong to one component; who calls sees to it
that they are few enough.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

from udfs.elders import Elders, elders
from udfs.stars import stars

Operator = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

# Chosen: Spark's own default of a transport batch (`arrow.maxRecordsPerBatch`).
ROWS = 10_000


def contracting(shuffle: int | None = None) -> Operator:
    """Links in, one row a node of them out: `node`, `root`, `place` of the root (long).

    Args:
        shuffle: as `udfs.stars` takes it.

    >>> links = pa.record_batch({"a": [1, 2], "b": [2, 3]})
    >>> [batch.column("root").to_pylist() for batch in contracting()([links])]
    [[1, 1, 1]]
    """

    def contract(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if links := _together(batches):
            found = stars(*_columns(links, "a", "b"), shuffle=shuffle)
            table = pa.Table.from_arrays([pa.array(c) for c in found], ["node", "root", "place"])
            yield from table.to_batches(ROWS)

    return contract


def spanning(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Links in, those of their maximum spanning forest out, with all their columns."""
    if links := _together(batches):
        link = _elders(links).link
        yield from links.take(pa.array(np.sort(link[link >= 0]))).to_batches(ROWS)


def judging(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Links of whole components in, one row a node out, with the link that demoted it.

    Out come `node`, `cluster`, `elder`, `similarity`, `is_duplicate` and, null for a survivor,
    `a`, `b`, `a_score`, `b_score`.
    """
    if links := _together(batches):
        found = _elders(links)
        demoted_by = pa.array(found.link, mask=~found.is_duplicate)
        ends = links.select(["a", "b", "a_score", "b_score"]).take(demoted_by)
        columns = {
            name: pa.array(getattr(found, name))
            for name in ("node", "cluster", "elder", "similarity", "is_duplicate")
        }
        columns |= dict(zip(ends.column_names, ends.columns, strict=True))
        yield from pa.table(columns).to_batches(ROWS)


def _together(batches: Iterable[pa.RecordBatch]) -> pa.Table | None:
    held = list(batches)
    # One chunk: taking rows from many is slow.
    return pa.Table.from_batches(held).combine_chunks() if held else None


def _columns(links: pa.Table, *names: str) -> list[np.ndarray]:
    return [links.column(name).to_numpy() for name in names]


def _elders(links: pa.Table) -> Elders:
    return elders(*_columns(links, "a", "b", "similarity", "a_score", "b_score"))
