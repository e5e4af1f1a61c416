"""How far one clip is a copy of another, by the hashes of their frames."""

from typing import Final

import numpy as np

from udfs.clip_hashes import ClipHashes
from udfs.phash import hamming

VERSION: Final = "clip_match/1"  # raised whenever the same hashes would give another similarity
# A copy has at least this. Measured: of 2,000 distinct rendered clips the two most alike have 0.34;
# copies of them 0.8 and more. A hand-held ride cut at other moments than it is sampled at has 0.43
# to 1: what changes wholly in a quarter of a second is not always found.
LEAST_SIMILARITY: Final = 0.6
# Bits up to which two frames show the same, and from which they do not; between, in part. Runs
# that both last are still: only the encoder is between them. Of the others the two clips have
# frames of other moments, up to a quarter of a second apart. Measured on copies of 30 rendered
# clips, median, 99 % and most: re-encoded, resized, boxed 0, 6, 8; cut or faster 2, 14, 20.
# Tighter than the most, as slides of one design are that near. Measured on 150 clips of 1 to 3
# slides of two designs, pairs of 11,175 taken for copies: 349 with (10, 18) for all, 53 with
# (8, 14), 1 with this.
_STILL: Final = (3, 7)
_MOVING: Final = (10, 18)
_LASTS: Final = 3  # chosen: frames, a second and more
_LEAST_LENGTH: Final = 0.5  # chosen: a clip of less than half the other's length is no copy of it


def similarity(one: ClipHashes, other: ClipHashes) -> float:
    """Share of the shorter clip's frames that the longer one shows in the same order.

    Every run of the shorter clip is laid on one of the longer clip's, never before the one that
    the run before it was laid on, so that as much as possible is alike; speed does not matter.
    A run counts by how much its hash says: black and plain frames say nothing.

    Args:
        one: hashes of a clip.
        other: of another; their order does not matter.

    Returns:
        In [0, 1]. 0 where one says nothing, or is less than half as long as the other: what many
        clips begin with is a copy of none.

    >>> hashes = np.random.default_rng(0).integers(-(2**63), 2**63, 9)
    >>> whole = ClipHashes(hashes, np.full(9, 64, np.uint8), np.ones(9, np.int32))
    >>> part = ClipHashes(*(column[3:8] for column in whole))
    >>> similarity(whole, part)
    1.0
    """
    lengths = int(one.frames.sum()), int(other.frames.sum())
    shorter, longer = (one, other) if lengths[0] <= lengths[1] else (other, one)
    if min(lengths) < _LEAST_LENGTH * max(lengths):
        return 0.0
    if lengths[0] == lengths[1]:
        return max(_laid(one, other), _laid(other, one))
    return _laid(shorter, longer)


def _laid(shorter: ClipHashes, longer: ClipHashes) -> float:
    """Share of the one that lies on the other."""
    tells = shorter.tells
    if not tells.any() or not longer.tells.any():
        return 0.0
    apart = hamming(shorter.hashes[tells][:, None], longer.hashes[longer.tells][None])
    last = np.minimum(shorter.frames[tells][:, None], longer.frames[longer.tells][None]) >= _LASTS
    alike = np.where(last, _alike(apart, *_STILL), _alike(apart, *_MOVING))
    weights = shorter.information[tells] / 64
    best = np.zeros(alike.shape[1])  # with the last run laid on this one or an earlier one
    for run, weight in zip(alike, weights, strict=True):
        best = np.maximum.accumulate(best + weight * run)
    return float(best[-1] / weights.sum())


def _alike(apart: np.ndarray, near: int, far: int) -> np.ndarray:
    return np.asarray(np.clip((far - apart.astype(float)) / (far - near), 0, 1))
