"""How much moves in a clip, by matching blocks of its small frames."""

from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from udfs.clip_frames import check_frames, grey_frames
from udfs.compiled import compiled

VERSION: Final = "clip_motion/1"  # raised whenever the same frames would give other values
_BLOCK_PX: Final = 8  # chosen: 28 blocks of a reduced frame of 32 x 57
# Chosen: frames are reduced to a shorter side of 32 to 63 px. Measured on pans of five photographs
# by 1/90 to 1/11 of the height a step: the score is 0.35 to 1.65 times the true speed, and rises
# with it; with 64 px the same at ten times the time (0.35 ms a frame). Of a sixth, mostly night
# sky, it is 0.1 to 1.3 times.
_SIDE_PX: Final = 32
# Chosen: a quarter of the shorter side between two frames, so at 2 fps a pan that crosses the
# frame's height in two seconds; what is faster has no sharp picture left to match.
_REACH: Final = 0.25
_ROUNDED: Final = 0.2 * _BLOCK_PX**2  # two roundings to whole levels differ by 1/6, squared
_SAME: Final = 1.5 * _BLOCK_PX**2  # chosen: what differs less is left to all blocks together
# A block has moved only if the squares of what differs fall to this share of those where it was:
# of pure noise the best of 200 places takes a third. Measured: six static photographs under noise
# of sigma 5 at 320 x 180 have a score of 0, at sigma 8 to 20 at most 0.0021; without this, 0.008.
_BETTER: Final = 0.5
# Chosen: an edge fits anywhere along itself; there a farther place costs this much more a pixel.
_FARTHER: Final = 0.2
_TOGETHER: Final = 0.9  # and of all such blocks: of their noise 2 parts in a thousand fall away
# NeMo Curator drops clips of a global mean under 0.00098 of the frame a step, at 2 fps.
STATIC_MOTION: Final = 0.002
STATIC_FRACTION: Final = 0.9  # chosen: of a clip's time; a second of movement in ten makes a clip


class Motion(NamedTuple):
    """What moves between the frames of a clip.

    Attributes:
        score: mean speed over all blocks and frames, in diagonals of the frame a second, >= 0;
            at most a quarter of the shorter side, times the frames a second.
        score_max: the same between the two frames where most moves.
        static_fraction: share of the clip's steps, in [0, 1], whose speed is under 0.002.
        is_static: nothing moves in more than 0.9 of the steps.
    """

    score: float
    score_max: float
    static_fraction: float
    is_static: bool


def motion(frames: np.ndarray, *, fps: float = 2.0) -> Motion:
    """How much moves in a clip.

    Every block of a frame is looked for in the next one, up to a quarter of the frame away, and
    its place is refined below a pixel by the parabola through the neighbouring differences. What
    has no texture is taken to stay. Size does not matter: the unit is the frame's diagonal.

    Args:
        frames: (n, h, w, 3) uint8, n >= 1, evenly spaced; sides from 8 px.
        fps: frames a second, > 0.

    Returns:
        A clip of one frame is static: no movement is seen in it.

    Raises:
        ValueError: the frames have another shape or type, or the rate is not above 0.

    Source: Jain and Jain 1981, "Displacement measurement and its application in interframe image
    coding", doi:10.1109/TCOM.1981.1094950; the mean as in Data-Juicer's motion score.

    >>> picture = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    >>> slow, fast = (np.stack([picture, np.roll(picture, v, axis=1)]) for v in (2, 4))
    >>> bool(0.01 < motion(slow).score < motion(fast).score)
    True
    """
    check_frames(frames)
    if not fps > 0:
        raise ValueError(f"frames a second got {fps}; allowed above 0; give the sampling rate")
    if len(frames) == 1:
        return Motion(0.0, 0.0, 1.0, True)
    grey = _reduced(grey_frames(frames))
    height, width = grey.shape[1:]
    reach = max(1, round(min(height, width) * _REACH))
    displacement: Any = _displacement
    steps = np.array([displacement(a, b, reach) for a, b in pairwise(grey)])
    speeds = steps * fps / np.hypot(height, width)
    static = float(np.mean(speeds < STATIC_MOTION))
    return Motion(float(speeds.mean()), float(speeds.max()), static, static > STATIC_FRACTION)


