"""How far one picture is cut out of another, by the hashes of their segments."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from udfs.phash import hamming

VERSION: Final = "crop_match/1"  # raised whenever the same hashes would be compared otherwise
BITS: Final = 64
# Mean number of bits in which the two segments that match best differ. Measured on 1,505
# photographs (1,000 of ImageNet, 505 of BSDS), 12 random crops of each, re-encoded at quality 75
# to 90, a third of them at half the size; percent of the crops to 95, 90, 75 and 60 % a side that
# match their photograph, and photographs that match another, or a crop of another, of 29 M pairs:
#   4  51, 24, 5, 1    none
#   6  76, 41, 10, 2   none
#   8  87, 57, 15, 3   none
#   9  90, 64, 18, 4   none
#   10 92, 70, 21, 5   12; and at each bit less, summed over both segments, about 0.4 times as many
# One segment alone: at 8 bits 96, 75, 40 and 17, but 31 pairs of 1.1 M photographs. A perceptual
# hash: at 3 bits 5, 0, 0 and 0, at 10 bits 84, 24, 0 and 0.
# Of photographs that have one logo in a corner (each of 8, 25 or 40 % of the shorter side) 0.2 % of
# pairs match at 8 bits, by one segment 4.6 %; with one frame, or bars, none.
# Drawings made of the same parts match: at 8 bits 7,634 of 33 M pairs of openclipart's 8,105, half
# of them cards of one game. Left out are pairs that lie within 10 bits by a perceptual hash.
RADIUS: Final = 8
# Of the 112 pairs of neighbouring bits, across and down, those that differ. Skies and borders have
# few, and are alike by chance. Of photographs' segments 96 % have more. Measured as above: with 16
# the crops that match are 89, 59, 17 and 4 %, and 2 of 29 M pairs match at 8 bits.
_LEAST_CHANGES: Final = 24
# The last bit of a row has no neighbour to the right, the last row none below.
_ACROSS: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_DOWN: Final = np.uint64(0x00FFFFFFFFFFFFFF)


def telling(hashes: Sequence[int] | np.ndarray) -> np.ndarray:
    """The hashes by which pictures are told apart, each once.

    Args:
        hashes: difference hashes of segments, as ``udfs.crop_hash`` has them.

    Returns:
        (k,) int64 in ascending order, k from 0 to as many as are given.

    >>> telling([0x5A3CA5C35A3CA5C3, 0, -1, 0x5A3CA5C35A3CA5C3]).tolist() == [0x5A3CA5C35A3CA5C3]
    True
    """
    distinct = np.unique(np.asarray(hashes, np.int64))
    bits = distinct.view(np.uint64)
    across = np.bitwise_count((bits ^ (bits >> np.uint64(1))) & _ACROSS)
    down = np.bitwise_count((bits ^ (bits >> np.uint64(8))) & _DOWN)
    told: np.ndarray = distinct[across + down >= _LEAST_CHANGES]
    return told


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """How alike the two segments are that two pictures share.

    A crop leaves some segments whole. Two that match are asked for, and not one, for one is a
    logo, or chance. Which two of the one are laid on which two of the other is chosen so that they
    differ least.

    Args:
        one: (m,) int64, the telling hashes of a picture.
        other: (n,) int64, of another; their order does not matter.

    Returns:
        1 - differing bits / 128, in [0, 1]; 0 where a picture has fewer than two hashes.

    >>> similarity(np.array([0, 99, -1]), np.array([-2, 1]))
    0.984375
    """
    if min(len(one), len(other)) < 2:
        return 0.0
    apart = hamming(one[:, None], other[None]).astype(np.int64)
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :2]
    bits = np.take_along_axis(apart, nearest, axis=1)
    a, b = np.triu_indices(len(one), 1)
    # Where both are nearest to the same segment, one of them has its second.
    second = np.minimum(bits[a, 0] + bits[b, 1], bits[a, 1] + bits[b, 0])
    least = np.where(nearest[a, 0] == nearest[b, 0], second, bits[a, 0] + bits[b, 0]).min()
    return 1 - int(least) / (2 * BITS)
