import io
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from udfs.borders import Borders, Box, border_fraction, content_box
from udfs.image_codec import decode

COLOURS = ["black", "white", (200, 30, 40), (90, 90, 90)]


def framed(image, left, top, right, bottom, colour):
    frame = Image.new("RGB", (image.width + left + right, image.height + top + bottom), colour)
    frame.paste(image, (left, top))
    return frame


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def test_photographs_without_bars_have_none(photographs) -> None:
    for image in photographs:
        assert content_box(image) == (0, 0, *image.size)


@pytest.mark.parametrize("colour", COLOURS)
def test_bars_are_found_to_the_pixel(photographs, colour) -> None:
    image = photographs[0]
    for bars in [(0, 40, 0, 40), (64, 0, 13, 0), (20, 30, 1, 7), (0, 0, 0, 33)]:
        box = content_box(framed(image, *bars, colour))
        assert box == (bars[0], bars[1], bars[0] + image.width, bars[1] + image.height)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_bars_are_found_to_two_pixels_in_a_jpeg(photographs, quality) -> None:
    for image in photographs:
        for colour in COLOURS:
            bars = (13, 40, 21, 64)
            box = np.array(content_box(as_jpeg(framed(image, *bars, colour), quality)))
            truth = (bars[0], bars[1], bars[0] + image.width, bars[1] + image.height)
            assert np.abs(box - truth).max() <= 2


def test_each_side_may_have_its_own_colour(photographs) -> None:
    image = photographs[0]
    picture = framed(framed(image, 0, 9, 0, 0, "red"), 0, 0, 0, 12, "white")
    assert content_box(picture) == (0, 9, image.width, 9 + image.height)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20000, 1), (640, 480)])
def test_a_picture_of_one_colour_has_no_content(size) -> None:
    image = Image.new("RGB", size, (9, 90, 200))
    assert content_box(image) == (0, 0, 0, 0)
    assert border_fraction(content_box(image), image.size) == 1


def test_bars_that_meet_are_the_content() -> None:
    halves = Image.new("L", (40, 30))
    halves.paste(255, (0, 0, 40, 15))
    assert content_box(halves) == (0, 0, 40, 30)
    assert content_box(halves.transpose(Image.Transpose.ROTATE_90)) == (0, 0, 30, 40)
    ramp = Image.fromarray(np.repeat(np.arange(24, dtype=np.uint8), 8)[:, None].repeat(9, axis=1))
    assert content_box(ramp) == (0, 0, *ramp.size)


def test_content_of_one_colour_stays_whole() -> None:
    box = content_box(framed(Image.new("RGB", (50, 20), "blue"), 10, 15, 30, 5, "white"))
    assert box == (10, 15, 60, 35)
    flag = framed(Image.new("RGB", (50, 20), "white"), 0, 20, 0, 20, "blue")
    assert content_box(flag) == (0, 20, 50, 40)


def test_a_speck_does_not_end_a_bar_but_a_line_of_text_does(photographs) -> None:
    picture = framed(photographs[0], 0, 40, 0, 0, "black")
    speck, text = picture.copy(), picture.copy()
    speck.paste("white", (9, 9, 11, 11))
    text.paste("white", (9, 9, 60, 11))
    assert content_box(speck).top_px == 40
    assert content_box(text).top_px == 9


@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 70), st.integers(1, 70)),
        elements=st.sampled_from([0, 10, 16, 17, 33, 255]),
    )
)
def test_any_picture_has_a_box_inside_it(pixels) -> None:
    image = Image.fromarray(pixels)
    left, top, right, bottom = box = content_box(image)
    assert 0 <= left <= right <= image.width
    assert 0 <= top <= bottom <= image.height
    assert 0 <= border_fraction(box, image.size) <= 1
    assert (border_fraction(box, image.size) == 1) == (box == (0, 0, 0, 0))


@given(seed=st.integers(0, 999), bars=st.tuples(*[st.integers(0, 40)] * 4))
def test_noise_in_a_frame_is_found(seed, bars) -> None:
    noise = Image.frombytes("L", (50, 40), random.Random(seed).randbytes(2000)).convert("RGB")
    left, top, _, _ = bars
    assert content_box(framed(noise, *bars, "green")) == (left, top, left + 50, top + 40)


def test_the_signal_measures_the_decoded_picture(photographs) -> None:
    file = io.BytesIO()
    framed(photographs[0].resize((100, 100)), 0, 0, 100, 0, "white").save(file, "PNG")
    signal = pickle.loads(pickle.dumps(Borders()))
    signal.load()
    prepared = signal.prepare(decode(file.getvalue(), max_pixels=10**7))
    assert prepared == (0.5, Box(0, 0, 100, 100))
    assert signal.finish([prepared]) == {
        "border_fraction": [0.5],
        "content_box": [{"left_px": 0, "top_px": 0, "right_px": 100, "bottom_px": 100}],
    }
