"""SemDeDup's rule in a cell: which of those that are alike stays, and what each is like.

Source: Abbas et al. 2023, "SemDeDup: Data-efficient learning at web-scale through semantic
deduplication", §3, and what its published code does where the two differ.
"""

import functools
from typing import Final, Literal, get_args

import numpy as np

from udfs.centroids import ASSIGNMENTS, SEED, nearest, train
from udfs.made_network import made
from udfs.model_file import ModelFile
from udfs.onnx_session import AUTO, Placement

Keep = Literal["far", "middle", "best-score", "first"]
KEEPS: Final[tuple[Keep, ...]] = get_args(Keep)

# chosen: a cell costs n^2 d / 2 products; 32,768 x 512 is 10 s on one core at the
# 55 GFLOP a second seen, and SemDeDup's own
# cells (440 million in 50,000) have 8,800 on average.
MOST_IN_CELL: Final = 1 << 15
# A tile of cosines: 4 M float32 = 16 MB (chosen).
_TILE_ROWS: Final = 1 << 11


def ranking(
    keep: Keep,
    node: np.ndarray,
    centroid_cosine: np.ndarray,
    median: np.ndarray,
    score: np.ndarray,
) -> np.ndarray:
    """The order in which rows stay: of those alike, the first.

    A row is ranked by itself and the cell that it is nearest to, whichever cell it is compared in:
    two that meet in two cells have one order in both, so that one of them stays.

    Args:
        keep: far = farthest from its centroid first, SemDeDup's "hard" and its default; middle =
            nearest to the median distance of its cell first; best-score = highest score first,
            none last; first = least node first. Equals follow in order of their nodes.
        node: (n,) int64, distinct.
        centroid_cosine: (n,) float32, to the nearest centroid.
        median: (n,) float32, of `centroid_cosine` in the row's nearest cell.
        score: (n,) float, NaN for none.

    Returns:
        (n,) int64 positions.

    Raises:
        ValueError: another rule.

    >>> near = np.array([0.9, 0.5, 0.9])
    >>> ranking("far", np.array([1, 2, 3]), near, np.full(3, 0.9), np.zeros(3)).tolist()
    [1, 0, 2]
    """
    if keep not in KEEPS:
        raise ValueError(f"keep rule got {keep!r}; allowed {', '.join(KEEPS)}; correct it")
    if keep == "first":
        return np.argsort(node)
    if keep == "best-score":
        return np.lexsort((node, np.where(np.isnan(score), np.inf, -score)))
    if keep == "far":
        return np.lexsort((node, centroid_cosine))
    return np.lexsort((node, np.abs(centroid_cosine - median)))


def nearest_earlier(
    vectors: np.ndarray, most: int = MOST_IN_CELL, placement: Placement = AUTO
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of a cell the nearest of those that rank before it, removed ones too.

    Args:
        vectors: (n, d) float32 of unit length, in the order in which they rank.
        most: rows that are compared with each other; a larger cell is compared in `parts`.
        placement: where the products are made.

    Returns:
        (n,) float32 cosines in [0, 1], and (n,) int64 positions of the nearest, of equals the
        first; 0 and -1 for the first row, and where no cosine is above 0.

    Raises:
        ValueError: fewer than 2 rows a part.

    >>> same = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    >>> [found.tolist() for found in nearest_earlier(same)]
    [[0.0, 0.0, 1.0], [-1, -1, 1]]
    """
    greatest = np.zeros(len(vectors), np.float32)
    position = np.full(len(vectors), -1, np.int64)
    for part in parts(vectors, most):
        cosine, earlier = _nearest_earlier(vectors[part], placement)
        is_nearer = cosine > greatest[part]
        greatest[part[is_nearer]] = cosine[is_nearer]
        position[part[is_nearer]] = part[earlier[is_nearer]]
    return greatest, position


def _nearest_earlier(vectors: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    ranked = np.ascontiguousarray(vectors, np.float32)
    greatest = np.zeros(len(ranked), np.float32)
    position = np.full(len(ranked), -1, np.int64)
    for start in range(0, len(ranked), _TILE_ROWS):
        rows = ranked[start : start + _TILE_ROWS]
        tile = slice(start, start + len(rows))
        for other in range(0, start + len(rows), _TILE_ROWS):
            cosine = _cosines(rows, ranked[other : other + _TILE_ROWS], placement)
            if other == start:
                cosine = np.tril(cosine, -1)  # the zeros win nothing: what is nearer is above 0
            at = cosine.argmax(axis=1)
            found = np.take_along_axis(cosine, at[:, None], axis=1)[:, 0]
            is_nearer = found > greatest[tile]
            greatest[tile] = np.where(is_nearer, found, greatest[tile])
            position[tile] = np.where(is_nearer, other + at, position[tile])
    return np.minimum(greatest, 1), position


def parts(vectors: np.ndarray, most: int = MOST_IN_CELL, seed: int = SEED) -> list[np.ndarray]:
    """A cell as parts of bounded size: k-means again inside it, two parts a row.

    What two parts share is compared in both, so that a border between parts hides little; a
    row's similarity is the greatest of its parts. Where k-means cannot part the rows (a lump of
    equals, say), they are cut as they stand, half of each part shared with the next.

    Args:
        vectors: (n, d) float32 of unit length, in the order in which they rank.
        most: rows of a part.
        seed: of k-means.

    Returns:
        Positions, ascending in each part; one part when the cell is small enough.

    Raises:
        ValueError: fewer than 2 rows a part.

    >>> [part.tolist() for part in parts(np.ones((3, 2), np.float32), most=2)]
    [[0, 1], [1, 2]]
    """
    if most < ASSIGNMENTS:
        raise ValueError(f"rows of a part got {most}; allowed 2 and more; correct it")
    found: list[np.ndarray] = []
    waiting = [np.arange(len(vectors))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= most:
            found.append(rows)
            continue
        smaller = _divided(vectors, rows, most, seed)
        if max(len(part) for part in smaller) > _SHRUNK * len(rows):
            smaller = _cut(rows, most)
        waiting += smaller[::-1]
    return found


# Parts of a cell overlap twice over; one that keeps more than this has not been parted (chosen).
_SHRUNK: Final = 0.9


def _divided(vectors: np.ndarray, rows: np.ndarray, most: int, seed: int) -> list[np.ndarray]:
    # Each row is in two parts, and parts differ in size: twice as many again.
    wanted = max(4, 2 * ASSIGNMENTS * len(rows) // most)
    centroids = train(vectors[rows], wanted, seed)
    cells = nearest(vectors[rows], centroids)[0]
    return [rows[(cells == cell).any(axis=1)] for cell in np.unique(cells)]


def _cut(rows: np.ndarray, most: int) -> list[np.ndarray]:
    step = most // 2
    return [rows[at : at + most] for at in range(0, len(rows) - most + step, step)]


def _cosines(rows: np.ndarray, others: np.ndarray, placement: Placement) -> np.ndarray:
    network = placement.open(_product())
    cosines: np.ndarray = network.run(["cosine"], {"rows": rows, "others": others})[0]
    return cosines


@functools.cache
def _product() -> ModelFile:
    return made(
        [
            ("Transpose", ["others"], ["turned"], {"perm": [1, 0]}),
            ("MatMul", ["rows", "turned"], ["cosine"], {}),
        ],
        {"rows": ["n", "d"], "others": ["m", "d"]},
        {},
        ["cosine"],
    )
