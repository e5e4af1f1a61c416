"""A small dump, and another shard of it with one item that is to be taken down."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
import yaml

from jobs.demo import scenes, trouble
from tests import small_spark

# Neither compresses, nor occurs by chance.
MARK: Final = b"7f1d0a6e-planted-5b9c-bytes-2e44"
CAPTION: Final = "a zinnia quokka beside the vermilion planetarium of Ouagadougou"


def picture(seed: int) -> bytes:
    """A JPEG; the same for the same seed."""
    rng = np.random.default_rng(seed)
    scene = scenes.draw(rng, split="held_out")
    drawn = scenes.render(scene, rng, width_px=260, height_px=200)
    return trouble.encode(drawn, "jpg", quality=90).content


def marked() -> bytes:
    """The planted image: a comment in it says so."""
    content = picture(99)
    comment = b"\xff\xfe" + (len(MARK) + 2).to_bytes(2, "big") + MARK
    return content[:2] + comment + content[2:]


def write(shard: Path, items: list[tuple[bytes, str]]) -> None:
    """A tar of images and their texts; the same bytes every time."""
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (image, text) in enumerate(items):
            for extension, content in (("jpg", image), ("txt", text.encode())):
                member = tarfile.TarInfo(f"{number:03d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def config(folder: Path, **dumps: Path) -> Path:
    """A configuration: two cores, kinds of exact duplicates and of perceptual hashes."""
    settings = {
        "warehouse": "warehouse",
        "dumps": [{"name": name, "path": str(path)} for name, path in dumps.items()],
        "recipe": {"overrides": {"alignment": {"min": -1}}},
        "quality": {"max_quarantined_share": 0.5},
        "spark": {"master": "local[2]", "shuffle_partitions": 2, "conf": small_spark.CONF},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def lying(root: Path, *needles: bytes) -> list[str]:
    """Files of a folder that hold one of the needles, as they are or within Parquet."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return sorted(
        str(path.relative_to(root))
        for path in files
        if any(needle in content for content in _contents(path) for needle in needles)
    )


def _contents(path: Path) -> Iterator[bytes]:
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield repr(pq.ParquetFile(path).read().to_pydict()).encode()
