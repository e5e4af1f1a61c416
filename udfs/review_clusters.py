"""Which rows to look at, so that a label on each holds for everything near it.

Rows are clustered; of each cluster its medoid is a candidate, then the medoid of what lies too far
from that one, and so on. Of all candidates those are taken that cover most.

Source: cluster, review one, propagate: seeds.md C16. The greedy choice covers at least 1 - 1/e of
what the best choice of as many candidates covers: Nemhauser, Wolsey, Fisher 1978.
"""

import heapq
import math
from typing import Final, NamedTuple

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from udfs.joint_embedding import BLOCK, nearest, paired_cosine

RADIUS: Final = 0.9  # cosine to the reviewed row: seeds.md C16
MOST_CLUSTERS: Final = 1_000  # chosen: with 50,000 rows to train on, 50 a cluster
# A cosine of float32 vectors is off by some 1e-7; a row is within any radius of itself.
ROUNDING: Final = 1e-6
# A batch of k-means; scikit-learn's advice is 256 a core and more.
_BATCH: Final = 4_096
# Candidates for each representative that may be taken. Chosen: k-means cuts a theme in two or
# three, and what a candidate covers twice is known only when all are there.
_CANDIDATES: Final = 3
_NO_DIRECTION: Final = 1e-6


class Representatives(NamedTuple):
    """Rows to review.

    Attributes:
        rows: (r,) int64, the one that adds most first.
        sizes: (r,) int64, how many rows each covers that none before it does.
    """

    rows: np.ndarray
    sizes: np.ndarray


def clusters_for(rows: int) -> int:
    """How many clusters to look for, where nobody says: the square root, up to `MOST_CLUSTERS`.

    Too many costs time, not reviews: what two candidates cover is reviewed once.

    >>> clusters_for(10_000)
    100
    """
    return max(1, min(MOST_CLUSTERS, math.isqrt(rows)))


def centroids(features: np.ndarray, *, clusters: int, seed: int = 0) -> np.ndarray:
    """Directions of the clusters of k-means.

    Args:
        features: (n, d) float32 of unit length, n >= 1.
        clusters: how many to look for, >= 1.
        seed: of the first guess.

    Returns:
        (k, d) float32 of unit length, 1 <= k <= clusters: those that a row is nearest to.

    Raises:
        ValueError: there is no row, or no cluster is asked for.

    >>> len(centroids(np.eye(2, dtype=np.float32), clusters=5))
    2
    """
    if not len(features) or clusters < 1:
        raise ValueError(
            f"k-means got {len(features)} rows and {clusters} clusters; allowed 1 or more of each; "
            "choose more rows"
        )
    trained = MiniBatchKMeans(
        min(clusters, len(features)), random_state=seed, batch_size=_BATCH, n_init=1
    ).fit(features)
    centres = trained.cluster_centers_.astype(np.float32)
    norms = np.linalg.norm(centres, axis=1)
    # Opposite rows may cancel out; k-means++ starts from rows, so any row stands in as well.
    centres[norms < _NO_DIRECTION] = features[0]
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    used, _ = nearest(features, centres)
    found: np.ndarray = centres[np.unique(used)]
    return found


def representatives(
    features: np.ndarray,
    *,
    most: int,
    radius: float = RADIUS,
    clusters: int | None = None,
    seed: int = 0,
) -> Representatives:
    """Rows whose neighbourhoods cover as many rows as `most` of them can.

    Args:
        features: (n, d) float32 of unit length.
        most: largest number of representatives, >= 0.
        radius: least cosine of a row to the representative that it is covered by, in (0, 1].
        clusters: of k-means; null: by the number of rows.
        seed: of k-means.

    Returns:
        At most `most`. Where there are fewer, every row is covered.

    Raises:
        ValueError: `radius` is not in its range.

    >>> two_themes = np.repeat(np.eye(2, dtype=np.float32), [3, 5], axis=0)
    >>> representatives(two_themes, most=10).sizes.tolist()
    [5, 3]
    """
    if not 0 < radius <= 1:
        raise ValueError(f"radius got {radius}; allowed above 0 up to 1; 0.9 is the default")
    if not len(features) or most < 1:
        nothing = np.zeros(0, np.int64)
        return Representatives(nothing, nothing)
    centres = centroids(features, clusters=clusters or clusters_for(len(features)), seed=seed)
    cluster, _ = nearest(features, centres)
    found = _candidates(features, cluster, radius=radius, most=_CANDIDATES * most)
    return _covering(features, found, radius=radius, most=most)


