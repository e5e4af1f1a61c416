"""When each frame of a video is shown, from what its container tells of it."""

from fractions import Fraction
from typing import Final

import av

NOMINAL_S: Final = Fraction(1, 25)  # chosen: of a frame whose container tells neither time nor fps
RESTART_S: Final = 1  # chosen: a clock that goes back by more was set anew, as at a cut of a disc


class FrameTimes:
    """Times that only go forward, from those that a container tells; all in ticks of a stream."""

    def __init__(self, nominal_s: Fraction, tick_s: Fraction) -> None:
        """Begin before the first frame, of ticks so long and frames that last so long if unsaid."""
        self._tick_s = tick_s
        self._nominal = max(1, round(nominal_s / tick_s))
        self._restart = round(RESTART_S / tick_s)
        self._shift = 0
        self._last: int | None = None
        self._last_ms = -1
        self._lasts = self._nominal
        self.repaired = 0

    def add(self, at: int | None, lasts: int) -> int:
        """The time of the next frame in ms, from its own and how long it is shown, 0 unknown."""
        if at is not None:
            at += self._shift
        if self._last is None:
            self.repaired += at is None
            at = at or 0
        elif at is None or at <= self._last:
            self.repaired += 1
            expected = self._last + self._lasts
            if at is not None and at < self._last - self._restart:  # so do all that follow
                self._shift += expected - at
                at = expected
            at = expected if at is None else max(at, self._last)
        self._last, self._lasts = at, lasts if lasts > 0 else self._nominal
        self._last_ms = max(self._last_ms + 1, self._ms(at))
        return self._last_ms

    def _ms(self, ticks: int) -> int:
        over, under = self._tick_s.numerator * 1000, self._tick_s.denominator
        return (2 * ticks * over + under) // (2 * under)  # rounded, in whole numbers: each frame's

    @property
    def end_ms(self) -> int:
        """When the last frame ends; 0 without one."""
        if self._last is None:
            return 0
        return max(self._last_ms + 1, self._ms(self._last + self._lasts))


def nominal_s(video: av.VideoStream) -> Fraction:
    """How long a frame is shown where its packet does not say, in seconds."""
    rate = video.average_rate or video.base_rate
    return 1 / rate if rate else NOMINAL_S
