import io
import pickle

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from udfs.crop_hash import CropHash, crop_hash
from udfs.dhash import dhash
from udfs.image_codec import Decoded, decode
from udfs.phash import hamming, to_hex


def theirs(image) -> list[str]:
    found = imagehash.crop_resistant_hash(
        image, limit_segments=16, min_segment_size=222, segmentation_image_size=200
    )
    return str(found).split(",")


def mine(image) -> list[str]:
    return [to_hex(value) for value in crop_hash(image)]


def decoded(image) -> Decoded:
    file = io.BytesIO()
    image.save(file, "PNG")
    return decode(file.getvalue(), max_pixels=10**8)


def test_photographs_hash_as_imagehash_does(photographs) -> None:
    for image in photographs:
        assert mine(image) == theirs(image)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32),
    cells=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    size=st.tuples(st.integers(200, 300), st.integers(200, 300)),
    resampling=st.sampled_from([Image.Resampling.NEAREST, Image.Resampling.BICUBIC]),
)
def test_any_blobs_hash_as_imagehash_does(seed, cells, size, resampling) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, cells, dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, resampling).convert("RGB")
    assert mine(image) == theirs(image)


@pytest.mark.parametrize("side", [10, 20, 26, 30, 40])
def test_the_last_valley_is_left_out_where_imagehash_leaves_it_out(side) -> None:
    image = Image.radial_gradient("L").point(lambda level: 150 + level // 3).resize((200, 200))
    ImageDraw.Draw(image).rectangle((150, 140, 150 + side, 140 + side), fill=0)
    assert mine(image) == theirs(image)


@pytest.mark.parametrize("level", [0, 128, 129, 255])
def test_flat_pictures_hash_as_imagehash_does(level) -> None:
    image = Image.new("L", (64, 48), level)
    assert mine(image) == theirs(image) == ["0" * 16]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20000, 1), (3, 20000)])
def test_pictures_of_any_shape_have_hashes(size) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, size[::-1], dtype=np.uint8)
    found = crop_hash(Image.fromarray(pixels))
    assert 1 <= len(found) <= 16
    assert all(-(2**63) <= value < 2**63 for value in found)


def test_a_segment_without_a_pixel_has_no_hash() -> None:
    stripes = Image.fromarray(np.array([[95, 130, 194, 217, 207, 235, 15]], np.uint8))
    image = stripes.resize((40, 40), Image.Resampling.NEAREST)
    assert mine(image) == theirs(image)[:-1]


def test_there_is_a_ceiling_to_the_segments() -> None:
    board = Image.fromarray(np.indices((8, 8)).sum(axis=0).astype(np.uint8) % 2 * 255)
    image = board.resize((400, 400), Image.Resampling.NEAREST)
    assert len(crop_hash(image)) == 16
    assert mine(image) == theirs(image)


def test_a_crop_matches_its_photograph_and_no_other(photographs) -> None:
    whole = [crop_hash(image) for image in photographs]
    for n, image in enumerate(photographs):
        width, height = image.size
        cropped = image.crop((width // 20, height // 20, width, height))
        distances = [hamming(np.array(crop_hash(cropped))[:, None], of) for of in whole]
        closest = [distance.min() for distance in distances]
        assert closest[n] == min(closest)
        assert closest[n] <= 16


def test_the_signal_hashes_the_thumbnail(photographs) -> None:
    signal = pickle.loads(pickle.dumps(CropHash()))
    signal.load()
    picture = decoded(photographs[0])
    prepared = signal.prepare(picture)
    assert signal.finish([prepared, [7]]) == {"crop_hash": [prepared, [7]]}
    assert [to_hex(value) for value in prepared] == theirs(picture.grey_thumbnail)


def test_a_picture_without_large_segments_has_the_hash_of_the_whole() -> None:
    pixels = np.random.default_rng(1).integers(0, 2, (40, 40), dtype=np.uint8) * 255
    image = Image.fromarray(pixels).resize((400, 400), Image.Resampling.NEAREST)
    small = Image.fromarray(pixels[:1, :3]).resize((1, 1))
    assert mine(image) == theirs(image)
    assert crop_hash(small) == [dhash(small)]
