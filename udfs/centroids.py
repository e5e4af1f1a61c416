"""Cells of embeddings: centroids by spherical k-means, and the two nearest of each vector."""

import functools
import hashlib
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from udfs.embedding import unit
from udfs.made_network import made
from udfs.model_file import ModelFile
from udfs.onnx_session import AUTO, Placement

# Faiss warns below 39 training points a centroid (ClusteringParameters, 1.8).
POINTS_PER_CENTROID: Final = 39
# SemDeDup's own number, for 440 million images (its clustering configuration).
MOST_CENTROIDS: Final = 50_000
# Two cells a vector: SemDeDup has one; two find what a border parts.
# measured on 20,000 directions at random: recall 0.983 with two cells, 0.998 when a new vector
# meets three, 0.9995 with four; 0.9996 with two on 200,000 vectors in topics.
ASSIGNMENTS: Final = 2
SEED: Final = 1234  # SemDeDup's; any will do, one only must not change
# A tile of cosines: 8 M float32 = 32 MB beside the tasks that run in parallel (chosen).
_TILE: Final = 1 << 23
# A tenth of a sample is not fitted: what a centroid was fitted to lies nearer to it
# than what comes later does (chosen).
_HELD_OUT: Final = 10
# chosen: the population stability index of the two bins below and above the 1 % quantile passes
# 0.2, the usual "has changed", when 9.4 % lie below.
_LOW_QUANTILE: Final = 0.01
_MOST_LOW: Final = 0.094
# A share of 1 % on fewer vectors is a handful: a batch may differ by luck (chosen).
_FEWEST: Final = 1000


