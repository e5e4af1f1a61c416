"""64-bit hashes within a Hamming distance of each other: all of them, by multi-index hashing."""

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import Any, Final, NamedTuple

import numpy as np

from udfs.compiled import compiled

BITS: Final = 64
# The published default of image tools; reaches 99 % of crops to 95 % a side (measured on 300
# pictures). The balls below are sized for it.
MOST_RADIUS: Final = 10
_MOST_ROWS: Final = 1 << 24  # chosen: slots are 32 bits, and a table takes 12 bytes a row of each
# Fewer substrings are longer than 22 bits, whose table of 16 MB misses every cache; more than 8
# are shorter than 8 bits, and each table then finds a large part of all rows.
_SUBSTRINGS: Final = range(3, 9)
# What a look-up costs, in comparisons of two hashes of 0.7 ns. Measured, microseconds a hash at
# radius 10, by the number of substrings: against 20,000 hashes 32 (3), 2.6 (4), 2.0 (5), 1.4 (6),
# 1.4 (7); against 1 M 77 (3), 50 (4), 26 (5). At radius 3: 0.56 (3), 0.07 (4), 0.10 (5), 0.16 (6);
# against 1 M 0.96 (3), 0.58 (4), 1.2 (5). The tables of the larger batch miss the cache.
_LOOKUP_CACHED: Final = 10
_LOOKUP_MISSED: Final = 80
_CACHED_ROWS: Final = 100_000  # chosen: 12 bytes a row in each of four tables, about 4 MB
_SPARE: Final = 1 << 16  # chosen: pairs a block has room for beyond the most that one look-up finds


class Pairs(NamedTuple):
    """Pairs found, row by row.

    Attributes:
        ids: int64, of the batch.
        others: int64, of what was streamed.
        distances: uint8 in [0, radius].
    """

    ids: np.ndarray
    others: np.ndarray
    distances: np.ndarray


class _Substring(NamedTuple):
    """Bits of a hash that have a table of their own, and how many of them may differ."""

    shift: int
    width: int
    radius: int


class NearHashes:
    """A batch of hashes, ready to be compared with any number of others.

    Two hashes of 64 bits that differ in r = q m + a bits, cut into m substrings, differ in at most
    q bits in one of the first a + 1 substrings, or in at most q - 1 in one of the rest (else there
    would be more than r in all). So a table per substring, looked up at every value within that
    ball, misses nothing. The number of substrings is the one that costs least by the batch's size:
    long ones have large balls, short ones find many rows that are not near.

    Source: Norouzi, Punjani and Fleet 2012, "Fast Search in Hamming Space with Multi-Index
    Hashing", arXiv 1307.2982, §3.

    >>> batch = NearHashes(np.array([0, 255]), np.array([10, 11]), radius=3)
    >>> for found in batch.near(np.array([7, 128]), np.array([20, 21])):
    ...     print(sorted(zip(*(column.tolist() for column in found))))
    [(10, 20, 3), (10, 21, 1)]
    """

    def __init__(self, hashes: np.ndarray, ids: np.ndarray, *, radius: int) -> None:
        """Build the tables: 12 bytes a row in each of 3 to 8, and up to 16 MB each.

        Args:
            hashes: (n,) int64; equal ones are better collapsed first, for each is found.
            ids: (n,) int64.
            radius: most bits that differ, 0 to 10.

        Raises:
            ValueError: a radius or a number of rows that is not allowed.
        """
        check_radius(radius)
        if len(hashes) != len(ids) or len(hashes) > _MOST_ROWS:
            raise ValueError(
                f"batch got {len(hashes)} hashes and {len(ids)} ids; allowed as many of both, at "
                f"most {_MOST_ROWS}; give it in slices"
            )
        self._radius = radius
        self._ids = ids
        substrings = _substrings(len(hashes), radius)
        tables = [_table(_unsigned(hashes), substring) for substring in substrings]
        balls = [_ball(substring) for substring in substrings]
        self._tables = (
            np.array([s.shift for s in substrings], np.uint64),
            np.array([(1 << s.width) - 1 for s in substrings], np.uint64),
            np.array([s.radius for s in substrings], np.uint64),
            *_joined(balls),
            *_joined([starts for starts, _, _ in tables]),
            np.array([slots for _, slots, _ in tables]),
            np.array([ordered for _, _, ordered in tables]),
        )

    def near(self, hashes: np.ndarray, ids: np.ndarray) -> Iterator[Pairs]:
        """Every pair of a row of the batch and a given row within the radius, exactly once.

        Args:
            hashes: (k,) int64.
            ids: (k,) int64.

        Yields:
            Blocks of at most n + 65,536 pairs of a batch of n rows, however many there are.
        """
        if not len(hashes) or not len(self._ids):
            return
        queries = _unsigned(hashes)
        room = len(self._ids) + _SPARE
        found = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.uint8)
        done = 0
        while done < len(self._tables[0]) * len(queries):
            done, count = _probe(queries, np.uint64(self._radius), self._tables, done, found)
            if count:
                rows, others, distances = (column[:count] for column in found)
                yield Pairs(self._ids[rows], ids[others], distances.copy())


