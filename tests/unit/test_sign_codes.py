import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from udfs import sign_codes
from udfs.embedding import cosine, unit
from udfs.sign_codes import Searcher, codes, early_radius, radius, scheme


def at_cosine(rows: int, cosine_: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, noise = (unit(rng.standard_normal((rows, 512), np.float32)) for _ in range(2))
    noise = unit(noise - cosine(noise, a)[:, None] * a)
    return a, unit(cosine_ * a + math.sqrt(1 - cosine_**2) * noise)


def bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bitwise_count(a ^ b).sum(axis=1).astype(int)


@pytest.mark.parametrize("least", [0.8, 0.95, 0.99])
def test_the_radius_misses_one_in_a_thousand(least: float) -> None:
    a, b = at_cosine(20_000, least, seed=0)
    missed = (bits(codes(a), codes(b)) > radius(least)).mean()

    assert missed <= 2.2e-3  # a binomial of 20,000 at 0.001 stays below with p > 0.999999


@settings(max_examples=50)
@given(st.floats(-1, 1), st.sampled_from([64, 256, 512]), st.sampled_from([1e-6, 1e-3, 0.1]))
def test_the_radius_is_the_binomials_own(least: float, width: int, miss: float) -> None:
    differs = math.acos(least) / math.pi
    found = radius(least, width, miss)

    assert stats.binom.sf(found, width, differs) <= miss * 1.000001
    assert found == 0 or stats.binom.sf(found - 1, width, differs) > miss * 0.999999


@pytest.mark.parametrize("least", [0.8, 0.95, 0.99])
def test_the_first_bits_miss_one_in_ten_thousand(least: float) -> None:
    a, b = at_cosine(40_000, least, seed=0)
    first = sign_codes.EARLY_BITS // 64
    missed = (bits(codes(a)[:, :first], codes(b)[:, :first]) > early_radius(least)).mean()

    assert missed <= 4e-4  # a binomial of 40,000 at 0.0001 stays below with p > 0.999999


def test_what_is_far_is_seldom_near_by_code() -> None:
    a, b = at_cosine(20_000, 0.7, seed=1)

    assert (bits(codes(a), codes(b)) <= radius(0.95)).mean() < 1e-3


def test_stored_codes_stay_what_they_are() -> None:
    vectors = np.linspace(-1, 1, 4 * 512, dtype=np.float32).reshape(4, 512) ** 3
    made = codes(vectors)

    assert made.shape == (4, 8)
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == "54f3b8a7508dd741"
    assert scheme(512) == "sign/1:512:512:1"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="bits of a code got 100; allowed multiples of 64"):
        codes(np.ones((1, 4), np.float32), bits=100)
    with pytest.raises(ValueError, match=r"cosine got 1\.5; allowed -1 to 1"):
        radius(1.5)


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # cells, nodes, codes


def brute(
    batch: Rows, others: Rows, limit: int, most: int, early: int
) -> set[tuple[int, int, int]]:
    first = sign_codes.EARLY_BITS // 64
    found = set()
    for row, (cell, node, code) in enumerate(zip(*batch, strict=True)):
        near = {
            (int(np.bitwise_count(code ^ theirs).sum()), int(other))
            for other_cell, other, theirs in zip(*others, strict=True)
            if other_cell == cell
            and other != node
            and np.bitwise_count(code[:first] ^ theirs[:first]).sum() <= early
        }
        within = sorted(pair for pair in near if pair[0] <= limit)
        found |= {(row, other, distance) for distance, other in within[:most]}
    return found


def triples(searcher: Searcher) -> list[tuple[int, int, int]]:
    return [
        (int(row), int(other), int(distance))
        for part in searcher.found()
        for row, other, distance in zip(part.row, part.other, part.distance, strict=True)
    ]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_search_equals_brute_force_in_any_order(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    rows, many, words = (data.draw(st.integers(0, n)) for n in (30, 60, 6))
    most, limit = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 4))
    early = data.draw(st.sampled_from([0, 1, 2, 192]))

    def some(count: int) -> Rows:
        return (
            rng.integers(0, 5, count).astype(np.int32),
            rng.integers(0, 50, count),
            rng.integers(0, 2, (count, words + 1)).astype(np.uint64),
        )

    batch, others = some(rows), some(many)
    searcher = Searcher(*batch, radius=limit, most=most, early=early)
    twice = np.concatenate([rng.permutation(many), rng.permutation(many)])
    for part in np.array_split(twice, 3):
        cell, node, code = (array[part] for array in others)
        searcher.meet(cell, node, code)

    found = triples(searcher)
    assert len(found) == len(set(found))
    assert set(found) == brute(batch, others, limit, most, early)


def test_a_lump_keeps_the_least_of_its_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_codes, "_BLOCK_ROWS", 100)
    lump = np.zeros((3000, 4), np.uint64)
    cell, node = np.zeros(3000, np.int32), np.arange(3000)
    searcher = Searcher(cell, node, lump, radius=42, most=5)
    searcher.meet(cell, node, lump)

    found = triples(searcher)
    # 9 million pairs lie within the radius.
    assert len(found) == 5 * 3000
    assert sorted(other for row, other, _ in found if row == 2) == [0, 1, 3, 4, 5]
    assert max(len(part.row) for part in searcher.found()) == 5 * 100


def test_all_bits_are_counted() -> None:
    one = np.array([[2**63 + 5, 2**64 - 1]], np.uint64)
    searcher = Searcher(np.zeros(1, np.int32), np.array([1]), one * 0, radius=128)
    searcher.meet(np.zeros(1, np.int32), np.array([2]), one)

    assert triples(searcher) == [(0, 2, 3 + 64)]
