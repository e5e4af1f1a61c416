"""Pairs of rows that share a key."""

from collections.abc import Iterator
from typing import Final

import numpy as np

# Up to so many rows of a key are paired with one another; of a greater crowd each is paired with
# the least and with its neighbours by order. A thousand make half a million pairs, and near copies
# that many share most of their other keys too, by which they are paired again. Chosen.
CROWD: Final = 1000
_BLOCK_PAIRS: Final = 1_000_000  # of 16 bytes


def in_order(
    key: np.ndarray, node: np.ndarray, is_fresh: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows by key, those of a key by node."""
    order = np.lexsort((node, key))
    return key[order], node[order], is_fresh[order]


def pairs_of_keys(
    key: np.ndarray, node: np.ndarray, is_fresh: np.ndarray, crowd: int = CROWD
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of nodes under one key, at least one of them fresh, in blocks.

    Args:
        key: int64 (n,), ascending.
        node: int64 (n,), ascending under a key.
        is_fresh: bool (n,); the others have been paired with one another before.
        crowd: most rows of a key that are all paired.

    Yields:
        a and b, int64, a < b; a pair may come more than once.

    >>> key, node = np.array([7, 7, 7, 8]), np.array([1, 3, 4, 2])
    >>> [(a.tolist(), b.tolist()) for a, b in pairs_of_keys(key, node, node == 4)]
    [([1, 3], [4, 4])]
    """
    first = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.array([], int)
    length = np.diff(np.r_[first, len(key)])
    # Of what a key holds one after the other: all runs of one length at a time.
    for size in np.unique(length[length > 1]):
        i, j = _places(int(size), crowd)
        starts = first[length == size]
        step = max(1, _BLOCK_PAIRS // len(i))
        for begin in range(0, len(starts), step):
            some = starts[begin : begin + step, None]
            left, right = (some + i).ravel(), (some + j).ravel()
            is_new = (is_fresh[left] | is_fresh[right]) & (node[left] != node[right])
            if is_new.any():
                yield node[left[is_new]], node[right[is_new]]


def _places(size: int, crowd: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of a run are paired."""
    if size <= crowd:
        return np.triu_indices(size, 1)
    others = np.arange(1, size)
    return np.r_[np.zeros(size - 1, int), others[:-1]], np.r_[others, others[1:]]
