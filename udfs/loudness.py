"""How loud sound is to the ear, by ITU-R BS.1770."""

from typing import Final

import numpy as np
from scipy import signal

RATE_HZ: Final = 16_000  # what sound is decoded to
VERSION: Final = "loudness/1"  # raised whenever the same sound would give another value
# ITU-R BS.1770-4, annex 1. The two filters are given as coefficients for 48 kHz; these are the
# analogue filters that they are the bilinear transforms of, by which libebur128 has them for any
# rate (ebur128.c, ebur128_init_filter).
_SHELF_HZ: Final = 1681.974450955533
_SHELF_DB: Final = 3.999843853973347
_SHELF_Q: Final = 0.7071752369554196
_SHELF_BEND: Final = 0.4996667741545416  # of the gain, at the shelf's corner
_PASS_HZ: Final = 38.13547087602444
_PASS_Q: Final = 0.5003270373238773
_OFFSET_DB: Final = -0.691
_ABSOLUTE_LUFS: Final = -70.0  # blocks below are no sound,
_RELATIVE_DB: Final = -10.0  # nor are those this far below what is left
_HOPS: Final = 4  # a block is 400 ms, one starts every 100 ms
FLOOR_LUFS: Final = _ABSOLUTE_LUFS


def k_weighting(rate_hz: int) -> np.ndarray:
    """The two filters before loudness is measured.

    Args:
        rate_hz: of the sound.

    Returns:
        (2, 6) float64, second-order sections as SciPy takes them.

    >>> k_weighting(48_000)[0].round(8).tolist()  # the standard's table 1
    [1.53512486, -2.69169619, 1.19839281, 1.0, -1.69065929, 0.73248077]
    """
    gain = 10 ** (_SHELF_DB / 20)
    bend = gain**_SHELF_BEND
    slope, q = np.tan(np.pi * _SHELF_HZ / rate_hz), _SHELF_Q
    whole = 1 + slope / q + slope**2
    shelf = [
        (gain + bend * slope / q + slope**2) / whole,
        2 * (slope**2 - gain) / whole,
        (gain - bend * slope / q + slope**2) / whole,
        *_poles(slope, q),
    ]
    highpass = [1.0, -2.0, 1.0, *_poles(np.tan(np.pi * _PASS_HZ / rate_hz), _PASS_Q)]
    return np.array([shelf, highpass])


def _poles(slope: float, q: float) -> list[float]:
    whole = 1 + slope / q + slope**2
    return [1.0, 2 * (slope**2 - 1) / whole, (1 - slope / q + slope**2) / whole]


class Loudness:
    """The integrated loudness of mono sound that comes in blocks of any length.

    Ten numbers a second stay of it. One channel counts as one: a stereo file whose channels are
    alike is 3.01 LU louder than its mono mix. At 16 kHz nothing above 8 kHz is heard.

    >>> tone = np.sin(2 * np.pi * 997 * np.arange(16_000) / 16_000).astype(np.float32)
    >>> meter = Loudness()
    >>> meter.add(tone)
    >>> round(meter.lufs(), 1)
    -3.0
    """

    def __init__(self, rate_hz: int = RATE_HZ) -> None:
        self._sections = k_weighting(rate_hz)
        self._state = np.zeros((2, 2))
        self._hop = rate_hz // 10
        self._rest = np.empty(0)
        self._powers: list[np.ndarray] = []

    def add(self, sound: np.ndarray) -> None:
        """Hear the next block.

        Args:
            sound: (n,) float32 in [-1, 1], finite.
        """
        if not len(sound):
            return
        weighted, self._state = signal.sosfilt(self._sections, sound, zi=self._state)
        weighted = np.concatenate([self._rest, weighted])
        whole = len(weighted) // self._hop * self._hop
        hops = weighted[:whole].reshape(-1, self._hop)
        self._powers.append(np.mean(hops**2, axis=1))
        self._rest = weighted[whole:]

    def lufs(self) -> float:
        """The loudness of all so far.

        Returns:
            LUFS (LKFS), from -70, which also stands for silence, to about 4. What is shorter
            than a block of 400 ms is one block.
        """
        hops = np.concatenate([np.empty(0), *self._powers])
        if not len(hops):
            hops = np.array([np.sum(self._rest**2) / max(1, len(self._rest))])
        width = max(1, min(_HOPS, len(hops)))
        blocks = np.lib.stride_tricks.sliding_window_view(hops, width).mean(axis=1)
        heard = blocks[blocks > _power(_ABSOLUTE_LUFS)]
        if not len(heard):
            return FLOOR_LUFS
        gate = _power(_OFFSET_DB + 10 * np.log10(heard.mean()) + _RELATIVE_DB)
        return float(_OFFSET_DB + 10 * np.log10(heard[heard > gate].mean()))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET_DB) / 10))