def check_radius(radius: int) -> None:
    """Refuse a radius that the balls are not sized for.

    Raises:
        ValueError: it is not 0 to 10.
    """
    if not 0 <= radius <= MOST_RADIUS:
        raise ValueError(f"radius got {radius}; allowed 0 to {MOST_RADIUS}; give one of these")


def _unsigned(hashes: np.ndarray) -> np.ndarray:
    # A copy: Arrow's arrays are read-only, for which everything would be compiled once more.
    return np.array(hashes, np.int64).view(np.uint64)


def _substrings(rows: int, radius: int) -> list[_Substring]:
    """The substrings that cost least, those that no pair depends on left out."""
    lookup = _LOOKUP_CACHED if rows <= _CACHED_ROWS else _LOOKUP_MISSED

    def cost(substrings: list[_Substring]) -> float:
        return sum(_ball_size(s) * (lookup + rows / (1 << s.width)) for s in substrings)

    return min((_cut(count, radius) for count in _SUBSTRINGS), key=cost)


def _cut(count: int, radius: int) -> list[_Substring]:
    """Cut 64 bits into so many substrings; the shorter ones, with smaller balls, come first."""
    short, longer = divmod(BITS, count)
    widths = [short] * (count - longer) + [short + 1] * longer
    most, rest = divmod(radius, count)
    cut = [
        _Substring(sum(widths[:place]), width, most if place <= rest else most - 1)
        for place, width in enumerate(widths)
    ]
    return [substring for substring in cut if substring.radius >= 0]


def _ball_size(substring: _Substring) -> int:
    return sum(comb(substring.width, flips) for flips in range(substring.radius + 1))


def _ball(substring: _Substring) -> np.ndarray:
    """(ball,) uint64: the bits to flip for every value of a substring within its radius."""
    return np.array(
        [
            sum(1 << bit for bit in bits)
            for flips in range(substring.radius + 1)
            for bits in combinations(range(substring.width), flips)
        ],
        np.uint64,
    )


def _table(hashes: np.ndarray, substring: _Substring) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the rows of each value start; the rows in the order of their values; their hashes."""
    values = (hashes >> np.uint64(substring.shift)) & np.uint64((1 << substring.width) - 1)
    slots = np.argsort(values, kind="stable").astype(np.int32)
    counts = np.bincount(values.astype(np.int64), minlength=1 << substring.width)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), slots, hashes[slots]


def _joined(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays one behind the other, and where each starts, the end included."""
    return np.cumsum([0, *map(len, parts)]), np.concatenate(parts)


@compiled  # pragma: no cover: runs compiled
def _ones(bits: np.uint64) -> np.uint64:
    """Number of ones; the compiler makes the machine's own instruction of it.

    Source: Warren 2012, "Hacker's Delight", §5-1.
    """
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    pairs = np.uint64(0x3333333333333333)
    bits = (bits & pairs) + ((bits >> np.uint64(2)) & pairs)
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled  # pragma: no cover: the same
def _is_found_before(
    differing: np.uint64, place: int, shifts: np.ndarray, masks: np.ndarray, radii: np.ndarray
) -> bool:
    """Whether the table of an earlier substring has the same pair."""
    for earlier in range(place):
        if _ones((differing >> shifts[earlier]) & masks[earlier]) <= radii[earlier]:
            return True
    return False


@compiled  # pragma: no cover: the same
def _probe(
    queries: np.ndarray,
    radius: np.uint64,
    tables: tuple[np.ndarray, ...],
    done: int,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[int, int]:
    """Look hashes up, table by table, until all are done or the block has no room for one more.

    Returns:
        How many look-ups (table x hash) are done, and how many pairs were found.
    """
    shifts, masks, radii, ball_starts, balls, table_starts, starts, slots, ordered = tables
    rows, others, distances = found
    count = 0
    while done < len(shifts) * len(queries) and count + slots.shape[1] <= len(rows):
        place, other = divmod(done, len(queries))
        done += 1
        query = queries[other]
        value = (query >> shifts[place]) & masks[place]
        for n in range(ball_starts[place], ball_starts[place + 1]):
            bucket = table_starts[place] + np.int64(value ^ balls[n])
            for position in range(starts[bucket], starts[bucket + 1]):
                differing = query ^ ordered[place, position]
                distance: Any = _ones(differing)
                if distance <= radius and not _is_found_before(
                    differing, place, shifts, masks, radii
                ):
                    rows[count] = slots[place, position]
                    others[count] = other
                    distances[count] = distance
                    count += 1
    return done, count
