import io
import pickle

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from udfs.dhash import DHash, dhash
from udfs.image_codec import decode
from udfs.phash import to_hex


def test_photographs_hash_as_imagehash_does(photographs) -> None:
    for image in photographs:
        assert to_hex(dhash(image)) == str(imagehash.dhash(image))


@settings(deadline=None)
@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))),
    colour=st.booleans(),
)
def test_any_picture_hashes_as_imagehash_does(pixels, colour) -> None:
    image = Image.fromarray(pixels)
    if colour:
        image = image.convert("RGB")
    assert to_hex(dhash(image)) == str(imagehash.dhash(image))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20000, 1), (640, 480)])
def test_a_flat_picture_of_any_shape_is_all_zeros(size) -> None:
    assert dhash(Image.new("RGB", size, "red")) == 0


def test_the_signal_hashes_the_decoded_picture(photographs) -> None:
    file = io.BytesIO()
    photographs[0].save(file, "PNG")
    signal = pickle.loads(pickle.dumps(DHash()))
    signal.load()
    prepared = signal.prepare(decode(file.getvalue(), max_pixels=10**7))
    assert signal.finish([prepared]) == {"dhash": [dhash(photographs[0])]}
