import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import nearest_hashes
from udfs.nearest_hashes import nearest
from udfs.phash import hamming

Rows = list[tuple[int, int]]  # hash, id


def told(batch: list[int], streamed: Rows, radius: int, most: int) -> list[tuple[int, int, int]]:
    """The same in so many words."""
    found: list[tuple[int, int, int]] = []
    for row, value in enumerate(batch):
        least: dict[int, int] = {}
        for other, name in streamed:
            distance = (value ^ other).bit_count()
            if distance <= radius:
                least[name] = min(least.get(name, 64), distance)
        found += [(row, name, d) for d, name in sorted((d, n) for n, d in least.items())[:most]]
    return found


def blocks(streamed: Rows, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    columns = np.array(streamed, np.int64).reshape(-1, 2)
    return [
        (columns[start : start + size, 0], columns[start : start + size, 1])
        for start in range(0, max(1, len(streamed)), size)
    ]


@settings(deadline=None)
@given(
    batch=st.lists(st.integers(0, 63), unique=True, max_size=6),
    streamed=st.lists(st.tuples(st.integers(0, 63), st.integers(0, 9)), max_size=40),
    radius=st.integers(0, 3),
    most=st.integers(1, 5),
    size=st.integers(1, 50),
)
def test_the_nearest_whatever_the_blocks(batch, streamed, radius, most, size) -> None:
    found = nearest(np.array(batch, np.int64), blocks(streamed, size), radius=radius, most=most)

    rows = zip(found.rows.tolist(), found.ids.tolist(), found.distances.tolist(), strict=True)
    assert list(rows) == told(batch, streamed, radius, most)
    assert (found.left_off > 0) == (
        told(batch, streamed, radius, 100) != told(batch, streamed, radius, most)
    )


def test_an_id_that_shows_a_hash_twice_takes_the_room_of_one() -> None:
    found = nearest(np.array([0]), [(np.zeros(3, np.int64), np.array([5, 5, 6]))], radius=0, most=2)

    assert (found.ids.tolist(), found.left_off) == ([5, 6], 0)


def test_what_many_share_is_never_held_at_once(monkeypatch) -> None:
    monkeypatch.setattr(nearest_hashes, "_PENDING", 100)
    longest = 0
    few = nearest_hashes._few

    def watched(held, most):
        nonlocal longest
        longest = max(longest, sum(len(each.rows) for each in held))
        return few(held, most)

    monkeypatch.setattr(nearest_hashes, "_few", watched)
    shared = np.zeros(1000, np.int64)
    streamed = [(shared, np.arange(n, n + 1000)) for n in range(50_000, 0, -1000)]
    found = nearest(np.array([0, 1]), streamed, radius=1, most=8)

    assert found.ids.tolist() == [*range(1000, 1008)] * 2
    assert found.left_off == 2 * (50_000 - 8)
    assert longest < 200


def test_signed_hashes_are_bits() -> None:
    found = nearest(
        np.array([-1]), [(np.array([2**63 - 1, 0]), np.array([7, 8]))], radius=1, most=2
    )

    assert (found.ids.tolist(), found.distances.tolist()) == ([7], [1])
    assert hamming(np.array([-1]), np.int64(2**63 - 1)).tolist() == [1]


def test_a_radius_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ValueError, match="radius got 11"):
        nearest(np.array([0]), [], radius=11, most=1)
