"""The facts of a video from its container's header; no picture and no sound is decoded."""

import ctypes
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import BinaryIO, Final

import av
import av.container.core
import av.logging

from udfs.refused import Refused

VERSION: Final = "video_header/1"  # raised whenever the same bytes would give other facts
SNIFFED_BYTES: Final = 4096  # chosen: a block; the longest signature below needs 389
# The demuxer of each type, by the name that FFmpeg knows it by (`ffmpeg -demuxers`).
_DEMUXERS: Final = {
    "video/mp4": "mov",  # RFC 4337
    "video/quicktime": "mov",  # IANA, Apple QuickTime File Format
    "video/3gpp": "mov",  # RFC 3839
    "video/3gpp2": "mov",  # RFC 4393
    "video/x-matroska": "matroska",  # as it is called everywhere; RFC 9559 §27.3: video/matroska
    "video/webm": "matroska",  # WebM Container Guidelines
    "video/x-msvideo": "avi",  # as it is called everywhere; not registered
    "video/mp2t": "mpegts",  # RFC 3555 §4.2.9
    "video/mpeg": "mpeg",  # a program stream; RFC 2046 §5.4
}
VIDEO_TYPES: Final = frozenset(_DEMUXERS)
_EXTENSIONS: Final = {
    **dict.fromkeys((".mp4", ".m4v"), "video/mp4"),
    **dict.fromkeys((".mov", ".qt"), "video/quicktime"),
    ".3gp": "video/3gpp",
    ".3g2": "video/3gpp2",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    **dict.fromkeys((".ts", ".m2ts", ".mts"), "video/mp2t"),
    **dict.fromkeys((".mpg", ".mpeg", ".vob"), "video/mpeg"),
}
# Brands of ISO-BMFF files that are pictures: HEIF (ISO/IEC 23008-12 annex B), AVIF §6, Canon CR3.
_IMAGE_BRANDS: Final = frozenset(
    [*b"mif1 mif2 msf1 miaf heic heix heim heis hevc hevx hevm hevs avif avis".split(), b"crx "]
)
# What QuickTime files began with before they had an `ftyp` (QuickTime File Format, "Atoms").
_FIRST_ATOMS: Final = frozenset((b"moov", b"mdat", b"wide", b"pnot"))
_EBML: Final = b"\x1a\x45\xdf\xa3"  # RFC 8794 §11.2.1
_DOCTYPE: Final = re.compile(rb"\x42\x82[\x00-\xff]{1,8}?(webm|matroska)")  # §11.2.7: id, size
_TS_PACKETS: Final = ((0, 188), (4, 192))  # ISO/IEC 13818-1 §2.4.3.2; Blu-ray's have a timestamp
_PACK: Final = b"\x00\x00\x01\xba"  # ISO/IEC 13818-1 §2.5.3.3: pack_start_code

# Chosen: the moov of ten hours of video and sound takes about 25 MB.
MAX_READ_BYTES: Final = 32 * 2**20
_BUFFER_BYTES: Final = 4096  # chosen: what is read too much behind each seek
# Chosen: a sample of an index takes FFmpeg 24 bytes, so that six hours at 30 fps fit. A header of
# 4 KB can declare an index of 2**32 samples, which is filled in before anything is checked;
# beyond the limit FFmpeg goes on without the index, and the header is still told.
_MAX_BLOCK_BYTES: Final = 16 * 2**20
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
_MAX_DURATION_S: Final = 7 * 24 * 3600.0  # chosen: more is a broken clock
_MAX_FPS: Final = 1000.0  # chosen: more is a time base, not a rate
_VARIES: Final = 0.01  # chosen: Matroska rounds times to milliseconds
_UNSET_YEARS: Final = (1904, 1970)  # the epochs of MP4 and Unix: a clock that was never set
_NO_PICTURES: Final = (
    av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
)  # cover art

_max_alloc = ctypes.CDLL(av.container.core.__file__).av_max_alloc  # PyAV has no word for it
_max_alloc.argtypes, _max_alloc.restype = [ctypes.c_size_t], None


class VideoRefused(Refused):
    """Bytes that are no video, or whose header cannot be told."""


