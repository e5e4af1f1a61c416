"""How bright a picture is, how strong its contrast, how much of it is crushed or clipped."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from udfs.image_codec import Decoded

_WHITE: Final = 255
_DARK: Final = 8  # RawTherapee 5, rtgui/options.cc: shadows are marked as clipped up to 8,
_BRIGHT: Final = 253  # highlights from 253 on
_LEVELS: Final = np.arange(256)


class Light(NamedTuple):
    """What a grey histogram says of the light.

    Attributes:
        luminance_mean: mean grey level, black = 0, white = 1.
        luminance_std: standard deviation of the grey level (RMS contrast), in [0, 0.5].
        dark_fraction: share of pixels at grey levels up to 8 of 255, in [0, 1].
        bright_fraction: share of pixels at grey levels from 253 of 255, in [0, 1].
    """

    luminance_mean: float
    luminance_std: float
    dark_fraction: float
    bright_fraction: float


def exposure(histogram: np.ndarray) -> Light:
    """Brightness, contrast and clipping by a grey histogram.

    The grey level is ITU-R BT.601 luma, as the file encodes it: no gamma is undone.

    Args:
        histogram: (256,) counts, at least one above 0.

    Source: RMS contrast, Peli 1990, "Contrast in complex images", doi:10.1364/JOSAA.7.002032.

    >>> exposure(np.repeat([5, 0, 5], [1, 254, 1]))
    Light(luminance_mean=0.5, luminance_std=0.5, dark_fraction=0.5, bright_fraction=0.5)
    """
    pixels = int(histogram.sum())
    mean = (histogram @ _LEVELS) / pixels
    variance = histogram @ (_LEVELS - mean) ** 2 / pixels
    return Light(
        luminance_mean=float(mean / _WHITE),
        luminance_std=float(np.sqrt(variance) / _WHITE),
        dark_fraction=float(histogram[: _DARK + 1].sum() / pixels),
        bright_fraction=float(histogram[_BRIGHT:].sum() / pixels),
    )


class Exposure:
    """Brightness, contrast and clipping as a signal."""

    columns: Final = Light._fields
    version: Final = "exposure/1"

    def load(self) -> None:
        """Nothing to load."""

    def prepare(self, decoded: Decoded) -> Light:
        """Measure one picture."""
        return exposure(decoded.grey_histogram)

    def finish(self, prepared: Sequence[Light]) -> dict[str, list[float]]:
        """Values are final as prepared."""
        return {name: [getattr(light, name) for light in prepared] for name in self.columns}
