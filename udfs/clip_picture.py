"""How a clip looks, frame by frame: black, frozen, sharp, bright."""

from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from udfs.clip_frames import check_frames, grey_frames
from udfs.exposure import exposure
from udfs.sharpness import sharpness

VERSION: Final = "clip_picture/1"  # raised whenever the same frames would give other values
_DARK: Final = 32  # FFmpeg's blackframe filter: a pixel is black below this grey level,
_BLACK: Final = 0.98  # and a frame where this share of its pixels is


class ClipPicture(NamedTuple):
    """How the frames of a clip look; all are shares, or means over frames of a frame's value.

    Attributes:
        black_fraction: share of black frames, in [0, 1].
        frozen_fraction: share of steps to a frame that is the same to the bit, in [0, 1]; 0 for
            one frame.
        sharpness_mean: variance of the Laplacian at 256 px, in squared grey levels, >= 0. Of
            small frames it is lower than of the picture itself.
        sharpness_min: that of the least sharp frame.
        luminance_mean: mean grey level, black = 0, white = 1.
        luminance_min: that of the darkest frame.
        luminance_std: contrast within a frame, in [0, 0.5].
        dark_fraction: share of pixels up to grey level 8 of 255, in [0, 1].
        bright_fraction: share of pixels from grey level 253 of 255, in [0, 1].
    """

    black_fraction: float
    frozen_fraction: float
    sharpness_mean: float
    sharpness_min: float
    luminance_mean: float
    luminance_min: float
    luminance_std: float
    dark_fraction: float
    bright_fraction: float


def clip_picture(frames: np.ndarray) -> ClipPicture:
    """How the frames of a clip look, by the measures of single images.

    Args:
        frames: (n, h, w, 3) uint8, n >= 1.

    Raises:
        ValueError: the frames have another shape or type.

    >>> fade = np.repeat(np.array([0, 0, 255, 255], np.uint8), 36 * 64 * 3).reshape(4, 36, 64, 3)
    >>> clip_picture(fade)[:6]
    (0.5, 0.6666666666666666, 0.0, 0.0, 0.5, 0.0)
    """
    check_frames(frames)
    grey = grey_frames(frames)
    black = (grey < _DARK).mean((1, 2)) >= _BLACK
    frozen = (frames[1:] == frames[:-1]).all((1, 2, 3))
    lights = [exposure(np.bincount(frame.ravel(), minlength=256)) for frame in grey]
    means = np.mean(lights, axis=0)
    sharp = [sharpness(Image.fromarray(frame)) for frame in grey]
    return ClipPicture(
        black_fraction=float(black.mean()),
        frozen_fraction=float(frozen.sum() / max(1, len(frozen))),
        sharpness_mean=float(np.mean(sharp)),
        sharpness_min=min(sharp),
        luminance_mean=float(means[0]),
        luminance_min=min(light.luminance_mean for light in lights),
        luminance_std=float(means[1]),
        dark_fraction=float(means[2]),
        bright_fraction=float(means[3]),
    )
