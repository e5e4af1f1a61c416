"""The facts of a video from its container's header; no picture and no sound is decoded."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from udfs.video_container import (
    HEADER_BLOCK_BYTES,
    BoundedFile,
    codec_name,
    first_pictures,
    is_known,
    opened,
    rotation_deg,
)
from udfs.video_container import VideoRefused as VideoRefused

VERSION: Final = "video_header/1"  # raised whenever the same bytes would give other facts
SNIFFED_BYTES: Final = 4096  # chosen: a block; the longest signature below needs 389
# The demuxer of each type, by the name that FFmpeg knows it by (`ffmpeg -demuxers`).
DEMUXERS: Final = {
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
VIDEO_TYPES: Final = frozenset(DEMUXERS)
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
_MAX_DURATION_S: Final = 7 * 24 * 3600.0  # chosen: more is a broken clock
_MAX_FPS: Final = 1000.0  # chosen: more is a time base, not a rate
_VARIES: Final = 0.01  # chosen: Matroska rounds times to milliseconds
_UNSET_YEARS: Final = (1904, 1970)  # the epochs of MP4 and Unix: a clock that was never set


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
    told = f"the header is not told by {MAX_READ_BYTES} bytes"
    file = BoundedFile(stream, size_bytes, max_read_bytes=MAX_READ_BYTES, told=told)
    file.seek(0)
    mime = video_type(file.read(SNIFFED_BYTES))
    file.check()
    if mime is None:
        raise VideoRefused("not_a_video", "the first bytes are of no accepted container")
    file.seek(0)
    try:
        found = _told(file, mime)
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


def _told(file: BoundedFile, mime: str) -> VideoHeader:
    demuxer = DEMUXERS[mime]
    with opened(
        file, demuxer, buffer_bytes=_BUFFER_BYTES, max_block_bytes=HEADER_BLOCK_BYTES
    ) as container:
        video, audios = first_pictures(container), container.streams.audio
        fps = _rate(video.average_rate)
        clock = _rate(video.base_rate)
        return VideoHeader(
            mime=mime,
            container=demuxer,
            duration_s=_duration_s(container.duration),
            width_px=video.width if is_known(video) else 0,
            height_px=video.height if is_known(video) else 0,
            fps=fps,
            is_variable_fps=abs(fps - clock) > _VARIES * clock if fps and clock else None,
            rotation_deg=rotation_deg(container, video),
            video_codec=codec_name(video),
            audio_codec=codec_name(audios[0]) if audios else None,
            audio_streams=len(audios),
            subtitle_streams=len(container.streams.subtitles),
            created_at=_created_at(container.metadata.get("creation_time", "")),
        )


def _duration_s(microseconds: int | None) -> float | None:
    seconds = (microseconds or 0) / 1e6
    return seconds if 0 < seconds <= _MAX_DURATION_S else None


def _rate(rate: object) -> float | None:
    fps = float(rate or 0)  # type: ignore[arg-type]
    return fps if 0 < fps <= _MAX_FPS else None


def _created_at(said: str) -> datetime | None:
    try:
        made = datetime.fromisoformat(said)
        if made.tzinfo is None or made.year in _UNSET_YEARS:
            return None
        return made.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
