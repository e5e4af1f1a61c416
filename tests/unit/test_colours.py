import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageEnhance

from udfs.colours import Colours, colourfulness, dominant_colours, grid
from udfs.image_codec import decode

pixels_of_any_picture = arrays(np.uint8, st.tuples(st.integers(1, 200), st.just(3)))


def channels(rgb: int) -> list[int]:
    return [rgb >> 16, rgb >> 8 & 255, rgb & 255]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20000, 1), (640, 480)])
def test_a_flat_picture_of_any_shape_has_one_colour(size) -> None:
    image = Image.new("RGB", size, (51, 102, 153))
    assert dominant_colours(grid(image)) == [(0x336699, 1.0)]


def test_a_flag_has_its_colours_and_their_shares() -> None:
    flag = Image.new("RGB", (600, 400), (0, 85, 164))
    flag.paste((255, 255, 255), (200, 0, 400, 400))
    flag.paste((239, 65, 53), (400, 0, 600, 400))
    found = dict(dominant_colours(grid(flag)))
    assert set(found) == {0x0055A4, 0xFFFFFF, 0xEF4135}
    assert list(found.values()) == pytest.approx([1 / 3] * 3, abs=1 / 64)


def test_five_colours_stand_for_a_photograph(photographs) -> None:
    for image in photographs:
        pixels = grid(image)
        found = dominant_colours(pixels)
        assert len(found) == 5
        palette = np.array([channels(rgb) for rgb, _ in found])
        distances = np.linalg.norm(pixels[:, None] - palette.astype(float), axis=2)
        one = np.linalg.norm(pixels - pixels.mean(axis=0), axis=1)
        assert distances.min(axis=1).mean() < one.mean() / 1.5


@settings(deadline=None)
@given(pixels_of_any_picture)
def test_shares_add_up_and_fall(pixels) -> None:
    found = dominant_colours(pixels)
    shares = [fraction for _, fraction in found]
    assert 1 <= len(found) <= 5
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    assert found == sorted(found, key=lambda colour: (-colour.fraction, colour.rgb))
    mean = sum(fraction * np.array(channels(rgb)) for rgb, fraction in found)
    assert mean == pytest.approx(pixels.mean(axis=0), abs=0.5)  # parts' means are rounded


@settings(deadline=None)
@given(pixels_of_any_picture)
def test_the_same_pixels_have_the_same_colours(pixels) -> None:
    assert dominant_colours(pixels) == dominant_colours(pixels.copy())


@given(pixels_of_any_picture)
def test_colourfulness_is_the_papers_formula(pixels) -> None:
    opponent = pixels.astype(float) @ np.array([[1, 0.5], [-1, 0.5], [0, -1]])
    expected = np.sqrt(opponent.var(axis=0).sum()) + 0.3 * np.linalg.norm(opponent.mean(axis=0))
    assert colourfulness(pixels) == pytest.approx(expected, abs=1e-6)
    assert 0 <= colourfulness(pixels) < 400


def test_the_grid_is_as_colourful_as_the_photograph(photographs) -> None:
    for image in photographs:
        whole = colourfulness(np.asarray(image).reshape(-1, 3))
        assert colourfulness(grid(image)) == pytest.approx(whole, rel=0.01)


def test_less_saturation_is_less_colourful_and_grey_is_not(photographs) -> None:
    for image in photographs:
        pale = ImageEnhance.Color(image).enhance(0.5)
        grey = image.convert("L").convert("RGB")
        assert colourfulness(grid(pale)) < colourfulness(grid(image))
        assert colourfulness(grid(grey)) == 0


def test_the_signal_measures_the_decoded_picture(photographs) -> None:
    file = io.BytesIO()
    photographs[0].save(file, "PNG")
    signal = pickle.loads(pickle.dumps(Colours()))
    signal.load()
    finished = signal.finish([signal.prepare(decode(file.getvalue(), max_pixels=10**7))])
    pixels = grid(photographs[0])
    assert finished == {
        "dominant_colours": [
            [{"rgb": rgb, "fraction": fraction} for rgb, fraction in dominant_colours(pixels)]
        ],
        "colourfulness": [colourfulness(pixels)],
    }
