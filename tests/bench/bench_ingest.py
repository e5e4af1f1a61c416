"""Measure the stage `ingest` on WebDataset tars against a plain loop of Python, as JSON.

    make bench-ingest
    .venv/bin/python tests/bench/bench_ingest.py --gb 0.06 --tar-mb 10 --repeats 1 --cores 2

Both sides read the same tars of JPEGs of 100 kB, from memory: the files are read once before each
turn. The loop reads every member with `tarfile` and takes MD5, SHA-1 and SHA-256 of every image,
in one process; ours is the stage over a new warehouse, in a session that is warm. Neither
start-up nor discovery counts. CPU time is that of all processes of a side, MB are millions of
bytes of tar. `ratio` is ours over the loop's in MB per CPU second, the median of the pairs of
turns: 1 would say that all else, such as storing the bytes, costs nothing. A batch has a cost that
does not grow with it: before each turn of ours goes one over a few MB, `small`, and
`ratio_beyond_small` is of what the turn read and spent beyond that. `scaling` is ours over the
largest number of cores against the smallest in MB per second. Mode `reference` stores no
bytes: `ingest.max_inline_bytes: 0`.
"""

import argparse
import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from pyspark.sql import SparkSession

from jobs import ingest
from jobs.runtime import dumps, streams
from jobs.runtime.config import Config
from jobs.runtime.session import session
from jobs.runtime.tables import Warehouse, create_all
from schemas import samples
from tests.bench import process_kinds, surroundings, tars
from tests.bench.memory_over_time import MemoryOverTime
from tests.bench.tars import Tar

CACHE: Final = Path(".cache/bench")
MODES: Final[dict[str, dict[str, Any]]] = {"stored": {}, "reference": {"max_inline_bytes": 0}}
WARM_ITEMS: Final = 200  # chosen: 20 MB, a tar for each core; starts the workers, loads classes
# Measured: passes over 20 MB take 30, 19, 15, 12 and 11 s of CPU, nearly all the JVM's compiler.
WARM_UPS: Final = 6


@dataclass(frozen=True)
class Turn:
    """What one pass over the tars took."""

    mb: float
    wall_s: float
    cpu_s: float
    cpu_s_by_kind: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: int | None = None

    @property
    def mb_per_cpu_s(self) -> float:
        """What compares."""
        return self.mb / self.cpu_s

    @property
    def mb_per_s(self) -> float:
        """Of the wall."""
        return self.mb / self.wall_s

    def beyond(self, small: "Turn") -> "Turn":
        """What it took more, for as much more as it read."""
        return Turn(self.mb - small.mb, self.wall_s - small.wall_s, self.cpu_s - small.cpu_s)

    def figures(self) -> dict[str, float]:
        """What compares, and what explains it."""
        measured = {
            "wall_s": round(self.wall_s, 2),
            "cpu_s": round(self.cpu_s, 2),
            "mb_per_cpu_s": round(self.mb_per_cpu_s, 1),
            "mb_per_s": round(self.mb_per_s, 1),
        }
        profile = {f"cpu_s_{kind}": round(spent, 2) for kind, spent in self.cpu_s_by_kind.items()}
        peak = {} if self.peak_rss_mb is None else {"peak_rss_mb": self.peak_rss_mb}
        return measured | profile | peak


def ours(spark: SparkSession, at: Sequence[Tar], folder: Path, mode: str, cores: int) -> Turn:
    """The tars into a new warehouse, which is removed afterwards."""
    config = configuration(folder, at, mode, cores)
    warehouse = Warehouse(spark, config.warehouse)
    create_all(warehouse, "default")
    dumps.discover(warehouse, config, run_id="bench")
    mb = read_once(at)
    here = psutil.Process()
    before, started = process_kinds.cpu_s(here), time.monotonic()
    with MemoryOverTime(here) as memory:
        streams.run(warehouse, ingest.stage(config), run_id="bench")
        wall_s = time.monotonic() - started
    after = process_kinds.cpu_s(here)
    require_all(warehouse, at)
    shutil.rmtree(folder)
    spent = {kind: after[kind] - before.get(kind, 0.0) for kind in sorted(after)}
    return Turn(mb, wall_s, sum(spent.values()), spent, memory.peak().all_mb)


def configuration(folder: Path, at: Sequence[Tar], mode: str, cores: int) -> Config:
    """As a user has it."""
    return Config.model_validate(
        {
            "warehouse": str(folder / "warehouse"),
            "dumps": [{"name": "tars", "path": str(at[0].path.parent.resolve())}],
            "spark": {"master": f"local[{cores}]"},
            "ingest": MODES[mode],
        }
    )


def require_all(warehouse: Warehouse, at: Sequence[Tar]) -> None:
    """Refuse figures of a turn that lost an item, or met one twice."""
    stored = warehouse.read(samples.TABLE).select("media_sha256")
    items, found, images = sum(tar.items for tar in at), stored.count(), stored.distinct().count()
    if not items == found == images:
        raise SystemExit(
            f"{found} of {items} items in {samples.TABLE}, {images} images; figures mean nothing"
        )


