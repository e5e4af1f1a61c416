"""Rendered videos whose cuts, dissolves and fades are known to the frame."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import av
import numpy as np
import numpy.typing as npt

WIDTH: Final = 320
HEIGHT: Final = 180
TOLERANCE: Final = 1  # frames
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scenes:
    """What is rendered.

    Attributes:
        frames: uint8 (n, height, width, 3).
        changes: of each, the first frame that is no longer all of the old shot, and the first that
            is all of the new one; at a cut they are one.
        kind: what it is made of.
    """

    frames: Pixels
    changes: list[tuple[int, int]]
    kind: str


@dataclass
class _Reel:
    rng: np.random.Generator
    shots: list[npt.NDArray[np.float32]] = field(default_factory=list)
    changes: list[tuple[int, int]] = field(default_factory=list)
    length: int = 0

    def add(self, shot: npt.NDArray[np.float32]) -> None:
        self.shots.append(shot)
        self.length += len(shot)


def canvas(
    rng: np.random.Generator, like: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """A picture: light from somewhere, rectangles, discs and a grain, float32 0..255.

    With another it is like that one, but for its upper half's shapes.
    """
    height, width = 2 * HEIGHT, 3 * WIDTH
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = rng.uniform(-60, 60, (2, 3))
    picture = (rng.uniform(30, 225, 3) + rows[..., None] / height * slope[0]).astype(np.float32)
    picture += columns[..., None] / width * slope[1]
    if like is not None:
        picture = like.copy()
    for _ in range(60 if like is None else 40):
        colour, size = rng.uniform(0, 255, 3), rng.uniform(8, 90)
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        box = np.s_[int(max(0, y - size)) : int(y + size), int(max(0, x - size)) : int(x + size)]
        if rng.random() < 0.5:
            picture[box] = colour
        else:
            picture[box][(rows[box] - y) ** 2 + (columns[box] - x) ** 2 < size**2] = colour
    picture += rng.normal(0, 6, (height, width, 1))
    return np.clip(picture, 0, 255)


def shot(
    rng: np.random.Generator,
    frames: int,
    motion: str,
    *,
    speed: float | None = None,
    picture: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """A shot of the given motion: "static", "pan", "fast_pan", "object", "handheld" or "zoom"."""
    picture = canvas(rng) if picture is None else picture
    rooms = picture.shape[0] - HEIGHT, picture.shape[1] - WIDTH
    place = np.array([rng.uniform(0, rooms[0]), rng.uniform(0, rooms[1])])
    step = np.zeros(2)
    if motion in ("pan", "fast_pan"):
        most = speed or {"pan": rng.uniform(1, 4), "fast_pan": rng.uniform(8, 16)}[motion]
        step = np.array([0.2 * most, most]) * rng.choice([-1, 1], 2)
    result = np.empty((frames, HEIGHT, WIDTH, 3), np.float32)
    things = rng.uniform(0, 255, (3, 3)), rng.uniform(20, 50, 3), rng.uniform(-4, 4, (3, 2))
    for i in range(frames):
        at = place + i * step
        if motion == "handheld":
            at = place + 3 * np.sin(np.array([i / 5.0, i / 7.0])) + rng.normal(0, 0.7, 2)
        at = np.array([_mirrored(at[k], rooms[k]) for k in range(2)])
        top, left = int(at[0]), int(at[1])
        if motion == "zoom":
            scale = 1 - 0.4 * i / frames
            ys = (top + np.arange(HEIGHT) * scale).astype(int)
            xs = (left + np.arange(WIDTH) * scale).astype(int)
            result[i] = picture[ys[:, None], xs]
        else:
            result[i] = picture[top : top + HEIGHT, left : left + WIDTH]
        if motion == "object":
            for colour, size, way in zip(*things, strict=True):
                y = int(_mirrored(HEIGHT / 2 + i * way[0], HEIGHT - size))
                x = int(_mirrored(WIDTH / 2 + i * way[1], WIDTH - size))
                result[i, y : y + int(size), x : x + int(size)] = colour
    return result


def _mirrored(at: float, room: float) -> float:
    at = abs(at) % (2 * room) if room > 0 else 0.0
    return float(2 * room - at if at > room else at)


MOTIONS: Final = ("static", "pan", "object", "handheld", "zoom")
KINDS: Final = (
    *("cuts", "noisy_cuts", "cuts_in_pans", "like_cuts", "dissolves", "moving_dissolves"),
    *("fades", "mixed", "flashes"),
    *("static", "panning", "noise"),
)


def scenes(kind: str, seed: int) -> Scenes:
    """A video of a kind of ``KINDS``; the last three of them have no change."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    lengths = [int(n) for n in rng.integers(30, 70, 5)]
    if kind in ("static", "panning", "noise"):
        motion = {"panning": ("pan", "fast_pan", "zoom")[seed % 3]}.get(kind, "static")
        pixels = shot(rng, 200, motion)
        if kind == "panning":  # it stands, moves and stands again
            still = pixels[:1].repeat(20, axis=0), pixels[-1:].repeat(20, axis=0)
            pixels = np.concatenate([still[0], pixels, still[1]])
        sigma = rng.uniform(10, 30) if kind == "noise" else rng.choice([0, 2])
        return Scenes(_finished(rng, pixels, sigma), [], kind)
    reel, picture = _Reel(rng), None
    for n, length in enumerate(lengths):
        motion = str(rng.choice(MOTIONS)) if kind != "cuts_in_pans" else "fast_pan"
        if kind in ("dissolves", "moving_dissolves"):
            motion = str(rng.choice(["static", "object", "handheld", "pan"]))
        picture = canvas(rng, picture if kind == "like_cuts" else None)
        new = shot(rng, length, motion, picture=picture)
        hows = {"dissolves": "dissolve", "moving_dissolves": "moving", "fades": "fade"}
        how = hows.get(kind, "cut")
        if kind == "mixed":
            how = str(rng.choice(["cut", "dissolve", "moving", "fade"]))
        if kind == "flashes":
            _flash(rng, new)
        if n:
            _join(reel, new, how)
        else:
            reel.add(new)
    sigma = {"noisy_cuts": 25.5, "cuts": 0.0}.get(kind, float(rng.choice([0, 3])))
    return Scenes(_finished(rng, np.concatenate(reel.shots), sigma), reel.changes, kind)


