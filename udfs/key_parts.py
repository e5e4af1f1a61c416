"""Keys dealt out to parts as few long rows: Spark pays for a row, and hardly for its bytes."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

KEY_BYTES: Final = 8  # and of a node


def dealt(key: np.ndarray, node: np.ndarray, parts: int) -> dict[str, pa.Array]:
    """All rows of a key in one part, each part as one row.

    Args:
        key: int64 (n,), n < 2^28: Arrow's offsets have 31 bits.
        node: int64 (n,).
        parts: number of parts, at least 1.

    Returns:
        `part` int32 (parts,), from 0; `keys` and `nodes` binary (parts,), the int64 LE of a part
        in the order in which they came.

    >>> rows = dealt(np.array([4, 7, 4]), np.array([1, 2, 3]), 2)
    >>> opened(rows["keys"]).tolist(), opened(rows["nodes"]).tolist()
    ([4, 4, 7], [1, 3, 2])
    """
    part = (key.view(np.uint64) % np.uint64(parts)).astype(np.int32)
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(parts + 1)) * KEY_BYTES
    return {
        "part": pa.array(np.arange(parts), pa.int32()),
        "keys": _cut(key[order], bounds),
        "nodes": _cut(node[order], bounds),
    }


def gathered(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Keys and nodes in blocks of so many rows at least, but the last.

    >>> blocks = [(np.arange(2), np.arange(2))] * 3
    >>> [len(key) for key, node in gathered(blocks, 3)]
    [4, 2]
    """
    pending: list[tuple[np.ndarray, np.ndarray]] = []
    for block in blocks:
        pending.append(block)
        if sum(len(key) for key, _ in pending) >= rows:
            yield _joined(pending)
            pending = []
    if pending:
        yield _joined(pending)


def _joined(blocks: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    keys, nodes = zip(*blocks, strict=True)
    return np.concatenate(keys), np.concatenate(nodes)


def opened(rows: pa.BinaryArray) -> np.ndarray:
    """The numbers of all rows, one after the other: int64."""
    found: np.ndarray = np.concatenate(
        [np.empty(0, "<i8"), *(np.frombuffer(row.as_buffer(), "<i8") for row in rows)]
    )
    return found


def _cut(values: np.ndarray, bounds: np.ndarray) -> pa.BinaryArray:
    offsets = pa.py_buffer(bounds.astype(np.int32))
    data = pa.py_buffer(values.astype("<i8", copy=False))
    return pa.BinaryArray.from_buffers(pa.binary(), len(bounds) - 1, [None, offsets, data])
