"""A video's container, opened so that hostile bytes reach nothing but their own row."""

import ctypes
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import av
import av.container.core
import av.logging

from udfs.refused import Refused

# Chosen: a sample of an index takes FFmpeg 24 bytes, so that six hours at 30 fps fit. A header of
# 4 KB can declare an index of 2**32 samples, which is filled in before anything is checked;
# beyond the limit FFmpeg goes on without the index, and the header is still told.
HEADER_BLOCK_BYTES: Final = 16 * 2**20
_ANY_BLOCK_BYTES: Final = 2**31 - 1  # FFmpeg's own: libavutil/mem.c, max_alloc_size
_OPTIONS: Final = {
    "probesize": "5000000",  # bytes; FFmpeg's own: ffmpeg-formats, "Format Options"
    "analyzeduration": "5000000",  # microseconds; likewise
    # Nothing a header names is opened: not a reference to another file, nor by any protocol.
    "protocol_whitelist": "none",
    "enable_drefs": "0",
    # No decoder is opened but those that alone know the size, as FFmpeg's mov demuxer passes it
    # on to them (libavformat/mov.c, mov_finalize_stsd_codec).
    "codec_whitelist": "mpeg4,h263,h261",
}
# Each stream of an MP4 has an index. Chosen: cameras write up to eight streams, discs and films
# with many languages, subtitles and fonts more; FFmpeg's own limit is 1000.
_MAX_STREAMS: Final = {"mov": "16", "matroska": "256"}
_ROTATION: Final = re.compile(r"^ +display ?matrix: rotation of (-?[0-9.]+) degrees", re.I | re.M)
_STREAM: Final = re.compile(r"^ +Stream #0:([0-9]+)", re.M)
_NO_PICTURES: Final = (
    av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
)  # cover art

_max_alloc = ctypes.CDLL(av.container.core.__file__).av_max_alloc  # PyAV has no word for it
_max_alloc.argtypes, _max_alloc.restype = [ctypes.c_size_t], None


class VideoRefused(Refused):
    """Bytes that are no video, or one that cannot be told or decoded."""


class BoundedFile:
    """A file of a known size, of which only so many bytes may be asked for.

    It ends at its first error, which ``check`` raises: PyAV prints what is raised meanwhile.
    """

    def __init__(
        self, stream: BinaryIO, size_bytes: int, *, max_read_bytes: int, told: str
    ) -> None:
        """Bound a file.

        Args:
            stream: the file, which can be sought; nothing behind ``size_bytes`` is read.
            size_bytes: its size.
            max_read_bytes: how many bytes may be asked for in all.
            told: what the refusal says once more are asked for.
        """
        self._stream = stream
        self._size = size_bytes
        self._most = max_read_bytes
        self._told = told
        self._at = 0
        self._asked = 0
        self._error: Exception | None = None
        self.met_end = False  # whether something was asked for where nothing is left

    def read(self, size: int) -> bytes:
        """The next bytes; none at the end, and none after an error."""
        self._asked += size  # not what came: at the end of a file that is nothing, for ever
        if self._asked > self._most:
            self._error = self._error or VideoRefused("damaged_video", self._told)
        if self._error is not None:
            return b""
        try:
            content = self._stream.read(max(0, min(size, self._size - self._at)))
        except Exception as error:
            self._error = error
            return b""
        self._at += len(content)
        self.met_end |= size > 0 and not content
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position, or -1 where there is no such."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        position = starts.get(whence, 0) + offset
        if self._error is not None or whence not in starts or position < 0:
            return -1
        try:
            self._at = self._stream.seek(position)
        except Exception as error:
            self._error = error
            return -1
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def check(self) -> None:
        """Raise what a read or seek has met."""
        if self._error is not None:
            raise self._error


@contextmanager
def opened(
    file: BoundedFile, demuxer: str, *, buffer_bytes: int, max_block_bytes: int
) -> Iterator[av.container.InputContainer]:
    """The container, its header read; no other file, host or decoder is opened.

    Args:
        file: its bytes.
        demuxer: FFmpeg's name of it. It is forced: one that FFmpeg guesses could be a playlist's
            (hls, dash, concat), and hostile bytes would have it read other files and hosts. So
            are the demuxers within it.
        buffer_bytes: what FFmpeg asks for at a time.
        max_block_bytes: most that FFmpeg allocates at a time while it reads the header.
    """
    options = _OPTIONS | {
        "format_whitelist": demuxer,
        "max_streams": _MAX_STREAMS.get(demuxer, "64"),
    }
    with _small_blocks(max_block_bytes):
        container = av.open(
            file,
            mode="r",
            format=demuxer,
            options=options,
            metadata_errors="replace",
            buffer_size=buffer_bytes,
            io_open=_nothing_else,
        )
    with container:
        yield container


@contextmanager
def _small_blocks(max_block_bytes: int) -> Iterator[None]:
    """Bound what FFmpeg allocates at a time; process-wide, so only for the moment."""
    _max_alloc(max_block_bytes)
    try:
        yield
    finally:
        _max_alloc(_ANY_BLOCK_BYTES)


def _nothing_else(*_asked: object) -> None:
    raise PermissionError("a header opens no other file")


def first_pictures(container: av.container.InputContainer) -> av.VideoStream:
    """The first video stream that is no cover art.

    Raises:
        VideoRefused: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & _NO_PICTURES:
            return stream
    raise VideoRefused("not_a_video", "a container without a video stream")


def is_known(stream: av.stream.Stream) -> bool:
    """Whether FFmpeg has a decoder for the stream."""
    # Of a codec that FFmpeg cannot decode, PyAV has no context; its types do not say so.
    context: object | None = stream.codec_context
    return context is not None


def codec_name(stream: av.stream.Stream) -> str:
    """FFmpeg's name of the codec; "unknown" has no decoder."""
    return stream.codec_context.codec.canonical_name if is_known(stream) else "unknown"


def rotation_deg(container: av.container.InputContainer, video: av.stream.Stream) -> int:
    """0, 90, 180 or 270: how far to turn the pictures clockwise so that they stand upright."""
    # PyAV shows a stream's display matrix only in FFmpeg's dump, which is written as a log.
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        parts = _STREAM.split(container.dumps_format())  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
    of_stream = dict(zip(parts[1::2], parts[2::2], strict=True)).get(str(video.index), "")
    matrix = _ROTATION.search(of_stream)
    if matrix:
        return _quarter(-float(matrix[1]))  # the matrix turns counter-clockwise
    tags = {name.lower(): value for name, value in video.metadata.items()}
    try:
        return _quarter(float(tags.get("rotate", "0")))  # older Matroska files
    except (ValueError, OverflowError):
        return 0


def _quarter(degrees: float) -> int:
    """The nearest quarter turn.

    >>> [_quarter(degrees) for degrees in (-90.0, 89.6, 0.0, 450.0)]
    [270, 90, 0, 90]
    """
    return round(degrees / 90) * 90 % 360
