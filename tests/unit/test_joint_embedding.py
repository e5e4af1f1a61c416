import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs import joint_embedding
from udfs.embedding import pack, unit
from udfs.joint_embedding import joined, nearest, read, read_pairs


def rows(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


def test_the_cosine_of_joined_vectors_is_the_mean_of_both() -> None:
    image, text = rows(5, 8), rows(5, 6, seed=1)
    both = joined(image, text)

    np.testing.assert_allclose(both @ both.T, (image @ image.T + text @ text.T) / 2, atol=1e-6)


def test_images_without_as_many_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 images got 1 texts"):
        joined(rows(2, 3), rows(1, 3))


@pytest.mark.parametrize(
    "bad",
    [
        None,
        b"",
        b"\x00",
        bytes(8),
        np.array([np.nan, 1, 0, 0], "<f2").tobytes(),
        np.array([np.inf, 1, 0, 0], "<f2").tobytes(),
        np.ones(5, "<f2").tobytes(),
    ],
)
def test_a_bad_row_costs_itself_and_not_its_neighbours(bad: bytes | None) -> None:
    good = pack(rows(3, 4))
    vectors, is_usable = read([good[0], bad, *good[1:]], dimension=4)

    assert is_usable.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(vectors[1], np.zeros(4))
    np.testing.assert_allclose(vectors[is_usable], rows(3, 4), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors[is_usable], axis=1), 1, atol=1e-6)


def test_a_pair_is_usable_only_as_a_whole() -> None:
    image, text = pack(rows(3, 4)), pack(rows(3, 2, seed=1))
    features, is_usable = read_pairs(
        [image[0], None, image[2]], [text[0], text[1], None], image_dimension=4, text_dimension=2
    )

    assert is_usable.tolist() == [True, False, False]
    assert features.shape == (3, 6)
    assert not features[1:].any()


def test_nothing_is_read_from_nothing() -> None:
    vectors, is_usable = read([], dimension=4)

    assert vectors.shape == (0, 4)
    assert is_usable.shape == (0,)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 40),
    k=st.integers(1, 9),
    block=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_nearest_is_the_best_of_all_whatever_the_blocks(
    n: int, k: int, block: int, seed: int
) -> None:
    features, centres = rows(n + k, 5, seed)[:n], rows(k, 5, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_embedding, "BLOCK", block)
        index, cosine = nearest(features, centres)

    every = features.astype(np.float64) @ centres.T.astype(np.float64)
    np.testing.assert_allclose(every[np.arange(n), index], every.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(cosine, every.max(axis=1), atol=1e-6)


def test_a_cosine_does_not_depend_on_which_rows_it_is_computed_with() -> None:
    features, centres = rows(500, 64), rows(7, 64, seed=1)
    whole = nearest(features, centres)[1]
    apart = np.concatenate([nearest(part, centres)[1] for part in np.array_split(features, 13)])

    np.testing.assert_array_equal(whole, apart)


def test_nearest_needs_a_centre() -> None:
    with pytest.raises(ValueError, match="nearest got 0 centres"):
        nearest(rows(2, 3), np.zeros((0, 3), np.float32))
