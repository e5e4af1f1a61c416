import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.centroids import (
    ASSIGNMENTS,
    Centroids,
    Drift,
    centroids_for,
    drift,
    nearest,
    readable,
    train,
)
from udfs.embedding import pack, unit

DIMENSION = 32


def topics(rows: int, count: int, seed: int, spread: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((count, DIMENSION)))
    noise = unit(rng.standard_normal((rows, DIMENSION)))
    return unit(centres[np.arange(rows) % count] + spread * noise)


def made(vectors: np.ndarray) -> Centroids:
    return Centroids(vectors, mean_cosine=1.0, low_cosine=1.0)


def test_topics_that_lie_apart_get_a_centroid_each() -> None:
    vectors = topics(2000, 10, seed=0)

    found = train(vectors, k=10)
    cells = nearest(vectors, found)[0][:, 0].reshape(-1, 10)

    assert found.vectors.shape == (10, DIMENSION)
    assert (cells == cells[0]).all()
    assert len(set(cells[0].tolist())) == 10
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


def test_the_same_sample_gives_the_same_centroids() -> None:
    vectors = topics(3000, 7, seed=1)

    assert train(vectors, 20).digest == train(vectors.copy(), 20).digest
    assert train(vectors, 20).digest != train(vectors, 20, seed=5).digest


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 50), st.integers(1, 4), st.integers(0, 10**6))
def test_the_nearest_are_those_of_all_cosines(k: int, rows: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centroids = made(unit(rng.standard_normal((k, DIMENSION))))
    vectors = unit(rng.standard_normal((rows, DIMENSION)))

    cells, cosines = nearest(vectors, centroids, count)

    every = vectors @ centroids.vectors.T
    expected = np.argsort(-every, axis=1, kind="stable")[:, :count]
    assert cells.shape == cosines.shape == (rows, min(count, k))
    assert np.array_equal(cells, expected)
    assert np.allclose(cosines, np.take_along_axis(every, expected, axis=1), atol=1e-6)


def test_many_tiles_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, centroids = topics(500, 5, seed=2), made(topics(9, 9, seed=3))
    whole = nearest(vectors, centroids)
    monkeypatch.setattr("udfs.centroids._TILE", 63)

    assert all(
        np.allclose(a, b, atol=1e-6)
        for a, b in zip(whole, nearest(vectors, centroids), strict=True)
    )


def test_of_equal_centroids_the_first_is_nearest() -> None:
    same = made(np.repeat(unit(np.ones((1, DIMENSION))), 3, axis=0))

    assert nearest(same.vectors[:1], same)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("vectors", "k"),
    [
        (np.repeat(np.eye(1, 4, dtype=np.float32), 100, axis=0), 10),  # all equal
        (np.repeat(np.array([[1, 0], [-1, 0]], np.float32), 60, axis=0), 1),  # their mean is 0
        (np.eye(3, dtype=np.float32), 3),  # too few for three
    ],
)
def test_a_poor_sample_gives_fewer_centroids(vectors: np.ndarray, k: int) -> None:
    found = train(vectors, k)

    assert len(found.vectors) == 1
    assert np.linalg.norm(found.vectors) == pytest.approx(1)


def test_what_cannot_be_trained_or_assigned_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(0, 4\); allowed \(n, d\) with n > 0"):
        train(np.empty((0, 4), np.float32))
    with pytest.raises(ValueError, match="centroids got 0; allowed 1 and more"):
        train(np.eye(3, dtype=np.float32), 0)
    with pytest.raises(ValueError, match=r"got shape \(1, 3\); allowed \(n, 2\)"):
        nearest(np.eye(1, 3, dtype=np.float32), made(np.eye(2, dtype=np.float32)))
    with pytest.raises(ValueError, match=r"got shape \(0, 2\)"):
        made(np.empty((0, 2), np.float32))


def test_centroids_are_kept_as_bytes_and_never_change() -> None:
    found = train(topics(500, 3, seed=4), 3)
    again = Centroids.from_bytes(found.to_bytes())

    assert again.digest == found.digest
    assert (again.mean_cosine, again.low_cosine) == (found.mean_cosine, found.low_cosine)
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.mean_cosine = 0.0  # type: ignore[misc]
    assert made(np.ones((1, 2))).digest != made(np.ones((2, 1))).digest
    file = io.BytesIO()
    np.savez(file, vectors=np.array([object()]), nearness=np.zeros(2))
    with pytest.raises(ValueError, match="pickle"):
        Centroids.from_bytes(file.getvalue())


def test_bounds_of_the_number_of_centroids() -> None:
    assert [centroids_for(n) for n in (0, 1, 10_000, 2_500_000_000, 10**12)] == [
        1,
        1,
        100,
        50_000,
        50_000,
    ]


def test_embeddings_without_a_direction_are_left_out_beside_good_ones() -> None:
    good = unit(np.random.default_rng(5).standard_normal((2, 4)))
    packed = pack(good)
    bad = np.zeros((4, 4), "<f2")
    bad[1:, 0] = [np.nan, np.inf, -np.inf]
    rows = [packed[0], None, b"", packed[0][:-2], *(row.tobytes() for row in bad), packed[1]]

    vectors, has_direction = readable(rows, 4)

    assert has_direction.tolist() == [True, *[False] * 7, True]
    assert np.allclose(vectors, good, atol=1e-3)
    assert readable([], 4)[0].shape == (0, 4)


def test_the_least_float16_has_a_direction() -> None:
    vectors, _ = readable([np.array([6e-8, 0], "<f2").tobytes()], 2)

    assert vectors.tolist() == [[1.0, 0.0]]


def test_drift_is_due_for_other_content_and_not_for_more_of_the_same() -> None:
    # Little noise: centroids of sparse data lie nearer to their own sample than to more of it.
    vectors = topics(20_000, 20, seed=6)
    found = train(vectors[:10_000], 20)

    def of(batch: np.ndarray) -> Drift:
        return drift(nearest(batch, found, 1)[1][:, 0], found)

    same, other = of(vectors[10_000:]), of(topics(2000, 20, seed=7))

    assert not same.is_due
    assert same.mean_cosine == pytest.approx(found.mean_cosine, abs=0.01)
    assert same.share_low == pytest.approx(0.01, abs=0.01)
    assert other.is_due
    assert other.mean_cosine < found.mean_cosine - 0.1


def test_drift_of_little_is_never_due() -> None:
    found = made(np.eye(2, dtype=np.float32))

    assert not drift(np.zeros(999), found).is_due
    assert drift(np.zeros(1000), found).is_due
    none = drift(np.array([np.nan]), found)
    assert none.rows == 0
    assert not none.is_due


def test_two_cells_a_vector_find_what_a_border_parts() -> None:
    centroids = made(unit(np.array([[1.0, 0.01], [0.01, 1.0], [-1.0, 0.0]])))
    sides = unit(np.array([[1.0, 1.01], [1.01, 1.0]]))

    cells = nearest(sides, centroids)[0]

    assert ASSIGNMENTS == 2
    assert cells.tolist() == [[1, 0], [0, 1]]
