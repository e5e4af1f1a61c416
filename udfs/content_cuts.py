"""Cuts as PySceneDetect finds them, from its documented formulas and with its defaults."""

from array import array
from typing import Final

import numpy as np
import numpy.typing as npt

# https://www.scenedetect.com/docs/latest/api/detectors.html, release 0.7
THRESHOLD: Final = 27.0  # ContentDetector; of a range of 255
ADAPTIVE_THRESHOLD: Final = 3.0  # AdaptiveDetector
MIN_CONTENT: Final = 15.0  # likewise
WINDOW_FRAMES: Final = 2  # likewise, on either side
MIN_SCENE_FRAMES: Final = 15  # both
_HUES: Final = 180  # OpenCV's: a hue of 360 degrees in a byte
_NOTHING: Final = 1e-5  # below it nothing moves around a frame, and no ratio is taken


class ContentChange:
    """Takes small frames in their order; keeps the last, and four bytes of each."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.int16] | None = None
        self._values = array("f")

    def add(self, small: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, uint8 RGB (height, width, 3); all have one shape."""
        here = hsv(small)
        change = 0.0 if self._last is None else float(np.abs(here - self._last).mean())
        self._values.append(change)
        self._last = here

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """Float32 (n,), 0 to 255: mean absolute difference of hue, saturation and value.

        From the frame before; 0 of the first. Hue is taken as a number, so that two reds can
        differ by 179.
        """
        return np.array(self._values, np.float32)


def hsv(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Hue in 0..179, saturation and value in 0..255, as OpenCV's 8-bit HSV, int16 (..., 3).

    >>> hsv(np.array([[255, 0, 0], [0, 128, 0], [0, 0, 1], [9, 9, 9]], np.uint8)).tolist()
    [[0, 255, 255], [60, 255, 128], [120, 255, 1], [0, 0, 9]]
    """
    red, green, blue = np.moveaxis(rgb.astype(np.float32), -1, 0)
    value, least = rgb.max(-1).astype(np.float32), rgb.min(-1).astype(np.float32)
    spread = value - least
    per = (_HUES / 6) / np.maximum(spread, 1)
    hue = np.where(
        value == red,
        (green - blue) * per,
        np.where(
            value == green, _HUES / 3 + (blue - red) * per, 2 * _HUES / 3 + (red - green) * per
        ),
    )
    saturation = 255 * spread / np.maximum(value, 1)
    whole: npt.NDArray[np.int16] = np.rint(np.stack([hue, saturation, value], -1)).astype(np.int16)
    whole[..., 0] %= _HUES
    return whole


def content_cuts(
    values: npt.NDArray[np.float32],
    *,
    threshold: float = THRESHOLD,
    min_scene_frames: int = MIN_SCENE_FRAMES,
) -> list[int]:
    """The frames, ascending, whose change reaches the threshold, ContentDetector's way.

    Those that follow a cut too soon are merged: they give one cut, the last of them, once as many
    frames have passed without another. Before the first cut they are dropped.
    """
    found: list[int] = []
    last, merged_from = 0, -1
    for at, is_over in enumerate(values >= threshold):
        is_apart = at - last >= min_scene_frames
        if is_over:
            last = at
        if merged_from >= 0:
            if is_apart and not is_over and last - merged_from >= min_scene_frames:
                found.append(last)
                merged_from = -1
        elif is_over and is_apart:
            found.append(at)
        elif is_over and found:
            merged_from = at
    return found


def adaptive_cuts(
    values: npt.NDArray[np.float32],
    *,
    adaptive_threshold: float = ADAPTIVE_THRESHOLD,
    min_content: float = MIN_CONTENT,
    window_frames: int = WINDOW_FRAMES,
    min_scene_frames: int = MIN_SCENE_FRAMES,
) -> list[int]:
    """The frames, ascending, that change more than those around them, AdaptiveDetector's way."""
    size = 2 * window_frames + 1
    if len(values) < size:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(values.astype(np.float64), size)
    here = windows[:, window_frames]
    around = (windows.sum(1) - here) / (2 * window_frames)
    with np.errstate(divide="ignore", invalid="ignore"):
        stands_out = np.where(around < _NOTHING, True, here / around >= adaptive_threshold)
    found: list[int] = []
    last = 0
    for at in np.flatnonzero(stands_out & (here >= min_content)) + window_frames:
        if at - last >= min_scene_frames:
            last = int(at)
            found.append(last)
    return found
