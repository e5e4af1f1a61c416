"""The least dump with trouble: two shards, one compressed, copies across and within, a video."""

import gzip
import io
import itertools
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from PIL import Image
from pyspark.sql import SparkSession

from jobs import cycle
from jobs.demo import scenes, trouble
from jobs.demo.trouble import File
from jobs.runtime.config import load
from jobs.runtime.tables import create_all
from tests import equality, small_spark
from tests.videos import video

SIDES_PX: Final = (260, 200)
SHARDS: Final = ("a.tar", "b.tar.gz")
Item = tuple[File, ...]  # an image and its text, or less
# Its video is shorter than clips are, and stands still.
_EVERY_CLIP: Final = {
    "name": "clips_all",
    "overrides": {"length": {"min": 0}, "motion": {"max": 1}},
}


@dataclass(frozen=True)
class Uninterrupted:
    """What one cycle over the shards, one of them a batch, left, and stood on before each stage."""

    dump: Path
    before: dict[str, Path]
    contents: dict[str, Counter[str]]


def write(folder: Path) -> None:
    """Write the shards; the same bytes every time."""
    folder.mkdir(parents=True)
    for name, items in zip(SHARDS, _contents(), strict=True):
        shard = io.BytesIO()
        with tarfile.open(fileobj=shard, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for number, file in ((n, file) for n, item in enumerate(items) for file in item):
                member = tarfile.TarInfo(f"{number:03d}.{file.extension}")
                member.size = len(file.content)
                tar.addfile(member, io.BytesIO(file.content))
        content = shard.getvalue()
        if name.endswith(".gz"):
            content = gzip.compress(content, mtime=0)
        (folder / name).write_bytes(content)


def config(folder: Path, dump: Path, *, shards_per_batch: int = 1) -> Path:
    """Write a configuration: two cores, the rest as by default."""
    settings = {
        "warehouse": "warehouse",
        "dumps": [{"name": "two", "path": str(dump)}],
        "recipe": {"overrides": {"shorter_side": {"min": 64}}},
        "video": {"recipes": [_EVERY_CLIP]},
        "quality": {"max_quarantined_share": 0.5},
        "spark": {"master": "local[2]", "shuffle_partitions": 2, "conf": small_spark.CONF},
        "ingest": {"shards_per_batch": shards_per_batch},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def run(folder: Path, spark: SparkSession) -> Uninterrupted:
    """Every stage once in this process; no record, no report."""
    write(folder / "dump")
    planned = cycle.plan(load(str(config(folder, folder / "dump"))), spark)
    before = {name: folder / f"before_{name}" for name in cycle.STAGE_NAMES}
    Path(planned.warehouse.root).mkdir()
    for name, snapshot in before.items():
        shutil.copytree(planned.warehouse.root, snapshot)
        create_all(planned.warehouse, planned.recipe.name)
        cycle.run_stage(planned, name, run_id="uninterrupted")
    return Uninterrupted(folder / "dump", before, equality.contents(planned.warehouse))


def _contents() -> tuple[Sequence[Item], ...]:
    drawn = _drawn(np.random.default_rng(3))
    pictures, captions = zip(*itertools.islice(drawn, 12), strict=True)
    images = [trouble.encode(picture, "jpg", quality=90) for picture in pictures]
    sound = list(zip(images, captions, strict=True))
    halved = trouble.resized(pictures[1])
    other_words = _text(f"{captions[2].content.decode()}, drawn")
    return (
        [
            *sound[:4],
            sound[6],
            (File("mp4", video()), _text("moves")),
            (trouble.truncated_jpeg(pictures[4]), captions[4]),
            (sound[4][0],),
        ],
        [
            sound[5],
            sound[7],
            *sound[9:],
            # A copy of the earlier shard, one of this shard, a picture under another caption.
            sound[0],
            sound[5],
            (sound[2][0], other_words),
            (halved, captions[1]),
            (trouble.reencoded(pictures[6]), captions[6]),
            (sound[8][0], _text("no")),
        ],
    )


def _drawn(rng: np.random.Generator) -> Iterator[tuple[Image.Image, File]]:
    width_px, height_px = SIDES_PX
    while True:
        scene = scenes.draw(rng, split="held_out")
        picture = scenes.render(scene, rng, width_px=width_px, height_px=height_px)
        yield picture, _text(scenes.caption(scene, rng))


def _text(text: str) -> File:
    return File("txt", text.encode())
