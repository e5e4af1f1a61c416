"""How much a video changes from frame to frame: four numbers a frame, in one pass."""

from array import array
from typing import Final

import numpy as np
import numpy.typing as npt

from udfs.compiled import compiled

# Chosen: 0.2 s at 30 fps; photographers' flashes and strobes last one to four frames.
FLASH_FRAMES: Final = 6
# Chosen: half of what is looked at for a dissolve, so that one of 24 frames (a second of film)
# has a peak of full height. Measured on rendered dissolves of 4 to 60 frames: see `udfs/shots.py`.
REACH_FRAMES: Final = 12


class FrameChange:
    """Takes small frames in their order; keeps the last few, and 16 bytes of each.

    The distance d of two frames is their mean absolute difference, from 0 to 1.
    """

    def __init__(self) -> None:
        self._last = np.empty((0, 0), np.uint8)  # a ring of frames, each in one row
        self._sums = np.empty(1 + FLASH_FRAMES + 2, np.int64)
        self._cut, self._change, self._gradual, self._light = (array("f") for _ in range(4))

    def add(self, small: npt.NDArray[np.uint8]) -> None:
        """Take the next frame, uint8 (height, width, 3); all have one shape."""
        n = len(self._cut)
        if not n:
            self._last = np.empty((2 * REACH_FRAMES + 1, small.size), np.uint8)
        self._last[n % len(self._last)] = small.reshape(-1)
        _compare(self._last, n, self._sums)
        light, *distances, ends, mixed = (self._sums / (255 * small.size)).tolist()
        self._light.append(light)
        self._gradual.append(0.0)
        self._change.append(distances[0])
        self._cut.append(distances[0])
        # The frame after a flash is like one before it. So what changes at a cut is the least of
        # d(t - 1, t + k) and d(t - k, t): what is alike again soon has not been cut.
        for lag, distance in enumerate(distances[1 : min(FLASH_FRAMES, n)], 2):
            first = n + 1 - lag  # the frame after the older of the two
            self._cut[first] = min(self._cut[first], distance)
            self._cut[n] = min(self._cut[n], distance)
        # In a dissolve from A to B each frame is (1 - a) A + a B, and a grows evenly. So the frame
        # midway between two is their mean, and d(A, B) - 2 d(mean, midway) is d(A, B). At a cut
        # midway is A or B, and the difference 0; of noise, of things that move and of a camera
        # that turns it is less.
        if n >= 2 * REACH_FRAMES:
            self._gradual[n - REACH_FRAMES] = max(0.0, ends - mixed)

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


@compiled
def _compare(  # pragma: no cover  # runs compiled
    ring: npt.NDArray[np.uint8], n: int, sums: npt.NDArray[np.int64]
) -> None:
    """Sums over frame n: of itself; of how far it is from each of the last ``FLASH_FRAMES``.

    Then of how far it is from the first of the ring; and of how far twice the middle one is from
    both together.
    """
    here = ring[n % len(ring)]
    sums[:] = 0
    for i in range(len(here)):
        sums[0] += np.int64(here[i])
    for lag in range(1, min(n, FLASH_FRAMES) + 1):
        sums[lag] = _apart(ring[(n - lag) % len(ring)], here)
    if n + 1 >= len(ring):
        first, middle = ring[(n + 1) % len(ring)], ring[(n - len(ring) // 2) % len(ring)]
        sums[-2] = _apart(first, here)
        total = np.int64(0)  # numba's int of a byte is unsigned
        for i in range(len(here)):
            total += abs(np.int64(first[i]) + np.int64(here[i]) - 2 * np.int64(middle[i]))
        sums[-1] = total


@compiled
def _apart(  # pragma: no cover  # likewise
    left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8]
) -> np.int64:
    total = np.int64(0)
    for i in range(len(left)):
        total += abs(np.int64(left[i]) - np.int64(right[i]))
    return total
