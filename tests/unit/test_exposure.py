import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageEnhance

from udfs.exposure import Exposure, exposure
from udfs.image_codec import decode

histograms = arrays(np.int64, 256, elements=st.integers(0, 2**30)).filter(lambda h: h.any())


def seen(image):
    return exposure(np.array(image.convert("L").histogram()))


def test_it_is_the_mean_and_deviation_of_the_grey_pixels(photographs) -> None:
    for image in photographs:
        grey = np.asarray(image.convert("L")) / 255
        light = seen(image)
        assert light.luminance_mean == pytest.approx(grey.mean())
        assert light.luminance_std == pytest.approx(grey.std())


def test_darker_is_darker_and_flatter_is_flatter(photographs) -> None:
    for image in photographs:
        dark = seen(ImageEnhance.Brightness(image).enhance(0.5))
        flat = seen(ImageEnhance.Contrast(image).enhance(0.5))
        assert dark.luminance_mean < seen(image).luminance_mean
        assert flat.luminance_std < seen(image).luminance_std


def test_what_is_pushed_off_the_scale_is_counted(photographs) -> None:
    for image in photographs:
        assert seen(ImageEnhance.Brightness(image).enhance(0)).dark_fraction == 1
        burnt = seen(ImageEnhance.Brightness(image).enhance(4))
        assert burnt.bright_fraction > seen(image).bright_fraction


@pytest.mark.parametrize(
    ("level", "dark", "bright"), [(0, 1, 0), (8, 1, 0), (9, 0, 0), (252, 0, 0), (253, 0, 1)]
)
def test_a_flat_picture_has_its_level_and_no_contrast(level, dark, bright) -> None:
    assert seen(Image.new("L", (3, 2), level)) == (level / 255, 0, dark, bright)


@given(histograms)
def test_values_lie_in_their_ranges(histogram) -> None:
    light = exposure(histogram)
    assert 0 <= light.luminance_mean <= 1
    assert 0 <= light.luminance_std <= 0.5
    assert 0 <= light.dark_fraction <= 1 - light.bright_fraction <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20000, 1), (64, 48)])
def test_the_signal_measures_the_decoded_picture(size) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(file, "PNG")
    decoded = decode(file.getvalue(), max_pixels=10**7)
    signal = pickle.loads(pickle.dumps(Exposure()))
    signal.load()
    finished = signal.finish([signal.prepare(decoded)] * 2)
    expected = seen(decoded.image)._asdict()
    assert finished == {name: [value] * 2 for name, value in expected.items()}
    assert tuple(finished) == signal.columns