def covered(
    features: np.ndarray, representatives: np.ndarray, *, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """The one representative that stands for each row.

    Args:
        features: (n, d) float32 of unit length.
        representatives: (r, d) float32 of unit length, at least one.
        radius: least cosine, in (0, 1].

    Returns:
        (n,) int64 index of the nearest, -1 where even that lies beyond the radius; (n,) float32
        cosine to the nearest.

    >>> rows = np.eye(2, dtype=np.float32)
    >>> covered(rows, rows[:1], radius=0.9)[0].tolist()
    [0, -1]
    """
    index, cosine = nearest(features, representatives)
    return np.where(is_within(cosine, radius), index, -1), cosine


def is_within(cosine: np.ndarray, radius: float) -> np.ndarray:
    """Whether cosines reach the radius, float32's rounding aside."""
    within: np.ndarray = cosine >= radius - ROUNDING
    return within


def _candidates(
    features: np.ndarray, cluster: np.ndarray, *, radius: float, most: int
) -> np.ndarray:
    """Medoids of the clusters, then of what each leaves, until all is covered or there are `most`.

    The medoid of unit vectors is the row with the largest sum of cosines to the others, and that
    sum is its product with the sum of all: one pass, no matrix of pairs.
    """
    left = np.argsort(cluster, kind="stable")
    found: list[np.ndarray] = []
    while len(left) and sum(map(len, found)) < most:
        names, starts, sizes = np.unique(cluster[left], return_index=True, return_counts=True)
        of = np.repeat(np.arange(len(names)), sizes)
        members = features[left]
        sums = np.add.reduceat(members, starts, axis=0)
        closeness = _sum_of_cosines(members, sums, of)
        # Stable: of equally central rows the first.
        order = np.lexsort((-closeness, of))
        medoids = order[starts]
        # The fullest clusters first, for `most` may cut here.
        found.append(left[medoids[np.argsort(-sizes, kind="stable")]])
        near = is_within(paired_cosine(members, members[medoids], of), radius)
        near[medoids] = True
        left = left[~near]
    return np.concatenate(found)[:most]


def _sum_of_cosines(members: np.ndarray, sums: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Product of each row with the sum of its cluster, (n,) float32."""
    product: np.ndarray = np.einsum("nd,nd->n", members, sums[of])
    return product


def _covering(
    features: np.ndarray, candidates: np.ndarray, *, radius: float, most: int
) -> Representatives:
    """Greedy: again and again the candidate that covers most of what is not covered yet."""
    covers = _covers(features, features[candidates], radius)
    # A candidate can only lose, so one that still leads after a recount leads them all.
    heap = [
        (-int(gain), place)
        for place, gain in enumerate(np.bitwise_count(covers).sum(axis=1, dtype=np.int64))
    ]
    heapq.heapify(heap)
    open_rows = np.full(covers.shape[1], 0xFF, np.uint8)
    rows: list[int] = []
    sizes: list[int] = []
    while heap and len(rows) < most:
        promised, place = heapq.heappop(heap)
        gain = int(np.bitwise_count(covers[place] & open_rows).sum(dtype=np.int64))
        if gain == -promised:
            rows.append(int(candidates[place]))
            sizes.append(gain)
            open_rows &= ~covers[place]
        elif gain:
            heapq.heappush(heap, (-gain, place))
    return Representatives(np.array(rows, np.int64), np.array(sizes, np.int64))


def _covers(features: np.ndarray, candidates: np.ndarray, radius: float) -> np.ndarray:
    """(c, n / 8) uint8: a bit a row that the candidate covers."""
    step = max(1, BLOCK // len(features))
    parts = [
        np.packbits(is_within(candidates[start : start + step] @ features.T, radius), axis=1)
        for start in range(0, len(candidates), step)
    ]
    return np.concatenate(parts)
