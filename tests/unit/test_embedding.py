import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from udfs.embedding import cosine, pack, unit, unpack

vectors = arrays(
    np.float32,
    st.tuples(st.just(4), st.integers(2, 600)),
    elements=st.floats(-1, 1, width=32),
).filter(lambda x: bool((np.linalg.norm(x, axis=1) > 1e-2).all()))


@given(vectors)
def test_packing_costs_less_than_a_thousandth_of_cosine(x) -> None:
    direct = unit(x)
    read = unpack(pack(direct))
    assert read.dtype == np.float32
    assert np.linalg.norm(read, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert np.abs(cosine(read[:2], read[2:]) - cosine(direct[:2], direct[2:])).max() < 1e-3


def test_bytes_are_little_endian_float16() -> None:
    assert pack(np.array([[1.0, -2.0]], np.float32)) == [b"\x00\x3c\x00\xc0"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_without_direction_is_refused(bad) -> None:
    with pytest.raises(ValueError, match="1 of 2 embeddings have no direction"):
        unit(np.array([[1.0, 0.0], [bad, 0.0]]))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 6\] bytes differ"):
        unpack([b"\x00\x3c" * 2, b"\x00\x3c" * 3])


def test_two_models_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\) differ from \(1, 3\)"):
        cosine(np.zeros((1, 2)), np.zeros((1, 3)))


def test_the_cosine_never_leaves_its_range() -> None:
    x = np.full((1, 3), 0.57735034, np.float32)
    assert cosine(x, x) <= 1
