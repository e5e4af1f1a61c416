"""How much a video changes from frame to frame: three numbers a frame, in one pass."""

from array import array
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

# Chosen: 0.2 s at 30 fps; photographers' flashes and strobes last one to four frames.
FLASH_FRAMES: Final = 6
# Chosen: half of what is looked at for a dissolve, so that one of 24 frames (a second of film)
# has a peak of full height. Measured on rendered dissolves of 4 to 60 frames: see `udfs/shots.py`.
REACH_FRAMES: Final = 12


class FrameChange:
    """Takes small frames in their order; keeps the last few, and 12 bytes of each.

    The distance d of two frames is their mean absolute difference, from 0 to 1.
    """

    def __init__(self) -> None:
        self._last: deque[npt.NDArray[np.int16]] = deque(maxlen=2 * REACH_FRAMES + 1)
        self._cut, self._change, self._gradual, self._light = (array("f") for _ in range(4))

    def add(self, small: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, uint8 (height, width, 3); all have one shape."""
        frame = small.astype(np.int16)
        self._light.append(float(frame.mean()) / 255)
        self._cut.append(0.0)
        self._gradual.append(0.0)
        self._change.append(_distance(self._last[-1], frame) if self._last else 0.0)
        self._cut[-1] = self._change[-1]
        # The frame after a flash is like one before it. So what changes at a cut is the least of
        # d(t - 1, t + k) and d(t - k, t): what is alike again soon has not been cut.
        for lag in range(2, min(FLASH_FRAMES, len(self._last)) + 1):
            distance = _distance(self._last[-lag], frame)
            first = len(self._cut) - lag  # the frame after the older of the two
            self._cut[first] = min(self._cut[first], distance)
            self._cut[-1] = min(self._cut[-1], distance)
        self._last.append(frame)
        if len(self._last) == self._last.maxlen:
            self._gradual[-1 - REACH_FRAMES] = _gradual(*self._three())

    def _three(self) -> tuple[npt.NDArray[np.int16], ...]:
        return self._last[0], self._last[REACH_FRAMES], self._last[-1]

    @property
    def change(self) -> npt.NDArray[np.float32]:
        """Float32 (n,), 0 to 1: d(t - 1, t); 0 of the first frame."""
        return np.array(self._change, np.float32)

    @property
    def cut(self) -> npt.NDArray[np.float32]:
        """Float32 (n,), at most ``change``: what of it is not undone soon, as after a flash."""
        return np.array(self._cut, np.float32)

    @property
    def gradual(self) -> npt.NDArray[np.float32]:
        """Float32 (n,), 0 to 1: how much two frames differ whose mean lies midway between them."""
        return np.array(self._gradual, np.float32)

    @property
    def light(self) -> npt.NDArray[np.float32]:
        """Float32 (n,), 0 to 1: the mean of the frame."""
        return np.array(self._light, np.float32)


def _gradual(
    before: npt.NDArray[np.int16], here: npt.NDArray[np.int16], after: npt.NDArray[np.int16]
) -> float:
    """How far a dissolve goes from one frame to another, by the frame midway; 0 of no dissolve.

    In a dissolve from A to B each frame is (1 - a) A + a B, and a grows evenly. So the frame midway
    between two is their mean, and d(A, B) - 2 d(mean, midway) is d(A, B). At a cut midway is A or
    B, and the difference 0; of noise, of things that move and of a camera that turns it is less.
    """
    mean = (before + after) / 2
    return max(0.0, _distance(before, after) - 2 * float(np.abs(mean - here).mean()) / 255)


def _distance(left: npt.NDArray[np.int16], right: npt.NDArray[np.int16]) -> float:
    return float(np.abs(left - right).mean()) / 255
