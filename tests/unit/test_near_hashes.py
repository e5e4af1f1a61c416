from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from udfs.near_hashes import MOST_RADIUS, NearHashes, _cut
from udfs.phash import hamming

Found = dict[tuple[int, int], int]


@pytest.fixture
def rng() -> np.random.Generator:
    seed = np.random.SeedSequence().entropy
    print(f"seed {seed}")  # shown where a test fails
    return np.random.default_rng(seed)


def some_hashes(rng: np.random.Generator, rows: int) -> np.ndarray:
    return rng.integers(-(2**63), 2**63, rows)


def disturbed(rng: np.random.Generator, hashes: np.ndarray, distance: int) -> np.ndarray:
    bits = rng.random((len(hashes), 64)).argsort(axis=1)[:, :distance].astype(np.uint64)
    return hashes ^ (np.uint64(1) << bits).sum(axis=1, dtype=np.uint64).view(np.int64)


def found(batch: NearHashes, hashes: np.ndarray) -> Found:
    blocks = list(batch.near(hashes, np.arange(len(hashes))))
    pairs = [tuple(map(int, row)) for block in blocks for row in zip(*block, strict=True)]
    assert len(pairs) == len({pair[:2] for pair in pairs}), "a pair was found twice"
    return {(a, b): distance for a, b, distance in pairs}


def near(hashes: np.ndarray, others: np.ndarray, radius: int) -> Found:
    distances = hamming(hashes[:, None], others)
    where = np.argwhere(distances <= radius).tolist()
    return {(a, b): int(distances[a, b]) for a, b in where}


@njit
def _count(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pairs at each distance."""
    counts = np.zeros(65, np.int64)
    for a in hashes:
        for b in others:
            bits, distance = a ^ b, 0
            while bits and distance <= 10:
                bits &= bits - np.uint64(1)
                distance += 1
            counts[distance] += 1
    return counts


@pytest.mark.parametrize("radius", range(MOST_RADIUS + 1))
def test_every_pair_within_the_radius_is_found_once_and_none_beyond(rng, radius) -> None:
    hashes = some_hashes(rng, 200)
    others = np.concatenate([disturbed(rng, hashes, distance) for distance in range(14)])
    assert found(NearHashes(hashes, np.arange(200), radius=radius), others) == near(
        hashes, others, radius
    )


def test_fifty_thousand_hashes_equal_brute_force_at_every_distance(rng) -> None:
    seeds = some_hashes(rng, 2000)
    planted = [disturbed(rng, seeds, distance) for distance in range(1, 13)]
    hashes = np.concatenate([seeds, *planted, some_hashes(rng, 50_000 - 13 * 2000)])
    asked = rng.choice(hashes, 4000, replace=False)
    truth = _count(hashes.view(np.uint64), asked.view(np.uint64))[: MOST_RADIUS + 1]
    assert (truth > 100).all()
    blocks = NearHashes(hashes, np.arange(50_000), radius=10).near(asked, np.arange(4000))
    counts = Counter[int]()
    for block in blocks:
        assert (hamming(hashes[block.ids], asked[block.others]) == block.distances).all()
        counts.update(block.distances.tolist())
    assert [counts[distance] for distance in range(MOST_RADIUS + 1)] == truth.tolist()


@settings(deadline=None)
@given(
    hashes=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6),
    flips=st.lists(st.sets(st.integers(0, 63), max_size=12), max_size=8),
    radius=st.integers(0, MOST_RADIUS),
)
def test_any_hashes_equal_brute_force(hashes, flips, radius) -> None:
    batch = np.array(hashes, np.int64)
    masks = np.array([sum(1 << bit for bit in bits) for bits in flips], np.uint64).view(np.int64)
    others = (batch[:, None] ^ masks).ravel()
    assert found(NearHashes(batch, np.arange(len(batch)), radius=radius), others) == near(
        batch, others, radius
    )


@pytest.mark.parametrize("radius", range(MOST_RADIUS + 1))
@pytest.mark.parametrize("count", range(3, 9))
def test_a_cut_leaves_no_pair_outside_all_balls(count, radius) -> None:
    # What a pair that no ball holds differs in, at the least.
    least = sum(max(substring.radius, -1) + 1 for substring in _cut(count, radius))
    assert least == radius + 1
    assert sum(s.width for s in _cut(count, MOST_RADIUS)) == 64


def test_a_crowd_comes_in_bounded_blocks(rng) -> None:
    (centre,) = some_hashes(rng, 1)
    crowd = disturbed(rng, np.full(2000, centre), 2)  # all within 4 of each other
    blocks = list(NearHashes(crowd, np.arange(2000), radius=4).near(crowd, np.arange(2000)))
    assert sum(len(block.ids) for block in blocks) == 2000 * 2000
    assert len(blocks) > 1
    assert max(len(block.ids) for block in blocks) <= 2000 + 65_536


def test_a_block_is_not_changed_by_the_next() -> None:
    same = np.zeros(1000, np.int64)
    blocks = list(NearHashes(same, np.arange(1000), radius=0).near(same, np.arange(1000)))
    pairs = np.concatenate([block.ids * 1000 + block.others for block in blocks])
    assert (np.sort(pairs) == np.arange(1000 * 1000)).all()


@pytest.mark.parametrize(("rows", "asked"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_near_nothing(rows, asked) -> None:
    batch = NearHashes(np.zeros(rows, np.int64), np.arange(rows), radius=10)
    assert list(batch.near(np.zeros(asked, np.int64), np.arange(asked))) == []


def test_read_only_hashes_are_taken() -> None:
    hashes = np.array([5])
    hashes.flags.writeable = False
    assert found(NearHashes(hashes, np.arange(1), radius=1), hashes) == {(0, 0): 0}


@pytest.mark.parametrize("radius", [-1, 11])
def test_a_radius_out_of_range_is_refused(radius) -> None:
    with pytest.raises(ValueError, match=rf"radius got {radius}; allowed 0 to 10"):
        NearHashes(np.zeros(1, np.int64), np.zeros(1, np.int64), radius=radius)


def test_hashes_and_ids_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="batch got 1 hashes and 2 ids"):
        NearHashes(np.zeros(1, np.int64), np.zeros(2, np.int64), radius=1)


def test_a_large_batch_has_other_substrings(rng, monkeypatch) -> None:
    monkeypatch.setattr("udfs.near_hashes._CACHED_ROWS", 10)
    hashes = some_hashes(rng, 300)
    others = np.concatenate([disturbed(rng, hashes, distance) for distance in range(14)])
    batch = NearHashes(hashes, np.arange(300), radius=10)
    assert found(batch, others) == near(hashes, others, 10)
