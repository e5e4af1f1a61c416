"""A video's clips as files, cut in one pass: encoded anew frame by frame, or copied as they are."""

import io
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO, Final

import av

from udfs.clip_copy import ClipCopy, shown
from udfs.clip_encoder import ClipEncoder, Encoding
from udfs.clip_source import Heard, Packet, Picture, Source, opened_source
from udfs.frame_times import RESTART_S
from udfs.keyframe_jpeg import STILL_SIDE_PX, Still, still
from udfs.spans import Span
from udfs.video_container import VideoRefused, codec_name
from udfs.video_pass import Limits

_LIMITS, _ENCODING = Limits(), Encoding()
_LATE_MS: Final = 10_000  # chosen: sound that comes later than its pictures by more is left out
_OFF_MS: Final = 1  # times are rounded
# Chosen: the packets between two key frames of a clip that is copied; 10 s of 8K at 200 Mb/s.
_MOST_GROUP_BYTES: Final = 256 * 2**20
_UNTOLD_MS: Final = 1000  # chosen: how long the last frame lasts, where its packet does not say
_MOST_HEARD_BYTES: Final = 64 * 2**20  # chosen: packets of sound likewise; minutes of any


@dataclass(frozen=True)
class Clip:
    """A clip that was cut. Its file is closed once the next clip is asked for.

    Attributes:
        span: what was asked for.
        file: the whole file, at its begin.
        size_bytes: its size.
        extension: "mp4" or "mkv".
        start_ms: when its first frame is shown in the video: that of the span, if encoded anew.
        end_ms: when its last frame is no longer shown in the video: likewise.
        frames: how many it has; of a copy, packets: VP8 has some that show nothing.
        width_px: as displayed.
        height_px: as displayed.
        video_codec: FFmpeg's name.
        audio_codec: likewise; null without a stream of sound.
        heard_ms: how much sound of a clip that was encoded anew is the video's, the rest silence.
        stills: the frames that were asked for.
    """

    span: Span
    file: BinaryIO
    size_bytes: int
    extension: str
    start_ms: int
    end_ms: int
    frames: int
    width_px: int
    height_px: int
    video_codec: str
    audio_codec: str | None
    heard_ms: int | None = None
    stills: list[Still] = field(default_factory=list)


def reencoded(
    stream: BinaryIO,
    *,
    size_bytes: int,
    spans: Sequence[Span],
    encoding: Encoding = _ENCODING,
    stills: Collection[int] = frozenset(),
    still_side_px: int = STILL_SIDE_PX,
    limits: Limits = _LIMITS,
) -> Iterator[Clip]:
    """Clips of exactly the frames of their spans, each shown as long as in the video, and upright.

    Sound is as long as the span. The same input gives the same bytes with the same builds of
    FFmpeg and the encoder, on the same kind of processor.

    Args:
        stream: the video, which can be sought; nothing behind ``size_bytes`` is read.
        size_bytes: its size.
        spans: of its frames, ascending, none over another.
        encoding: how.
        stills: frames to give as JPEG too, by their index in the video; those outside of all
            spans are left out.
        still_side_px: most that their shorter side has.
        limits: what the video may take.

    Yields:
        A clip for each span, in order.

    Raises:
        VideoRefused: it cannot be decoded, has other frames than the spans say, or cannot be
            encoded.
        OSError: what the stream itself raises, as it is.
        ValueError: the spans are out of order.
    """
    waiting, wanted = _ascending(spans), frozenset(stills)
    open_: deque[tuple[Span, ClipEncoder, list[Still]]] = deque()
    if not waiting:
        return
    with opened_source(stream, size_bytes=size_bytes, limits=limits) as source:
        try:
            for part in source.parts():
                if isinstance(part, Heard):
                    for _, clip, _ in open_:
                        _told(clip.hear, part)
                else:
                    _close_at(open_, part)
                    if waiting and part.index == waiting[0].first:
                        span = waiting.popleft()
                        _check_time(span, part)
                        encoder = ClipEncoder(source, span.start_ms, span.end_ms, encoding)
                        open_.append((span, encoder, []))
                    if open_ and not open_[-1][1].is_seen:
                        if part.index in wanted:
                            open_[-1][2].append(_still(part, source, still_side_px))
                        _told(open_[-1][1].see, part)
                    now_ms = part.time_ms
                while open_ and _is_over(open_[0][1], now_ms):
                    yield from _given(_encoded(*open_.popleft(), source))
                if not waiting and not open_:
                    return
            _close_last(open_, waiting, source)
            while open_:
                yield from _given(_encoded(*open_.popleft(), source))
        finally:
            for _, clip, _ in open_:
                clip.dropped()


