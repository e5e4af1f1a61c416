"""SemDeDup's keep rule in a cell: which of those that are alike stays.

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

# chosen: a cell costs n^2 d / 2 products; 32,768 x 512 is 10 s on one core at the
# 55 GFLOP a second seen, and SemDeDup's own
# cells (440 million in 50,000) have 8,800 on average.
MOST_IN_CELL: Final = 1 << 15
# A tile of cosines: 4 M float32 = 16 MB (chosen).
_TILE_ROWS: Final = 1 << 11


def ranking(
    keep: Keep, node: np.ndarray, centroid_cosine: np.ndarray, score: np.ndarray | None = None
) -> np.ndarray:
    """The order in which the rows of a cell stay: of those alike, the first.

    Args:
        keep: far = farthest from the centroid first, SemDeDup's "hard" and its default; middle =
            nearest to the median distance first; best-score = highest score first, none last;
            first = least node first. Equals follow in order of their nodes.
        node: (n,) int64, distinct.
        centroid_cosine: (n,) float32, to the centroid of the cell.
        score: (n,) float, NaN for none; for best-score only.

    Returns:
        (n,) int64 positions.

    Raises:
        ValueError: another rule, or best-score without scores.

    >>> ranking("far", np.array([1, 2, 3]), np.array([0.9, 0.5, 0.9])).tolist()
    [1, 0, 2]
    """
    if keep not in get_args(Keep):
        allowed = ", ".join(get_args(Keep))
        raise ValueError(f"keep rule got {keep!r}; allowed {allowed}; correct it")
    if keep == "first":
        return np.argsort(node)
    if keep == "best-score":
        if score is None:
            raise ValueError("keep rule got no scores; allowed one a row; name a signal, or far")
        return np.lexsort((node, np.where(np.isnan(score), np.inf, -score)))
    if keep == "far":
        return np.lexsort((node, centroid_cosine))
    middle = (len(node) - 1) // 2
    median = np.sort(centroid_cosine)[middle : middle + 1]  # of two the lesser; of none none
    return np.lexsort((node, np.abs(centroid_cosine - median)))


def most_similar_earlier(
    vectors: np.ndarray, order: np.ndarray, placement: Placement = AUTO
) -> np.ndarray:
    """Greatest cosine of each row to the rows that rank before it, removed ones too.

    Args:
        vectors: (n, d) float32 of unit length.
        order: (n,) positions, the first to stay first.
        placement: where the products are made.

    Returns:
        (n,) float32 in [0, 1], in the order of `vectors`; 0 for the first, and where all are
        below it, as the zeros below a triangle have it.

    >>> same = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    >>> most_similar_earlier(same, np.array([1, 0])).tolist()
    [1.0, 0.0]
    """
    ranked = np.ascontiguousarray(vectors[order], np.float32)
    greatest = np.zeros(len(ranked), np.float32)
    for start in range(0, len(ranked), _TILE_ROWS):
        rows = ranked[start : start + _TILE_ROWS]
        for other in range(0, start + len(rows), _TILE_ROWS):
            earlier = ranked[other : other + _TILE_ROWS]
            cosine = _cosines(rows, earlier, placement)
            if other == start:
                cosine = np.tril(cosine, -1)
            part = greatest[start : start + len(rows)]
            np.maximum(part, cosine.max(axis=1), out=part)
    found = np.empty_like(greatest)
    found[order] = np.minimum(greatest, 1)
    return found


def removed(most_similar: np.ndarray, eps: float) -> np.ndarray:
    """Which rows go: those with an earlier one nearer than `eps`, strictly.

    >>> removed(np.array([0.0, 0.93, 0.95], np.float32), 0.06).tolist()
    [False, False, True]
    """
    gone: np.ndarray = most_similar > 1 - eps
    return gone


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
