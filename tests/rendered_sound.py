"""Rendered videos with sound, B-frames, open groups and clocks that are set anew."""

import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from scipy import signal

FPS: Final = 25
SIZE: Final = (96, 64)
HZ: Final = 48_000
VOICE_HZ: Final = 16_000  # of `babble`
_VOWELS: Final = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)]


def frames(count: int, seed: int = 0) -> np.ndarray:
    """Soft pictures that move and differ from each other: uint8 (n, h, w, 3)."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    cells = rng.uniform(30, 225, (height // 8 + count, width // 8 + 1, 3))
    rows = np.linspace(0, height // 8 - 1, height)
    columns = np.linspace(0, width // 8 - 1, width)
    result = np.empty((count, height, width, 3), np.uint8)
    for n in range(count):
        top, left = rows.astype(int) + n, columns.astype(int)
        down, across = (rows % 1)[:, None, None], (columns % 1)[None, :, None]
        upper = cells[top][:, left] * (1 - across) + cells[top][:, left + 1] * across
        lower = cells[top + 1][:, left] * (1 - across) + cells[top + 1][:, left + 1] * across
        result[n] = upper * (1 - down) + lower * down
    return result


def steps(seconds: float) -> np.ndarray:
    """Sound of which each tenth of a second has a loudness of its own, float32 (n,)."""
    at = np.arange(round(seconds * HZ))
    loud = 0.1 + 0.08 * (at // (HZ // 10) % 10)
    return (loud * np.sin(2 * np.pi * 440 * at / HZ)).astype(np.float32)


def babble(seconds: float) -> np.ndarray:
    """Vowels by formants over a glottal pulse, with breaths between."""
    rng = np.random.default_rng(0)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < seconds * VOICE_HZ:
        parts.append(
            0.08 * signal.lfilter([1, -0.9], [1], rng.normal(size=rng.integers(500, 1200)))
        )
        samples = int(rng.integers(1300, 3200))
        pitch = rng.uniform(100, 160) * (1 + 0.05 * np.sin(np.arange(samples) * 0.0012))
        vowel = np.diff(np.floor(np.cumsum(pitch) / VOICE_HZ), prepend=0)
        vowel += 0.02 * rng.normal(size=samples)
        for hz in _VOWELS[rng.integers(4)]:
            radius = np.exp(-np.pi * 100 / VOICE_HZ)
            cosine = np.cos(2 * np.pi * hz / VOICE_HZ)
            vowel = signal.lfilter([1 - radius], [1, -2 * radius * cosine, radius**2], vowel)
        parts.append(0.4 * np.hanning(samples) ** 0.3 * vowel / np.abs(vowel).max())
    return np.concatenate(parts)[: round(seconds * VOICE_HZ)]


def video(
    pictures: np.ndarray,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    options: Mapping[str, str] = {},
    times: Sequence[int] | None = None,
    tick: Fraction = Fraction(1, FPS),
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    sound_at_s: float = 0.0,
    channels: int = 2,
    hertz: int = HZ,
    rotation: float | None = None,
    tags: Mapping[str, str] = {},
    pixels: str = "yuv420p",
    written: Mapping[str, str] = {},
) -> bytes:
    """A file of pictures at times in ticks, and sound that begins later, all as asked for."""
    with tempfile.NamedTemporaryFile() as file:  # which some writers read again
        with av.open(file.name, "w", format=container, container_options=dict(written)) as output:
            output.metadata.update(tags)
            stream = output.add_stream(codec, rate=FPS, options=dict(options))
            stream.height, stream.width = pictures.shape[1:3]
            stream.pix_fmt, stream.thread_count = pixels, 1
            stream.codec_context.time_base = tick
            if rotation is not None:
                stream.set_display_rotation(rotation)
            heard = output.add_stream(sound_codec, rate=hertz) if sound is not None else None
            if heard is not None:
                heard.codec_context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
                levels = np.repeat(sound[None], channels, axis=0).clip(-1, 1)
                format_ = heard.codec_context.format.name
                part = av.AudioFrame.from_ndarray(
                    levels.astype(np.float32), "fltp", heard.codec_context.layout.name
                )
                part.sample_rate, part.pts = HZ, round(sound_at_s * HZ)
                part.time_base = Fraction(1, HZ)
                change = av.AudioResampler(format_, heard.codec_context.layout.name, hertz)
                for piece in [*change.resample(part), *change.resample(None)]:
                    output.mux(heard.encode(piece))
                output.mux(heard.encode())
            for n, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = n if times is None else times[n], tick
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        return Path(file.name).read_bytes()