def copied(
    stream: BinaryIO,
    *,
    size_bytes: int,
    spans: Sequence[Span],
    max_group_bytes: int = _MOST_GROUP_BYTES,
    limits: Limits = _LIMITS,
) -> Iterator[Clip]:
    """Clips without encoding: from the last key frame that is not after the start.

    A clip begins up to a group of pictures before its span, ``Clip.start_ms`` says when; it has
    exactly the frames of a span that begins with a key frame and ends before one. It ends with the
    span, or with the frames that its last ones are made from: a few, where frames are reordered
    over the end. Sound begins and ends with whole packets, up to one of them late. Pictures stay
    turned as they are; the file says how to turn them. What lies within the packets stays too.

    Args:
        stream: the video, which can be sought; nothing behind ``size_bytes`` is read.
        size_bytes: its size.
        spans: of its frames, ascending, none over another; their times decide.
        max_group_bytes: most bytes between two key frames before a start; they lie in memory.
        limits: what the video may take.

    Yields:
        A clip for each span, in order; MP4 if it can hold the codecs, else Matroska.

    Raises:
        VideoRefused: it cannot be read, ends before the spans do, or no container holds it.
        OSError: what the stream itself raises, as it is.
        ValueError: the spans are out of order.
    """
    waiting = _ascending(spans)
    if not waiting:
        return
    with opened_source(stream, size_bytes=size_bytes, limits=limits) as source:
        copying = _Copying(source, waiting, max_group_bytes)
        try:
            yield from copying.clips()
        finally:
            for clip in copying.open:
                clip.dropped()


class _Copying:
    """The packets since the latest key frame, and the clips that are open."""

    def __init__(self, source: Source, waiting: deque[Span], most_bytes: int) -> None:
        self._source, self._waiting, self._most = source, waiting, most_bytes
        self._begin, self._packets = source.asked_begin()
        self._pictures = _Steady(source.tick_s, source.video.average_rate)
        self._sounds = _Steady(source.sound.time_base, None) if source.sound else None
        self._group: list[tuple[Packet, int]] = []  # from the latest key frame on
        self._group_bytes, self._base = 0, self._begin
        self._is_first = True
        self._heard: deque[tuple[Packet, Fraction]] = deque()
        self._heard_bytes = 0
        self.open: deque[ClipCopy] = deque()

    def clips(self) -> Iterator[Clip]:
        now_ms = 0
        for packet in self._packets:
            if not packet.size:
                continue  # the end of a stream
            if self._source.is_of_video(packet):
                now_ms = max(now_ms, self._see(packet))
            else:
                self._hear(packet)
            while self.open and _is_over(self.open[0], now_ms):
                yield from _given(self._cut())
            if not self._waiting and not self.open:
                return
        if self._waiting or any(_is_short(clip) for clip in self.open):
            raise VideoRefused("truncated_video", f"its end is missing after {now_ms} ms")
        while self.open:
            yield from _given(self._cut())

    def _cut(self) -> Clip:
        clip, source = self.open.popleft(), self._source
        is_turned = source.rotation_deg in (90, 270)
        size = source.video.width, source.video.height
        width, height = size[::-1] if is_turned else size
        return Clip(
            span=clip.span,
            file=(file := _file(clip)),
            size_bytes=_size_bytes(file),
            extension=clip.extension,
            start_ms=clip.start_ms,
            end_ms=clip.end_ms,
            frames=clip.frames,
            width_px=width,
            height_px=height,
            video_codec=codec_name(source.video),
            audio_codec=codec_name(source.sound) if source.sound else None,
        )

    def _see(self, packet: Packet) -> int:
        """Take a packet of pictures; returns when it is shown, in ms."""
        shift = self._pictures.shift(packet)
        at = shown(packet) + shift
        at_ms = _ms(at - self._begin, self._source.tick_s)
        if packet.is_keyframe:
            self._open_until(at_ms - 1)  # they begin with the key frame before
        for clip in self.open:
            _told(clip.see, packet, shift)
        if packet.is_keyframe:
            self._begin_group(at)
        if not self._waiting:  # nothing will begin with it
            self._group.clear()
            return at_ms
        self._group.append((packet, shift))
        self._group_bytes += packet.size
        if self._group_bytes > self._most:
            raise VideoRefused(
                "clip_not_cut",
                f"{self._group_bytes} bytes without a key frame; allowed {self._most}",
            )
        self._open_until(at_ms)
        return at_ms

    def _begin_group(self, at: int) -> None:
        # What comes first in the file may be shown before its first key frame.
        self._base = min(at, self._begin) if self._is_first else at
        self._is_first = False
        self._group.clear()
        self._group_bytes = 0
        base_s = (self._base - self._begin) * self._source.tick_s
        while self._heard and self._heard[0][1] < base_s:
            self._forget()

    def _forget(self) -> None:
        self._heard_bytes -= self._heard.popleft()[0].size

    def _open_until(self, at_ms: int) -> None:
        while self._group and self._waiting and self._waiting[0].start_ms <= at_ms:
            clip = self._opened(self._waiting.popleft())
            self.open.append(clip)
            for packet, shift in self._group:
                _told(clip.see, packet, shift)
            for packet, at_s in self._heard:
                _told(clip.hear, packet, at_s)

    def _opened(self, span: Span) -> ClipCopy:
        try:
            return ClipCopy(self._source, span, begin=self._begin, base=self._base)
        except ValueError as error:  # also FFmpeg's: no container holds the codec
            told = f"no container takes its streams: {type(error).__name__}"
            raise VideoRefused("clip_not_cut", told) from None

    def _hear(self, packet: Packet) -> None:
        if self._sounds is None:
            return
        moved = (shown(packet) + self._sounds.shift(packet)) * packet.time_base
        at_s = moved - self._begin * self._source.tick_s
        for clip in self.open:
            _told(clip.hear, packet, at_s)
        self._heard.append((packet, at_s))
        self._heard_bytes += packet.size
        while self._heard_bytes > _MOST_HEARD_BYTES:
            self._forget()


