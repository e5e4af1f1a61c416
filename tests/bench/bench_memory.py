"""Pass 10 GB of tars through a cluster whose driver and executors have 1 GB each; JSON.

    make bench-memory
    .venv/bin/python tests/bench/bench_memory.py --gb 0.06 --large-gb 0.02 --tar-mb 10

The cluster is a standalone one on this machine: a master, and two workers of one core. `sluice
stage ingest` is submitted to it as the zip, with Spark's memory set and nothing else. No two
images have the same bytes, so all are stored; one of the tars is large, to be read by one task.

`memory` has the most that was resident in every five seconds, by kind of process, and `peak_mb`
the most of all; `largest_mb` is that of one process. The 1 GB is each JVM's heap, beside which it
holds code, threads and buffers. The workers of Python have no limit unless
`spark.executor.pyspark.memory` is set, which this does not: what they take is what is shown.
"""

import argparse
import json
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from tests import standalone_cluster
from tests.bench import surroundings, tars
from tests.bench.memory_over_time import Held, MemoryOverTime
from tests.bench.tars import Tar
from tests.standalone_cluster import Cluster

CACHE: Final = Path(".cache/bench")
CONF: Final = {"spark.driver.memory": "1g", "spark.executor.memory": "1g"}
WORKERS: Final = 2
EVERY_S: Final = 5.0
# The tars, bronze, and staging, which a batch holds beside bronze until it is over.
COPIES: Final = 3
SPARE_BYTES: Final = 2_000_000_000  # chosen: the pictures that are drawn, logs, shuffles, others
STORED: Final = """
    SELECT (SELECT count(*) FROM bronze.samples) AS samples,
           (SELECT count(*) FROM bronze.media) AS media,
           (SELECT sum(duration_s) FROM ops.batches WHERE stage = 'ingest') AS ingest_s,
           (SELECT count(*) FROM ops.batches WHERE stage = 'ingest') AS batches
"""


def require_room(size_bytes: float) -> None:
    """Stop before the disk is full, which others may write to as well."""
    needed, free = COPIES * size_bytes + SPARE_BYTES, shutil.disk_usage(CACHE).free
    if free < needed:
        raise SystemExit(
            f"{needed / 1e9:.1f} GB of disk are needed in {CACHE} for the tars, bronze and"
            f" staging, {free / 1e9:.1f} GB are free; make room or say --gb"
        )


def pass_through(at: Sequence[Tar], folder: Path) -> dict[str, Any]:
    """Ingest on a cluster, watched from outside.

    Args:
        at: all that lies in their folder.
        folder: for all that is made.
    """
    config = folder / "config.yaml"
    dump = {"name": "tars", "path": str(at[0].path.parent)}
    config.write_text(yaml.safe_dump({"warehouse": "warehouse", "dumps": [dump]}))
    workers = [folder / f"worker-{number}" for number in range(WORKERS)]
    here = psutil.Process()
    with standalone_cluster.started(folder, workers) as cluster:
        began = time.monotonic()
        with MemoryOverTime(here, {here.pid}, every_s=EVERY_S) as memory:
            submit(cluster, folder, "stage", "ingest", "--config", config)
        wall_s = time.monotonic() - began
        executors = sum(len(list(worker.glob("app-*/*"))) for worker in workers)
        asked = submit(cluster, folder, "sql", STORED, "--json", "--config", config)
    stored = json.loads(asked.splitlines()[-1])
    require_all(at, stored)
    mb = sum(tar.size_bytes for tar in at) / 1e6
    return {
        "wall_s": round(wall_s, 1),
        "ingest_s": round(stored["ingest_s"], 1),
        "mb_per_s": round(mb / stored["ingest_s"], 1),
        "batches": stored["batches"],
        "samples": stored["samples"],
        "executors_lost": executors - WORKERS,
        "peak_mb": memory.peak().mb,
        "largest_mb": memory.peak().largest_mb,
        "memory": rows(memory.series),
    }


def submit(cluster: Cluster, folder: Path, *arguments: str | Path) -> str:
    """Run a command of ours on the cluster; return what it printed."""
    with (folder / "log").open("a+") as log:
        done = subprocess.run(
            cluster.submission(*arguments, conf=CONF),
            cwd=folder,
            env=dict(cluster.environment),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        if done.returncode:
            log.seek(0)
            raise SystemExit(f"{arguments[0]} failed:\n{log.read()[-5000:]}\n{done.stdout[-2000:]}")
    return done.stdout


def require_all(at: Iterable[Tar], stored: dict[str, Any]) -> None:
    """Refuse figures of a run that lost an item, or met one twice."""
    items = sum(tar.items for tar in at)
    if not items == stored["samples"] == stored["media"]:
        raise SystemExit(f"{items} items became {stored}; figures mean nothing")


def rows(series: Iterable[Held]) -> list[str]:
    """A line each.

    >>> rows([Held(5.0, {"driver_jvm": 400}, {"driver_jvm": 400})])
    ['5 s: driver_jvm 400']
    """
    return [
        f"{held.at_s:.0f} s: {', '.join(f'{kind} {mb}' for kind, mb in held.mb.items())}"
        for held in series
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gb", type=float, default=10.0, help="of all tars")
    parser.add_argument("--large-gb", type=float, default=2.0, help="of the large one; 0: none")
    parser.add_argument("--tar-mb", type=float, default=100.0, help="of each other")
    args = parser.parse_args(argv)
    if not 0 <= args.large_gb < args.gb:
        parser.error(f"--large-gb got {args.large_gb:g}; allowed 0 to less than --gb")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    CACHE.mkdir(parents=True, exist_ok=True)
    require_room(1e9 * args.gb)
    large = [tars.items_in(1e9 * args.large_gb)] if args.large_gb else []
    others = max(1, round(1e3 * (args.gb - args.large_gb) / args.tar_mb))
    with tempfile.TemporaryDirectory(dir=CACHE.resolve()) as name:
        folder = Path(name)
        counts = [*large, *[tars.items_in(1e6 * args.tar_mb)] * others]
        at = tars.write(folder / "tars", CACHE / "photographs", counts)
        facts = surroundings.machine() | {
            "tars": len(at),
            "largest_tar_mb": round(max(tar.size_bytes for tar in at) / 1e6, 1),
            "mb": round(sum(tar.size_bytes for tar in at) / 1e6, 1),
            "items": sum(tar.items for tar in at),
            "conf": {**CONF, "spark.executor.pyspark.memory": None},
        }
        print(json.dumps(facts | pass_through(at, folder), indent=2))


if __name__ == "__main__":
    main()
