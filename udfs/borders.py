"""Bars and frames of one colour around a picture's content."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from udfs.image_codec import Decoded

# Measured: 240 frames of 8 to 69 px in four colours around six photographs, saved as JPEG. Sides
# are found to a pixel at quality 50 and above; to 2 px, 99.9 % at 30 and 90 % at 10. None is
# seen where there is none. With 16 levels throughout, 95 % are found to 2 px at 50; with 24,
# night skies are bars.
_OUTLIERS: Final = 0.02  # share of a line's pixels that may differ more than the tolerance
_TOLERANCE: Final = 16  # grey levels that a pixel of a bar may differ from the bar's colour,
_RINGING: Final = 32  # and in the lines beside the content, into which a JPEG smears it
_BLOCK_PX: Final = 8  # how far it does: a block, ITU-T T.81 §A.3.1
_LINES_AT_ONCE: Final = 32  # chosen: pictures without a bar are left after the first


class Box(NamedTuple):
    """A rectangle of pixels, as Pillow's ``crop`` takes it.

    Attributes:
        left_px: first column.
        top_px: first row.
        right_px: column after the last.
        bottom_px: row after the last.
    """

    left_px: int
    top_px: int
    right_px: int
    bottom_px: int


def content_box(image: Image.Image) -> Box:
    """What is left when bars of one colour are taken from the four sides.

    A side's bar is the run of lines whose pixels have, but for one in fifty, the grey level
    that is the outermost line's median, to 16 of 255 (32 beside the content). Rows are judged
    first, then the columns of the rows that are left; each side may have its own colour. Two
    bars that leave nothing between them are no bars: they are the content.

    Args:
        image: any mode and size.

    Returns:
        The content; all zeros for a picture of one colour, which has none.

    >>> slide = Image.new("RGB", (100, 80), "black")
    >>> slide.paste(Image.radial_gradient("L").resize((100, 50)), (0, 10))
    >>> content_box(slide)
    Box(left_px=0, top_px=10, right_px=100, bottom_px=60)
    """
    pixels = np.asarray(image.convert("L"))
    height, width = pixels.shape
    top, bottom = _bars(pixels)
    if top == height:
        return Box(0, 0, 0, 0)
    if top + bottom >= height:
        top = bottom = 0
    left, right = _bars(pixels[top : height - bottom].T)
    if left + right >= width:
        left = right = 0
    return Box(left, top, width - right, height - bottom)


def _bars(lines: np.ndarray) -> tuple[int, int]:
    return _bar(lines), _bar(lines[::-1])


def _bar(lines: np.ndarray) -> int:
    """How many of the first lines are of one colour."""
    depth = _run(lines, lines[0], _TOLERANCE)
    if depth == 0:
        return 0
    return depth + _run(lines[depth : depth + _BLOCK_PX], lines[0], _RINGING)


def _run(lines: np.ndarray, outermost: np.ndarray, tolerance: int) -> int:
    """How many of the first lines have the outermost line's colour."""
    colour = np.int16(np.median(outermost))
    for start in range(0, len(lines), _LINES_AT_ONCE):
        block = lines[start : start + _LINES_AT_ONCE].astype(np.int16)
        is_other = np.mean(np.abs(block - colour) > tolerance, axis=1) > _OUTLIERS
        if is_other.any():
            return start + int(np.argmax(is_other))
    return len(lines)


def border_fraction(box: Box, size: tuple[int, int]) -> float:
    """Share of a picture's area that lies outside its content.

    Args:
        box: the content.
        size: width and height of the picture.

    Returns:
        In [0, 1]; 1 for a picture of one colour.

    >>> border_fraction(Box(0, 10, 100, 60), (100, 80))
    0.375
    """
    content = (box.right_px - box.left_px) * (box.bottom_px - box.top_px)
    return 1 - content / (size[0] * size[1])


class Borders:
    """Bars and frames as a signal."""

    columns: Final = ("border_fraction", "content_box")
    version: Final = "borders/1"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> tuple[float, Box]:
        """Measure one picture."""
        box = content_box(decoded.grey)
        return border_fraction(box, decoded.grey.size), box

    def finish(self, prepared: Sequence[tuple[float, Box]]) -> dict[str, list[object]]:
        """Values are final as prepared; a box becomes a struct."""
        return {
            "border_fraction": [fraction for fraction, _ in prepared],
            "content_box": [box._asdict() for _, box in prepared],
        }