@dataclass(frozen=True, eq=False)
class Centroids:
    """Centroids, and how near vectors lay to them when they were found.

    Attributes:
        vectors: (k, d) float32 of unit length, read-only.
        mean_cosine: mean cosine to the nearest centroid of vectors that were not fitted.
        low_cosine: the 1 % quantile of the same.
        digest: sha256 of the shape and the bytes of `vectors`; names the centroids.
    """

    vectors: np.ndarray
    mean_cosine: float
    low_cosine: float
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        """Freeze the vectors and name them.

        Raises:
            ValueError: no centroid, or none of any length.
        """
        vectors = np.ascontiguousarray(self.vectors, "<f4").copy()
        if vectors.ndim != 2 or not len(vectors) or not vectors.shape[1]:
            raise ValueError(
                f"centroids got shape {vectors.shape}; allowed (k, d) of at least (1, 1); "
                "train them on embeddings"
            )
        vectors.flags.writeable = False
        object.__setattr__(self, "vectors", vectors)
        content = repr(vectors.shape).encode() + vectors.tobytes()
        object.__setattr__(self, "digest", hashlib.sha256(content).hexdigest())

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads: NumPy's npz, without pickles."""
        file = io.BytesIO()
        np.savez(
            file,
            vectors=self.vectors,
            nearness=np.array([self.mean_cosine, self.low_cosine]),
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Centroids":
        """The centroids of `to_bytes`.

        Raises:
            ValueError: the content is none.

        >>> kept = Centroids(np.eye(2, dtype=np.float32), 0.5, 0.1)
        >>> Centroids.from_bytes(kept.to_bytes()).digest == kept.digest
        True
        """
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            mean, low = file["nearness"].tolist()
            return cls(file["vectors"], mean, low)


@dataclass(frozen=True)
class Drift:
    """How a batch lies to centroids that were found before it.

    Attributes:
        rows: vectors that have a direction.
        mean_cosine: of them to their nearest centroid; NaN for none.
        mean_cosine_then: of the vectors that the centroids were measured on.
        share_low: share below the 1 % quantile of then; 0.01 when nothing has changed.
    """

    rows: int
    mean_cosine: float
    mean_cosine_then: float
    share_low: float

    @property
    def is_due(self) -> bool:
        """Whether the centroids should be found again."""
        return self.rows >= _FEWEST and self.share_low > _MOST_LOW


def centroids_for(vectors: int) -> int:
    """How many centroids a table of vectors gets: their square root, within bounds.

    Of a new vector, assignment costs k products of length d, the search of its two cells
    2 x 2 n / k codes: on one core about 20 ns (d = 512) against twice 1.2 ns (of 256 bits)
    each, so the sum is least near k = 0.7 sqrt(n). More centroids cost recall, twice as many
    little time.

    >>> centroids_for(200_000), centroids_for(1), centroids_for(10**10)
    (447, 1, 50000)
    """
    return max(1, min(math.isqrt(vectors), MOST_CENTROIDS))


def train(vectors: np.ndarray, k: int | None = None, seed: int = SEED) -> Centroids:
    """Spherical k-means: of unit vectors, its centroids made unit again.

    Args:
        vectors: (n, d) float32 of unit length: a sample, in an order that does not change.
        k: how many; without it, `centroids_for` this many vectors. Fewer come back when fewer
            than `k` distinct vectors, or fewer than 39 vectors a centroid, were given.
        seed: of the random start.

    Raises:
        ValueError: no vectors, or k below 1.
    """
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(
            f"sample for centroids got shape {vectors.shape}; allowed (n, d) with n > 0; "
            "train after the first embeddings were stored"
        )
    k = centroids_for(len(vectors)) if k is None else k
    if k < 1:
        raise ValueError(f"number of centroids got {k}; allowed 1 and more; correct it")
    # Drawn, not counted off: what arrives in turns has a period.
    drawn = np.random.default_rng(seed).permutation(len(vectors))
    fitted, held_out = np.split(drawn, [len(vectors) - len(vectors) // _HELD_OUT])
    distinct = np.unique(vectors[fitted], axis=0)
    k = max(1, min(k, len(distinct) // POINTS_PER_CENTROID))
    found = Centroids(_spherical(distinct, k, seed), 1.0, 1.0)
    measured = held_out if len(held_out) else fitted
    near = nearest(vectors[measured], found, 1, Placement(device="cpu"))[1][:, 0]
    return Centroids(found.vectors, float(near.mean()), float(np.quantile(near, _LOW_QUANTILE)))


def _spherical(distinct: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Centroids of distinct vectors, at most k: (k, d) float32 of unit length."""
    # A worker that only assigns need not load them: 2.9 CPU-seconds.
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # One thread: several add in an order that changes the last bits; and cores are shared.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = MiniBatchKMeans(
            n_clusters=k,
            # chosen: enough a step that most centroids meet some, never below the default 1,024
            batch_size=max(1024, 4 * k),
            max_iter=20,  # passes over the sample; Faiss' default is 25 steps of Lloyd
            max_no_improvement=10,
            n_init=1,
            random_state=seed,
        ).fit(distinct)
    norms = np.linalg.norm(fitted.cluster_centers_, axis=1)
    # Vectors that point everywhere have a mean without a direction.
    directed = fitted.cluster_centers_[norms > np.finfo(np.float32).eps]
    return unit(directed if len(directed) else distinct[:1])


def nearest(
    vectors: np.ndarray,
    centroids: Centroids,
    count: int = ASSIGNMENTS,
    placement: Placement = AUTO,
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centroids of each vector, by cosine; of equals the first.

    Args:
        vectors: (n, d) float32 of unit length.
        centroids: k of them.
        count: how many; no more than k come back.
        placement: where the products are made.

    Returns:
        (n, count) int32 cells, the nearest first; (n, count) float32 cosines.

    Raises:
        ValueError: vectors of another length than the centroids.

    >>> two = Centroids(np.eye(2, dtype=np.float32), 1.0, 1.0)
    >>> nearest(np.array([[0.6, 0.8]], np.float32), two)[0].tolist()
    [[1, 0]]
    """
    if vectors.ndim != 2 or vectors.shape[1] != centroids.dimension:
        raise ValueError(
            f"embeddings got shape {vectors.shape}; allowed (n, {centroids.dimension}); "
            "use centroids of the same model, or train new ones"
        )
    k = len(centroids.vectors)
    count = min(count, k)
    network = placement.open(_network())
    feeds = {
        "centroids": np.ascontiguousarray(centroids.vectors.T),
        "count": np.array([count], np.int64),
    }
    cells = np.empty((len(vectors), count), np.int32)
    cosines = np.empty((len(vectors), count), np.float32)
    step = max(1, _TILE // k)
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        rows = np.ascontiguousarray(vectors[part], np.float32)
        cosines[part], cells[part] = network.run(["cosine", "cell"], {"vectors": rows, **feeds})
    return cells, np.clip(cosines, -1, 1)


@functools.cache
def _network() -> ModelFile:
    # The centroids are an input: one network serves all, and a process keeps none of those that
    # were trained anew.
    return made(
        [
            ("MatMul", ["vectors", "centroids"], ["cosines"], {}),
            ("TopK", ["cosines", "count"], ["cosine", "cell"], {"axis": 1}),
        ],
        {"vectors": ["n", "d"], "centroids": ["d", "k"]},
        {"count": [1]},
        ["cosine", "cell"],
    )


def readable(packed: Sequence[bytes | None], dimension: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Unit vectors of those embeddings that have a direction.

    Args:
        packed: little-endian float16, as stored; null, of another length, with NaN or infinity,
            or all zeros have none.
        dimension: their length.

    Returns:
        (m, dimension) float32 of unit length, and (n,) bool that tells which m of n they are.

    >>> vectors, has_direction = readable([b"\x00<\x00\x00", None, b"\x00\x00\x00\x00"], 2)
    >>> vectors.tolist(), has_direction.tolist()
    ([[1.0, 0.0]], [True, False, False])
    """
    has_direction = np.array([p is not None and len(p) == 2 * dimension for p in packed], bool)
    whole = b"".join(p for p, has in zip(packed, has_direction, strict=True) if has and p)
    halves = np.frombuffer(whole, "<f2").reshape(-1, dimension)
    is_good = np.isfinite(halves).all(axis=1) & halves.any(axis=1)
    has_direction[has_direction] = is_good
    return unit(halves[is_good]), has_direction


def drift(cosines: np.ndarray, centroids: Centroids) -> Drift:
    """How far a batch has moved from what the centroids were found on.

    Args:
        cosines: (n,) float32, of each vector to its nearest centroid; NaN counts for nothing.
        centroids: these.

    >>> then = Centroids(np.eye(2, dtype=np.float32), mean_cosine=0.8, low_cosine=0.5)
    >>> drift(np.array([0.75, 0.25]), then)
    Drift(rows=2, mean_cosine=0.5, mean_cosine_then=0.8, share_low=0.5)
    """
    cosines = cosines[np.isfinite(cosines)]
    rows = len(cosines)
    return Drift(
        rows=rows,
        mean_cosine=float(cosines.mean()) if rows else math.nan,
        mean_cosine_then=centroids.mean_cosine,
        share_low=float((cosines < centroids.low_cosine).mean()) if rows else 0.0,
    )
