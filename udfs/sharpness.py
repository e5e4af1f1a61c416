"""How sharp a picture is, by its Laplacian."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

from udfs.image_codec import THUMBNAIL_PX, Decoded

_LONGER_SIDE_PX: Final = THUMBNAIL_PX  # chosen: one scale for all, so that size does not decide


def sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian of the grey image at 256 px.

    Args:
        image: any mode and size.

    Returns:
        Variance in squared grey levels, >= 0; 0 for a flat picture, larger is sharper.

    Source: Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy", ICPR,
    doi:10.1109/ICPR.2000.903548, with the 4-neighbour kernel.

    >>> sharpness(Image.new("RGB", (640, 480), "red"))
    0.0
    """
    scale = _LONGER_SIDE_PX / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    grey = image.convert("L").resize(size, Image.Resampling.BILINEAR)
    padded = np.pad(np.asarray(grey), 1, mode="edge").astype(np.int16)
    centre = padded[1:-1, 1:-1]
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float(np.var(neighbours - 4 * centre, dtype=np.float64))


class Sharpness:
    """Sharpness as a signal."""

    columns: Final = ("sharpness",)
    version: Final = "sharpness/1"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> float:
        """Measure one picture."""
        return sharpness(decoded.grey_thumbnail)  # the same value as of the whole picture

    def finish(self, prepared: Sequence[float]) -> dict[str, list[float]]:
        """Values are final as prepared."""
        return {"sharpness": list(prepared)}
