"""Of all that is near each hash of a batch, the few nearest: what many share makes no all pairs."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from udfs.near_hashes import NearHashes

_PENDING: Final = 1 << 20  # chosen: found before they are sorted again, 17 bytes each


class Nearest(NamedTuple):
    """What is near the hashes of a batch, in the order of their rows, nearest first.

    Attributes:
        rows: (n,) int64, of the batch.
        ids: (n,) int64, of what was streamed; each once a row.
        distances: (n,) uint8, the least of the id's.
        left_off: how many hashes were near, of ids for which a row had no room.
    """

    rows: np.ndarray
    ids: np.ndarray
    distances: np.ndarray
    left_off: int


def nearest(
    batch: np.ndarray, streamed: Iterable[tuple[np.ndarray, np.ndarray]], *, radius: int, most: int
) -> Nearest:
    """The ids whose hashes are nearest to each hash of a batch; of equally near ones the least.

    Whatever is streamed, little more is held than ``most`` ids a row of the batch and what one
    block of pairs finds. Equal hashes of a block are looked up once.

    Args:
        batch: (k,) int64, distinct.
        streamed: hashes and ids, (m,) int64 both, a block at a time; an id may have many hashes.
        radius: most bits that differ, 0 to 10.
        most: ids that a row has room for, at least 1.

    Raises:
        ValueError: a radius or a number of rows that is not allowed.

    >>> streamed = np.array([1, 7, 0]), np.array([5, 6, 7])
    >>> found = nearest(np.array([0]), [streamed], radius=3, most=2)
    >>> found.ids.tolist(), found.distances.tolist(), found.left_off
    ([7, 5], [0, 1], 1)
    """
    near = NearHashes(batch, np.arange(len(batch)), radius=radius)
    held = [Nearest(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8), 0)]
    pending = 0
    for hashes, ids in streamed:
        for found in _found(near, hashes, ids, most):
            held.append(found)
            pending += len(found.rows)
            if pending > _PENDING:
                held, pending = [_few(held, most)], 0
    return _few(held, most)


def _found(near: NearHashes, hashes: np.ndarray, ids: np.ndarray, most: int) -> Iterator[Nearest]:
    """Blocks of ids near the batch's rows; of equal hashes the least ids, each once."""
    order = np.lexsort((ids, hashes))
    hashes, ids = hashes[order], ids[order]
    is_new = np.ones(len(ids), bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (ids[1:] != ids[:-1])
    hashes, ids = hashes[is_new], ids[is_new]
    starts = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] ^ 1))
    sizes = np.diff(starts, append=len(hashes))
    for found in near.near(hashes[starts], np.arange(len(starts))):
        room = np.minimum(sizes[found.others], most)
        ends = np.cumsum(room)
        place = np.arange(ends[-1]) - np.repeat(ends - room, room)
        yield Nearest(
            np.repeat(found.ids, room),
            ids[np.repeat(starts[found.others], room) + place],
            np.repeat(found.distances, room),
            int((sizes[found.others] - room).sum()),
        )


def _few(held: Sequence[Nearest], most: int) -> Nearest:
    """All of them, as far as there is room."""
    rows, ids, distances = (np.concatenate([each[column] for each in held]) for column in range(3))
    order = np.lexsort((distances, ids, rows))
    rows, ids, distances = rows[order], ids[order], distances[order]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (rows[1:] != rows[:-1]) | (ids[1:] != ids[:-1])
    rows, ids, distances = rows[is_first], ids[is_first], distances[is_first]
    order = np.lexsort((ids, distances, rows))
    rows, ids, distances = rows[order], ids[order], distances[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    has_room = place < most
    left_off = sum(each.left_off for each in held) + int((~has_room).sum())
    return Nearest(rows[has_room], ids[has_room], distances[has_room], left_off)
