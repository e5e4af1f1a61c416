"""Components of the links that are at hand, as stars about a root."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from udfs import splitmix64
from udfs.numbered import numbered


def stars(
    a: np.ndarray, b: np.ndarray, *, shuffle: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every node with the root of its component.

    Args:
        a: int64, one end of each link.
        b: int64, the other end.
        shuffle: which random order of nodes finds the root, the same one wherever it is asked for;
            None for the order of nodes themselves.

    Returns:
        The distinct nodes, int64 and rising; the first node, in that order, of each one's
        component, int64; the root's place in the order, int64 (not dense, never the same for two
        nodes).

    >>> node, root, _ = stars(np.array([7, 5, 1]), np.array([5, 9, 2]))
    >>> node.tolist(), root.tolist()
    ([1, 2, 5, 7, 9], [1, 1, 5, 5, 5])
    """
    node, x, y = numbered(a, b)
    joined = coo_array((np.ones(len(x), np.int8), (x, y)), shape=(len(node), len(node)))
    count, label = connected_components(joined, directed=False)
    place = node if shuffle is None else _shuffled(node, shuffle)
    falling = np.argsort(place)[::-1]
    first = np.empty(count, np.int64)
    # Of several writes to an index the last one stays: the first in the order.
    first[label[falling]] = falling
    root = first[label]
    return node, node[root], place[root]


def _shuffled(node: np.ndarray, shuffle: int) -> np.ndarray:
    """Another int64 for every int64, which looks random."""
    step = np.uint64((shuffle + 1) * splitmix64.STEP % 2**64)
    states = node.astype(np.int64).view(np.uint64) + step
    return splitmix64.mixed(states).view(np.int64)
