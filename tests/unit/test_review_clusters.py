"""Planted themes: how few reviews label them all, and what is beyond every review."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import review_clusters
from udfs.embedding import unit
from udfs.joint_embedding import joined
from udfs.propagation import audited
from udfs.review_clusters import centroids, covered, representatives

NOISE = -1


def around(themes: np.ndarray, theme: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows near their themes: cosine 0.94 to each other, so 0.97 to the middle."""
    dimension = themes.shape[1]
    return unit(
        themes[theme] + 0.25 / np.sqrt(dimension) * rng.normal(size=(len(theme), dimension))
    )


def planted(
    n: int, themes: int, *, dimension: int = 32, noise: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Joined features and the theme of each row; -1: of none."""
    rng = np.random.default_rng(seed)
    theme = rng.integers(0, themes, n)
    images, texts = (
        around(unit(rng.normal(size=(themes, dimension))), theme, rng) for _ in range(2)
    )
    is_noise = rng.random(n) < noise
    theme[is_noise] = NOISE
    images[is_noise] = unit(rng.normal(size=(is_noise.sum(), dimension)))
    return joined(images, texts), theme


def test_150_themes_in_200_000_rows_take_500_times_fewer_reviews() -> None:
    features, theme = planted(200_000, 150, noise=0.01)
    is_violating = theme % 10 == 0  # 15 of 150 themes: a tenth of the rows
    found = representatives(features, most=len(features) // 500, clusters=190)
    index, _ = covered(features, features[found.rows], radius=0.9)

    label = is_violating[found.rows][index] & (index >= 0)
    is_clean = theme != NOISE
    hits = (label & is_violating)[is_clean].sum()

    assert len(features) / len(found.rows) >= 500
    assert hits / is_violating[is_clean].sum() >= 0.99
    assert hits / label[is_clean].sum() >= 0.99
    assert (found.sizes > 1).sum() == 150  # the other reviews are of rows near to none
    assert (index[is_clean] >= 0).mean() >= 0.999


@pytest.mark.parametrize("clusters", [1, 5, 20, 200, None])
def test_the_number_of_clusters_hardly_matters(clusters: int | None) -> None:
    features, theme = planted(4_000, 20, seed=1)
    found = representatives(features, most=100, clusters=clusters)
    index, _ = covered(features, features[found.rows], radius=0.9)

    assert 20 <= len(found.rows) <= 22
    assert (index >= 0).all()
    assert (theme[found.rows][index] == theme).all()


def test_themes_that_differ_in_text_alone_need_the_text() -> None:
    rng = np.random.default_rng(2)
    theme = rng.integers(0, 20, 4_000)
    images = around(unit(rng.normal(size=(10, 32))), theme // 2, rng)
    texts = around(unit(rng.normal(size=(20, 32))), theme, rng)

    def share_right(features: np.ndarray) -> float:
        found = representatives(features, most=40)
        index, _ = covered(features, features[found.rows], radius=0.9)
        return float(((theme[found.rows] % 2)[index] == theme % 2).mean())

    assert share_right(joined(images, texts)) >= 0.99
    assert share_right(images) <= 0.75


def test_the_interval_of_an_audit_covers_the_true_error_on_impure_clusters() -> None:
    features, theme = planted(20_000, 30, seed=3)
    found = representatives(features, most=100)
    index, _ = covered(features, features[found.rows], radius=0.9)
    members = np.setdiff1d(np.flatnonzero(index >= 0), found.rows)
    rng = np.random.default_rng(4)
    met = []
    for _ in range(300):
        impurity = rng.choice([0.0, 0.002, 0.02, 0.2])
        truth = (theme % 2 == 0) ^ (rng.random(len(theme)) < impurity)
        propagated = truth[found.rows][index]
        true_rate = (propagated != truth)[members].mean()
        asked = rng.choice(members, 100, replace=False)
        said, _ = audited(zip(propagated[asked].astype(str), truth[asked].astype(str), strict=True))
        met.append(said.low <= true_rate <= said.high)

    assert np.mean(met) >= 0.95


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 120),
    themes=st.integers(1, 6),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    most=st.integers(1, 130),
    radius=st.sampled_from([0.3, 0.9, 0.99, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_row_has_one_representative_within_the_radius_or_none(
    n: int, themes: int, noise: float, most: int, radius: float, seed: int
) -> None:
    features, _ = planted(n, themes, dimension=6, noise=noise, seed=seed)
    found = representatives(features, most=most, radius=radius)
    index, cosine = covered(features, features[found.rows], radius=radius)

    assert 1 <= len(found.rows) <= most
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert (np.diff(found.sizes) <= 0).all()
    assert found.sizes.sum() == (index >= 0).sum()
    assert (cosine[index >= 0] >= radius - 1e-5).all()
    assert (index[found.rows] >= 0).all()
    if len(found.rows) < most:
        assert (index >= 0).all()


def test_it_is_the_same_every_time_and_knows_its_seed() -> None:
    features, _ = planted(2_000, 20, noise=0.1, seed=5)
    first, again = (representatives(features, most=50, seed=1) for _ in range(2))

    np.testing.assert_array_equal(first.rows, again.rows)


def test_what_covers_most_comes_first() -> None:
    features = np.repeat(np.eye(3, dtype=np.float32), [2, 7, 4], axis=0)
    found = representatives(features, most=2, clusters=3)

    assert found.sizes.tolist() == [7, 4]
    assert covered(features, features[found.rows], radius=0.9)[0].tolist() == (
        [-1] * 2 + [0] * 7 + [1] * 4
    )


def test_a_cluster_of_two_themes_gets_two_reviews() -> None:
    features, theme = planted(400, 2, seed=6)
    found = representatives(features, most=10, clusters=1)

    assert sorted(theme[found.rows]) == [0, 1]


def test_rows_that_cancel_out_have_clusters_all_the_same() -> None:
    opposite = np.array([[1, 0], [-1, 0]], np.float32)

    assert len(centroids(opposite, clusters=1)) == 1
    assert len(representatives(opposite, most=5, clusters=1).rows) == 2


def test_no_rows_and_no_reviews_give_no_representatives() -> None:
    features, _ = planted(10, 2)

    assert len(representatives(features[:0], most=5).rows) == 0
    assert len(representatives(features, most=0).rows) == 0


@pytest.mark.parametrize("radius", [0.0, -0.5, 1.5, float("nan")])
def test_a_radius_that_is_none_is_refused(radius: float) -> None:
    features, _ = planted(10, 2)

    with pytest.raises(ValueError, match="radius got"):
        representatives(features, most=5, radius=radius)


def test_clusters_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="k-means got 0 rows"):
        centroids(np.zeros((0, 4), np.float32), clusters=3)
    with pytest.raises(ValueError, match="0 clusters"):
        centroids(np.eye(4, dtype=np.float32), clusters=0)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = planted(1_000, 10, noise=0.05, seed=7)
    whole = representatives(features, most=60)
    monkeypatch.setattr(review_clusters, "BLOCK", 3_000)
    apart = representatives(features, most=60)

    np.testing.assert_array_equal(whole.rows, apart.rows)
