"""The frames and the sound of a video, in one pass over its packets, in memory that stays flat."""

import contextlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, Final

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from udfs.video_container import (
    BoundedFile,
    VideoRefused,
    codec_name,
    first_pictures,
    is_known,
    opened,
    rotation_deg,
)
from udfs.video_header import DEMUXERS, SNIFFED_BYTES, video_type

VERSION: Final = "video_frames/1"  # raised whenever the same bytes would give other frames
SOUND_HZ: Final = 16_000  # what speech models take: Silero VAD, Whisper
# Chosen: the height to which cosmos-curate brings frames for TransNetV2 is 27; 36 keeps the 16:9
# of 64 x 36 whole. Measured on 36 rendered scenes: 27, 36 and 72 have the same F1.
SMALL_SIDE_PX: Final = 36
_MOST_ASPECT: Final = 4  # chosen: a banner is squeezed, so that a small frame stays small
# Each pixel of a small frame is the mean of 4 x 2 that are picked, not of all that lie under it.
# Measured on 720p: 0.12 ms a frame where the mean of all takes 0.45 ms and of 4 x 4 picked 0.22 ms
# (what costs is the rows that are touched), beside 1.9 ms of decoding.
_PICKED: Final = (4, 2)
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
_HELD_SOUND_S: Final = 30  # chosen: sound that comes before the first picture is out
_NOMINAL_S: Final = Fraction(1, 25)  # chosen: of a frame whose container tells neither time nor fps
_RESTART_S: Final = 1  # chosen: a clock that goes back by more was set anew, as at a cut of a disc
_SAID_SHARE, _SAID_S = 0.9, 1.0  # chosen: how much of the length that a header says must be there
_SEGMENT: Final = b"\x18\x53\x80\x67"  # RFC 9559 §5.1
_CUT_S: Final = 0.1  # chosen: sound ends up to a packet, 64 ms, before or after the pictures
# The containers that say their length; of the others FFmpeg guesses it.
_SAYING: Final = ("mov", "matroska", "avi")


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


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, in the order in which frames are shown.

    Attributes:
        index: from 0.
        time_ms: when it is shown, from 0 at the first; each is later than the one before.
        is_key: whether the video can be cut here without decoding.
        small: uint8 RGB (height, width, 3), upright; all of a video have one shape.
    """

    index: int
    time_ms: int
    is_key: bool
    small: npt.NDArray[np.uint8]
    _picture: av.VideoFrame
    _turned: int
    _scaler: VideoReformatter

    def picture(self, short_side_px: int) -> npt.NDArray[np.uint8]:
        """The frame upright as uint8 RGB (height, width, 3), at most so large.

        Ask while the frame is the latest; one that is kept keeps the whole decoded picture.
        """
        width, height = self._picture.width, self._picture.height
        scale = min(1.0, short_side_px / min(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        # AREA: the mean of all pixels below, as good as antialiased bilinear and faster.
        rgb = _rgb(self._scaler, self._picture, size)
        return _upright(rgb, self._turned)


@dataclass(frozen=True, slots=True)
class Sound:
    """A stretch of sound.

    Attributes:
        start: the first sample's place, in samples, from the time of the first frame.
        samples: float32 (n,), the mean of all channels, in about [-1, 1], ``SOUND_HZ`` a second.
    """

    start: int
    samples: npt.NDArray[np.float32]


class VideoPass:
    """One pass over a video: iterate once. The facts below are whole when it has ended.

    Attributes:
        width_px: upright width.
        height_px: upright height.
        rotation_deg: clockwise, what it was turned by.
        has_sound: whether there is a stream of sound that can be decoded.
        frames: how many came.
        end_ms: when the last frame is no longer shown.
        keys: how many of them are keyframes.
        is_truncated: the end is missing or cannot be read; what came before it is good.
        damaged_packets: packets of pictures that the decoder refused.
        damaged_sounds: packets of sound likewise.
        repaired_times: frames whose time was missing, or not later than the one before.
    """

    def __init__(
        self,
        file: BoundedFile,
        container: av.container.InputContainer,
        limits: Limits,
        *,
        demuxer: str,
        is_cut: bool,
        with_sound: bool,
        is_rough: bool,
        threads: int,
        small_side_px: int,
    ) -> None:
        """Begin a pass; ``decoded`` does."""
        self._file, self._container, self._limits = file, container, limits
        self._video = first_pictures(container)
        _check_codec(self._video)
        context = self._video.codec_context
        context.thread_count = threads
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(limits.max_pixels)}
        if is_rough:
            context.options |= {"skip_loop_filter": "all"}
        _check_pixels(context.width * context.height, limits)
        self._heard = _sound_of(container)
        self._resampler = _resampler() if with_sound and self._heard else None
        self._sounds: deque[tuple[Fraction, npt.NDArray[np.float32]]] = deque()
        self._begin: int | None = None  # the first frame's own time, in ticks of its stream
        self._tick_s = self._video.time_base or Fraction(1, 1000)
        self._times = _Times(_nominal_s(self._video), self._tick_s)
        self._small, self._midway, self._large = (VideoReformatter() for _ in range(3))
        self._side, self._shape = small_side_px, (0, 0)
        self._reached_s = 0.0  # the latest end of a packet, of pictures or sound
        self.rotation_deg = rotation_deg(container, self._video)
        self.width_px, self.height_px = _turned(context.width, context.height, self.rotation_deg)
        self.has_sound = self._heard is not None
        self.frames = self.keys = self.damaged_packets = self.damaged_sounds = 0
        self._demuxer, self.is_truncated = demuxer, is_cut

    @property
    def end_ms(self) -> int:
        """When the last frame is no longer shown."""
        return self._times.end_ms

    @property
    def repaired_times(self) -> int:
        """Frames whose time was missing, or not later than the one before."""
        return self._times.repaired

    def __iter__(self) -> Iterator[Frame | Sound]:
        """The frames, and the sound between them.

        Raises:
            VideoRefused: it has no frame, is longer than the limits, or much shorter than it says.
            OSError: what the stream itself raises, as it is.
        """
        streams = [self._video, *([self._heard] if self._heard else [])]
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            except Exception:  # FFmpeg's errors are of a dozen types
                packet, self.is_truncated = None, True
            self._check_file()
            if packet is None:
                break
            self.is_truncated |= packet.is_corrupt  # as FFmpeg calls one that is cut
            self._note_reached(packet)
            if packet.stream.index == self._video.index:  # its own number lies in the last ones
                yield from self._pictures(packet)
            elif self._resampler is not None:
                self._hear(packet)
            yield from self._due_sounds()
        if self.is_truncated:  # the decoder still holds what came before
            yield from self._pictures(None)
            yield from self._due_sounds()
        if not self.frames:
            refused = f"none of {self.damaged_packets} packets" if self.damaged_packets else "0"
            raise VideoRefused("no_frames", f"{refused} frames; allowed at least one")
        self._check_length()

    def _check_file(self) -> None:
        try:
            self._file.check()
        except VideoRefused:  # it was asked for too much: what came is good
            self.is_truncated = True

    def _pictures(self, packet: "av.Packet[Any] | None") -> Iterator[Frame]:
        try:
            pictures = self._video.codec_context.decode(packet)
        except Exception:  # likewise; the next packets may be sound
            self.damaged_packets += 1
            return
        for picture in pictures:
            yield self._frame(picture)

    def _frame(self, picture: av.VideoFrame) -> Frame:
        _check_pixels(picture.width * picture.height, self._limits)
        at = picture.pts if picture.pts is not None else picture.dts
        if self._begin is None:
            self._begin = at or 0
            self.width_px, self.height_px = _turned(
                picture.width, picture.height, self.rotation_deg
            )
            self._shape = _small_shape(picture.width, picture.height, self._side)
        time_ms = self._times.add(None if at is None else at - self._begin, picture.duration)
        most_ms = self._limits.max_seconds * 1000
        if time_ms > most_ms or self.frames >= self._limits.max_frames:
            raise VideoRefused("video_too_long", _too_long(time_ms, self.frames, self._limits))
        small = self._shrunk(picture)
        self.frames += 1
        self.keys += bool(picture.key_frame)
        return Frame(
            self.frames - 1,
            time_ms,
            bool(picture.key_frame),
            small,
            picture,
            self.rotation_deg,
            self._large,
        )

    def _shrunk(self, picture: av.VideoFrame) -> npt.NDArray[np.uint8]:
        width, height = self._shape
        across, down = width * _PICKED[0], height * _PICKED[1]
        if picture.width >= across and picture.height >= down:
            picture = self._midway.reformat(
                picture, across, down, "yuv420p", interpolation=Interpolation.POINT, threads=1
            )
        return _upright(_rgb(self._small, picture, self._shape), self.rotation_deg)

    def _hear(self, packet: "av.Packet[Any]") -> None:
        try:
            for heard in packet.decode():
                self._resample(heard)
            if not packet.size:  # the last one: what the resampler still holds
                self._resample(None)
        except Exception:  # also where the channels or the rate change midway: begun anew
            self.damaged_sounds += 1
            self._resampler = _resampler()

    def _resample(self, heard: object) -> None:
        assert self._resampler is not None
        assert heard is None or isinstance(heard, av.AudioFrame)
        for part in self._resampler.resample(heard):
            # Not by FFmpeg, which adds channels up so that two that are alike pass 1.
            samples = np.nan_to_num(part.to_ndarray().mean(0))
            at = Fraction(part.pts or 0) * (part.time_base or Fraction(1, SOUND_HZ))
            self._sounds.append((at, samples.astype(np.float32, copy=False)))
            while self._begin is None and at - self._sounds[0][0] > _HELD_SOUND_S:
                self._sounds.popleft()

    def _due_sounds(self) -> Iterator[Sound]:
        while self._begin is not None and self._sounds:
            at, samples = self._sounds.popleft()
            start = round((at - self._begin * self._tick_s) * SOUND_HZ)
            if start + len(samples) > 0:  # what comes before the first frame belongs to no frame
                yield Sound(max(0, start), samples[max(0, -start) :])

    def _note_reached(self, packet: "av.Packet[Any]") -> None:
        if packet.pts is not None and packet.time_base:
            end = packet.pts + max(0, packet.duration or 0)
            reached_s = end * packet.time_base.numerator / packet.time_base.denominator
            self._reached_s = max(self._reached_s, reached_s)

    def _check_length(self) -> None:
        said = (self._container.duration or 0) / 1e6
        if self._demuxer not in _SAYING or not said:
            return
        begins = (self._container.start_time or 0) / 1e6
        reached = max(self._reached_s - begins, self.end_ms / 1000)
        # An MP4 whose file ends between two frames: its index tells of more.
        is_short = said - reached > _CUT_S
        self.is_truncated |= is_short and self._demuxer == "mov" and self._file.met_end
        if reached >= said * _SAID_SHARE - _SAID_S:
            return
        if not self.is_truncated and not self.damaged_packets:
            raise VideoRefused(
                "wrong_duration",
                f"a header that says {said:.3f} s got {reached:.3f} s; allowed at least "
                f"{_SAID_SHARE:.0%} less {_SAID_S:g} s",
            )


@contextmanager
def decoded(
    stream: BinaryIO,
    *,
    size_bytes: int,
    limits: Limits = Limits(),
    with_sound: bool = True,
    is_rough: bool = False,
    threads: int = 1,
    small_side_px: int = SMALL_SIDE_PX,
) -> Iterator[VideoPass]:
    """A video, opened for one pass.

    Args:
        stream: the file, which can be sought; nothing behind ``size_bytes`` is read.
        size_bytes: its size.
        limits: what it may take.
        with_sound: whether sound is decoded.
        is_rough: skip the deblocking of H.264 and its like, where the frames serve the search for
            shots alone. Measured on 720p H.264: a fifth less work for a small frame that is off
            by one level of 255; a large one shows blocks.
        threads: of the decoder. One: the tasks beside this one have the other cores.
        small_side_px: short side of the small frames.

    Raises:
        VideoRefused: empty, no video, damaged, too large, or of a codec that is not decoded.
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
                    file,
                    demuxer,
                    buffer_bytes=_BUFFER_BYTES,
                    max_block_bytes=_INDEX_BLOCK_BYTES,
                )
            )
            file.met_end = False
            video = VideoPass(
                file,
                container,
                limits,
                demuxer=demuxer,
                is_cut=_declared_bytes(first, demuxer) > size_bytes,
                with_sound=with_sound,
                is_rough=is_rough,
                threads=threads,
                small_side_px=small_side_px,
            )
        except VideoRefused:
            file.check()  # what was read may have ended there
            raise
        except Exception as error:  # FFmpeg's errors are of a dozen types
            file.check()
            # What FFmpeg says of the file may quote it; the name of the error does not.
            detail = f"the demuxer refuses the header: {type(error).__name__}"
            raise VideoRefused("damaged_video", detail) from None
        file.check()
        yield video


