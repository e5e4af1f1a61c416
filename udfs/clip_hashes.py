"""A clip as a sequence of hashes of its frames, which a copy of it shares."""

from typing import Final, NamedTuple

import numpy as np
from PIL import Image
from scipy import fftpack

from udfs.clip_bars import bars
from udfs.clip_frames import check_frames, grey_frames
from udfs.phash import hamming, of_small
from udfs.small_grey import small_grey

VERSION: Final = "clip_hashes/1"  # raised whenever the same frames would give other hashes
RADIUS: Final = 10  # bits that the keys of copies may differ: what ``udfs.near_hashes`` reaches
# A bit is sure if its frequency lies this far from the median. Chosen: an error of sigma a pixel at
# 32 x 32 is one of 64 sigma in a frequency (a DCT-II of both axes without a norm); 1.5 levels.
_SURE: Final = 64 * 1.5
# Of a black frame no bit is sure, of a photograph 50 to 64.
_LEAST_INFORMATION: Final = 32  # chosen: half of the bits
_RUN: Final = 4  # chosen: frames whose hashes differ by more bits than this are of two runs
_UNEVEN: Final = 0.03  # chosen: bars that differ more, as a share of the side, are content


class ClipHashes(NamedTuple):
    """The runs of like frames in a clip, in the order of time.

    Attributes:
        hashes: (k,) int64, the perceptual hash of a run's first frame without its bars.
        information: (k,) uint8 in [0, 64]: how many of its bits an encoder would not change.
        frames: (k,) int32, how many frames the run has; their sum is the clip's number of frames.
    """

    hashes: np.ndarray
    information: np.ndarray
    frames: np.ndarray

    @property
    def tells(self) -> np.ndarray:
        """(k,) bool: the runs whose hash says something; black and plain frames' does not."""
        return np.asarray(self.information >= _LEAST_INFORMATION)


def clip_hashes(frames: np.ndarray) -> ClipHashes:
    """The hashes of a clip's frames, runs of like ones made one.

    Bars are removed first where a clip has them on opposite sides alike: a copy in another aspect
    ratio has the hashes of its original.

    Args:
        frames: (n, h, w, 3) uint8, n >= 1, at 2 frames a second; a shorter side of 64 px or more
            tells where bars end.

    Returns:
        At least one run and at most n.

    Raises:
        ValueError: the frames have another shape or type.

    >>> clip_hashes(np.zeros((3, 64, 64, 3), np.uint8)).frames.tolist()
    [3]
    """
    check_frames(frames)
    rows, columns = _picture(frames)
    small = [small_grey(Image.fromarray(grey)) for grey in grey_frames(frames[:, rows, columns])]
    hashes = np.array([of_small(grey) for grey in small], np.int64)
    starts = _starts(hashes)
    return ClipHashes(
        hashes[starts],
        np.array([_information(small[start]) for start in starts], np.uint8),
        np.diff([*starts, len(hashes)]).astype(np.int32),
    )


def keys(clip: ClipHashes) -> np.ndarray:
    """What a clip is found by: its hashes that say something, each once.

    Clips that share a key to ``RADIUS`` bits (``udfs.near_hashes``) may be copies; see
    ``udfs.clip_match``.

    Returns:
        (m,) int64, rising, m <= k; none of a clip that is black or plain throughout.

    >>> keys(ClipHashes(np.array([9, 5, 9]), np.array([64, 64, 64]), np.ones(3))).tolist()
    [5, 9]
    """
    return np.unique(clip.hashes[clip.tells])


def _picture(frames: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that are left without the bars."""
    _, height, width, _ = frames.shape
    box = bars(frames).content
    rows, columns = slice(0, height), slice(0, width)
    if _is_even(box.top_px, height - box.bottom_px, height):
        rows = slice(box.top_px, box.bottom_px)
    if _is_even(box.left_px, width - box.right_px, width):
        columns = slice(box.left_px, box.right_px)
    return rows, columns


def _is_even(one: int, other: int, side: int) -> bool:
    return abs(one - other) <= max(1, round(_UNEVEN * side))


def _starts(hashes: np.ndarray) -> list[int]:
    """Where a run begins: at a frame that is unlike the first of the run before."""
    starts = [0]
    for index in range(1, len(hashes)):
        if hamming(hashes[starts[-1] : starts[-1] + 1], hashes[index])[0] > _RUN:
            starts.append(index)
    return starts


def _information(grey: np.ndarray) -> int:
    """How many bits of a small grey picture's hash are sure."""
    frequencies = fftpack.dctn(grey.astype(np.float64), type=2)[:8, :8]
    return int(np.sum(np.abs(frequencies - np.median(frequencies)) > _SURE))
