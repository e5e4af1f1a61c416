import io
import pickle

import numpy as np
import pytest
import skimage.measure
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from udfs.entropy import Entropy, entropy_bits
from udfs.image_codec import decode

histograms = arrays(np.int64, 256, elements=st.integers(0, 2**40)).filter(lambda h: h.any())


def test_photographs_have_the_entropy_that_others_measure(photographs) -> None:
    for image in photographs:
        grey = image.convert("L")
        measured = entropy_bits(np.array(grey.histogram()))
        assert measured == pytest.approx(grey.entropy(), abs=1e-5)
        assert measured == pytest.approx(skimage.measure.shannon_entropy(np.asarray(grey)))


def test_a_flat_picture_says_nothing_and_all_levels_say_eight_bits() -> None:
    assert str(entropy_bits(np.eye(256, dtype=np.int64)[7])) == "0.0"
    assert entropy_bits(np.full(256, 3)) == 8


@given(histograms)
def test_it_lies_in_its_range(histogram) -> None:
    levels = np.count_nonzero(histogram)
    assert 0 <= entropy_bits(histogram) <= 8
    assert entropy_bits(histogram) <= np.log2(levels) + 1e-9


@given(histograms, st.randoms(use_true_random=False))
def test_which_levels_they_are_does_not_matter(histogram, random) -> None:
    shuffled = histogram.tolist()
    random.shuffle(shuffled)
    assert entropy_bits(np.array(shuffled)) == pytest.approx(entropy_bits(histogram), abs=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20000, 1), (64, 48)])
def test_the_signal_measures_the_decoded_picture(size) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, "PNG")
    decoded = decode(file.getvalue(), max_pixels=10**7)
    signal = pickle.loads(pickle.dumps(Entropy()))
    signal.load()
    expected = entropy_bits(np.array(decoded.image.convert("L").histogram()))
    assert signal.finish([signal.prepare(decoded)]) == {"entropy_bits": [expected]}
