import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import semdedup
from udfs.centroids import Centroids, nearest
from udfs.embedding import unit
from udfs.semdedup import KEEPS, Keep, nearest_earlier, parts, ranking


def cell(rng: np.random.Generator, rows: int, dimension: int = 24) -> np.ndarray:
    """Some topics with copies of many degrees."""
    base = unit(rng.standard_normal((max(1, rows // 3), dimension)))
    noise = rng.standard_normal((rows, dimension)) * rng.uniform(0, 0.15, (rows, 1))
    return unit(base[rng.integers(0, len(base), rows)] + noise)


def order_of(keep: Keep, near: np.ndarray) -> np.ndarray:
    """The order of one cell, all of whose rows are nearest to it."""
    median = np.full(len(near), np.sort(near)[(len(near) - 1) // 2], np.float32)
    return ranking(keep, np.arange(len(near)), near, median, np.zeros(len(near)))


def most_similar(vectors: np.ndarray, order: np.ndarray) -> np.ndarray:
    """In the order of `vectors`."""
    found = np.empty(len(vectors), np.float32)
    found[order] = nearest_earlier(vectors[order])[0]
    return found


def by_the_paper(vectors: np.ndarray, distance: np.ndarray, eps: float) -> tuple[set, np.ndarray]:
    """The rule written out: sort by distance, descending; compare with all before."""
    rows = sorted(range(len(vectors)), key=lambda i: -distance[i])
    ranked = vectors[rows].astype(np.float64)
    similar = ranked @ ranked.T
    greatest = np.array([max([0.0, *similar[j, :j]]) for j in range(len(rows))])
    return {rows[j] for j in range(len(rows)) if greatest[j] > 1 - eps}, greatest


def test_equals_the_rule_of_semdedup_on_a_thousand_cells() -> None:
    rng = np.random.default_rng(0)
    removed_in_all = 0
    for _ in range(1000):
        vectors = cell(rng, int(rng.integers(1, 60)))
        near = (vectors @ unit(vectors.mean(axis=0, keepdims=True))[0]).astype(np.float32)
        eps = float(rng.choice([0.01, 0.05, 0.07, 0.3]))

        order = order_of("far", near)
        found = most_similar(vectors, order)
        gone = set(np.flatnonzero(found > 1 - eps).tolist())

        expected, greatest = by_the_paper(vectors, 1 - near.astype(np.float64), eps)
        assert np.allclose(found[order], greatest, atol=1e-6)
        # What lies on the bound to the last bit may fall on either side of it.
        if np.abs(greatest - (1 - eps)).min() > 1e-6:
            assert gone == expected
            removed_in_all += len(gone)
    assert removed_in_all > 5000


def test_ties_and_the_strict_bound_are_exact() -> None:
    """Halves: every cosine is a multiple of 1/4 and exact in float32."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        vectors = np.zeros((40, 6), np.float32)
        for row in vectors:
            row[rng.choice(6, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
        near = vectors[:, 0].copy()
        found = most_similar(vectors, order_of("far", near))
        for eps in (0.25, 0.5):
            gone = set(np.flatnonzero(found > 1 - eps).tolist())
            assert gone == by_the_paper(vectors, 1 - near, eps)[0]


def test_removed_ones_still_remove() -> None:
    """A chain: each is near to the one before it only."""
    angles = np.radians([0, 15, 30, 45])
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    found, position = nearest_earlier(chain)

    assert (found > 1 - 0.05).tolist() == [False, True, True, True]
    assert position.tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("far", [2, 3, 0, 1]),
        ("middle", [3, 2, 0, 1]),
        ("best-score", [1, 0, 3, 2]),
        ("first", [3, 2, 1, 0]),
    ],
)
def test_rankings(keep: Keep, expected: list[int]) -> None:
    node = np.array([40, 30, 20, 10])
    near = np.array([0.75, 0.9, 0.5, 0.55], np.float32)
    median = np.full(4, 0.55, np.float32)
    score = np.array([3.0, 5.0, np.nan, 2.0])

    assert ranking(keep, node, near, median, score).tolist() == expected


def test_equals_go_by_their_nodes() -> None:
    node, same, none = np.array([3, 1, 2]), np.full(3, 0.5, np.float32), np.empty(0, np.int64)
    for keep in KEEPS:
        assert ranking(keep, node, same, same, same).tolist() == [1, 2, 0]
        assert ranking(keep, none, none, none, none).tolist() == []


def test_rules_that_cannot_be_are_refused() -> None:
    node, near = np.arange(2), np.zeros(2)
    with pytest.raises(ValueError, match="got 'near'; allowed far, middle, best-score, first"):
        ranking("near", node, near, near, near)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="part got 1; allowed 2 and more"):
        nearest_earlier(np.eye(3, dtype=np.float32), most=1)


def test_many_tiles_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    vectors = cell(rng, 150)
    whole, nearest = nearest_earlier(vectors)
    monkeypatch.setattr(semdedup, "_TILE_ROWS", 16)
    tiled, by_tiles = nearest_earlier(vectors)

    assert np.allclose(whole, tiled, atol=1e-6)
    assert nearest.tolist() == by_tiles.tolist()
    assert [len(found) for found in nearest_earlier(vectors[:0])] == [0, 0]


def test_the_nearest_is_an_earlier_one_as_near_as_is_said() -> None:
    vectors = cell(np.random.default_rng(4), 700)
    for most in (1000, 100):
        found, position = nearest_earlier(vectors, most)
        has_one = position >= 0

        assert (position < np.arange(700)).all()
        assert ((found > 0) == has_one).all()
        cosine = np.einsum("nd,nd->n", vectors[has_one], vectors[position[has_one]])
        assert np.allclose(found[has_one], cosine, atol=1e-6)


def test_an_oversize_cell_is_split_and_hardly_loses() -> None:
    rng = np.random.default_rng(3)
    vectors = cell(rng, 3000)

    split = parts(vectors, most=400)
    found, whole = nearest_earlier(vectors, most=400)[0], nearest_earlier(vectors)[0]

    assert max(map(len, split)) <= 400
    assert set(np.concatenate(split).tolist()) == set(range(3000))
    assert all((np.diff(rows) > 0).all() for rows in split)
    gone = whole > 1 - 0.05
    assert ((found > 1 - 0.05) & gone).sum() >= 0.99 * gone.sum()
    assert not ((found > 1 - 0.05) & ~gone).any()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(2, 30))
def test_a_lump_of_equals_keeps_one(rows: int, most: int) -> None:
    lump = np.ones((rows, 1), np.float32)

    assert max(map(len, parts(lump, most))) <= most
    assert (nearest_earlier(lump, most)[0] > 1 - 0.05).tolist() == [False, *[True] * (rows - 1)]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    keep=st.sampled_from(KEEPS),
    cells=st.integers(1, 5),
    eps=st.floats(0.01, 0.3),
)
def test_of_those_alike_one_stays_however_many_cells_they_meet_in(
    seed: int, rows: int, keep: Keep, cells: int, eps: float
) -> None:
    rng = np.random.default_rng(seed)
    vectors = cell(rng, rows, dimension=3)
    middles = Centroids(unit(rng.standard_normal((cells, 3))), 1.0, 1.0)
    met, near = (found for found in nearest(vectors, middles))
    own = near[:, 0]
    lower = [np.sort(own[met[:, 0] == c])[((met[:, 0] == c).sum() - 1) // 2] for c in met[:, 0]]
    score = np.where(rng.random(rows) < 0.2, np.nan, rng.random(rows))
    node = rng.permutation(rows)
    greatest, nearest_one = np.zeros(rows, np.float32), np.full(rows, -1)
    for c in range(cells):
        members = np.flatnonzero((met == c).any(axis=1))
        if len(members):
            of_cell = (values[members] for values in (node, own, np.array(lower), score))
            order = members[ranking(keep, *of_cell)]
            found, position = nearest_earlier(vectors[order], most=20)
            for place, row in enumerate(order):
                if found[place] > greatest[row]:
                    greatest[row] = found[place]
                    nearest_one[row] = order[position[place]]
    gone = greatest > 1 - eps

    # What each goes for leads to one that stays: nothing goes for what goes for it.
    assert not gone.all()
    for row in np.flatnonzero(gone):
        assert vectors[row] @ vectors[nearest_one[row]] > 1 - eps - 1e-6
        passed = {row}
        while gone[row]:
            row = nearest_one[row]
            assert row not in passed
            passed.add(row)
