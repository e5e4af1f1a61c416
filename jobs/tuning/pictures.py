"""Images to measure speed on: drawn, or those of a folder."""

import io
from pathlib import Path
from typing import Final

import numpy as np

from jobs.demo import scenes
from jobs.runtime.errors import ConfigError
from udfs.image_codec import SUFFIXES

COUNT: Final = 200  # chosen: drawn in 6 s; each decoder meets all of them within a few turns
_SIZE_PX: Final = (512, 384)  # chosen: what img2dataset leaves of a photograph at border 384
_QUALITY: Final = 88  # chosen: common on the web
_MOST: Final = 2_000  # chosen: each process holds them
_MOST_BYTES: Final = 128 << 20  # chosen: likewise


def rendered(count: int = COUNT) -> list[bytes]:
    """JPEGs of rendered scenes, of 35 kB on average."""
    contents = []
    for number in range(count):
        rng = np.random.default_rng([3, number])
        scene = scenes.draw(rng, split="train")
        picture = scenes.render(scene, rng, width_px=_SIZE_PX[0], height_px=_SIZE_PX[1])
        with io.BytesIO() as file:
            picture.save(file, "JPEG", quality=_QUALITY)
            contents.append(file.getvalue())
    return contents


def in_folder(folder: Path) -> list[bytes]:
    """The first images of a folder and those below it, as they lie there.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    contents: list[bytes] = []
    held = 0
    try:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            if len(contents) == _MOST or held + path.stat().st_size > _MOST_BYTES:
                break
            contents.append(path.read_bytes())
            held += len(contents[-1])
    except OSError as error:
        raise ConfigError(f"--images got {error}; allowed a folder that can be read") from error
    if not contents:
        raise ConfigError(
            f"--images got {folder}, which holds no image of at most {_MOST_BYTES >> 20} MiB; "
            f"allowed a folder with {', '.join(sorted(SUFFIXES))}; leave it out for drawn ones"
        )
    return contents
