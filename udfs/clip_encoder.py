"""One clip encoded anew: H.264 and AAC in MP4, of exactly the frames and the sound it is given."""

from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Final

import av
import av.filter
import numpy as np
from av.codec import codecs_available

from udfs.clip_file import ClipFile
from udfs.clip_source import Heard, Picture, Samples, Source

VERSION: Final = "clip_encoder/1"  # raised whenever the same clip would give other bytes
# Each frame is of itself or of frames before it (bf 0): no edit list is needed, and readers that
# pass over those show the same frames at the same times. One thread: with more, x264 decides by
# which is ready first.
_EVERY: Final = {"flags": "+bitexact", "threads": "1", "bf": "0"}
ENCODERS: Final = {
    # crf 18: FFmpeg's guide to H.264 calls 17 or 18 visually lossless, or nearly so.
    "libx264": {"preset": "veryfast", "crf": "18", **_EVERY},
    # It has no constant quality: 4 Mb/s is cosmos-curate's default for its clips.
    "libopenh264": {"b": "4000000", "rc_mode": "quality", "allow_skip_frames": "0", **_EVERY},
}
_SOUND_CODEC: Final = "aac"
_EVERY_SOUND: Final = {"flags": "+bitexact", "threads": "1"}
_CHANNEL_BIT_RATE: Final = 64_000  # FFmpeg's own default for AAC, a channel
_FULL_RANGE: Final = {"yuvj420p": "yuvj420p"}  # 8 bits of 4:2:0, but all 256 levels
_PLAIN: Final = "yuv420p"  # what every reader takes; more bits or colours are brought to it
_TURNS: Final = {0: (), 90: ("clock",), 180: ("clock", "clock"), 270: ("cclock",)}
# Chosen: times of sound that are rounded, as Matroska's to ms, shift nothing; FFmpeg's aresample
# takes 0.1 s (ffmpeg-resampler, min_hard_comp).
_JITTER_S: Final = Fraction(1, 10)
_BLOCK: Final = 48_000  # chosen: samples of silence at a time
_AS_RGB: Final = 0  # AVCOL_SPC_RGB, libavutil/pixfmt.h
_NOT_TOLD: Final = 2  # AVCOL_SPC_UNSPECIFIED, likewise; so of the primaries and the transfer


@dataclass(frozen=True)
class Encoding:
    """How clips are encoded.

    Attributes:
        encoder: of ``ENCODERS``; the FFmpeg of PyAV must have it.
    """

    encoder: str = "libx264"

    def __post_init__(self) -> None:
        """Refuse an encoder that is unknown or not there."""
        here = sorted(set(ENCODERS) & codecs_available)
        if self.encoder not in here:
            raise ValueError(
                f"the encoder got {self.encoder!r}; allowed {', '.join(here)}; choose one that "
                "FFmpeg was built with"
            )


class ClipEncoder:
    """Writes one clip. Pictures stand upright in it; sound lasts as long as the span.

    Attributes:
        frames: how many were added.
        heard_samples: samples that came from the video; the rest is silence.
        width_px: of the pictures as written, even.
        height_px: likewise.
        is_seen: all frames are there.
    """

    def __init__(self, source: Source, start_ms: int, end_ms: int, encoding: Encoding) -> None:
        """Begin a clip that has the sound from ``start_ms`` until before ``end_ms``."""
        self._source, self._encoding = source, encoding
        self.start_ms, self.end_ms = start_ms, end_ms
        self._file: ClipFile | None = None
        self._video: av.VideoStream
        self._sound: _SoundTrack | None = None
        self._upright: _Upright
        self._first_ticks = 0
        self._held: av.Packet[av.VideoStream] | None = None  # the latest: how long it lasts?
        self.frames = self.width_px = self.height_px = 0
        self.is_seen = False

    @property
    def heard_samples(self) -> int:
        """Samples that came from the video."""
        return self._sound.heard if self._sound else 0

    @property
    def is_heard(self) -> bool:
        """All sound is there, or there is none."""
        return self._sound is None or self._sound.is_full

    def see(self, picture: Picture) -> None:
        """Add the next frame."""
        if self._file is None:
            self._begin(picture)
        frame = self._upright(picture.frame)
        frame.pts, frame.time_base = picture.ticks - self._first_ticks, self._source.tick_s
        frame.pict_type = 0  # what it was in the source decides nothing
        frame.duration = 0
        self._write(self._video.encode(frame))
        self.frames += 1

    def seen(self, end_ticks: int) -> None:
        """All frames were added; the last ends then."""
        self._write(self._video.encode())
        assert self._file is not None
        assert self._held is not None
        lasts = (end_ticks - self._first_ticks) * self._source.tick_s
        base = self._held.time_base
        self._held.duration = max(1, round(lasts / base) - (self._held.pts or 0))
        self._file.output.mux(self._held)
        self.is_seen = True

    def hear(self, heard: Heard) -> None:
        """Add sound; what lies outside of the clip is left out."""
        assert self._sound is not None  # there is sound to hear
        self._sound.add(heard)

    def finished(self) -> BinaryIO:
        """The whole file, at its begin; the caller closes it."""
        assert self._file is not None
        if self._sound is not None:
            self._sound.end()
        return self._file.finished()

    def dropped(self) -> None:
        """Give the clip up."""
        if self._file is not None:
            self._file.dropped()

    def _begin(self, picture: Picture) -> None:
        self._file = ClipFile("mp4")
        self._first_ticks = picture.ticks
        frame, source = picture.frame, self._source
        width, height = frame.width // 2 * 2 or 2, frame.height // 2 * 2 or 2
        self._upright = _Upright(width, height, frame.format.name, source.rotation_deg)
        is_turned = source.rotation_deg in (90, 270)
        self.width_px, self.height_px = (height, width) if is_turned else (width, height)
        video = self._file.output.add_stream(
            self._encoding.encoder,
            rate=source.video.average_rate or 25,
            options=dict(ENCODERS[self._encoding.encoder]),
        )
        assert isinstance(video, av.VideoStream)
        context = video.codec_context
        context.width, context.height = self.width_px, self.height_px
        context.pix_fmt = self._upright.pixels
        context.time_base = source.tick_s
        aspect = source.video.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = 1 / aspect if is_turned else aspect
        context.color_range = 2 if self._upright.pixels in _FULL_RANGE else 1
        if frame.colorspace != _AS_RGB:
            context.colorspace = int(frame.colorspace)
            context.color_primaries = int(frame.color_primaries)
            context.color_trc = int(frame.color_trc)
        self._video = video
        if source.sound is not None:
            self._sound = _SoundTrack(self._file, source, self.start_ms, self.end_ms)

    def _write(self, packets: "list[av.Packet[av.VideoStream]]") -> None:
        assert self._file is not None
        for packet in packets:
            if self._held is not None:
                self._file.output.mux(self._held)
            self._held = packet


