"""A video opened for a pass over all of it, and what every pass refuses."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeVar

import av

from udfs.video_container import BoundedFile, VideoRefused, codec_name, is_known, opened
from udfs.video_header import DEMUXERS, SNIFFED_BYTES, video_type

# What is decoded: what cameras, phones, discs and the web have, by FFmpeg's names. FFmpeg has
# hundreds more, of games of the nineties and the like, that are seldom looked after.
VIDEO_CODECS: Final = frozenset(
    (
        *("h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "h263"),
        *("mjpeg", "prores", "dnxhd", "theora", "vc1", "wmv3", "msmpeg4v3", "dvvideo", "ffv1"),
        *("rawvideo", "huffyuv", "png", "qtrle"),
    )
)
SOUND_CODECS: Final = frozenset(
    (
        *("aac", "mp3", "mp2", "opus", "vorbis", "flac", "ac3", "eac3", "alac", "amr_nb", "amr_wb"),
        *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_u8"),
        *("pcm_alaw", "pcm_mulaw", "dts", "wmav2", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt"),
    )
)
# Chosen: as for the header, but 24 hours at 30 fps fit: without its index an MP4 has no frames.
_INDEX_BLOCK_BYTES: Final = 64 * 2**20
_BUFFER_BYTES: Final = 32 * 2**10  # FFmpeg's own: libavformat/aviobuf.c, IO_BUFFER_SIZE
# Chosen: where pictures and sound lie apart each packet is sought, and a buffer read behind it:
# 80 packets a second of 32 KiB are 2.6 MB, 50 times a video of 0.4 Mb/s.
_MOST_READ: Final = 100
_READ_ANYWAY_BYTES: Final = 64 * 2**20
HELD_SOUND_S: Final = 30  # chosen: sound that comes before the first picture is out
_SEGMENT: Final = b"\x18\x53\x80\x67"  # RFC 9559 §5.1
_Pass = TypeVar("_Pass")


@dataclass(frozen=True)
class Limits:
    """What a video may take.

    Attributes:
        max_pixels: largest accepted width x height.
        max_seconds: longest accepted video.
        max_frames: most accepted frames.
    """

    max_pixels: int = 7680 * 4320  # chosen: 8K is the largest that cameras write
    max_seconds: float = 4 * 3600.0  # chosen: longer than films
    max_frames: int = 4 * 3600 * 60  # chosen: as many at 60 fps


@dataclass(frozen=True)
class Opened:
    """A container whose header was read.

    Attributes:
        file: that it lies in.
        container: PyAV's.
        demuxer: FFmpeg's name of what reads it.
        is_cut: the file is shorter than its first bytes say.
    """

    file: BoundedFile
    container: av.container.InputContainer
    demuxer: str
    is_cut: bool


@contextmanager
def opened_pass(
    stream: BinaryIO, *, size_bytes: int, begin: Callable[[Opened], _Pass]
) -> Iterator[_Pass]:
    """A video, opened for one pass.

    Args:
        stream: the file, which can be sought; nothing behind ``size_bytes`` is read.
        size_bytes: its size.
        begin: makes the pass, and may refuse the video. What else it raises is taken for what the
            bytes do to a demuxer.

    Raises:
        VideoRefused: empty, no video, damaged, or as ``begin`` says.
        OSError: what the stream itself raises, as it is.
    """
    if not size_bytes:
        raise VideoRefused("empty_media", "0 bytes")
    most = _MOST_READ * size_bytes + _READ_ANYWAY_BYTES
    told = f"{most} bytes were asked for of {size_bytes}"
    file = BoundedFile(stream, size_bytes, max_read_bytes=most, told=told)
    file.seek(0)
    first = file.read(SNIFFED_BYTES)
    file.check()
    mime = video_type(first)
    if mime is None:
        raise VideoRefused("not_a_video", "the first bytes are of no accepted container")
    file.seek(0)
    demuxer = DEMUXERS[mime]
    with contextlib.ExitStack() as stack:
        try:
            container = stack.enter_context(
                opened(
                    file, demuxer, buffer_bytes=_BUFFER_BYTES, max_block_bytes=_INDEX_BLOCK_BYTES
                )
            )
            file.met_end = False
            is_cut = _declared_bytes(first, demuxer) > size_bytes
            passing = begin(Opened(file, container, demuxer, is_cut))
        except VideoRefused:
            file.check()  # what was read may have ended there
            raise
        except Exception as error:  # FFmpeg's errors are of a dozen types
            file.check()
            # What FFmpeg says of the file may quote it; the name of the error does not.
            detail = f"the demuxer refuses the header: {type(error).__name__}"
            raise VideoRefused("damaged_video", detail) from None
        file.check()
        yield passing


def check_codec(video: av.VideoStream) -> None:
    """Refuse pictures of a codec that is not decoded."""
    name = codec_name(video)
    if not is_known(video) or name not in VIDEO_CODECS:
        raise VideoRefused(
            "codec_refused", f"the codec got {name}; allowed {', '.join(sorted(VIDEO_CODECS))}"
        )


def check_pixels(pixels: int, limits: Limits) -> None:
    """Refuse a picture that is too large."""
    if pixels > limits.max_pixels:
        detail = f"{pixels} pixels exceed the limit of {limits.max_pixels}"
        raise VideoRefused("too_many_pixels", detail)


def check_length(time_ms: int, frames: int, limits: Limits) -> None:
    """Refuse a frame that comes too late, or after too many."""
    if time_ms > limits.max_seconds * 1000 or frames >= limits.max_frames:
        raise VideoRefused(
            "video_too_long",
            f"the video got past {time_ms / 1000:.3f} s and {frames} frames; allowed "
            f"{limits.max_seconds:g} s and {limits.max_frames} frames",
        )


def sound_of(container: av.container.InputContainer) -> av.AudioStream | None:
    """The first stream of sound that is decoded."""
    for stream in container.streams.audio:
        if is_known(stream) and codec_name(stream) in SOUND_CODECS:
            return stream
    return None


def _declared_bytes(first: bytes, demuxer: str) -> int:
    """How long the file's first bytes say that it is; 0 where they say nothing.

    >>> _declared_bytes(b"RIFF" + (100).to_bytes(4, "little") + b"AVI ", "avi")
    108
    """
    if demuxer == "avi":  # Microsoft, "AVI RIFF File": the size of what follows it
        return 8 + int.from_bytes(first[4:8], "little")
    at = first.find(_SEGMENT) + len(_SEGMENT)
    if demuxer != "matroska" or at < len(_SEGMENT) or at >= len(first) or not first[at]:
        return 0
    size_bytes = 9 - first[at].bit_length()  # RFC 8794 §4: as many as the first has zeros, and one
    told = int.from_bytes(first[at : at + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
    is_unknown = told == (1 << 7 * size_bytes) - 1  # §6.2: all ones
    return 0 if is_unknown else at + size_bytes + told
