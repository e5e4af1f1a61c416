"""Rendered clips and what becomes of a clip that is copied, by real encoders."""

import io
from pathlib import Path
from typing import Final

import av
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FPS: Final = 10
SIZE: Final = (192, 108)
SAMPLED_FPS: Final = 2
SHORT_SIDE_PX: Final = 64

_FONT: Final = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
_WORDS: Final = (
    "the quick brown fox jumps over lazy dog video clip engine data frame model train loss curve "
    "result table figure method paper slide lecture"
)

Frames = list[np.ndarray]


def rendered(seed: int, seconds: float = 8.0) -> Frames:
    """Shots of soft textures that pan, with shapes that move before them; (h, w, 3) uint8 each."""
    rng = np.random.default_rng(seed)
    frames: Frames = []
    total = round(seconds * FPS)
    while len(frames) < total:
        frames += _shot(rng, min(total - len(frames), int(rng.integers(8, 35))))
    return frames


def plain(seed: int, seconds: float = 8.0) -> Frames:
    """One colour and a little noise, as of a covered lens; black if the seed is even."""
    rng = np.random.default_rng(seed)
    level = 0 if seed % 2 == 0 else rng.integers(20, 235, 3)
    shape = (SIZE[1], SIZE[0], 3)
    return [
        np.clip(level + rng.normal(0, 1.5, shape), 0, 255).astype(np.uint8)
        for _ in range(round(seconds * FPS))
    ]


def titled(seed: int) -> Frames:
    """Two seconds of a title that all such clips begin with, then a clip of their own."""
    title = _shot(np.random.default_rng(12345), 1) * (2 * FPS)
    return title + rendered(seed, 6)


def slides(seed: int) -> Frames:
    """One to three slides of text, of one of two designs, two seconds each."""
    rng = np.random.default_rng(seed)
    frames: Frames = []
    for _ in range(rng.integers(1, 4)):
        frames += [_slide(rng, dark=seed % 2 == 1)] * (2 * FPS)
    return frames


def _slide(rng: np.random.Generator, *, dark: bool) -> np.ndarray:
    picture = Image.new("RGB", (2 * SIZE[0], 2 * SIZE[1]), (20, 30, 60) if dark else "white")
    pen, ink = ImageDraw.Draw(picture), "white" if dark else "black"
    pen.text((20, 10), _words(rng, 3), ink, ImageFont.truetype(_FONT, 22))
    for line in range(rng.integers(2, 6)):
        at = (30, 55 + 28 * line)
        pen.text(at, "- " + _words(rng, rng.integers(2, 6)), ink, ImageFont.truetype(_FONT, 14))
    return np.asarray(picture)


def _words(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(_WORDS.split(), count))


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of which an octave has half the amplitude of the one below."""
    picture = np.zeros((height, width, 3))
    for octave in range(5):
        cells = 3 * 2**octave
        noise = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        soft = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        picture += (np.asarray(soft, float) - 128) / 2 ** (octave * 0.7)
    return np.asarray(picture + rng.integers(60, 200, 3))


def _shot(rng: np.random.Generator, length: int) -> Frames:
    width, height = SIZE
    background = np.clip(_texture(rng, height, width * 2), 0, 255).astype(np.uint8)
    speed = rng.choice([0, 0, 0.5, 1, 2]) * rng.choice([-1, 1])  # pixels a frame
    shapes = [
        (*rng.uniform(0, 1, 2), *rng.uniform(-0.02, 0.02, 2), rng.uniform(0.1, 0.35))
        for _ in range(rng.integers(1, 4))
    ]
    colours = rng.integers(0, 256, (len(shapes), 3))
    left = rng.integers(2 * 70 // 2, width - 70)
    frames = []
    for step in range(length):
        x0 = int(np.clip(left + speed * step, 0, width))
        frame = background[:, x0 : x0 + width].copy()
        for (x, y, dx, dy, side), colour in zip(shapes, colours, strict=True):
            top, begin = (
                int((place + move * step) % 1 * extent)
                for place, move, extent in ((y, dy, height), (x, dx, width))
            )
            frame[top : top + int(side * height), begin : begin + int(side * height)] = colour
        frames.append(frame)
    return frames


def encoded(
    frames: Frames, *, codec: str = "libx264", bit_rate: int | None = None, fps: int = FPS
) -> bytes:
    """The frames as a file; sides are cut to even numbers."""
    file = io.BytesIO()
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    options = {"preset": "ultrafast", "threads": "1"} if codec == "libx264" else {}
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file.getvalue()


def decoded(file: bytes) -> Frames:
    """All frames of a file."""
    with av.open(io.BytesIO(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def sampled(file: bytes) -> np.ndarray:
    """A file's frames at 2 a second, small: (n, h, w, 3) uint8."""
    frames = decoded(file)[:: FPS // SAMPLED_FPS]
    height, width = frames[0].shape[:2]
    scale = SHORT_SIDE_PX / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.stack(
        [np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BOX)) for f in frames]
    )


def copies(file: bytes, seed: int) -> dict[str, bytes]:
    """What becomes of a clip, each by decoding it and encoding it again."""
    rng = np.random.default_rng(seed)
    frames = decoded(file)
    seconds = len(frames) / FPS
    half = int(len(file) * 8 / seconds / 2)
    height, width = frames[0].shape[:2]
    small = [_resized(frame, (width * 5 // 8, height * 5 // 8)) for frame in frames]
    kept = round(0.6 * len(frames))
    start = int(rng.integers(0, len(frames) - kept + 1))
    bar = int(height * rng.uniform(0.1, 0.2))
    boxed = [np.pad(frame, ((bar, bar), (0, 0), (0, 0))) for frame in frames]
    side = int(width * rng.uniform(0.1, 0.2))
    pillared = [np.pad(frame, ((0, 0), (side, side), (0, 0))) for frame in frames]
    faster = [frames[int(1.1 * n)] for n in range(int(len(frames) / 1.1))]
    return {
        "half the bit rate": encoded(frames, bit_rate=half),
        "mpeg4 at half the bit rate": encoded(frames, codec="mpeg4", bit_rate=half),
        "resized to 5/8": encoded(small),
        "60 % of it": encoded(frames[start : start + kept]),
        "letterboxed": encoded(boxed),
        "pillarboxed": encoded(pillared),
        "10 % faster": encoded(faster),
    }


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
