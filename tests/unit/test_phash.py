import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from udfs.image_codec import decode
from udfs.phash import PHash, from_hex, hamming, phash, to_hex

hashes = arrays(np.int64, st.integers(1, 8), elements=st.integers(-(2**63), 2**63 - 1))


def test_photographs_hash_as_imagehash_does(photographs) -> None:
    for image in photographs:
        assert to_hex(phash(image)) == str(imagehash.phash(image))


@settings(deadline=None)
@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))),
    mirrored=st.booleans(),
    colour=st.booleans(),
)
def test_any_picture_hashes_as_imagehash_does(pixels, mirrored, colour) -> None:
    if mirrored:  # half of the frequencies are rounding noise
        pixels = np.hstack([pixels, pixels[:, ::-1]])
    image = Image.fromarray(pixels)
    if colour:
        image = image.convert("RGB")
    assert to_hex(phash(image)) == str(imagehash.phash(image))


@pytest.mark.parametrize("grey", range(0, 256, 15))
def test_flat_pictures_hash_as_imagehash_does(grey) -> None:
    image = Image.new("L", (50, 30), grey)
    assert to_hex(phash(image)) == str(imagehash.phash(image))


@given(st.integers(-(2**63), 2**63 - 1))
def test_hex_and_integer_are_one_hash(value) -> None:
    assert from_hex(to_hex(value)) == value


@pytest.mark.parametrize("digits", ["", "ff", "f" * 18, "g" * 16])
def test_what_is_not_sixteen_hex_digits_is_refused(digits) -> None:
    with pytest.raises(ValueError, match=r"hash of|hexadecimal"):
        from_hex(digits)


@given(hashes)
def test_the_distance_to_itself_is_zero_and_to_its_complement_64(a) -> None:
    assert not hamming(a, a).any()
    assert (hamming(a, ~a) == 64).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3))
def test_the_distance_is_symmetric_and_obeys_the_triangle(values) -> None:
    a, b, c = (np.array([value]) for value in values)
    assert hamming(a, b) == hamming(b, a)
    assert hamming(a, c).item() <= hamming(a, b).item() + hamming(b, c).item()


def test_imagehash_counts_the_same_distance(photographs) -> None:
    mine = np.array([phash(image) for image in photographs])
    theirs = [imagehash.phash(image) for image in photographs]
    assert hamming(mine[:, None], mine).tolist() == [[a - b for b in theirs] for a in theirs]


def test_the_signal_hashes_the_decoded_picture(photographs, tmp_path) -> None:
    path = tmp_path / "a.png"
    photographs[0].save(path)
    decoded = decode(path.read_bytes(), max_pixels=10**7)
    signal = PHash()
    signal.load()
    assert signal.finish([signal.prepare(decoded)]) == {"phash": [phash(photographs[0])]}
