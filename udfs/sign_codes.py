"""Compact codes of embeddings: on which side of random hyperplanes a vector lies.

Two vectors at an angle differ in each bit with probability angle / pi, each bit alone (Charikar
2002, "Similarity Estimation Techniques from Rounding Algorithms").
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import types
from numba.extending import intrinsic
from scipy import special

from udfs.compiled import compiled

# 64 bytes a code. Measured, 100,000 embeddings in topics of cosine 0.7, of which 0.95 is asked for:
# 58,248 candidates where 256 bits gave 140,584, at the same CPU time and recall. What is no copy
# grows with history, and the embedding of each candidate is fetched.
BITS: Final = 512
SEED: Final = 1
MISS: Final = 1e-3  # a tenth of what a recall of 0.99 may lose
# Bits that are compared first; the others only where few of these differ. Measured, 40,000 codes
# against 4 M in topics of cosine 0.7, 5.5 * 10^9 pairs: all 512 bits 9.4 s, 128 first 8.7 s, 192
# first 4.9 s, each with what follows.
EARLY_BITS: Final = 192
EARLY_MISS: Final = 1e-4  # chosen: a tenth of MISS
# Of all that is within the radius, a code keeps its nearest: as many as make no difference to
# groups of copies, and a blank picture with a million likenesses stays bounded (chosen).
MOST: Final = 64
_WORD: Final = 64
# Rows whose candidates come out together: at most 4,096 x 64 x 18 bytes = 5 MB (chosen).
_BLOCK_ROWS: Final = 1 << 12


def scheme(dimension: int, bits: int = BITS, seed: int = SEED) -> str:
    """Name of the codes; codes of different names cannot be compared.

    >>> scheme(512)
    'sign/1:512:512:1'
    """
    return f"sign/1:{dimension}:{bits}:{seed}"


def radius(cosine: float, bits: int = BITS, miss: float = MISS) -> int:
    """Most bits that may differ: a pair at the cosine differs in more with p <= `miss`.

    Args:
        cosine: least cosine of a pair that is looked for.
        bits: of a code.
        miss: probability.

    Raises:
        ValueError: cosine beyond [-1, 1].

    At cosine 0.95 the angle is 18.2 degrees, 0.101 of the bits; at 0.8 a pair comes within the
    same radius with p = 0.0003, with 256 bits with 0.06.

    >>> radius(0.95)
    74
    """
    if not -1 <= cosine <= 1:
        raise ValueError(f"cosine got {cosine}; allowed -1 to 1; correct the threshold")
    differs = math.acos(cosine) / math.pi
    return int(np.argmax(special.bdtr(np.arange(bits + 1), bits, differs) >= 1 - miss))


def early_radius(cosine: float) -> int:
    """Most of the first EARLY_BITS that may differ: more do, at the cosine, with p <= EARLY_MISS.

    >>> early_radius(0.95)
    36
    """
    return radius(cosine, EARLY_BITS, EARLY_MISS)


@functools.lru_cache(maxsize=4)
def _hyperplanes(dimension: int, bits: int, seed: int) -> np.ndarray:
    """(dimension, bits) float32, standard normal.

    Made from raw bits: NumPy promises those to stay, its normal distribution may change
    (NEP 19), and stored codes outlive a release.
    """
    raw = np.random.PCG64(seed).random_raw(dimension * bits)
    uniform = ((raw >> np.uint64(11)) + 0.5) / (1 << 53)
    planes: np.ndarray = special.ndtri(uniform).astype(np.float32).reshape(dimension, bits)
    return planes


def codes(vectors: np.ndarray, bits: int = BITS, seed: int = SEED) -> np.ndarray:
    """Codes of vectors; their length does not matter.

    Args:
        vectors: (n, d) float32.
        bits: a multiple of 64.
        seed: of the hyperplanes.

    Returns:
        (n, bits / 64) uint64.

    Raises:
        ValueError: bits that are no multiple of 64.

    >>> codes(np.ones((1, 8), np.float32)).shape
    (1, 8)
    """
    if bits < 1 or bits % _WORD:
        raise ValueError(f"bits of a code got {bits}; allowed multiples of 64; correct them")
    sides = vectors @ _hyperplanes(vectors.shape[1], bits, seed) > 0
    return np.packbits(sides, axis=1).view("<u8")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs that may be near, row-aligned.

    Attributes:
        row: int64, positions in the batch.
        other: int64, nodes.
        distance: int16, differing bits.
    """

    row: np.ndarray
    other: np.ndarray
    distance: np.ndarray


