"""Frames of a video as JPEGs."""

import io
from collections.abc import Collection, Iterator
from typing import BinaryIO, Final, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter
from PIL import Image

from udfs.video_frames import Frame, decoded, rgb, upright
from udfs.video_pass import Limits

VERSION: Final = "keyframe_jpeg/1"  # raised whenever the same frame would give other bytes
STILL_SIDE_PX: Final = 512  # chosen: more than models take, a tenth of the bytes of 1080p
_LIMITS: Final = Limits()
_QUALITY: Final = 95  # the highest that Pillow's documentation advises


class Still(NamedTuple):
    """A frame as a JPEG.

    Attributes:
        frame: its index in the video.
        time_ms: its time in the video.
        content: the JPEG.
    """

    frame: int
    time_ms: int
    content: bytes


def stills(
    stream: BinaryIO,
    *,
    size_bytes: int,
    frames: Collection[int],
    side_px: int = STILL_SIDE_PX,
    limits: Limits = _LIMITS,
) -> Iterator[Still]:
    """Chosen frames as JPEGs, in order, by decoding a video up to the last of them.

    Args:
        stream: the video, which can be sought; nothing behind ``size_bytes`` is read.
        size_bytes: its size.
        frames: their indices in the video; one that it has not is left out.
        side_px: most that their shorter side has.
        limits: what the video may take.

    Raises:
        VideoRefused: as ``udfs.video_frames.decoded``.
        OSError: what the stream itself raises, as it is.
    """
    left = set(frames)
    if not left:
        return
    with decoded(stream, size_bytes=size_bytes, limits=limits, with_sound=False) as video:
        for part in video:
            if isinstance(part, Frame) and part.index in left:
                left.remove(part.index)
                yield Still(part.index, part.time_ms, jpeg(part.picture(side_px)))
                if not left:
                    return


def still(frame: av.VideoFrame, index: int, time_ms: int, rotation_deg: int, side_px: int) -> Still:
    """A decoded frame as a JPEG, upright, its shorter side at most ``side_px``."""
    scale = min(1.0, side_px / min(frame.width, frame.height))
    size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    return Still(index, time_ms, jpeg(upright(rgb(VideoReformatter(), frame, size), rotation_deg)))


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A picture as a JPEG: the same bytes for the same pixels on the same libjpeg.

    Args:
        pixels: uint8 RGB (height, width, 3).

    >>> jpeg(np.zeros((8, 8, 3), np.uint8))[:2].hex()
    'ffd8'
    """
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, subsampling="4:2:0")
        return file.getvalue()
