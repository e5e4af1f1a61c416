"""Measure the stage `fetch` on Spark against img2dataset over the same URLs, as JSON.

    make bench-fetch
    .venv/bin/python tests/bench/bench_fetch.py --images 2000 --repeats 1 --hanging

Both sides fetch JPEGs of 25 to 50 kB from ten hosts, nginx on this machine, hash them with SHA-256,
keep their bytes and write Parquet, in turns in the same run; both ask two cores for it. img2dataset
runs as its users run it, so its turns hold the start of its interpreter, which a turn over one URL
measures; Spark's session is warm, and reading the list of URLs (`ingest`) is timed by itself. CPU
time is that of all processes of a side; nginx counts for neither. `ratio` is img2dataset over
ours, the median of the pairs of turns: above 1, ours is the cheaper one. With `--hanging` one of
the hosts accepts connections and never answers.
"""

import argparse
import contextlib
import json
import logging
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs import ingest
from jobs.fetch import stage as fetch
from jobs.runtime import dumps, streams
from jobs.runtime.config import Config
from jobs.runtime.session import session
from jobs.runtime.tables import Warehouse, create_all
from schemas import samples
from tests import nginx
from tests.bench import jpegs, surroundings
from tests.bench.memory_over_time import MemoryOverTime
from tests.bench.process_kinds import cpu_s

CACHE: Final = Path(".cache/bench")
PEER: Final = Path(".cache/img2dataset-venv/bin/img2dataset")
SIZE_PX: Final = (384, 288)  # chosen: the size that img2dataset is asked for, so it resizes none
PROCESSES: Final = 2
# img2dataset's 64 threads: connections that one process has open at a time.
CONNECTIONS: Final = 64
HANGING_ADDRESS: Final = "127.0.0.2"
HOSTS: Final = tuple(f"127.0.0.{number}" for number in range(11, 21))  # URLs take turns
WARM_IMAGES: Final = 500  # chosen: starts Spark's workers and has the JVM compile


@dataclass(frozen=True)
class Turn:
    """What one pass over the URLs took."""

    images: int
    wall_s: float
    cpu_s: float
    peak_rss_mb: int
    ingest_s: float | None = None

    def figures(self) -> dict[str, float]:
        """What compares, and what explains it."""
        measured = {
            "wall_s": round(self.wall_s, 2),
            "cpu_s": round(self.cpu_s, 2),
            "images_per_s": round(self.images / self.wall_s, 1),
            "cpu_ms_per_image": round(1000 * self.cpu_s / self.images, 3),
            "peak_rss_mb": self.peak_rss_mb,
        }
        return measured | ({} if self.ingest_s is None else {"ingest_s": round(self.ingest_s, 2)})


@dataclass(frozen=True)
class Web:
    """What is to be fetched.

    Attributes:
        ports: that answer or hang.
        pid: of the server.
        urls: all of them.
        answering: how many give an image.
    """

    ports: tuple[int, ...]
    pid: int
    urls: tuple[str, ...]
    answering: int


@contextlib.contextmanager
def web(images: int, folder: Path, *, with_hanging: bool) -> Iterator[Web]:
    """The images on hosts of this machine; all of the first hang if asked for."""
    root = (CACHE / "jpegs").resolve()
    paths = jpegs.draw(root, images, width_px=SIZE_PX[0], height_px=SIZE_PX[1])
    with nginx.serving(root, folder, HOSTS) as server, hanging() as port:
        sites = [f"{host}:{server.port}" for host in HOSTS]
        if with_hanging:
            sites[0] = f"{HANGING_ADDRESS}:{port}"
        names = [path.relative_to(root) for path in paths]
        urls = [f"http://{site}/{name}" for site, name in zip(cycle(sites), names, strict=False)]
        answering = len(urls) - (len(urls[:: len(sites)]) if with_hanging else 0)
        yield Web((server.port, port), server.pid, tuple(urls), answering)


@contextlib.contextmanager
def hanging() -> Iterator[int]:
    """The port of a listener whose connections the kernel accepts and nobody answers."""
    with socket.create_server((HANGING_ADDRESS, 0), backlog=1 << 16) as listener:
        yield listener.getsockname()[1]


def write_list(path: Path, urls: Sequence[str]) -> None:
    """A table of URLs and captions, as both sides read it."""
    captions = [f"image {number}" for number in range(len(urls))]
    pq.write_table(pa.table({"url": list(urls), "caption": captions}), path)


def ours(spark: SparkSession, at: Web, urls: Sequence[str], folder: Path) -> Turn:
    """The list into a new warehouse, then everything fetched."""
    (folder / "dump").mkdir(parents=True)
    write_list(folder / "dump/urls.parquet", urls)
    config = configuration(folder, at.ports)
    warehouse = Warehouse(spark, config.warehouse)
    create_all(warehouse, "default")
    dumps.discover(warehouse, config, run_id="bench")
    started = time.monotonic()
    streams.run(warehouse, ingest.stage(config), run_id="bench")
    ingest_s = time.monotonic() - started
    here, others = psutil.Process(), {at.pid}
    spent_s, started = sum(cpu_s(here, others).values()), time.monotonic()
    with MemoryOverTime(here, others) as memory:
        streams.run(warehouse, fetch.stage(config), run_id="bench")
        wall_s = time.monotonic() - started
    spent_s = sum(cpu_s(here, others).values()) - spent_s
    return Turn(
        warehouse.read(samples.TABLE).count(), wall_s, spent_s, memory.peak().all_mb, ingest_s
    )