class _Times:
    """Times that only go forward, from those that a container tells; all in ticks of a stream."""

    def __init__(self, nominal_s: Fraction, tick_s: Fraction) -> None:
        self._tick_s = tick_s
        self._nominal = max(1, round(nominal_s / tick_s))
        self._restart = round(_RESTART_S / tick_s)
        self._shift = 0
        self._last: int | None = None
        self._last_ms = -1
        self._lasts = self._nominal
        self.repaired = 0

    def add(self, at: int | None, lasts: int) -> int:
        """The time of the next frame in ms, from its own and how long it is shown, 0 unknown."""
        if at is not None:
            at += self._shift
        if self._last is None:
            self.repaired += at is None
            at = at or 0
        elif at is None or at <= self._last:
            self.repaired += 1
            expected = self._last + self._lasts
            if at is not None and at < self._last - self._restart:  # so do all that follow
                self._shift += expected - at
                at = expected
            at = expected if at is None else max(at, self._last)
        self._last, self._lasts = at, lasts if lasts > 0 else self._nominal
        self._last_ms = max(self._last_ms + 1, self._ms(at))
        return self._last_ms

    def _ms(self, ticks: int) -> int:
        over, under = self._tick_s.numerator * 1000, self._tick_s.denominator
        return (2 * ticks * over + under) // (2 * under)  # rounded, in whole numbers: each frame's

    @property
    def end_ms(self) -> int:
        """When the last frame ends; 0 without one."""
        if self._last is None:
            return 0
        return max(self._last_ms + 1, self._ms(self._last + self._lasts))


