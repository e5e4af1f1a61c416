"""JPEGs that weigh what photographs do and are all different, made quickly."""

import io
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.demo import scenes

_SCENES: Final = 300  # chosen: drawing costs ten times what noise and compression do
_NOISE: Final = 8.0  # chosen: as a telephone's camera indoors; 384 x 288 px weigh 25 to 40 kB
_QUALITY: Final = 88  # chosen: common on the web


def photograph(number: int, *, width_px: int, height_px: int) -> bytes:
    """A rendered scene under noise of its own; equal arguments, equal bytes."""
    scene = _scene(number % _SCENES, width_px, height_px)
    noise = _noise(4 * scene.size)
    start = int(np.random.default_rng(number).integers(noise.size - scene.size))
    pixels = scene + noise[start : start + scene.size].reshape(scene.shape)
    with io.BytesIO() as file:
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()


def draw(folder: Path, count: int, *, width_px: int, height_px: int) -> list[Path]:
    """So many files under a folder, a thousand to a folder of its own; drawn once."""
    paths = [folder / f"{number // 1000:03d}/{number:06d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(photograph(number, width_px=width_px, height_px=height_px))
            part.rename(path)
    _scene.cache_clear()  # what is measured afterwards is not to carry it
    _noise.cache_clear()
    return paths


@cache
def _scene(number: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(number)
    scene = scenes.draw(rng, split="train")
    return np.asarray(scenes.render(scene, rng, width_px=width_px, height_px=height_px))


@cache
def _noise(count: int) -> NDArray[np.int16]:
    return np.random.default_rng(0).normal(0, _NOISE, count).astype(np.int16)