class _Upright:
    """Turns frames upright, all of one size and kind; a frame of another is scaled to it."""

    def __init__(self, width: int, height: int, pixels: str, rotation: int) -> None:
        self.pixels = _FULL_RANGE.get(pixels, _PLAIN)
        self._size, self._turns = (width, height), _TURNS[rotation]
        self._like: tuple[int, int, str] | None = None
        self._graph: av.filter.Graph

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        like = (frame.width, frame.height, frame.format.name)
        plain = (*self._size, self.pixels)
        if like == plain and not self._turns:
            return frame
        if like != self._like:
            self._graph, self._like = self._made(frame), like
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _made(self, frame: av.VideoFrame) -> av.filter.Graph:
        graph, (width, height) = av.filter.Graph(), self._size
        graph.threads = 1
        is_cropped = (frame.width // 2 * 2, frame.height // 2 * 2) == self._size
        # exact: an odd side loses its last row; nothing is scaled to make up for it.
        sized = (
            graph.add("crop", f"{width}:{height}:0:0:exact=1")
            if is_cropped
            else graph.add("scale", f"{width}:{height}:flags=bicubic+accurate_rnd+bitexact")
        )
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=Fraction(1, 1000),
            ),
            sized,
            graph.add("scale", "flags=bicubic+accurate_rnd+bitexact"),
            graph.add("format", self.pixels),
            *(graph.add("transpose", turn) for turn in self._turns),
            graph.add("buffersink"),
        ).configure()
        return graph


class _SoundTrack:
    """The sound of a clip, each sample in its place.

    Gaps are silence, what comes twice is left out.
    """

    def __init__(self, file: ClipFile, source: Source, start_ms: int, end_ms: int) -> None:
        self._file, self._rate, self._layout = file, source.rate_hz, source.layout
        self._start_s = Fraction(start_ms, 1000)
        self._samples = (end_ms - start_ms) * self._rate // 1000
        self._channels = 1 if source.layout == "mono" else 2
        stream = file.output.add_stream(_SOUND_CODEC, rate=self._rate, options=dict(_EVERY_SOUND))
        assert isinstance(stream, av.AudioStream)
        stream.codec_context.layout = source.layout
        stream.codec_context.bit_rate = _CHANNEL_BIT_RATE * self._channels
        self._stream = stream
        self._written = self.heard = 0

    @property
    def is_full(self) -> bool:
        return self._written >= self._samples

    def add(self, heard: Heard) -> None:
        place = round((heard.at_s - self._start_s) * self._rate)
        samples = heard.samples
        if self._written and abs(place - self._written) < _JITTER_S * self._rate:
            place = self._written
        if place + samples.shape[1] <= self._written or place >= self._samples:
            return
        self._silence(place)
        samples = samples[:, max(0, self._written - place) :][:, : self._samples - self._written]
        self.heard += samples.shape[1]
        self._write(samples)

    def end(self) -> None:
        self._silence(self._samples)
        self._file.output.mux(self._stream.encode())

    def _silence(self, until: int) -> None:
        while self._written < until:
            count = min(_BLOCK, until - self._written)
            self._write(np.zeros((self._channels, count), np.float32))

    def _write(self, samples: Samples) -> None:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples), format="fltp", layout=self._layout
        )
        frame.sample_rate, frame.pts = self._rate, self._written
        frame.time_base = Fraction(1, self._rate)
        self._written += samples.shape[1]
        self._file.output.mux(self._stream.encode(frame))
