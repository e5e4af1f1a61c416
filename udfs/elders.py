"""Clusters of verified links, exact at every threshold at once: the elder rule.

Links are taken by falling similarity. When one joins two components, the survivor of the one
that comes later in the keep order is demoted at that similarity. So at any threshold ``t`` a node
is a duplicate just if it was demoted at ``t`` or above, and no other threshold needs a second
look. The links that joined something are the maximum spanning forest: the rest may be forgotten,
with later links too.

Source: Edelsbrunner and Harer, "Computational Topology", 2010, §VII.1 (the elder rule); Kruskal
1956 (the forest).
"""

from dataclasses import dataclass

import numpy as np

from udfs.compiled import compiled
from udfs.numbered import numbered


@dataclass(frozen=True)
class Elders:
    """One row a node, by rising node.

    Attributes:
        node: int64, distinct.
        cluster: int64, the least node of its component.
        elder: int64, the survivor that it yielded to when it was demoted; itself, if it never was.
            At a threshold ``t`` its representative is found by following elders as long as the
            similarity is ``t`` or above.
        similarity: float32 in [0, 1], at which it was demoted; 1 if it never was.
        link: int64, index of the link that demoted it; -1 if none did. The links named here are
            the maximum spanning forest.
    """

    node: np.ndarray
    cluster: np.ndarray
    elder: np.ndarray
    similarity: np.ndarray
    link: np.ndarray

    @property
    def is_duplicate(self) -> np.ndarray:
        """Bool: whether it was demoted."""
        demoted: np.ndarray = self.link >= 0
        return demoted


def elders(
    a: np.ndarray,
    b: np.ndarray,
    similarity: np.ndarray,
    a_score: np.ndarray,
    b_score: np.ndarray,
) -> Elders:
    """Survivors and duplicates of the components of links, at every threshold.

    The order of the links and of their ends changes nothing but the indices in ``link``. Equal
    similarities are taken by lesser end, then by greater end. Of several links of a pair the most
    similar counts. The keep order is: higher score, then lesser node.

    100 bytes a link are held at most beside the arguments (measured: 5 M links in a chain), and
    5 M links take 4 to 5 s of CPU time. The first call of a process compiles for 1.4 s: a cache on
    disk would save half of it, but it is kept by the path of the zip that the code came in, so no
    later submission would find it (measured).

    Args:
        a: int64, one end of each link.
        b: int64, the other end, never the same node.
        similarity: float32 in [0, 1].
        a_score: float64, of the node ``a``; NaN is below every number.
        b_score: float64, of the node ``b``. Where a node comes with several scores, its highest
            counts.

    Raises:
        ValueError: lengths differ, a link joins a node to itself, or a similarity is outside
            [0, 1] or NaN.

    >>> nan = np.full(2, np.nan)
    >>> found = elders(np.array([7, 5]), np.array([5, 9]), np.float32([0.5, 0.75]), nan, nan)
    >>> found.node.tolist(), found.elder.tolist(), found.similarity.tolist()
    ([5, 7, 9], [5, 5, 5], [1.0, 0.5, 0.75])
    >>> found.cluster.tolist(), found.link.tolist()
    ([5, 5, 5], [-1, 0, 1])
    """
    _check(a, b, similarity, a_score, b_score)
    node, x, y = numbered(a, b)
    score = np.full(len(node), -np.inf)
    for end, given in ((x, a_score), (y, b_score)):
        np.fmax.at(score, end, given)  # of a number and NaN the number
    # One number a pair: fewer than 2^31 nodes fit into any memory, so their product fits.
    pair = np.minimum(x, y) * len(node) + np.maximum(x, y)
    order = np.lexsort((pair, -similarity))
    elder, link = _joined(order, x, y, score)
    cluster = _least(elder)
    demoted_at = np.ones(len(node), np.float32)
    demoted_at[link >= 0] = similarity[link[link >= 0]]
    return Elders(node, node[cluster], node[elder], demoted_at, link)


def _check(a: np.ndarray, b: np.ndarray, similarity: np.ndarray, *scores: np.ndarray) -> None:
    lengths = [len(column) for column in (a, b, similarity, *scores)]
    if len(set(lengths)) > 1:
        raise ValueError(f"links got columns of lengths {lengths}; allowed one length; align them")
    if (own := np.flatnonzero(a == b)).size:
        raise ValueError(
            f"link {own[0]} got the ends {a[own[0]]}, {b[own[0]]}; allowed two nodes; leave it out"
        )
    if (odd := np.flatnonzero(~((similarity >= 0) & (similarity <= 1)))).size:
        raise ValueError(
            f"link {odd[0]} got the similarity {similarity[odd[0]]}; allowed 0 to 1; leave it out"
        )


@compiled
def _joined(
    order: np.ndarray, x: np.ndarray, y: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover
    # Runs compiled. The root of a tree is the survivor of its component, so demotion is a union;
    # halving paths alone keeps a step at O(log n) amortised (Tarjan and van Leeuwen 1984).
    parent = np.arange(len(score))
    elder = np.arange(len(score))
    link = np.full(len(score), -1)
    for i in order:
        p, q = x[i], y[i]
        while parent[p] != p:
            parent[p] = parent[parent[p]]
            p = parent[p]
        while parent[q] != q:
            parent[q] = parent[parent[q]]
            q = parent[q]
        if p == q:
            continue
        if score[q] > score[p] or (score[q] == score[p] and q < p):
            p, q = q, p
        parent[q] = p
        elder[q] = p
        link[q] = i
    return elder, link


def _least(elder: np.ndarray) -> np.ndarray:
    """The least node of each node's component, by pointer doubling."""
    top = elder
    while not np.array_equal(top, above := top[top]):
        top = above
    # Nodes come by rising number; of several writes to a place the last one stays.
    least = np.empty_like(top)
    least[top[::-1]] = np.arange(len(top))[::-1]
    named: np.ndarray = least[top]
    return named