def _reduced(grey: np.ndarray) -> np.ndarray:
    """Frames at a shorter side of 32 to 63 px, by means of squares; (n, h, w) float32."""
    factor = max(1, min(grey.shape[1:]) // _SIDE_PX)
    height, width = (side // factor for side in grey.shape[1:])
    cut = grey[:, : height * factor, : width * factor]
    squares = cut.reshape(len(grey), height, factor, width, factor)
    return np.asarray(squares.mean((2, 4), dtype=np.float32))


@compiled  # pragma: no cover: runs compiled
def _difference(
    first: np.ndarray, second: np.ndarray, y: int, x: int, dy: int, dx: int, most: float
) -> Any:
    """Sum of squared differences of a block and its place in the next frame, or above ``most``."""
    total = np.float32(0)
    for row in range(y, y + _BLOCK_PX):
        for column in range(x, x + _BLOCK_PX):
            apart = first[row, column] - second[row + dy, column + dx]
            total += apart * apart
        if total > most:
            break
    return total


@compiled  # pragma: no cover: the same
def _vertex(before: float, here: float, after: float) -> tuple[float, float]:
    """Where a parabola through three values has its least, in [-0.5, 0.5], and how much lower."""
    curve = before - 2 * here + after
    if curve <= 0.0:
        return 0.0, 0.0
    place = min(0.5, max(-0.5, (before - after) / (2 * curve)))
    return place, -place * (after - before) / 2 - place * place * curve / 2


@compiled  # pragma: no cover: the same
def _distance(first: np.ndarray, second: np.ndarray, y: int, x: int, reach: int) -> float:
    """How far a block moves to the next frame, in pixels; -1 where too little differs to tell."""
    bottom, right = first.shape[0] - _BLOCK_PX - y, first.shape[1] - _BLOCK_PX - x
    stayed = _difference(first, second, y, x, 0, 0, np.inf)
    if stayed <= _SAME:
        return 0.0 if stayed <= _ROUNDED else -1.0
    least, best, best_y, best_x = stayed, stayed, 0, 0
    for dy in range(max(-reach, -y), min(reach, bottom) + 1):
        for dx in range(max(-reach, -x), min(reach, right) + 1):
            dearer = 1 + _FARTHER * np.sqrt(dy * dy + dx * dx)
            apart = _difference(first, second, y, x, dy, dx, least / dearer)
            if apart * dearer < least:
                least, best, best_y, best_x = apart * dearer, apart, dy, dx
    fine_y, fine_x, lower_y, lower_x = 0.0, 0.0, 0.0, 0.0
    if -y < best_y < bottom:
        before = _difference(first, second, y, x, best_y - 1, best_x, np.inf)
        after = _difference(first, second, y, x, best_y + 1, best_x, np.inf)
        fine_y, lower_y = _vertex(before, best, after)
    if -x < best_x < right:
        before = _difference(first, second, y, x, best_y, best_x - 1, np.inf)
        after = _difference(first, second, y, x, best_y, best_x + 1, np.inf)
        fine_x, lower_x = _vertex(before, best, after)
    if best - lower_y - lower_x > _BETTER * stayed:
        return 0.0
    return float(np.hypot(best_y + fine_y, best_x + fine_x))


@compiled  # pragma: no cover: the same
def _displacement(first: np.ndarray, second: np.ndarray, reach: int) -> float:
    """Mean distance in pixels that the blocks of a frame move to the next one.

    Blocks in which little differs are asked together, with the differences where they are
    and one pixel to each side: a slow pan, or a soft picture, shows only so.
    """
    rows, columns = first.shape[0] // _BLOCK_PX, first.shape[1] // _BLOCK_PX
    total, together = 0.0, 0
    here, up, down, left, right = 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(rows):
        for column in range(columns):
            y, x = row * _BLOCK_PX, column * _BLOCK_PX
            distance = _distance(first, second, y, x, reach)
            if distance >= 0.0:
                total += distance
                continue
            together += 1
            if 0 < row < rows - 1 and 0 < column < columns - 1:
                here += 2 * _difference(first, second, y, x, 0, 0, np.inf)
                # Both ways, so that what stays has no direction.
                for a, b, step in ((first, second, 1), (second, first, -1)):
                    up += _difference(a, b, y, x, -step, 0, np.inf)
                    down += _difference(a, b, y, x, step, 0, np.inf)
                    left += _difference(a, b, y, x, 0, -step, np.inf)
                    right += _difference(a, b, y, x, 0, step, np.inf)
    fine_y, lower_y = _vertex(up, here, down)
    fine_x, lower_x = _vertex(left, here, right)
    if here - lower_y - lower_x < _TOGETHER * here:
        total += together * np.hypot(fine_y, fine_x)
    return float(total / max(rows * columns, 1))
