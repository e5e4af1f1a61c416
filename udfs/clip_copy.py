"""One clip copied as it is: packets from a key frame on, in MP4 where that can hold them."""

from collections import deque
from fractions import Fraction
from typing import BinaryIO, Final

import av

from udfs.clip_file import ClipFile
from udfs.clip_source import Packet, Source
from udfs.spans import Span
from udfs.video_container import codec_name

VERSION: Final = "clip_copy/1"  # raised whenever the same clip would give other bytes
# What readers expect in an MP4: the registered codecs (mp4ra.org) that are common. All else is
# Matroska's.
_OF_MP4: Final = frozenset(
    ("h264", "hevc", "av1", "vp9", "mpeg4", "aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
)
_MOST_HELD: Final = 64  # chosen: packets that may be references; H.264 reorders 16


def extension_of(source: Source) -> str:
    """What a file of the source's streams is: "mp4" if that can hold them, else "mkv"."""
    streams = [source.video, *([source.sound] if source.sound else [])]
    return "mp4" if all(codec_name(stream) in _OF_MP4 for stream in streams) else "mkv"


class ClipCopy:
    """Writes one clip: every packet of a frame that is shown before its end, and those they need.

    Attributes:
        start_ms: when its first frame is shown.
        end_ms: when its last frame is no longer shown.
        frames: how many it has.
        is_seen: all frames are there.
        is_heard: all sound is there, or there is none.
    """

    def __init__(
        self,
        source: Source,
        span: Span,
        *,
        begin: int,
        base: int,
    ) -> None:
        """Begin a clip.

        Args:
            source: what is copied.
            span: what is wanted of it.
            begin: own time of the video's first frame, in ticks.
            base: that of the clip's first frame.
        """
        self._source, self.span = source, span
        self._begin, self._base = begin, base
        self._file = ClipFile(extension_of(source))
        add = self._file.output.add_stream_from_template
        self._video = add(source.video, opaque=True)
        self._video.codec_context.pix_fmt = source.video.codec_context.pix_fmt
        self._sound = add(source.sound, opaque=True) if source.sound else None
        if self._sound is not None and source.sound is not None:
            # A header that leaves it out: that of a transport stream.
            self._sound.codec_context.sample_rate = source.sound.codec_context.sample_rate
            self._sound.codec_context.layout = source.sound.codec_context.layout
        self._until_ms = span.end_ms  # frames from then on are left out
        self._held: deque[tuple[Packet, int]] = deque()
        self.frames, self.is_seen, self.is_heard = 0, False, source.sound is None
        self.start_ms = self._ms(base)
        self.end_ms = self.start_ms

    @property
    def extension(self) -> str:
        """Of the file."""
        return self._file.extension

    def see(self, packet: Packet, shift: int) -> None:
        """Take the next packet of pictures; ``shift`` in ticks makes its clock go on."""
        if self.is_seen or shown(packet) + shift < self._base:
            return  # it needs frames before the key frame
        at_ms = self._ms(shown(packet) + shift)
        self._held.append((packet, shift))
        if at_ms < self._until_ms:
            while self._held:  # what lies before it may be what it needs
                held, its_shift = self._held.popleft()
                self._until_ms = max(self._until_ms, self._ms(shown(held) + its_shift))
                self._see(held, its_shift)
        decoded_ms = None if packet.dts is None else self._ms(packet.dts + shift)
        is_past = decoded_ms is not None and decoded_ms >= self._until_ms
        self.is_seen = is_past or len(self._held) > _MOST_HELD

    def hear(self, packet: Packet, at_s: Fraction) -> None:
        """Take a packet of sound, which begins then, in seconds from the video's first frame."""
        base_s = (self._base - self._begin) * self._source.tick_s
        if self._sound is None or self.is_heard or at_s < base_s:
            return
        if at_s * 1000 >= self._until_ms:
            self.is_heard = True
            return
        own = round((at_s - base_s) / packet.time_base)
        self._copied(packet, self._sound, own - shown(packet))

    def finished(self) -> BinaryIO:
        """The whole file, at its begin; the caller closes it."""
        return self._file.finished()

    def dropped(self) -> None:
        """Give the clip up."""
        self._file.dropped()

    def _see(self, packet: Packet, shift: int) -> None:
        self._copied(packet, self._video, shift - self._base)
        lasts = max(packet.duration or 0, 1)
        self.end_ms = max(self.end_ms, self._ms(shown(packet) + shift + lasts))
        self.frames += 1

    def _copied(self, packet: Packet, stream: av.stream.Stream, shift: int) -> None:
        """Write a packet whose times are moved; other clips get it too, so that it stays."""
        kept = packet.pts, packet.dts, packet.duration, packet.time_base, packet.stream
        packet.pts = shown(packet) + shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        packet.stream = stream
        try:
            self._file.output.mux(packet)
        finally:
            packet.time_base = kept[3]
            packet.pts, packet.dts, packet.duration, _, packet.stream = kept

    def _ms(self, ticks: int) -> int:
        over, under = self._source.tick_s.numerator * 1000, self._source.tick_s.denominator
        return (2 * (ticks - self._begin) * over + under) // (2 * under)


def shown(packet: Packet) -> int:
    """When it is shown, in its own ticks; when it is decoded, if that is all it tells."""
    return int(packet.pts if packet.pts is not None else packet.dts or 0)