@dataclass(frozen=True)
class VideoHeader:
    """What the container says; of its tags only the time, never a place, title or name.

    Attributes:
        mime: type by content.
        container: FFmpeg's name of the demuxer.
        duration_s: length in seconds; null if missing or absurd.
        width_px: width as stored, before rotation.
        height_px: height as stored, before rotation.
        fps: average frames per second; null if missing or absurd.
        is_variable_fps: the average is not the rate of the frames' clock; null if one is missing.
        rotation_deg: 0, 90, 180 or 270: clockwise, what shows the picture upright.
        video_codec: of the first video stream, by FFmpeg's name; "unknown" has none.
        audio_codec: of the first audio stream; null without one.
        audio_streams: number of audio streams.
        subtitle_streams: number of subtitle streams.
        created_at: when it was made, in UTC; null if missing or never set.
    """

    mime: str
    container: str
    duration_s: float | None
    width_px: int
    height_px: int
    fps: float | None
    is_variable_fps: bool | None
    rotation_deg: int
    video_codec: str
    audio_codec: str | None
    audio_streams: int
    subtitle_streams: int
    created_at: datetime | None


def video_type(first: bytes) -> str | None:
    """The type of a video by its first bytes, ``SNIFFED_BYTES`` of them; null for all else.

    >>> video_type(bytes(4) + b"ftypisom")
    'video/mp4'
    >>> video_type(bytes(4) + b"ftypavif") is None
    True
    """
    if first[4:8] == b"ftyp":
        return _of_brand(first[8:12])
    if first[4:8] in _FIRST_ATOMS:
        return "video/quicktime"
    if first.startswith(_EBML):
        doctype = _DOCTYPE.search(first[:SNIFFED_BYTES])
        return doctype and {b"webm": "video/webm"}.get(doctype[1], "video/x-matroska")
    if first.startswith(b"RIFF") and first[8:12] == b"AVI ":  # Microsoft, "AVI RIFF File"
        return "video/x-msvideo"
    if any(first[at : at + 2 * size + 1 : size] == b"GGG" for at, size in _TS_PACKETS):
        return "video/mp2t"
    return "video/mpeg" if first.startswith(_PACK) else None


def _of_brand(brand: bytes) -> str | None:
    if brand in _IMAGE_BRANDS:
        return None
    types = {b"qt ": "video/quicktime", b"3gp": "video/3gpp", b"3g2": "video/3gpp2"}
    return types.get(brand[:3], "video/mp4")


def is_video(first: bytes) -> bool:
    """Whether the first bytes are those of a video.

    >>> is_video(b"RIFF0000AVI "), is_video(b"RIFF0000WEBP")
    (True, False)
    """
    return video_type(first) is not None


def extension_matches(mime: str, member_name: str) -> bool:
    """Whether a member's extension names no other type than its content has.

    >>> extension_matches("video/webm", "a.WEBM"), extension_matches("video/webm", "a.mp4")
    (True, False)
    """
    extension = PurePosixPath(member_name).suffix.lower()
    return _EXTENSIONS.get(extension, mime) == mime


def header(stream: BinaryIO, *, size_bytes: int, max_pixels: int) -> VideoHeader:
    """The facts of a video, of which at most ``MAX_READ_BYTES`` are read.

    Args:
        stream: the file, which can be sought; nothing behind ``size_bytes`` is read.
        size_bytes: its size.
        max_pixels: largest accepted width x height.

    Raises:
        VideoRefused: empty, no video, damaged, or too large.
        OSError: what the stream itself raises, as it is.
    """
    if not size_bytes:
        raise VideoRefused("empty_media", "0 bytes")
    file = _Bounded(stream, size_bytes)
    file.seek(0)
    mime = video_type(file.read(SNIFFED_BYTES))
    file.check()
    if mime is None:
        raise VideoRefused("not_a_video", "the first bytes are of no accepted container")
    file.seek(0)
    try:
        with _small_blocks():
            found = _opened(file, mime)
    except VideoRefused:
        file.check()  # what was read may have ended there
        raise
    except Exception as error:  # FFmpeg's errors are of a dozen types
        file.check()
        # What FFmpeg says of the file may quote it; the name of the error does not.
        detail = f"the demuxer refuses the header: {type(error).__name__}"
        raise VideoRefused("damaged_video", detail) from None
    file.check()
    if not 0 < found.width_px * found.height_px <= max_pixels:
        size = f"{found.width_px} x {found.height_px} pixels"
        if found.width_px * found.height_px > max_pixels:
            raise VideoRefused("too_many_pixels", f"{size} exceed the limit of {max_pixels}")
        raise VideoRefused("damaged_video", "the header tells no size of the picture")
    return found


