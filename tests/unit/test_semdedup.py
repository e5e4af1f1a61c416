import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import semdedup
from udfs.embedding import unit
from udfs.semdedup import Keep, most_similar_earlier, parts, ranking, removed


def cell(rng: np.random.Generator, rows: int, dimension: int = 24) -> np.ndarray:
    """Some topics with copies of many degrees."""
    base = unit(rng.standard_normal((max(1, rows // 3), dimension)))
    noise = rng.standard_normal((rows, dimension)) * rng.uniform(0, 0.15, (rows, 1))
    return unit(base[rng.integers(0, len(base), rows)] + noise)


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

        order = ranking("far", np.arange(len(vectors)), near)
        found = most_similar_earlier(vectors, order)
        gone = set(np.flatnonzero(removed(found, eps)).tolist())

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
        order = ranking("far", np.arange(40), near)
        found = most_similar_earlier(vectors, order)
        for eps in (0.25, 0.5):
            gone = set(np.flatnonzero(removed(found, eps)).tolist())
            assert gone == by_the_paper(vectors, 1 - near, eps)[0]


def test_removed_ones_still_remove() -> None:
    """A chain: each is near to the one before it only."""
    angles = np.radians([0, 15, 30, 45])
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    found = most_similar_earlier(chain, np.arange(4))

    assert removed(found, 0.05).tolist() == [False, True, True, True]


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
    score = np.array([3.0, 5.0, np.nan, 2.0])

    assert ranking(keep, node, near, score).tolist() == expected


def test_equals_go_by_their_nodes() -> None:
    node, same = np.array([3, 1, 2]), np.full(3, 0.5, np.float32)
    for keep in ("far", "middle", "best-score", "first"):
        assert ranking(keep, node, same, same).tolist() == [1, 2, 0]
    assert ranking("middle", np.empty(0, int), np.empty(0)).tolist() == []


def test_rules_that_cannot_be_are_refused() -> None:
    node, near = np.arange(2), np.zeros(2)
    with pytest.raises(ValueError, match="got 'near'; allowed far, middle, best-score, first"):
        ranking("near", node, near)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no scores; allowed one a row"):
        ranking("best-score", node, near)
    with pytest.raises(ValueError, match="part got 1; allowed 2 and more"):
        parts(np.eye(3, dtype=np.float32), most=1)


def test_many_tiles_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    vectors, order = cell(rng, 150), rng.permutation(150)
    whole = most_similar_earlier(vectors, order)
    monkeypatch.setattr(semdedup, "_TILE_ROWS", 16)

    assert np.allclose(whole, most_similar_earlier(vectors, order), atol=1e-6)
    assert most_similar_earlier(vectors[:0], order[:0]).shape == (0,)


def in_parts(vectors: np.ndarray, most: int) -> tuple[list[np.ndarray], np.ndarray]:
    found = np.zeros(len(vectors), np.float32)
    split = parts(vectors, most)
    for rows in split:
        near = most_similar_earlier(vectors[rows], np.arange(len(rows)))
        found[rows] = np.maximum(found[rows], near)
    return split, found


def test_an_oversize_cell_is_split_and_hardly_loses() -> None:
    rng = np.random.default_rng(3)
    vectors = cell(rng, 3000)

    split, found = in_parts(vectors, most=400)
    whole = most_similar_earlier(vectors, np.arange(3000))

    assert max(map(len, split)) <= 400
    assert set(np.concatenate(split).tolist()) == set(range(3000))
    assert all((np.diff(rows) > 0).all() for rows in split)
    gone = removed(whole, 0.05)
    assert (removed(found, 0.05) & gone).sum() >= 0.99 * gone.sum()
    assert not (removed(found, 0.05) & ~gone).any()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(2, 30))
def test_a_lump_of_equals_keeps_one(rows: int, most: int) -> None:
    split, found = in_parts(np.ones((rows, 1), np.float32), most)

    assert max(map(len, split)) <= most
    assert removed(found, 0.05).tolist() == [False, *[True] * (rows - 1)]
