"""Whether a clip has sound, how loud it is, and how much of it is silence."""

from typing import Final, NamedTuple

import numpy as np

from udfs import loudness
from udfs.loudness import RATE_HZ, Loudness

VERSION: Final = f"clip_sound/1 {loudness.VERSION}"  # raised whenever values would change
_WINDOW: Final = RATE_HZ // 10  # chosen: 100 ms, between a syllable and a pause
_SILENT_DBFS: Final = -60.0  # FFmpeg's silencedetect filter: its default


class ClipSound(NamedTuple):
    """The sound of a clip.

    Attributes:
        has_audio: there is sound in the clip's span; false, not null, without a track.
        loudness_lufs: integrated loudness of the mono mix by ITU-R BS.1770, from -70 (silence);
            null without sound.
        silence_fraction: share of windows of 100 ms whose level is under -60 dB of full scale, in
            [0, 1]; null without sound.
    """

    has_audio: bool
    loudness_lufs: float | None
    silence_fraction: float | None


NO_SOUND: Final = ClipSound(False, None, None)


class SoundMeter:
    """Measures the sound of a clip that comes in blocks of any length; ten numbers a second stay.

    >>> meter = SoundMeter()
    >>> meter.add(np.zeros(16_000, np.float32))
    >>> meter.measured()
    ClipSound(has_audio=True, loudness_lufs=-70.0, silence_fraction=1.0)
    """

    def __init__(self) -> None:
        self._loudness = Loudness()
        self._silent, self._windows = 0, 0
        self._rest = np.empty(0, np.float32)
        self._samples = 0

    def add(self, sound: np.ndarray) -> None:
        """Hear the next block.

        Args:
            sound: (n,) mono float32 at 16 kHz. What is not a number is silence, what lies beyond
                [-1, 1] is cut: broken streams decode to either.
        """
        sound = np.clip(np.nan_to_num(sound, nan=0.0), -1, 1)
        self._samples += len(sound)
        self._loudness.add(sound)
        sound = np.concatenate([self._rest, sound])
        whole = len(sound) // _WINDOW * _WINDOW
        self._silent += _silent(sound[:whole].reshape(-1, _WINDOW))
        self._windows += whole // _WINDOW
        self._rest = sound[whole:]

    def measured(self) -> ClipSound:
        """The sound so far; what is shorter than a window is one."""
        if not self._samples:
            return NO_SOUND
        if not self._windows:
            return ClipSound(True, self._loudness.lufs(), float(_silent(self._rest[None])))
        return ClipSound(True, self._loudness.lufs(), self._silent / self._windows)


def _silent(windows: np.ndarray) -> int:
    power = np.mean(np.square(windows, dtype=np.float64), axis=1)
    return int(np.sum(power < 10 ** (_SILENT_DBFS / 10)))