class _Bounded:
    """A file of a known size, of which only so many bytes may be asked for.

    It ends at its first error, which ``check`` raises: PyAV prints what is raised meanwhile.
    """

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._size = size_bytes
        self._at = 0
        self._asked = 0
        self._error: Exception | None = None

    def read(self, size: int) -> bytes:
        self._asked += size  # not what came: at the end of a file that is nothing, for ever
        if self._asked > MAX_READ_BYTES:
            told = f"the header is not told by {MAX_READ_BYTES} bytes"
            self._error = self._error or VideoRefused("damaged_video", told)
        if self._error is not None:
            return b""
        try:
            content = self._stream.read(max(0, min(size, self._size - self._at)))
        except Exception as error:
            self._error = error
            return b""
        self._at += len(content)
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
        return self._at

    def check(self) -> None:
        """Raise what a read or seek has met."""
        if self._error is not None:
            raise self._error


@contextmanager
def _small_blocks() -> Iterator[None]:
    """Bound what FFmpeg allocates at a time; process-wide, so only for the moment."""
    _max_alloc(_MAX_BLOCK_BYTES)
    try:
        yield
    finally:
        _max_alloc(_ANY_BLOCK_BYTES)


def _opened(file: _Bounded, mime: str) -> VideoHeader:
    # The demuxer is forced: one that FFmpeg guesses could be a playlist's (hls, dash, concat),
    # and hostile bytes would have it read other files and hosts. So are the demuxers within it.
    demuxer = _DEMUXERS[mime]
    options = _OPTIONS | {
        "format_whitelist": demuxer,
        "max_streams": _MAX_STREAMS.get(demuxer, "64"),
    }
    with av.open(
        file,
        mode="r",
        format=demuxer,
        options=options,
        metadata_errors="replace",
        buffer_size=_BUFFER_BYTES,
        io_open=_nothing_else,
    ) as container:
        videos = [s for s in container.streams.video if not s.disposition & _NO_PICTURES]
        if not videos:
            raise VideoRefused("not_a_video", "a container without a video stream")
        video, audios = videos[0], container.streams.audio
        fps = _rate(video.average_rate)
        clock = _rate(video.base_rate)
        return VideoHeader(
            mime=mime,
            container=demuxer,
            duration_s=_duration_s(container.duration),
            width_px=video.width if _known(video) else 0,
            height_px=video.height if _known(video) else 0,
            fps=fps,
            is_variable_fps=abs(fps - clock) > _VARIES * clock if fps and clock else None,
            rotation_deg=_rotation_deg(container, video),
            video_codec=_codec(video),
            audio_codec=_codec(audios[0]) if audios else None,
            audio_streams=len(audios),
            subtitle_streams=len(container.streams.subtitles),
            created_at=_created_at(container.metadata.get("creation_time", "")),
        )


def _nothing_else(*_asked: object) -> None:
    raise PermissionError("a header opens no other file")


def _known(stream: av.stream.Stream) -> bool:
    # Of a codec that FFmpeg cannot decode, PyAV has no context; its types do not say so.
    context: object | None = stream.codec_context
    return context is not None


def _codec(stream: av.stream.Stream) -> str:
    return stream.codec_context.codec.canonical_name if _known(stream) else "unknown"


def _duration_s(microseconds: int | None) -> float | None:
    seconds = (microseconds or 0) / 1e6
    return seconds if 0 < seconds <= _MAX_DURATION_S else None


def _rate(rate: object) -> float | None:
    fps = float(rate or 0)  # type: ignore[arg-type]
    return fps if 0 < fps <= _MAX_FPS else None


def _rotation_deg(container: av.container.InputContainer, video: av.stream.Stream) -> int:
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


def _created_at(said: str) -> datetime | None:
    try:
        made = datetime.fromisoformat(said)
        if made.tzinfo is None or made.year in _UNSET_YEARS:
            return None
        return made.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