def bare(at: Sequence[Tar]) -> Turn:
    """A loop that reads every member and hashes every image."""
    mb = read_once(at)
    images = 0
    spent_s, started = time.thread_time(), time.monotonic()
    for tar in at:
        with tarfile.open(tar.path, "r|") as archive:
            for member in archive:
                opened = archive.extractfile(member)
                assert opened is not None
                content = opened.read()
                if member.name.endswith(".jpg"):
                    images += 1
                    for digest in (hashlib.md5, hashlib.sha1, hashlib.sha256):
                        digest(content).hexdigest()
    spent_s, wall_s = time.thread_time() - spent_s, time.monotonic() - started
    assert images == sum(tar.items for tar in at)
    return Turn(mb, wall_s, spent_s)


def read_once(at: Sequence[Tar]) -> float:
    """Bring the files into the page cache; return their MB."""
    for tar in at:
        with tar.path.open("rb") as file:
            while file.read(1 << 20):
                pass
    return sum(tar.size_bytes for tar in at) / 1e6


def compare(
    mode: str, cores: int, at: Sequence[Tar], warm: Sequence[Tar], repeats: int
) -> dict[str, Any]:
    """Both sides in turns on so many cores, after passes of ours that do not count.

    Binds this process to the cores, so it must be one of its own.
    """
    surroundings.log("sluice")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    with tempfile.TemporaryDirectory(dir=CACHE.resolve()) as name:
        folder = Path(name)
        spark = session(configuration(folder / "session", at, mode, cores), app="bench")
        warm_ups = [ours(spark, warm, folder / "warm", mode, cores) for _ in range(WARM_UPS)]
        turns = []
        for number in range(repeats):
            small = ours(spark, warm, folder / "small", mode, cores)
            turns.append((small, ours(spark, at, folder / "ours", mode, cores), bare(at)))
            figures = [turn.figures() for turn in turns[-1]]
            logging.info("%s, %d cores, turn %d: %s", mode, cores, number + 1, figures)
        spark.stop()
    return summary(turns) | {"warm_ups": [turn.figures() for turn in warm_ups]}


def summary(turns: Sequence[tuple[Turn, Turn, Turn]]) -> dict[str, Any]:
    """Medians of each side and of the ratios within the turns.

    Args:
        turns: the small one of ours, ours, and the loop's.
    """
    sides = dict(zip(("small", "sluice", "loop"), zip(*turns, strict=True), strict=True))
    figures = {side: [turn.figures() for turn in of_side] for side, of_side in sides.items()}
    medians = {side: _medians(of_side) for side, of_side in figures.items()}
    ratios = [own.mb_per_cpu_s / loop.mb_per_cpu_s for _, own, loop in turns]
    beyond = [own.beyond(small).mb_per_cpu_s / loop.mb_per_cpu_s for small, own, loop in turns]
    return medians | {
        "ratio": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "ratio_beyond_small": round(statistics.median(beyond), 4),
    }


def _medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    # A kind of process may have been met in one turn only.
    names = dict.fromkeys(name for turn in turns for name in turn)
    return {n: round(statistics.median(turn.get(n, 0.0) for turn in turns), 2) for n in names}


def measure(
    modes: Sequence[str],
    cores: Sequence[int],
    at: Sequence[Tar],
    warm: Sequence[Sequence[Tar]],
    repeats: int,
) -> dict[str, Any]:
    """Mode -> cores -> figures; each in a process, hence a JVM, of its own."""
    found: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    for mode in modes:
        of_mode: dict[str, Any] = {}
        for count, small in zip(cores, warm, strict=True):
            with ProcessPoolExecutor(1, mp_context=context) as process:
                done = process.submit(compare, mode, count, at, small, repeats)
                of_mode[f"cores_{count}"] = done.result()
        if len(cores) > 1:
            most, least = (
                of_mode[f"cores_{count}"]["sluice"] for count in (max(cores), min(cores))
            )
            of_mode["scaling"] = round(most["mb_per_s"] / least["mb_per_s"], 3)
        found[mode] = of_mode
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=2.0, help="of tars")
    parser.add_argument("--tar-mb", type=float, default=100.0, help="of each tar")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of turns")
    parser.add_argument("--modes", default="stored", help=f"of {','.join(MODES)}")
    parser.add_argument("--cores", default="1,2", help="each measured by itself")
    args = parser.parse_args(argv)
    modes, cores = args.modes.split(","), [int(count) for count in args.cores.split(",")]
    if not set(modes) <= MODES.keys():
        parser.error(f"--modes got {args.modes}; allowed {','.join(MODES)}")
    if not 1 <= min(cores) <= max(cores) <= len(os.sched_getaffinity(0)):
        parser.error(f"--cores got {args.cores}; allowed 1 to {len(os.sched_getaffinity(0))}")
    each = tars.items_in(1e6 * args.tar_mb)
    count = max(1, round(1e3 * args.gb / args.tar_mb))
    drawn = CACHE / "photographs"
    at = tars.write(CACHE / f"tars/{count}-of-{each}", drawn, [each] * count)
    warm = [tars.write(CACHE / f"tars/warm-{n}", drawn, [WARM_ITEMS // n] * n) for n in cores]
    facts = surroundings.machine() | {
        "tars": count,
        "items": sum(tar.items for tar in at),
        "mb": round(sum(tar.size_bytes for tar in at) / 1e6, 1),
        "repeats": args.repeats,
    }
    print(json.dumps(facts | measure(modes, cores, at, warm, args.repeats), indent=2))


if __name__ == "__main__":
    main()
