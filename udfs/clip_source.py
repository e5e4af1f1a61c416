"""What clips are cut from: a video's packets, pictures and sound as it stores them, in one pass.

Frames have the indices and times that ``udfs.video_frames`` gives them, by the same rules.
"""

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

from udfs.frame_times import RESTART_S, FrameTimes, nominal_s
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

# Those that AAC has (ISO/IEC 14496-3, table 1.18), up to what films and the web have.
_RATES_HZ: Final = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_MOST_ASKED: Final = 1024  # chosen: packets before the first picture; H.264 reorders 16
_MOST_ASKED_BYTES: Final = 64 * 2**20  # chosen: as many of 8K
_LIMITS: Final = Limits()
Samples = npt.NDArray[np.float32]
Packet = Any  # PyAV's is generic over the streams; a pass mixes them


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as it is stored.

    Attributes:
        index: from 0, in the order in which frames are shown.
        ticks: its time in ticks of its stream, from 0 at the first; each is later than the last.
        time_ms: the same in ms, rounded.
        frame: PyAV's, not turned.
    """

    index: int
    ticks: int
    time_ms: int
    frame: av.VideoFrame


@dataclass(frozen=True, slots=True)
class Heard:
    """A stretch of sound.

    Attributes:
        at_s: when it begins, in seconds from the first frame; it may be before that.
        samples: float32 (channels, n).
    """

    at_s: Fraction
    samples: Samples


class _Clock(FrameTimes):
    """The times of frames, to the tick."""

    def __init__(self, nominal_s: Fraction, tick_s: Fraction) -> None:
        super().__init__(nominal_s, tick_s)
        self._before = -1

    @property
    def ticks(self) -> int:
        """Of the latest frame."""
        self._before = max(self._before, self._last or 0)
        return self._before

    def next_ticks(self, at: int | None, lasts: int) -> tuple[int, int]:
        """The time of the next frame in ticks and in ms."""
        before = self._before
        time_ms = self.add(at, lasts)
        self._before = before + 1  # two frames of one time: an encoder takes no such
        return self.ticks, time_ms

    @property
    def end_ticks(self) -> int:
        """When the latest frame ends."""
        return self.ticks + self._lasts


class Source:
    """A video that is open: go over its packets, or over its pictures and sound, once.

    Attributes:
        video: the stream of pictures.
        sound: that of sound, null without one that can be decoded.
        tick_s: the unit of the pictures' times.
        rotation_deg: clockwise, what shows the pictures upright.
        rate_hz: of the sound that is given.
        layout: of its channels: "mono" or "stereo".
    """

    def __init__(self, found: Opened, limits: Limits) -> None:
        """Begin a pass; ``opened_source`` does."""
        self._file, self._container, self._limits = found.file, found.container, limits
        self.video = first_pictures(found.container)
        check_codec(self.video)
        context = self.video.codec_context
        context.thread_count = 1
        context.options = {"max_pixels": str(limits.max_pixels)}
        check_pixels(context.width * context.height, limits)
        self.sound = sound_of(found.container)
        self.tick_s = self.video.time_base or Fraction(1, 1000)
        self.rotation_deg = rotation_deg(found.container, self.video)
        hertz = (self.sound and self.sound.codec_context.sample_rate) or 0
        channels = self.sound.codec_context.channels if self.sound else 0
        self.rate_hz = hertz if hertz in _RATES_HZ else _RATES_HZ[-1]
        self.layout = "mono" if channels == 1 else "stereo"
        self._clock = _Clock(nominal_s(self.video), self.tick_s)
        self._begin: int | None = None  # the first frame's own time
        self._frames = 0
        self._resampler: av.AudioResampler | None = None
        self._held: deque[Heard] = deque()
        self._heard_end_s: Fraction | None = None
        self._heard_shift_s = Fraction(0)

    @property
    def end_ticks(self) -> int:
        """When the latest picture ends."""
        return self._clock.end_ticks

    def packets(self) -> Iterator[Packet]:
        """The packets of both streams as they lie; none after the first that cannot be read.

        Raises:
            OSError: what the stream itself raises, as it is.
        """
        streams = [self.video, *([self.sound] if self.sound else [])]
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
            except Exception:  # FFmpeg's errors are of a dozen types
                packet = None
            with contextlib.suppress(VideoRefused):  # it was asked for too much: what came is good
                self._file.check()
            if packet is None:
                return
            yield packet

    def is_of_video(self, packet: Packet) -> bool:
        """Whether a packet is of pictures."""
        return bool(packet.stream.index == self.video.index)

    def parts(self) -> Iterator[Picture | Heard]:
        """The pictures in the order in which they are shown, and the sound beside them.

        Sound comes once the pictures have reached its end, or later.

        Raises:
            VideoRefused: it is longer than the limits.
            OSError: what the stream itself raises, as it is.
        """
        for packet in self.packets():
            if self.is_of_video(packet):
                yield from self._pictures(packet)
            else:
                self._hear(packet)
            yield from self._due()
        yield from self._pictures(None)  # what the decoder still holds
        yield from self._due(is_end=True)

    def asked_begin(self) -> tuple[int, Iterator[Packet]]:
        """The own time of the first frame that is shown, and all packets from the first.

        Only so many are decoded as tell it, and what the header leaves out of the streams: then
        their ``codec_context`` has it. Sound that does not come by then is none.

        Raises:
            VideoRefused: no frame comes.
        """
        packets, seen = self.packets(), list[Packet]()
        begin, seen_bytes = None, 0
        for packet in packets:
            seen.append(packet)
            seen_bytes += packet.size
            if not self.is_of_video(packet):
                self._ask_rate(packet)
            elif begin is None:
                pictures = self._decoded(packet)
                at = [frame.pts if frame.pts is not None else frame.dts for frame in pictures]
                begin = at[0] or 0 if at else None
            is_told = begin is not None and not self._lacks_rate()
            if is_told or len(seen) > _MOST_ASKED or seen_bytes > _MOST_ASKED_BYTES:
                break
        if begin is None:
            told = f"0 frames in {len(seen)} packets; allowed at least one"
            raise VideoRefused("no_frames", told)
        if self._lacks_rate():
            self.sound = None
        return begin, _chained(seen, packets)

    def _lacks_rate(self) -> bool:
        return self.sound is not None and not self.sound.codec_context.sample_rate

    def _ask_rate(self, packet: Packet) -> None:
        if self._lacks_rate():
            with contextlib.suppress(Exception):  # FFmpeg's errors are of a dozen types
                packet.decode()

    def _decoded(self, packet: Packet | None) -> list[av.VideoFrame]:
        try:
            return self.video.codec_context.decode(packet)
        except Exception:  # a damaged packet costs its own frames
            return []

    def _pictures(self, packet: Packet | None) -> Iterator[Picture]:
        for frame in self._decoded(packet):
            check_pixels(frame.width * frame.height, self._limits)
            at = frame.pts if frame.pts is not None else frame.dts
            if self._begin is None:
                self._begin = at or 0
            ticks, time_ms = self._clock.next_ticks(
                None if at is None else at - self._begin, frame.duration
            )
            check_length(time_ms, self._frames, self._limits)
            self._frames += 1
            yield Picture(self._frames - 1, ticks, time_ms, frame)

    def _hear(self, packet: Packet) -> None:
        try:
            for heard in packet.decode():
                self._resample(heard)
            if not packet.size and self._resampler is not None:  # what the resampler still holds
                self._resample(None)
        except Exception:  # also where the channels or the rate change midway: begun anew
            self._resampler = None

    def _resample(self, heard: av.AudioFrame | None) -> None:
        if self._resampler is None:
            assert heard is not None
            # Integers: FFmpeg then adds channels up so that their sum does not pass 1.
            is_plain = heard.layout.nb_channels <= 2
            layout = "mono" if heard.layout.nb_channels == 1 else "stereo"
            format_ = "fltp" if is_plain else "s16p"
            self._resampler = av.AudioResampler(format_, layout, self.rate_hz)
        for part in self._resampler.resample(heard):
            at_s = Fraction(part.pts or 0) * (part.time_base or Fraction(1, self.rate_hz))
            at_s += self._heard_shift_s
            end_s = self._heard_end_s
            if end_s is not None and at_s < end_s - RESTART_S:  # its clock was set anew
                self._heard_shift_s += end_s - at_s
                at_s = end_s
            samples = self._fitted(part.to_ndarray())
            self._heard_end_s = at_s + Fraction(samples.shape[1], self.rate_hz)
            self._held.append(Heard(at_s, samples))
            if at_s - self._held[0].at_s > HELD_SOUND_S:
                self._held.popleft()

    def _fitted(self, samples: npt.NDArray[Any]) -> Samples:
        """As float, of the channels that all sound of the video is given with."""
        if samples.dtype == np.int16:
            samples = samples / np.float32(2**15)
        if self.layout == "mono":
            samples = samples.mean(0, keepdims=True)
        elif len(samples) == 1:
            samples = samples.repeat(2, axis=0)
        return np.asarray(np.nan_to_num(samples), np.float32)

    def _due(self, *, is_end: bool = False) -> Iterator[Heard]:
        if self._begin is None:
            return
        begin_s, now_s = self._begin * self.tick_s, self._clock.ticks * self.tick_s
        while self._held:
            at_s, samples = self._held[0].at_s - begin_s, self._held[0].samples
            if at_s + Fraction(samples.shape[1], self.rate_hz) > now_s and not is_end:
                return
            self._held.popleft()
            yield Heard(at_s, samples)


@contextmanager
def opened_source(
    stream: BinaryIO, *, size_bytes: int, limits: Limits = _LIMITS
) -> Iterator[Source]:
    """A video, opened for one pass.

    Args:
        stream: the file, which can be sought; nothing behind ``size_bytes`` is read.
        size_bytes: its size.
        limits: what it may take.

    Raises:
        VideoRefused: empty, no video, damaged, too large, or of a codec that is not decoded.
        OSError: what the stream itself raises, as it is.
    """
    with opened_pass(
        stream, size_bytes=size_bytes, begin=lambda found: Source(found, limits)
    ) as source:
        yield source


def _chained(seen: list[Packet], packets: Iterator[Packet]) -> Iterator[Packet]:
    seen.reverse()
    while seen:  # none is kept once it is given
        yield seen.pop()
    yield from packets
