"""SHA-1 of very many short texts: sixteen at a time, in the lanes of vector registers."""

from typing import Final

import numpy as np

from udfs.compiled import compiled

WORDS: Final = 5  # of 32 bits in a digest
_LANES: Final = 32  # two AVX-512 registers of 32-bit words, four of AVX2, eight of SSE and NEON
_READ_AHEAD: Final = 64  # a message is read by blocks


def sha1(data: np.ndarray, starts: np.ndarray, stops: np.ndarray, words: int = 1) -> np.ndarray:
    """The first words of the SHA-1 of slices of a buffer.

    Args:
        data: uint8.
        starts: int64 [n], where each slice starts in ``data``.
        stops: int64 [n], where it stops; slices may overlap.
        words: how many of a digest's words, 1 to 5.

    Returns:
        uint32 [words, n]: the digest's bytes by fours, the first the lowest.

    Raises:
        ValueError: a slice that does not lie in ``data``.

    Source: FIPS 180-4, §5.1.1, §6.1.

    >>> import hashlib
    >>> found = sha1(np.frombuffer(b"abc", np.uint8), np.array([0]), np.array([3]), words=WORDS)
    >>> found.tobytes() == hashlib.sha1(b"abc").digest()
    True
    """
    reach = int(stops.max(initial=0))
    if (starts < 0).any() or (starts > stops).any() or reach > len(data):
        raise ValueError(f"slices reach {reach}; allowed {len(data)} bytes; give rising bounds")
    if len(data) < reach + _READ_AHEAD:
        data = np.concatenate([data, np.zeros(_READ_AHEAD, np.uint8)])
    digests = np.empty((words, len(starts)), np.uint32)
    _sha1(data, starts, stops, digests)
    return digests


# Unsigned 32-bit arithmetic is said in every step: numba widens a sum to 64 bits.


@compiled
def _rotated(x: np.uint32, bits: int) -> np.uint32:  # pragma: no cover - runs compiled
    return np.uint32(np.uint32(x << np.uint32(bits)) | np.uint32(x >> np.uint32(32 - bits)))


@compiled
def _rounds(
    v: np.ndarray, w: np.ndarray, stage: int, constant: int
) -> None:  # pragma: no cover - runs compiled
    """Twenty rounds; row t of ``v`` is what round t - 5 made: b to e are older ones, turned."""
    for i in range(20 * stage * _LANES, (20 * stage + 20) * _LANES):
        a, b = v[i + 4 * _LANES], v[i + 3 * _LANES]
        c, d = _rotated(v[i + 2 * _LANES], 30), _rotated(v[i + _LANES], 30)
        if stage == 0:
            mixed = d ^ (b & (c ^ d))
        elif stage == 2:
            mixed = (b & c) | (d & (b | c))
        else:
            mixed = b ^ c ^ d
        e = _rotated(v[i], 30)
        v[i + 5 * _LANES] = _rotated(a, 5) + mixed + e + w[i] + np.uint32(constant)


@compiled
def _swapped(x: np.uint32) -> np.uint32:  # pragma: no cover - runs compiled
    mask = np.uint32(0x00FF00FF)
    pairs = np.uint32(np.uint32((x & mask) << np.uint32(8)) | (np.uint32(x >> np.uint32(8)) & mask))
    return _rotated(pairs, 16)


@compiled
def _words_at_every_byte(data: np.ndarray) -> np.ndarray:  # pragma: no cover - runs compiled
    n = len(data) - 3
    words = np.empty(n, np.uint32)
    for i in range(n):
        words[i] = (
            np.uint32(np.uint32(data[i]) << np.uint32(24))
            | np.uint32(np.uint32(data[i + 1]) << np.uint32(16))
            | np.uint32(np.uint32(data[i + 2]) << np.uint32(8))
            | np.uint32(data[i + 3])
        )
    return words


