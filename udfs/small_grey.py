"""A grey picture at 32 x 32 pixels, as Pillow resizes it, bit for bit, at a seventh of the time."""

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
from PIL import Image

from udfs.compiled import compiled

SIDE_PX: Final = 32  # hash_size 8 x highfreq_factor 4: ImageHash's defaults
_LOBES: Final = 3.0  # Lanczos-3
_BITS: Final = 32 - 8 - 2  # of a weight: 8 for a pixel, 2 for sums above 1 and below 0
_MOST_PX: Final = 16_384  # chosen: weights of a side take at most 400 kB, 64 of them are kept
_Weights = tuple[np.ndarray, np.ndarray, np.ndarray]


def small_grey(image: Image.Image) -> np.ndarray:
    """(32, 32) uint8: the picture in grey, resized with Lanczos.

    The arithmetic is Pillow's: weights in fixed point, across, rounded to 8 bits, then down. Of
    tall pictures some versions of Pillow go down first; those, and huge ones, are left to it.

    Args:
        image: any mode and size.

    Source: Pillow 13, ``Image.resize``; its order of passes was found by trying all sizes.

    >>> small_grey(Image.new("RGB", (640, 480), "white")).min()
    np.uint8(255)
    """
    grey = image if image.mode == "L" else image.convert("L")  # which would copy
    width, height = grey.size
    is_tall = height - SIDE_PX > 2 * max(width - SIDE_PX, 0)
    if is_tall or max(grey.size) > _MOST_PX:
        return np.asarray(grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS))
    resize: Any = _resized
    small: np.ndarray = resize(np.asarray(grey), *_weights(width), *_weights(height))
    return small


@lru_cache(maxsize=64)
def _weights(size: int) -> _Weights:
    lanczos: Any = _lanczos
    weights: _Weights = lanczos(size)
    return weights


@compiled  # pragma: no cover: runs compiled
def _sinc(x: float) -> Any:
    return math.sin(math.pi * x) / (math.pi * x) if x != 0.0 else 1.0


@compiled  # pragma: no cover: the same
def _lanczos(size: int) -> _Weights:
    """For each of 32 pixels: the first of those it is made from, how many, their weights."""
    scale = size / SIDE_PX
    stretch = max(scale, 1.0)
    reach = _LOBES * stretch
    firsts, counts = np.empty(SIDE_PX, np.int64), np.empty(SIDE_PX, np.int64)
    weights = np.zeros((SIDE_PX, math.ceil(reach) * 2 + 1), np.int32)
    for n in range(SIDE_PX):
        centre = (n + 0.5) * scale
        firsts[n] = max(int(centre - reach + 0.5), 0)
        counts[n] = min(int(centre + reach + 0.5), size) - firsts[n]
        parts = np.zeros(counts[n])
        total = 0.0
        for i in range(counts[n]):
            x = (i + firsts[n] - centre + 0.5) * (1.0 / stretch)
            if -_LOBES <= x < _LOBES:
                parts[i] = _sinc(x) * _sinc(x / _LOBES)
            total += parts[i]
        for i in range(counts[n]):
            part = parts[i] / total * (1 << _BITS)
            weights[n, i] = int(part - 0.5 if part < 0 else part + 0.5)
    return firsts, counts, weights


@compiled  # pragma: no cover: the same
def _rounded(fixed: Any) -> Any:
    return np.uint8(min(max(fixed >> np.int32(_BITS), 0), 255))


@compiled  # pragma: no cover: the same
def _resized(
    pixels: np.ndarray,
    x_firsts: np.ndarray,
    x_counts: np.ndarray,
    x_weights: np.ndarray,
    y_firsts: np.ndarray,
    y_counts: np.ndarray,
    y_weights: np.ndarray,
) -> np.ndarray:
    half = np.int32(1 << (_BITS - 1))
    narrow = np.empty((pixels.shape[0], SIDE_PX), np.uint8)
    for y in range(pixels.shape[0]):
        for n in range(SIDE_PX):
            row = pixels[y, x_firsts[n] : x_firsts[n] + x_counts[n]]
            weights = x_weights[n, : x_counts[n]]
            total: Any = half
            for i in range(len(row)):
                # 32 bits throughout: eight sums at a time, where 64 bits would take four.
                total = np.int32(total + np.int32(np.int32(row[i]) * weights[i]))
            narrow[y, n] = _rounded(total)
    small = np.empty((SIDE_PX, SIDE_PX), np.uint8)
    totals = np.empty(SIDE_PX, np.int32)
    for n in range(SIDE_PX):
        totals[:] = half
        for i in range(y_counts[n]):
            row = narrow[y_firsts[n] + i]
            for x in range(SIDE_PX):
                totals[x] += np.int32(row[x]) * y_weights[n, i]
        for x in range(SIDE_PX):
            small[n, x] = _rounded(totals[x])
    return small