def configuration(folder: Path, ports: Sequence[int]) -> Config:
    """Manners that let a machine ask itself without a pause; all else as it comes."""
    return Config.model_validate(
        {
            "warehouse": str(folder / "warehouse"),
            "dumps": [{"name": "urls", "path": str(folder / "dump"), "format": "table"}],
            "spark": {"master": f"local[{PROCESSES}]"},
            "fetch": {
                "contact": "mailto:bench@example.org",
                "host_rate": 100_000.0,
                "host_concurrency": CONNECTIONS,
                "obeys_robots": True,
                "allow_networks": ["127.0.0.0/8"],
                "allow_ports": list(ports),
            },
        }
    )


def peers(urls: Sequence[str], folder: Path) -> Turn:
    """img2dataset over the list, from its start to its end."""
    folder.mkdir(parents=True)
    write_list(folder / "urls.parquet", urls)
    command = [
        *(str(PEER), f"--url_list={folder}/urls.parquet", "--input_format=parquet"),
        *("--url_col=url", "--caption_col=caption", "--output_format=parquet"),
        *(f"--output_folder={folder}/out", f"--processes_count={PROCESSES}"),
        *(f"--thread_count={CONNECTIONS}", f"--image_size={max(SIZE_PX)}"),
        *("--resize_mode=keep_ratio", "--skip_reencode=True"),
    ]
    started = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
        )
    with MemoryOverTime(psutil.Process(process.pid)) as memory:
        _, status, usage = os.wait4(process.pid, 0)  # with all that it has waited for itself
        wall_s = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"img2dataset failed:\n{(folder / 'log').read_text()[-2000:]}")
    stats = [json.loads(path.read_text()) for path in (folder / "out").glob("*_stats.json")]
    images = sum(shard["successes"] for shard in stats)
    return Turn(images, wall_s, usage.ru_utime + usage.ru_stime, memory.peak().all_mb)


def compare(images: int, repeats: int, *, with_hanging: bool) -> dict[str, Any]:
    """Run both sides in turns, after a short pass of ours that does not count."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.resolve()) as name:
        folder = Path(name)
        spark = session(configuration(folder, ()), app="bench")
        pairs = []
        with web(images, folder / "nginx", with_hanging=False) as at:
            ours(spark, at, at.urls[:WARM_IMAGES], folder / "warm")
            start = peers(at.urls[:1], folder / "start")
        for number in range(repeats):
            # Anew for each turn: what hung before still waits to be accepted.
            with web(images, folder / f"nginx-{number}-ours", with_hanging=with_hanging) as at:
                a = checked(at, ours(spark, at, at.urls, folder / f"ours-{number}"))
            with web(images, folder / f"nginx-{number}-peers", with_hanging=with_hanging) as at:
                b = checked(at, peers(at.urls, folder / f"peers-{number}"))
            logging.info("turn %d of %d: %s %s", number + 1, repeats, a.figures(), b.figures())
            pairs.append((a, b))
        spark.stop()
        return summary(pairs, start)


def checked(at: Web, turn: Turn) -> Turn:
    """The turn, if it gave every image that there is."""
    if turn.images != at.answering:
        raise SystemExit(f"{turn.images} of {at.answering} images fetched; figures mean nothing")
    return turn


def summary(pairs: Sequence[tuple[Turn, Turn]], start: Turn) -> dict[str, Any]:
    """Medians of each side and of the ratios within the pairs.

    Args:
        pairs: ours and img2dataset's.
        start: img2dataset's over one URL.
    """
    sides = dict(zip(("sluice", "img2dataset"), zip(*pairs, strict=True), strict=True))
    rates = {side: [turn.figures() for turn in turns] for side, turns in sides.items()}
    medians = {
        side: {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        for side, turns in rates.items()
    }
    quotients = [
        {
            "wall": peer.wall_s / own.wall_s,
            "cpu": peer.cpu_s / own.cpu_s,
            "wall_without_start": (peer.wall_s - start.wall_s) / own.wall_s,
            "cpu_without_start": (peer.cpu_s - start.cpu_s) / own.cpu_s,
        }
        for own, peer in pairs
    ]
    ratio = {name: round(statistics.median(q[name] for q in quotients), 3) for name in quotients[0]}
    return medians | {"img2dataset_start": start.figures(), "ratio": ratio}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20_000, help="distinct ones")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of turns")
    parser.add_argument("--hanging", action="store_true", help="one host never answers")
    args = parser.parse_args(argv)
    surroundings.log()
    facts = surroundings.machine() | {
        "urls": args.images,
        "hosts": len(HOSTS),
        "hanging": int(args.hanging),
        "repeats": args.repeats,
        "start_included": {"sluice": False, "img2dataset": True},
    }
    figures = compare(args.images, args.repeats, with_hanging=args.hanging)
    print(json.dumps(facts | figures, indent=2))


if __name__ == "__main__":
    main()
