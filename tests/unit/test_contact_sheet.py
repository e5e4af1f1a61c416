"""Thumbnails are small, never fail, and show nothing that may not be safe."""

import io
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobs.report.contact_sheet import (
    BACKGROUND,
    CAPTION_CHARS,
    SIDE_PX,
    excerpt,
    grid,
    thumbnail,
)

MAX_PIXELS = 1_000_000


def png(pixels):
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def pixels_of(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture
def stripes():
    """400 x 200 px of black and white columns, 20 px each."""
    row = np.repeat(np.tile([0, 255], 10), 20)
    return png(np.broadcast_to(row[None, :, None], (200, 400, 3)).astype(np.uint8))


def test_an_image_is_fitted_into_the_square_and_centred(stripes):
    shown = pixels_of(thumbnail(stripes, is_blurred=False, max_pixels=MAX_PIXELS))
    assert shown.shape == (SIDE_PX, SIDE_PX, 3)
    assert np.abs(shown[:30] - BACKGROUND).max() < 20
    assert np.abs(shown[-30:] - BACKGROUND).max() < 20
    assert shown[80].min() < 30
    assert shown[80].max() > 225


def test_a_small_image_is_not_enlarged():
    shown = pixels_of(
        thumbnail(png(np.zeros((20, 20, 3), np.uint8)), is_blurred=False, max_pixels=MAX_PIXELS)
    )
    assert (shown.max(axis=2) < 60).sum() == pytest.approx(400, abs=60)


def test_a_blurred_image_keeps_no_detail(stripes):
    shown = pixels_of(thumbnail(stripes, is_blurred=True, max_pixels=MAX_PIXELS))
    inner = shown[40:120, 20:140]
    assert np.abs(np.diff(inner, axis=1)).max() < 20
    assert np.ptp(inner) < 60


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\xff\xd8\xff\xe0 cut"])
def test_bytes_that_are_no_image_give_an_empty_square(content):
    shown = pixels_of(thumbnail(content, is_blurred=False, max_pixels=MAX_PIXELS))
    assert np.abs(shown - BACKGROUND).max() < 10


def test_an_image_over_the_limit_is_not_opened(stripes):
    shown = pixels_of(thumbnail(stripes, is_blurred=False, max_pixels=100))
    assert np.abs(shown - BACKGROUND).max() < 10


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (6, 6, 1), (7, 6, 2)])
def test_a_grid_has_rows_of_six(count, columns, rows):
    black = thumbnail(
        png(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)), is_blurred=False, max_pixels=MAX_PIXELS
    )
    sheet = pixels_of(grid([black] * count))
    assert sheet.shape == (rows * SIDE_PX, columns * SIDE_PX, 3)
    assert (sheet.max(axis=2) < 60).sum() == pytest.approx(count * SIDE_PX**2, rel=0.01)


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 thumbnails"):
        grid([])


def test_a_long_caption_is_cut():
    shown = excerpt("word " * 100)
    assert len(shown) == CAPTION_CHARS
    assert shown.endswith("…")


@given(st.text(st.characters(), max_size=300))
def test_an_excerpt_is_one_line_that_can_be_written_down(caption):
    shown = excerpt(caption)
    assert len(shown) <= CAPTION_CHARS
    assert not any(unicodedata.category(char).startswith("C") for char in shown)
    assert shown.split() == shown.split(" ") or shown == ""
    shown.encode("utf-8")
