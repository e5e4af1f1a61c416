"""Films of rendered scenes: their cuts are known, and how some of them are damaged."""

import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.demo.scenes import Scene, draw, render
from jobs.demo.trouble import KEPT_SHARE

FPS: Final = 12  # chosen: enough to see a pan, few frames to encode
SIZE_PX: Final = (192, 108)  # chosen: 16:9, three times what shots are found on
_SOUND_HZ: Final = 16_000
_TONE_HZ: Final = 440  # chosen: concert pitch
_PAN_PX: Final = 2  # chosen: a frame; a shot of three seconds passes over a third of its picture
# Macroblock trees look at what lies uninitialised in memory: five encodings gave five files.
_ENCODING: Final = {"crf": "20", "x264-params": "mbtree=0"}
_NIGHT: Final = 0.4  # chosen: every other shot is darker, as no two pale scenes differ by much
_OPTIONS: Final = {
    "mp4": {"movflags": "faststart"},  # the index stands first, so that a cut leaves it
    "matroska": {"fflags": "bitexact"},  # no drawn identifiers
}


@dataclass(frozen=True)
class Shot:
    """A pan over one scene.

    Attributes:
        frames: how long it is.
        dissolve: of these, frames in which it comes out of the shot before; 0: a cut.
        is_still: the camera does not move, nor does anything else.
    """

    frames: int
    dissolve: int = 0
    is_still: bool = False


@dataclass(frozen=True)
class Film:
    """Shots in a row.

    Attributes:
        shots: at least one.
        has_sound: a tone over the first half, then silence.
    """

    shots: tuple[Shot, ...]
    has_sound: bool = False

    @property
    def cuts(self) -> tuple[int, ...]:
        """First frames of the shots that come by a cut, but for the film's own."""
        starts = np.cumsum([shot.frames for shot in self.shots])[:-1].tolist()
        return tuple(
            start for start, shot in zip(starts, self.shots[1:], strict=True) if not shot.dissolve
        )

    @property
    def frames(self) -> int:
        """How many."""
        return sum(shot.frames for shot in self.shots)


FILMS: Final = {
    "cuts": Film((Shot(36), Shot(30, is_still=True), Shot(48)), has_sound=True),
    "one shot": Film((Shot(60),)),
    "a dissolve": Film((Shot(40), Shot(44, dissolve=10), Shot(30))),
}


def film(of: Film, rng: np.random.Generator, *, container: str = "mp4") -> tuple[Scene, bytes]:
    """A film in H.264, the scene of its first shot, the same bytes every time.

    Args:
        of: what it is made of.
        rng: draws its scenes.
        container: `mp4` or `matroska`.
    """
    scenes = [draw(rng, split="held_out") for _ in of.shots]
    tone = _tone(of.frames) if of.has_sound else None
    frames = _frames(of.shots, scenes, rng)
    return scenes[0], encoded(frames, SIZE_PX, fps=FPS, container=container, sound=tone)


def encoded(
    frames: Iterable[NDArray[np.uint8]],
    size_px: tuple[int, int],
    *,
    fps: int,
    container: str = "mp4",
    sound: NDArray[np.float32] | None = None,
) -> bytes:
    """Pictures in H.264, the same bytes every time.

    Args:
        frames: uint8 RGB (height, width, 3).
        size_px: width and height.
        fps: frames a second.
        container: `mp4` or `matroska`.
        sound: (1, n) at 16 kHz.
    """
    with tempfile.NamedTemporaryFile() as file:  # which the writer of an MP4 reads again
        options = _OPTIONS[container]
        with av.open(file.name, "w", format=container, options=options) as output:
            stream = output.add_stream("libx264", rate=fps, options=_ENCODING)
            stream.width, stream.height, stream.pix_fmt = *size_px, "yuv420p"
            stream.thread_count = 1  # more would give other bytes on another machine
            audio = output.add_stream("aac", rate=_SOUND_HZ) if sound is not None else None
            for number, pixels in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, fps)
                output.mux(stream.encode(picture))
            output.mux(stream.encode())
            if audio is not None and sound is not None:
                heard = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
                heard.sample_rate, heard.pts = _SOUND_HZ, 0
                output.mux(audio.encode(heard))
                output.mux(audio.encode())
        return Path(file.name).read_bytes()


def cut_short(content: bytes) -> bytes:
    """A download that broke off; the index stands first and promises the rest."""
    return content[: int(len(content) * KEPT_SHARE)]


def without_frames(content: bytes) -> bytes:
    """An MP4 that ends where its pictures would begin."""
    return content[: content.index(b"mdat") + 4]  # ISO/IEC 14496-12 §8.1.1


def told_longer(content: bytes) -> bytes:
    """A Matroska file whose header says a hundred times its length."""
    at = content.index(b"\x44\x89\x88") + 3  # RFC 9559 §5.1.2.10: Duration, of eight bytes
    (length,) = struct.unpack_from(">d", content, at)
    return content[:at] + struct.pack(">d", length * 100) + content[at + 8 :]


DAMAGED: Final = {  # by the error class that each must get
    "truncated_video": ("mp4", cut_short),
    "wrong_duration": ("matroska", told_longer),
    "no_frames": ("mp4", without_frames),
}


def _frames(
    shots: Sequence[Shot], scenes: Sequence[Scene], rng: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    before: NDArray[np.uint8] | None = None
    width, height = SIZE_PX
    for place, (shot, scene) in enumerate(zip(shots, scenes, strict=True)):
        wide = render(scene, rng, width_px=width + _PAN_PX * shot.frames, height_px=height)
        if place % 2:
            wide = wide.point(lambda level: level * _NIGHT)
        for number in range(shot.frames):
            view = _view(wide, 0 if shot.is_still else number)
            if before is not None and number < shot.dissolve:
                share = (number + 1) / (shot.dissolve + 1)
                view = (before * (1 - share) + view * share).astype(np.uint8)
            yield view
        before = view


def _view(wide: Image.Image, number: int) -> NDArray[np.uint8]:
    width, height = SIZE_PX
    left = _PAN_PX * number
    return np.asarray(wide.crop((left, 0, left + width, height)))


def _tone(frames: int) -> NDArray[np.float32]:
    """(1, n) float32: half tone, half silence."""
    count = frames * _SOUND_HZ // FPS
    wave = np.sin(2 * np.pi * _TONE_HZ / _SOUND_HZ * np.arange(count)).astype(np.float32) / 2
    wave[count // 2 :] = 0
    return np.asarray(wave[None])
