import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from udfs.small_grey import small_grey


def of_pillow(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS))


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng([width, height])
    return Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 700), st.integers(1, 700))
def test_noise_of_any_size_is_as_pillow_makes_it(width, height) -> None:
    image = noise(width, height)
    assert (small_grey(image) == of_pillow(image)).all()


@pytest.mark.parametrize("width", [1, 31, 32, 33, 40, 100, 256])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_so_it_is_where_pillow_changes_its_order(width, more) -> None:
    image = noise(width, 32 + 2 * max(width - 32, 0) + more)
    assert (small_grey(image) == of_pillow(image)).all()


@pytest.mark.parametrize("size", [(16_384, 2), (16_385, 2), (20_000, 1), (1, 20_000)])
def test_long_pictures_are_as_pillow_makes_them(size) -> None:
    assert (small_grey(noise(*size)) == of_pillow(noise(*size))).all()


def test_black_and_white_overshoot_nowhere() -> None:
    edge = Image.fromarray(np.repeat(np.repeat([[0, 255]], 90, 0), 60, 1).astype(np.uint8))
    assert (small_grey(edge) == of_pillow(edge)).all()
    assert set(np.unique(small_grey(edge))) >= {0, 255}


def test_photographs_are_as_pillow_makes_them(photographs) -> None:
    for image in photographs:
        for turned in (image, image.transpose(Image.Transpose.ROTATE_90), image.convert("CMYK")):
            assert (small_grey(turned) == of_pillow(turned)).all()
