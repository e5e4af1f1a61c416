"""A picture no larger than a detector needs, at sides that it takes."""

from typing import Final

import numpy as np
from PIL import Image

_MULTIPLE_PX: Final = 32  # the detectors halve each side five times


def bounded(image: Image.Image, longest_px: int) -> np.ndarray:
    """A picture no larger than a bound, its sides rounded to what a detector takes.

    Args:
        image: RGB of any size.
        longest_px: bound of the longer side, a multiple of 32.

    Returns:
        (height, width, 3) uint8, both multiples of 32, the aspect kept but for the rounding.

    >>> bounded(Image.new("RGB", (1000, 500)), 640).shape
    (320, 640, 3)
    """
    scale = min(1, longest_px / max(image.size))
    width, height = (
        max(1, round(length * scale / _MULTIPLE_PX)) * _MULTIPLE_PX for length in image.size
    )
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
