import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.clip_scores import clip_scores
from udfs.embedding import pack, unit, unpack


def packed(*rows):
    return pack(unit(np.array(rows, np.float32)))


@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_scores_are_of_all_frames_and_of_the_best(frames, texts, seed) -> None:
    rng = np.random.default_rng(seed)
    shown, told = packed(*rng.normal(size=(frames, 16))), list(rng.normal(size=(texts, 16)))
    told = packed(*told) if told else []
    found = clip_scores(shown, told)

    cosines = unpack(shown) @ unpack(told).T if told else np.zeros((frames, 0))
    assert found.means == pytest.approx(cosines.mean(0).tolist(), abs=1e-6)
    assert found.greatest == pytest.approx(cosines.max(0).tolist(), abs=1e-6)
    mean = unit(unpack(shown).mean(0, keepdims=True))
    assert unpack([found.pooled]) @ mean.T == pytest.approx(1, abs=1e-3)


def test_a_clip_without_frames_has_no_scores() -> None:
    assert clip_scores([], packed([1.0, 0.0])) == (None, [None], [None])


def test_frames_that_cancel_have_no_mean() -> None:
    found = clip_scores(packed([1.0, 0.0], [-1.0, 0.0]), packed([1.0, 0.0]))

    assert found == (None, [0.0], [1.0])


def test_embeddings_of_two_models_are_refused() -> None:
    with pytest.raises(ValueError, match="compare one model's"):
        clip_scores(packed([1.0, 0.0], [0.0, 1.0]), packed([1.0, 0.0, 0.0]))
