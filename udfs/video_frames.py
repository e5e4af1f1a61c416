"""The frames and the sound of a video, in one pass over its packets, in memory that stays flat."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, Final

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from udfs.frame_times import FrameTimes, nominal_s
from udfs.subtitles import Subtitles
from udfs.video_container import VideoRefused, first_pictures, rotation_deg
from udfs.video_pass import (
    HELD_SOUND_S,
    Limits,
    Opened,
    check_codec,
    check_length,
    check_pixels,
    opened_pass,
    sound_of,
)

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
_SAID_SHARE, _SAID_S = 0.9, 1.0  # chosen: how much of the length that a header says must be there
_CUT_S: Final = 0.1  # chosen: sound ends up to a packet, 64 ms, before or after the pictures
# The containers that say their length; of the others FFmpeg guesses it.
_SAYING: Final = ("mov", "matroska", "avi")
_LIMITS: Final = Limits()


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
        return upright(rgb(self._scaler, self._picture, size), self._turned)


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
        found: Opened,
        limits: Limits,
        *,
        with_sound: bool,
        with_texts: bool,
        is_rough: bool,
        threads: int,
        small_side_px: int,
    ) -> None:
        """Begin a pass; ``decoded`` does."""
        self._file, self._container, self._limits = found.file, found.container, limits
        self._video = first_pictures(found.container)
        check_codec(self._video)
        context = self._video.codec_context
        context.thread_count = threads
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(limits.max_pixels)}
        if is_rough:
            context.options |= {"skip_loop_filter": "all"}
        check_pixels(context.width * context.height, limits)
        self._heard = sound_of(found.container)
        self._resampler = _resampler() if with_sound and self._heard else None
        self._texts = Subtitles(found.container) if with_texts else None
        self._sounds: deque[tuple[Fraction, npt.NDArray[np.float32]]] = deque()
        self._begin: int | None = None  # the first frame's own time, in ticks of its stream
        self._tick_s = self._video.time_base or Fraction(1, 1000)
        self._times = FrameTimes(nominal_s(self._video), self._tick_s)
        self._small, self._midway, self._large = (VideoReformatter() for _ in range(3))
        self._side, self._shape = small_side_px, (0, 0)
        self._reached_s = 0.0  # the latest end of a packet, of pictures or sound
        self.rotation_deg = rotation_deg(found.container, self._video)
        self.width_px, self.height_px = _turned(context.width, context.height, self.rotation_deg)
        self.has_sound = self._heard is not None
        self.frames = self.keys = self.damaged_packets = self.damaged_sounds = 0
        self._demuxer, self.is_truncated = found.demuxer, found.is_cut

    @property
    def end_ms(self) -> int:
        """When the last frame is no longer shown."""
        return self._times.end_ms

    @property
    def damaged_subtitles(self) -> int:
        """Packets and texts of subtitles of which not all was kept; 0 where none are read."""
        return self._texts.damaged if self._texts is not None else 0

    def captions(self, clips: Sequence[tuple[int, int]]) -> list[list[dict[str, Any]]]:
        """What the video's own texts say in each clip; to be asked for once, when it has ended.

        Args:
            clips: when each begins and is over, in ms, ascending.

        Returns:
            Of each clip its rows of ``schemas.captions.FOUND``; none where none are read.
        """
        if self._texts is None:
            return [[] for _ in clips]
        return self._texts.captions(clips, (self._begin or 0) * self._tick_s)

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
        texts = self._texts.streams if self._texts is not None else []
        said_by = {stream.index for stream in texts}
        packets = self._container.demux([*streams, *texts])
        while True:
            try:
                packet = next(packets, None)
            except Exception:  # FFmpeg's errors are of a dozen types
                packet, self.is_truncated = None, True
            self._check_file()
            if packet is None:
                break
            if packet.stream.index in said_by:  # damage to those costs them alone
                self._read(packet)
                continue
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

    def _read(self, packet: "av.Packet[Any]") -> None:
        assert self._texts is not None
        self._texts.add(packet)
        if self._demuxer != "mov":  # whose length is that of pictures and sound
            self._note_reached(packet)

    def _pictures(self, packet: "av.Packet[Any] | None") -> Iterator[Frame]:
        try:
            pictures = self._video.codec_context.decode(packet)
        except Exception:  # likewise; the next packets may be sound
            self.damaged_packets += 1
            return
        for picture in pictures:
            yield self._frame(picture)

    def _frame(self, picture: av.VideoFrame) -> Frame:
        check_pixels(picture.width * picture.height, self._limits)
        at = picture.pts if picture.pts is not None else picture.dts
        if self._begin is None:
            self._begin = at or 0
            self.width_px, self.height_px = _turned(
                picture.width, picture.height, self.rotation_deg
            )
            self._shape = _small_shape(picture.width, picture.height, self._side)
        time_ms = self._times.add(None if at is None else at - self._begin, picture.duration)
        check_length(time_ms, self.frames, self._limits)
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
        return upright(rgb(self._small, picture, self._shape), self.rotation_deg)

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
            while self._begin is None and at - self._sounds[0][0] > HELD_SOUND_S:
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
    limits: Limits = _LIMITS,
    with_sound: bool = True,
    with_texts: bool = False,
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
        with_texts: whether subtitles are.
        is_rough: skip the deblocking of H.264 and its like, where the frames serve the search for
            shots alone. Measured on 720p H.264: a fifth less work for a small frame that is off
            by one level of 255; a large one shows blocks.
        threads: of the decoder. One: the tasks beside this one have the other cores.
        small_side_px: short side of the small frames.

    Raises:
        VideoRefused: empty, no video, damaged, too large, or of a codec that is not decoded.
        OSError: what the stream itself raises, as it is.
    """

    def begin(found: Opened) -> VideoPass:
        return VideoPass(
            found,
            limits,
            with_sound=with_sound,
            with_texts=with_texts,
            is_rough=is_rough,
            threads=threads,
            small_side_px=small_side_px,
        )

    with opened_pass(stream, size_bytes=size_bytes, begin=begin) as passing:
        yield passing


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="fltp", rate=SOUND_HZ)


def _small_shape(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of a small frame, as stored.

    >>> _small_shape(1280, 720, 36), _small_shape(20, 4000, 36)
    ((64, 36), (36, 144))
    """
    longer = round(side * min(_MOST_ASPECT, max(width, height) / min(width, height)))
    return (longer, side) if width >= height else (side, longer)


def _turned(width: int, height: int, rotation: int) -> tuple[int, int]:
    return (height, width) if rotation in (90, 270) else (width, height)


def rgb(
    scaler: VideoReformatter, picture: av.VideoFrame, size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """A picture at a size (width, height), as uint8 RGB (height, width, 3)."""
    scaled = scaler.reformat(
        picture, size[0], size[1], "rgb24", interpolation=Interpolation.AREA, threads=1
    )
    return np.asarray(scaled.to_ndarray(), np.uint8)


def upright(pixels: npt.NDArray[np.uint8], rotation: int) -> npt.NDArray[np.uint8]:
    """Pixels turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.ascontiguousarray(np.rot90(pixels, -rotation // 90)) if rotation else pixels
