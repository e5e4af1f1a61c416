"""Frames that stand for a clip, kept as pictures while a video goes by."""

from bisect import bisect_left
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from udfs.frame_selection import select
from udfs.keyframe_jpeg import STILL_SIDE_PX, jpeg
from udfs.sharpness import sharpness
from udfs.spans import Span
from udfs.spool import Spool
from udfs.video_frames import Frame

VERSION: Final = "keyframes/1"  # raised whenever the same frames would give other pictures
LONGEST_GAP_MS: Final = 5_000  # chosen: a shot that hardly changes is seen again this often
_SHORTEST_GAP_MS: Final = 400  # chosen: less than the half second between sampled frames
# Cosine up to which a sampled frame shows something new.
_NEW: Final = 0.9
_BLOCKS: Final = (16, 9)  # chosen: what is where, not what it is like in detail
_FAINT: Final = 8.0  # chosen: levels of 255; pictures of less contrast count as plain, and alike


class Keyframe(NamedTuple):
    """A frame that was kept as a JPEG.

    Attributes:
        frame: its index in the video.
        time_ms: when it is shown.
        width_px: of the JPEG, upright.
        height_px: likewise.
        offset_bytes: where the JPEG begins among all that were kept.
        size_bytes: of the JPEG.
    """

    frame: int
    time_ms: int
    width_px: int
    height_px: int
    offset_bytes: int
    size_bytes: int


class KeyframeBank:
    """Keeps the frames that show something new, as JPEGs, of which each clip gets a few later.

    What belongs to which clip is known only when the video has ended. A frame is kept if it is
    unlike the last one that was, or that is long ago: of a video without motion one in five
    seconds, of the wildest every sampled one. Memory holds 2 kB of each, the pictures lie in a
    file.
    """

    def __init__(self, pictures: Spool, *, gap_ms: int = LONGEST_GAP_MS) -> None:
        """An empty bank.

        Args:
            pictures: gets the JPEGs.
            gap_ms: longest time without a picture.
        """
        self._pictures, self._gap_ms = pictures, gap_ms
        self._kept: list[Keyframe] = []
        self._features: list[np.ndarray] = []
        self._sharpness: list[float] = []

    def __len__(self) -> int:
        """How many frames were kept."""
        return len(self._kept)

    def add(self, frame: Frame, sampled: np.ndarray) -> None:
        """See the next sampled frame.

        Args:
            frame: the latest of the video.
            sampled: the same in small, (h, w, 3) uint8.
        """
        feature = features(sampled)
        if self._kept:
            since_ms = frame.time_ms - self._kept[-1].time_ms
            is_new = since_ms >= _SHORTEST_GAP_MS and float(self._features[-1] @ feature) < _NEW
            if not is_new and since_ms < self._gap_ms:
                return
        picture = frame.picture(STILL_SIDE_PX)
        height, width, _ = picture.shape
        offset, content = len(self._pictures), jpeg(picture)
        self._pictures.extend(np.frombuffer(content, np.uint8))
        self._kept.append(Keyframe(frame.index, frame.time_ms, width, height, offset, len(content)))
        self._features.append(feature)
        self._sharpness.append(sharpness(Image.fromarray(sampled)))

    def of(self, span: Span, most: int) -> list[Keyframe]:
        """The frames that say most of a span, in the order of time.

        Args:
            span: of the video.
            most: as many at most.

        Returns:
            None of a span in which no frame was kept: one of less than half a second.
        """
        first, after = (
            bisect_left(self._kept, index, key=lambda one: one.frame)
            for index in (span.first, span.end)
        )
        kept = self._kept[first:after]
        if not kept:
            return []
        chosen = select(
            np.array(self._features[first:after]),
            np.array([one.time_ms for one in kept]),
            most,
            sharpness=np.array(self._sharpness[first:after]),
        ).chosen
        return [kept[one.frame] for one in chosen]


def features(sampled: np.ndarray) -> np.ndarray:
    """What is where in a picture, as a direction: the cosine of two tells how alike they are.

    Means of 16 x 9 blocks, less the picture's own mean: an exposure that drifts changes nothing.

    Args:
        sampled: (h, w, 3) uint8.

    Returns:
        (433,) float32 of length 1. Two plain pictures have a cosine of 1, whatever their colours.

    >>> half = np.zeros((9, 16, 3), np.uint8)
    >>> half[:, 8:] = 200
    >>> round(float(features(half) @ features(half[:, ::-1])), 2)
    -0.99
    """
    blocks = Image.fromarray(sampled).resize(_BLOCKS, Image.Resampling.BOX)
    levels = np.asarray(blocks, np.float32).reshape(-1, 3)
    deviations = (levels - levels.mean(0)).ravel()
    row = np.append(deviations, np.float32(_FAINT * len(deviations) ** 0.5))
    return np.asarray(row / np.linalg.norm(row), np.float32)