def _flash(rng: np.random.Generator, pixels: npt.NDArray[np.float32]) -> None:
    at, lasts = int(rng.integers(10, len(pixels) - 12)), int(rng.integers(1, 5))
    pixels[at : at + lasts] = pixels[at : at + lasts] * 0.2 + 255 * 0.8


def _join(reel: _Reel, new: npt.NDArray[np.float32], how: str) -> None:
    old = reel.shots[-1]
    if how == "cut":
        reel.changes.append((reel.length, reel.length))
        reel.add(new)
        return
    n = int(reel.rng.integers(8, 13 if how == "fade" else 25))
    n = min(n, len(old) // 2, len(new) // 2)
    ramp = ((np.arange(n, dtype=np.float32) + 1) / (n + 1))[:, None, None, None]
    ends, begins = old[-1:].repeat(n, axis=0), new[:1].repeat(n, axis=0)
    first = reel.length
    if how == "moving":  # both shots go on while they are mixed
        first -= n
        old[-n:] = old[-n:] * (1 - ramp) + new[:n] * ramp
        new = new[n:]
    elif how == "dissolve":
        reel.add(ends * (1 - ramp) + begins * ramp)
    else:
        reel.add(ends * (1 - ramp))
        reel.add(np.zeros((int(reel.rng.integers(1, 10)), *new.shape[1:]), np.float32))
        reel.add(begins * ramp)
    reel.changes.append((first, reel.length))
    reel.add(new)


def _finished(rng: np.random.Generator, pixels: npt.NDArray[np.float32], sigma: float) -> Pixels:
    result = np.empty(pixels.shape, np.uint8)
    noise = rng.standard_normal((4, *pixels.shape[1:]), np.float32) * sigma
    for i, frame in enumerate(pixels):  # one at a time: all at once take four times the memory
        here = np.roll(noise[i % 4], rng.integers(0, WIDTH), 1) if sigma else 0  # never the same
        result[i] = np.clip(frame + here, 0, 255)
    return result


def score(found: Sequence[int], changes: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """How many changes were found, how many found are none, how many were missed."""
    left = sorted(found)
    hits = 0
    for first, last in changes:
        match = [at for at in left if first - TOLERANCE <= at <= last + TOLERANCE]
        if match:
            hits += 1
            left.remove(match[0])
    return hits, len(left), len(changes) - hits


def f1(hits: int, wrong: int, missed: int) -> float:
    """The harmonic mean of precision and recall; 1 where there is nothing to find or miss."""
    return 2 * hits / (2 * hits + wrong + missed) if hits + wrong + missed else 1.0


def small(frames: Pixels) -> Iterator[Pixels]:
    """Frames of 64 x 36 by the mean of 5 x 5 pixels, as a decoder would give them."""
    for frame in frames:
        cells = frame.reshape(36, 5, 64, 5, 3)
        yield cells.mean((1, 3)).astype(np.uint8)


def encoded(
    frames: Pixels,
    *,
    times_ms: Sequence[int] | None = None,
    fps: int = 25,
    rotation: float | None = None,
    container: str = "mp4",
    gop: int = 250,
) -> bytes:
    """Frames as H.264, in a file; of even rate, or at the given times."""
    height, width = frames.shape[1:3]
    with io.BytesIO() as file:
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.thread_count = 1
            stream.options = {"preset": "ultrafast", "crf": "20", "g": str(gop)}
            if times_ms is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if rotation is not None:
                stream.set_display_rotation(rotation)
            for i, pixels in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture.pts = i if times_ms is None else times_ms[i]
                picture.time_base = Fraction(1, fps if times_ms is None else 1000)
                output.mux(stream.encode(picture))
            output.mux(stream.encode())
        return file.getvalue()
