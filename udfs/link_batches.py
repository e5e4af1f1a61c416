"""What a task does with all links that it is given: functions for ``mapInArrow``.

A task's links are held together, since any two may belong to one component; who calls sees to it
that they are few enough.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from udfs.elders import Elders, elders
from udfs.numbered import numbered
from udfs.stars import stars

Operator = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

# Chosen: Spark's own default of a transport batch (`arrow.maxRecordsPerBatch`).
ROWS: Final = 10_000
_OF_NODE: Final = ("cluster", "elder", "similarity", "is_duplicate")
_OF_LINK: Final = ("a", "b", "a_score", "b_score", "was", "revision")


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
    """Links in, those of their maximum spanning forest out, and all old ones; with all columns."""
    if links := _together(batches):
        is_kept = _is_old(links)
        link = _elders(links).link
        is_kept[link[link >= 0]] = True
        yield from links.filter(pa.array(is_kept)).to_batches(ROWS)


def judging(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Links of whole components in; what becomes of their nodes and of the old links out.

    In come `a`, `b`, `similarity`, `a_score`, `b_score`, and of an old link `was`, its cluster,
    and `revision`. A new link of a pair that has an old one says nothing.

    Out comes a row a node: `node`, `cluster`, `elder`, `similarity`, `is_duplicate`; the last four
    again by the old links alone, named `was_*`, null where it had none; and all columns of the
    link that demoted it but `similarity`, null for a survivor. Also a row for each old link that
    leaves the forest: `node` is null, `cluster` and `similarity` are the link's.
    """
    if links := _together(batches):
        links = _known_once(links)
        is_old = _is_old(links)
        found, former = _elders(links), _elders(links.filter(pa.array(is_old)))
        demoted_by = pa.array(found.link, mask=~found.is_duplicate)
        columns = {"node": pa.array(found.node), **_said(found)}
        columns |= _were(found.node, former)
        columns |= {name: links[name].take(demoted_by) for name in _OF_LINK}
        yield from pa.table(columns).to_batches(ROWS)
        is_old[found.link[found.is_duplicate]] = False
        left = links.filter(pa.array(is_old))
        if left.num_rows:
            place = np.searchsorted(found.node, left["a"].to_numpy())
            gone = {name: pa.nulls(left.num_rows, array.type) for name, array in columns.items()}
            gone |= {name: left[name] for name in (*_OF_LINK, "similarity")}
            gone["cluster"] = pa.array(found.cluster[place])
            yield from pa.table(gone).to_batches(ROWS)


def _is_old(links: pa.Table) -> np.ndarray:
    old: np.ndarray = links["was"].is_valid().to_numpy().copy()
    return old


def _known_once(links: pa.Table) -> pa.Table:
    """The links without new ones of a pair that has an old one."""
    is_old = _is_old(links)
    if not is_old.any():
        return links
    node, x, y = numbered(*_columns(links, "a", "b"))
    # Fewer than 2^31 nodes fit into any memory, so their product fits.
    pair = np.minimum(x, y) * len(node) + np.maximum(x, y)
    return links.filter(pa.array(is_old | ~np.isin(pair, pair[is_old])))


def _said(found: Elders) -> dict[str, pa.Array]:
    return {name: pa.array(getattr(found, name)) for name in _OF_NODE}


def _were(node: np.ndarray, former: Elders) -> dict[str, pa.Array]:
    """What was said of nodes before, null of those that had no link."""
    place = np.searchsorted(former.node, node)
    is_there = np.isin(node, former.node)
    taken = pa.array(place, mask=~is_there)
    return {f"was_{name}": array.take(taken) for name, array in _said(former).items()}


def _together(batches: Iterable[pa.RecordBatch]) -> pa.Table | None:
    held = list(batches)
    # One chunk: taking rows from many is slow.
    return pa.Table.from_batches(held).combine_chunks() if held else None


def _columns(links: pa.Table, *names: str) -> list[np.ndarray]:
    return [links.column(name).to_numpy() for name in names]


def _elders(links: pa.Table) -> Elders:
    return elders(*_columns(links, "a", "b", "similarity", "a_score", "b_score"))