def _check_codec(video: av.VideoStream) -> None:
    name = codec_name(video)
    if not is_known(video) or name not in VIDEO_CODECS:
        raise VideoRefused(
            "codec_refused", f"the codec got {name}; allowed {', '.join(sorted(VIDEO_CODECS))}"
        )


def _check_pixels(pixels: int, limits: Limits) -> None:
    if pixels > limits.max_pixels:
        detail = f"{pixels} pixels exceed the limit of {limits.max_pixels}"
        raise VideoRefused("too_many_pixels", detail)


def _too_long(time_ms: int, frames: int, limits: Limits) -> str:
    return (
        f"the video got past {time_ms / 1000:.3f} s and {frames} frames; allowed "
        f"{limits.max_seconds:g} s and {limits.max_frames} frames"
    )


def _sound_of(container: av.container.InputContainer) -> av.AudioStream | None:
    for stream in container.streams.audio:
        if is_known(stream) and codec_name(stream) in SOUND_CODECS:
            return stream
    return None


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="fltp", rate=SOUND_HZ)


def _nominal_s(video: av.VideoStream) -> Fraction:
    rate = video.average_rate or video.base_rate
    return 1 / rate if rate else _NOMINAL_S


def _small_shape(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of a small frame, as stored.

    >>> _small_shape(1280, 720, 36), _small_shape(20, 4000, 36)
    ((64, 36), (36, 144))
    """
    longer = round(side * min(_MOST_ASPECT, max(width, height) / min(width, height)))
    return (longer, side) if width >= height else (side, longer)


def _turned(width: int, height: int, rotation: int) -> tuple[int, int]:
    return (height, width) if rotation in (90, 270) else (width, height)


def _rgb(
    scaler: VideoReformatter, picture: av.VideoFrame, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    scaled = scaler.reformat(
        picture, size[0], size[1], "rgb24", interpolation=Interpolation.AREA, threads=1
    )
    return np.asarray(scaled.to_ndarray(), np.uint8)


def _upright(pixels: npt.NDArray[np.uint8], rotation: int) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(pixels, -rotation // 90)) if rotation else pixels


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
