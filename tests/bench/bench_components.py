"""Cluster a chain, a star and random links on a cluster whose driver has 512 MB; JSON.

    .venv/bin/python tests/bench/bench_components.py
    .venv/bin/python tests/bench/bench_components.py --shapes star --links 100000 --limit 20000

The cluster is a standalone one on this machine: a master, and two workers of one core and 1 GB.
Each shape is a submission of its own. `wall_s` is that of `clusters` alone; `cpu_s` is of all
processes of the submission, start-up, making the links and checking the result included, by kind.
`largest_mb` is the most that was resident in one process of each kind.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from jobs.dedup.components import LIMIT
from tests import standalone_cluster
from tests.bench import process_kinds
from tests.bench.memory_over_time import MemoryOverTime
from tests.standalone_cluster import Cluster

CONF: Final = {
    "spark.driver.memory": "512m",
    "spark.executor.memory": "700m",  # of the 1 GB of a worker
    "spark.ui.enabled": "false",
}
LINKS: Final = {"chain": 100_000, "star": 1_000_000, "random": 5_000_000}
SHUFFLE_PARTITIONS: Final = 8  # chosen: four a core
_INSIDE: Final = Path(__file__).with_name("link_shapes.py")


def measure(cluster: Cluster, folder: Path, shape: str, links: int, limit: int) -> dict[str, Any]:
    """One submission, watched from outside; its result is refused if it is wrong."""
    command = cluster.submission(conf=CONF)
    launcher = next(n for n, part in enumerate(command) if part.endswith("launch.py"))
    arguments = (str(_INSIDE), shape, str(links), str(limit), str(SHUFFLE_PARTITIONS))
    here = psutil.Process()
    cpu_s: dict[str, float] = {}
    before = process_kinds.cpu_s(here)
    with (
        MemoryOverTime(here, {here.pid}) as memory,
        (folder / "told").open("w+") as told,
        (folder / "log").open("w") as log,
    ):
        running = subprocess.Popen(
            [*command[:launcher], *arguments],
            cwd=folder,
            env=dict(cluster.environment),
            stdout=told,
            stderr=log,
        )
        while running.poll() is None:
            # Executors end with the submission, and what they spent would be the workers'.
            cpu_s |= process_kinds.cpu_s(here)
            time.sleep(1)
        told.seek(0)
        lines = told.read().splitlines()
    if running.returncode:
        raise SystemExit(f"{shape} failed:\n{(folder / 'log').read_text()[-5000:]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    if (
        figures["links_between_clusters"]
        or figures["forest"] != figures["nodes"] - figures["clusters"]
        or (shape != "random" and (figures["nodes"], figures["clusters"]) != (links + 1, 1))
    ):
        raise SystemExit(f"{shape} of {links} links became {figures}; figures mean nothing")
    spent = {k: round(v - before.get(k, 0.0), 1) for k, v in cpu_s.items()}
    return (
        {"links": links, "limit": limit}
        | figures
        | {
            "cpu_s": spent,
            "largest_mb": memory.peak().largest_mb,
        }
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default=",".join(LINKS))
    parser.add_argument("--links", type=int, help="of each; default: " + json.dumps(LINKS))
    parser.add_argument("--limit", type=int, default=LIMIT, help="links that a task may hold")
    args = parser.parse_args(argv)
    shapes = args.shapes.split(",")
    if not set(shapes) <= LINKS.keys():
        parser.error(f"--shapes got {args.shapes}; allowed {','.join(LINKS)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers = [folder / "worker-1", folder / "worker-2"]
        with standalone_cluster.started(folder, workers) as cluster:
            for shape in shapes:
                links = args.links or LINKS[shape]
                found = measure(cluster, folder, shape, links, args.limit)
                print(json.dumps({shape: found}, indent=2), flush=True)


if __name__ == "__main__":
    main()