class Searcher:
    """A batch's codes by cell, and the nearest to each of what a stream of others brings.

    What is found depends neither on the order of the stream nor on what is met twice. Memory:
    the batch, and `most` times 10 bytes a row, of which only what is filled is ever touched.

    Args:
        cell: (n,) int32, not below 0.
        node: (n,) int64.
        code: (n, w) uint64.
        radius: most bits that may differ.
        most: others kept of a row: the nearest, of equals those of lesser nodes.
        early: most of the first EARLY_BITS that may differ, as `early_radius` says it.
    """

    def __init__(
        self,
        cell: np.ndarray,
        node: np.ndarray,
        code: np.ndarray,
        radius: int,
        most: int = MOST,
        early: int = EARLY_BITS,
    ) -> None:
        self._order = np.argsort(cell, kind="stable")
        cells, starts = np.unique(cell[self._order], return_index=True)
        self._starts = np.append(starts, len(cell)).astype(np.int64)
        # cell -> which of the batch's cells; the last entry stands for all beyond.
        self._group = np.full(int(cell.max(initial=-1)) + 2, -1, np.int64)
        self._group[cells] = np.arange(len(cells))
        self._node = node[self._order].astype(np.int64)
        self._code = np.ascontiguousarray(code[self._order].T)
        self._radius, self._early = np.uint64(radius), np.uint64(early)
        # The n-th nearest of all rows lie together: the later ones are seldom needed.
        self._other = np.empty((most, len(cell)), np.int64)
        self._distance = np.empty((most, len(cell)), np.int16)
        self._count = np.zeros(len(cell), np.int16)
        self._differing = np.empty(int(np.diff(self._starts).max(initial=0)), np.uint64)

    def meet(self, cell: np.ndarray, node: np.ndarray, code: np.ndarray) -> None:
        """Compare some others with the batch.

        Args:
            cell: (m,) int32, not below 0; sorted is quickest.
            node: (m,) int64; a row does not meet its own node.
            code: (m, w) uint64.
        """
        group = self._group[np.minimum(cell, len(self._group) - 1)]
        is_met = group >= 0
        _meet(
            self._code,
            self._node,
            self._starts,
            group[is_met],
            node[is_met].astype(np.int64),
            np.ascontiguousarray(code[is_met]),
            self._radius,
            self._early,
            self._other,
            self._distance,
            self._count,
            self._differing,
        )

    def found(self) -> Iterator[Candidates]:
        """What has been found so far, in blocks of bounded size."""
        for start in range(0, len(self._order), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            rank, row = np.nonzero(np.arange(len(self._other))[:, None] < self._count[part])
            yield Candidates(
                self._order[part][row],
                self._other[:, part][rank, row],
                self._distance[:, part][rank, row],
            )


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def _ones(_: Any, word: Any) -> Any:  # noqa: ARG001  # pragma: no cover  # makes compiled code
    """Bits that are set.

    Numba has no `np.bitwise_count`; what is usually written in its place took 5.8 ns a pair of
    256 bits, the processor's own instruction 0.8 to 2 (measured).
    """

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@compiled  # type: ignore[untyped-decorator, unused-ignore]
def _meet(
    # The shapes and dtypes are those that `Searcher` holds.
    codes: Any,
    nodes: Any,
    starts: Any,
    group: Any,
    others: Any,
    other_codes: Any,
    radius: Any,
    early_radius: Any,
    kept: Any,
    kept_distance: Any,
    count: Any,
    differing: Any,
) -> None:  # pragma: no cover  # runs compiled
    most, early = len(kept), EARLY_BITS // _WORD
    for o in range(len(group)):
        first, last = starts[group[o]], starts[group[o] + 1]
        differing[: last - first] = 0
        for word in range(min(early, len(codes))):
            # Word by word, and in a slice that starts at 0, so that it runs over a cell in vectors.
            mine, theirs = codes[word, first:last], other_codes[o, word]
            for i in range(last - first):
                differing[i] += _ones(mine[i] ^ theirs)  # type: ignore[call-arg, unused-ignore]
        other = others[o]
        for i in range(last - first):
            if differing[i] > early_radius or nodes[first + i] == other:
                continue
            row = first + i
            for word in range(early, len(codes)):
                differs = codes[word, row] ^ other_codes[o, word]
                differing[i] += _ones(differs)  # type: ignore[call-arg, unused-ignore]
            if differing[i] > radius:
                continue
            distance = np.int16(differing[i])
            place = count[row]
            while place and (
                kept_distance[place - 1, row] > distance
                or (kept_distance[place - 1, row] == distance and kept[place - 1, row] > other)
            ):
                place -= 1
            if place == most:
                continue
            if (
                place
                and kept[place - 1, row] == other
                and kept_distance[place - 1, row] == distance
            ):
                continue  # met before
            count[row] = min(count[row] + 1, most)
            for later in range(count[row] - 1, place, -1):
                kept[later, row] = kept[later - 1, row]
                kept_distance[later, row] = kept_distance[later - 1, row]
            kept[place, row] = other
            kept_distance[place, row] = distance
