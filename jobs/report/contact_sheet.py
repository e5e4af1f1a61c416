"""Thumbnails for people: small, upright, and blurred where they may not be safe."""

import io
import unicodedata
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageFilter

from udfs.image_codec import ImageRefused, decode

SIDE_PX: Final = 160  # chosen: two beside each other on a phone
BLUR_PX: Final = 8  # chosen: what is left of a blurred image is 8 x 8 coloured spots
CAPTION_CHARS: Final = 90  # chosen: three lines under a thumbnail
COLUMNS: Final = 6  # chosen: a row of the grid is 960 px
BACKGROUND: Final = (240, 240, 240)


def thumbnail(content: bytes | None, *, is_blurred: bool, max_pixels: int) -> bytes:
    """A JPEG of `SIDE_PX` squared with the image in its middle.

    Args:
        content: the media; null or undecodable bytes give an empty grey square.
        is_blurred: leave only what cannot be recognised.
        max_pixels: larger images are not opened.
    """
    canvas = Image.new("RGB", (SIDE_PX, SIDE_PX), BACKGROUND)
    image = _decoded(content, max_pixels)
    if image is not None:
        image = _blurred(image) if is_blurred else image
        image.thumbnail((SIDE_PX, SIDE_PX))
        corner = ((SIDE_PX - image.width) // 2, (SIDE_PX - image.height) // 2)
        canvas.paste(image, corner)
    return _jpeg(canvas)


def grid(thumbnails: Sequence[bytes]) -> bytes:
    """One JPEG of all thumbnails in rows of `COLUMNS`.

    Raises:
        ValueError: there are none.
    """
    if not thumbnails:
        raise ValueError("contact sheet got 0 thumbnails, fewer than 1; leave the sheet out")
    rows = -(-len(thumbnails) // COLUMNS)
    columns = min(COLUMNS, len(thumbnails))
    sheet = Image.new("RGB", (columns * SIDE_PX, rows * SIDE_PX), BACKGROUND)
    for place, encoded in enumerate(thumbnails):
        row, column = divmod(place, COLUMNS)
        with Image.open(io.BytesIO(encoded)) as image:
            sheet.paste(image, (column * SIDE_PX, row * SIDE_PX))
    return _jpeg(sheet)


def excerpt(caption: str) -> str:
    r"""A caption on one line, without control characters, cut to `CAPTION_CHARS`.

    Captions are hostile input: direction overrides and lone surrogates go too. It is not
    escaped; that is the template's work.

    >>> excerpt("a \x00cat\n\u202eon a mat")
    'a cat on a mat'
    """
    visible = "".join(
        " " if char.isspace() else char
        for char in caption
        if char.isspace() or not unicodedata.category(char).startswith("C")
    )
    words = " ".join(visible.split())
    return words if len(words) <= CAPTION_CHARS else words[: CAPTION_CHARS - 1] + "…"


def _decoded(content: bytes | None, max_pixels: int) -> Image.Image | None:
    if content is None:
        return None
    try:
        return decode(content, max_pixels=max_pixels).image
    except ImageRefused:
        return None


def _blurred(image: Image.Image) -> Image.Image:
    # Detail is thrown away first: a filter alone can be undone in part.
    spots = image.resize((BLUR_PX, BLUR_PX), Image.Resampling.BOX)
    return spots.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).filter(
        ImageFilter.GaussianBlur(BLUR_PX)
    )


def _jpeg(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=80)
    return encoded.getvalue()
