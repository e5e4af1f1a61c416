"""A video of the dump: hashed and told by its header where it lies, never held or stored."""

import hashlib
import os
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from jobs.sources.entry import EntryRefused, Limits, Video
from udfs.video_header import VideoRefused, header

# Names under which videos come; what they are, their bytes say.
VIDEO_KINDS: Final = frozenset(
    {
        "3g2",
        "3gp",
        "avi",
        "m2ts",
        "m4v",
        "mkv",
        "mov",
        "mp4",
        "mpeg",
        "mpg",
        "mts",
        "ts",
        "webm",
    }
)
_PIECE_BYTES: Final = 1 << 20  # chosen: what is hashed at a time


def registered(
    stream: BinaryIO, size_bytes: int, limits: Limits, *, offset_bytes: int = 0
) -> Video:
    """What is known of a video without decoding it.

    Args:
        stream: that it lies in; it is left where the video ends.
        size_bytes: of the video.
        limits: what it may cost.
        offset_bytes: where in the stream it begins.

    Raises:
        EntryRefused: empty, no video, damaged or too large; or the stream ends within it.
        OSError: the stream cannot be read.
    """
    digests = [hashlib.new(name, usedforsecurity=False) for name in ("sha256", "md5", "sha1")]
    stream.seek(offset_bytes)
    rest = size_bytes
    while rest:
        piece = stream.read(min(rest, _PIECE_BYTES))
        if not piece:
            raise EntryRefused("truncated_shard", f"{rest} of its {size_bytes} bytes are missing")
        for digest in digests:
            digest.update(piece)
        rest -= len(piece)
    try:
        window = cast(BinaryIO, _Window(stream, offset_bytes))
        told = header(window, size_bytes=size_bytes, max_pixels=limits.max_pixels)
    except VideoRefused as refusal:
        raise EntryRefused(refusal.error_class, refusal.detail) from None
    finally:
        stream.seek(offset_bytes + size_bytes)
    sha256, md5, sha1 = (digest.hexdigest() for digest in digests)
    return Video(header=told, media_sha256=sha256, md5=md5, sha1=sha1)


@dataclass
class _Window:
    """A stream from some byte on, as far as a header's reader needs it."""

    stream: BinaryIO
    start_bytes: int

    def read(self, size_bytes: int) -> bytes:
        """Up to so many bytes."""
        return self.stream.read(size_bytes)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position, from the start of the window."""
        assert whence == os.SEEK_SET
        return self.stream.seek(self.start_bytes + offset) - self.start_bytes