@compiled
def _fill(
    w: np.ndarray, source: np.ndarray, at: np.ndarray, left: np.ndarray, length: np.ndarray
) -> None:  # pragma: no cover - runs compiled
    """A block of every lane's padded message: its bytes, a bit, zeros, its length in bits."""
    most = 0
    for lane in range(_LANES):
        most = max(most, left[lane])
    rows = min((most + 3) // 4, 16)
    for row in range(rows):
        for lane in range(_LANES):  # no branch: the lengths differ, a wrong guess is dear
            valid = min(max(left[lane] - 4 * row, 0), 4)
            mask = np.uint32(np.uint64(0xFFFFFFFF00000000) >> np.uint64(8 * valid))
            w[row * _LANES + lane] = source[at[lane] + 4 * row] & mask
    for i in range(rows * _LANES, 16 * _LANES):
        w[i] = 0
    for lane in range(_LANES):
        if 0 <= left[lane] < 64:
            one = np.uint32(0x80000000) >> np.uint32(8 * (left[lane] % 4))
            w[left[lane] // 4 * _LANES + lane] |= one
        if left[lane] < 56:
            w[14 * _LANES + lane] = np.uint32((8 * length[lane]) >> 32)
            w[15 * _LANES + lane] = np.uint32((8 * length[lane]) & 0xFFFFFFFF)


@compiled
def _sha1(
    data: np.ndarray, starts: np.ndarray, stops: np.ndarray, digests: np.ndarray
) -> None:  # pragma: no cover - runs compiled
    source = _words_at_every_byte(data)
    w = np.zeros(80 * _LANES, np.uint32)
    h = np.empty(5 * _LANES, np.uint32)
    v = np.empty(85 * _LANES, np.uint32)
    at, left, length = np.zeros((3, _LANES), np.int64)
    words, n = digests.shape
    for first in range(0, n, _LANES):
        lanes = min(_LANES, n - first)
        for lane in range(_LANES):
            h[lane], h[_LANES + lane], h[2 * _LANES + lane] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
            h[3 * _LANES + lane], h[4 * _LANES + lane] = 0x10325476, 0xC3D2E1F0
        blocks = 0
        for lane in range(lanes):
            at[lane] = starts[first + lane]
            length[lane] = left[lane] = stops[first + lane] - starts[first + lane]
            blocks = max(blocks, (length[lane] + 8) // 64 + 1)
        for _ in range(blocks):
            _fill(w, source, at, left, length)
            for i in range(16 * _LANES, 80 * _LANES):
                x = w[i - 3 * _LANES] ^ w[i - 8 * _LANES] ^ w[i - 14 * _LANES] ^ w[i - 16 * _LANES]
                w[i] = _rotated(x, 1)
            for i in range(2 * _LANES):
                v[3 * _LANES + i] = h[(1 - i // _LANES) * _LANES + i % _LANES]
            for i in range(3 * _LANES):
                v[i] = _rotated(h[(4 - i // _LANES) * _LANES + i % _LANES], 2)
            _rounds(v, w, 0, 0x5A827999)
            _rounds(v, w, 1, 0x6ED9EBA1)
            _rounds(v, w, 2, 0x8F1BBCDC)
            _rounds(v, w, 3, 0xCA62C1D6)
            for lane in range(_LANES):  # a shorter message has been through already
                live = np.uint32(0xFFFFFFFF) if left[lane] > -9 else np.uint32(0)
                h[lane] += v[84 * _LANES + lane] & live
                h[_LANES + lane] += v[83 * _LANES + lane] & live
                h[2 * _LANES + lane] += _rotated(v[82 * _LANES + lane], 30) & live
                h[3 * _LANES + lane] += _rotated(v[81 * _LANES + lane], 30) & live
                h[4 * _LANES + lane] += _rotated(v[80 * _LANES + lane], 30) & live
            for lane in range(_LANES):
                left[lane] -= 64
                at[lane] = at[lane] + 64 if left[lane] > 0 else 0
        for i in range(words):  # a digest is written with the highest byte of a word first
            for lane in range(lanes):
                digests[i, first + lane] = _swapped(h[i * _LANES + lane])
