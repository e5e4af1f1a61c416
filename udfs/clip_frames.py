"""A clip's frames as one array, checked, and in grey."""

import numpy as np


def check_frames(frames: np.ndarray) -> None:
    """Refuse what is not a clip's frames.

    Raises:
        ValueError: not (n, h, w, 3) uint8 with at least one frame and one pixel.

    >>> check_frames(np.zeros((1, 36, 64, 3), np.uint8))
    """
    is_clip = frames.ndim == 4 and frames.shape[-1] == 3 and frames.size > 0
    if not is_clip or frames.dtype != np.uint8:
        raise ValueError(
            f"frames got {frames.dtype} of shape {frames.shape}; allowed uint8 of (n, h, w, 3), "
            "each at least 1; give the frames as RGB"
        )


def grey_frames(frames: np.ndarray) -> np.ndarray:
    """Luma of every pixel, as Pillow's mode L has it, bit for bit.

    Args:
        frames: (n, h, w, 3) uint8.

    Returns:
        (n, h, w) uint8.

    Source: ITU-R BT.601; Pillow's ``Convert.c`` for the fixed point.

    >>> grey_frames(np.full((1, 1, 1, 3), [255, 0, 0], np.uint8)).tolist()
    [[[76]]]
    """
    red, green, blue = (frames[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)