class _Steady:
    """What makes the clock of a stream of packets go on where it was set anew, in ticks."""

    def __init__(self, tick_s: Fraction | None, rate: Fraction | None) -> None:
        self._tick_s = tick_s or Fraction(1, 1000)
        self._step = round(1 / rate / self._tick_s) if rate else 0  # of one that tells no length
        self._last: int | None = None
        self._shift, self._end = 0, 0

    def shift(self, packet: Packet) -> int:
        """What to add to the times of the next packet."""
        at = (packet.dts if packet.dts is not None else shown(packet)) + self._shift
        if self._last is not None:
            if at < self._end - RESTART_S / self._tick_s:
                self._shift += self._end - at
                at = self._end
            self._step = at - self._last if at > self._last else self._step
        self._last, self._end = at, max(self._end, at + (packet.duration or self._step))
        return self._shift


def _ascending(spans: Sequence[Span]) -> deque[Span]:
    end = 0
    for span in spans:
        if not end <= span.first < span.end:
            raise ValueError(
                f"the span got frames {span.first} until {span.end} behind {end}; allowed a later "
                "end, and a start from there; sort the spans"
            )
        end = span.end
    return deque(spans)


def _told(what: Callable[..., None], *told: object) -> None:
    """Hand something to a clip; what FFmpeg refuses of it costs the video."""
    try:
        what(*told)
    except av.FFmpegError as error:  # an OSError of the disk is not among them
        raise VideoRefused("clip_not_cut", f"FFmpeg refuses it: {type(error).__name__}") from None


def _check_time(span: Span, picture: Picture) -> None:
    if abs(picture.time_ms - span.start_ms) > _OFF_MS:
        raise VideoRefused(
            "clip_not_cut",
            f"frame {span.first} got {picture.time_ms} ms; allowed {span.start_ms} as its span has",
        )


def _close_at(open_: deque[tuple[Span, ClipEncoder, list[Still]]], picture: Picture) -> None:
    if open_ and picture.index == open_[-1][0].end:
        _told(open_[-1][1].seen, picture.ticks)


def _close_last(
    open_: deque[tuple[Span, ClipEncoder, list[Still]]], waiting: deque[Span], source: Source
) -> None:
    """The video is over: so must be its last span."""
    if open_ and not open_[-1][1].is_seen:
        span, clip, _ = open_[-1]
        if clip.frames == span.end - span.first:
            _told(clip.seen, source.end_ticks)
    missing = waiting[0] if waiting else open_[-1][0]
    if waiting or not open_[-1][1].is_seen:
        raise VideoRefused(
            "truncated_video", f"it ends before frame {missing.end}, the end of a span"
        )


def _is_over(clip: ClipEncoder | ClipCopy, now_ms: int) -> bool:
    return clip.is_seen and (clip.is_heard or now_ms > clip.end_ms + _LATE_MS)


def _is_short(clip: ClipCopy) -> bool:
    return not clip.is_seen and clip.end_ms < clip.span.end_ms - _UNTOLD_MS


def _still(picture: Picture, source: Source, side_px: int) -> Still:
    return still(picture.frame, picture.index, picture.time_ms, source.rotation_deg, side_px)


def _encoded(span: Span, clip: ClipEncoder, stills: list[Still], source: Source) -> Clip:
    return Clip(
        span=span,
        file=(file := _file(clip)),
        size_bytes=_size_bytes(file),
        extension="mp4",
        start_ms=span.start_ms,
        end_ms=span.end_ms,
        frames=clip.frames,
        width_px=clip.width_px,
        height_px=clip.height_px,
        video_codec="h264",
        audio_codec="aac" if source.sound else None,
        heard_ms=clip.heard_samples * 1000 // source.rate_hz,
        stills=stills,
    )


def _file(clip: ClipEncoder | ClipCopy) -> BinaryIO:
    try:
        return clip.finished()
    except av.FFmpegError as error:
        clip.dropped()
        told = f"FFmpeg refuses its end: {type(error).__name__}"
        raise VideoRefused("clip_not_cut", told) from None
    except BaseException:  # the file must not outlive it
        clip.dropped()
        raise


def _size_bytes(file: BinaryIO) -> int:
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size_bytes


def _given(clip: Clip) -> Iterator[Clip]:
    with clip.file:
        yield clip


def _ms(ticks: int, tick_s: Fraction) -> int:
    """Rounded, in whole numbers: each frame's."""
    over, under = tick_s.numerator * 1000, tick_s.denominator
    return (2 * ticks * over + under) // (2 * under)
