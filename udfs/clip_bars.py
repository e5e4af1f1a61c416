"""Bars that stand beside a clip's picture throughout: letterbox and pillarbox."""

from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from udfs.borders import Box, content_box
from udfs.clip_frames import check_frames, grey_frames

VERSION: Final = "clip_bars/1"  # raised whenever the same frames would give other values
# Chosen: of ten frames one may have less of a bar, such as one with a subtitle or a flash in it.
_FEWEST: Final = 0.1


class Bars(NamedTuple):
    """The bars of a clip.

    Attributes:
        letterbox_fraction: share of the height that bars take above and below, in [0, 1).
        pillarbox_fraction: share of the width that bars take left and right, in [0, 1).
        content: the picture between them, in pixels of the frames given.
    """

    letterbox_fraction: float
    pillarbox_fraction: float
    content: Box


def bars(frames: np.ndarray) -> Bars:
    """The bars that all of a clip has, but for one frame in ten.

    Every frame is judged by ``udfs.borders``, which sees bars of any one colour; a frame of one
    colour says nothing. A bar is as deep as in the frames where it is shallowest: dark edges of
    single frames are no bars. Found to 1 px of the frames given or 2 px of larger ones, as they
    come out of an encoder: ask with larger frames where a pixel counts.

    Args:
        frames: (n, h, w, 3) uint8, n >= 1.

    Returns:
        No bars where every frame is of one colour.

    Raises:
        ValueError: the frames have another shape or type.

    >>> picture = np.random.default_rng(0).integers(0, 256, (2, 40, 100, 3), np.uint8)
    >>> bars(np.pad(picture, ((0, 0), (10, 10), (0, 0), (0, 0))))
    Bars(letterbox_fraction=0.3333333333333333, pillarbox_fraction=0.0,
         content=Box(left_px=0, top_px=10, right_px=100, bottom_px=50))
    """
    check_frames(frames)
    _, height, width, _ = frames.shape
    boxes = [content_box(Image.fromarray(grey)) for grey in grey_frames(frames)]
    edges = np.array([box for box in boxes if box.right_px], int).reshape(-1, 4)
    if not len(edges):
        return Bars(0.0, 0.0, Box(0, 0, width, height))
    depths = edges * [1, 1, -1, -1] + [0, 0, width, height]
    common = np.quantile(depths, _FEWEST, axis=0, method="lower")
    left, top, right, bottom = (int(depth) for depth in common)
    return Bars(
        (top + bottom) / height,
        (left + right) / width,
        Box(left, top, width - right, height - bottom),
    )
