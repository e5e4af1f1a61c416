"""Fetch from many hosts in one run of the stage `fetch` on Spark, and watch the memory, as JSON.

    make bench-hosts
    .venv/bin/python tests/bench/bench_many_hosts.py --urls 10000 --hosts 50

The hosts are names that a name server on loopback leads to nginx on this machine, but two whose
connections are refused and one that accepts them and never answers. One URL in a hundred is one
of nothing. Each URL is its own, but few thousand images stand behind them. The run fails unless
every row is accounted for, with the class that its host or URL was made for, and every URL was
asked for once. `rss_mb` has resident memory over the time of the stage, as rows of seconds, MB of
the driver's JVM, of the Python workers and of all processes; `workers_mb` compares its ends. CPU
time is that of the same processes; nginx counts for neither.
"""

import argparse
import contextlib
import json
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import mean
from typing import Any, Final

import psutil
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import ingest
from jobs.fetch import stage as fetch
from jobs.runtime import dumps, streams
from jobs.runtime.config import Config
from jobs.runtime.session import session
from jobs.runtime.tables import Warehouse, create_all
from schemas import batches, fetches, quarantine, rejects, samples
from tests import hostile_web, nginx
from tests.bench import jpegs, surroundings
from tests.bench.bench_fetch import CACHE, HANGING_ADDRESS, SIZE_PX, hanging, write_list
from tests.bench.memory_over_time import Held, MemoryOverTime
from tests.bench.process_kinds import DRIVER_JVM, PYTHON_WORKERS, cpu_s

PROCESSES: Final = 2
IMAGES: Final = 2000  # chosen: drawn in a minute, kept for the next run
REFUSING: Final = 2  # hosts
REFUSING_ADDRESS: Final = "127.0.0.3"  # nothing listens there
MISSING_SHARE: Final = 100  # one URL in so many
LOOKS_S: Final = 5.0
OK: Final = {fetches.OK}
GONE: Final = {"http_gone"}
REFUSED: Final = {"connection_failed"}
SILENT: Final = {"deadline_passed", "host_unresponsive"}


@dataclass(frozen=True)
class Web:
    """What is to be fetched.

    Attributes:
        ports: that answer or hang.
        pid: of the server.
        nameserver: that knows the hosts.
        urls: url -> the outcomes that are right for it.
    """

    ports: tuple[int, ...]
    pid: int
    nameserver: str
    urls: Mapping[str, set[str]]


@contextlib.contextmanager
def web(urls: int, hosts: int, folder: Path) -> Iterator[Web]:
    """The hosts, on this machine; their URLs take turns."""
    root = (CACHE / "jpegs").resolve()
    drawn = jpegs.draw(root, min(urls, IMAGES), width_px=SIZE_PX[0], height_px=SIZE_PX[1])
    paths = [str(path.relative_to(root)) for path in drawn]
    names = [f"h{number:03d}.example.test" for number in range(hosts)]
    silent, *refusing = names[-1 - REFUSING :]
    with (
        nginx.serving(root, folder) as server,
        hanging() as port,
        hostile_web.running() as resolving,
    ):
        resolving.names |= {silent: [HANGING_ADDRESS]}
        resolving.names |= {name: [REFUSING_ADDRESS] for name in refusing}
        sites = {f"http://{name}:{server.port}": OK for name in names[: -1 - REFUSING]}
        sites |= {f"http://{name}:{server.port}": REFUSED for name in refusing}
        sites |= {f"http://{silent}:{port}": SILENT}
        nameserver = f"127.0.0.1:{resolving.names_port}"
        yield Web((server.port, port), server.pid, nameserver, in_turns(urls, sites, paths))


def in_turns(urls: int, sites: Mapping[str, set[str]], paths: Sequence[str]) -> dict[str, set[str]]:
    """So many URLs, a site after the other, with the outcomes that are right for them."""
    missing = set(random.Random(0).sample(range(urls), urls // MISSING_SHARE))
    turns = zip(range(urls), cycle(sites.items()), cycle(paths), strict=False)
    made = {}
    for number, (site, right), path in turns:
        is_gone = number in missing
        # The server ignores the query.
        url = f"{site}/{'missing.jpg' if is_gone else path}?n={number}"
        made[url] = GONE if is_gone and right is OK else right
    return made


def configuration(folder: Path, at: Web) -> Config:
    """A pace that a machine may ask itself at; all else as it comes."""
    return Config.model_validate(
        {
            "warehouse": str(folder / "warehouse"),
            "dumps": [{"name": "urls", "path": str(folder / "dump"), "format": "table"}],
            "spark": {"master": f"local[{PROCESSES}]"},
            "fetch": {
                "contact": "mailto:bench@example.org",
                "host_rate": 100_000.0,
                "allow_networks": ["127.0.0.0/8"],
                "allow_ports": list(at.ports),
                "nameservers": [at.nameserver],
            },
        }
    )


def measure(urls: int, hosts: int) -> dict[str, Any]:
    """One run over all URLs in a new warehouse."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=CACHE.resolve()) as name,
        web(urls, hosts, Path(name) / "nginx") as at,
    ):
        folder = Path(name)
        config = configuration(folder, at)
        (folder / "dump").mkdir()
        write_list(folder / "dump/urls.parquet", list(at.urls))
        spark = session(config, app="bench")
        try:
            return run(spark, config, at)
        finally:
            spark.stop()


def run(spark: SparkSession, config: Config, at: Web) -> dict[str, Any]:
    """The list into the warehouse, then everything fetched and accounted for."""
    warehouse = Warehouse(spark, config.warehouse)
    create_all(warehouse, "default")
    dumps.discover(warehouse, config, run_id="bench")
    started = time.monotonic()
    streams.run(warehouse, ingest.stage(config), run_id="bench")
    ingest_s = time.monotonic() - started
    here, others = psutil.Process(), {at.pid}
    spent_s, started = sum(cpu_s(here, others).values()), time.monotonic()
    with MemoryOverTime(here, others, every_s=LOOKS_S) as memory:
        streams.run(warehouse, fetch.stage(config), run_id="bench")
        wall_s = time.monotonic() - started
    spent_s = sum(cpu_s(here, others).values()) - spent_s
    measured = {
        "ingest_s": round(ingest_s, 2),
        "wall_s": round(wall_s, 2),
        "urls_per_s": round(len(at.urls) / wall_s, 1),
        "cpu_ms_per_url": round(1000 * spent_s / len(at.urls), 3),
        "peak_rss_mb": memory.peak().all_mb,
        "workers_mb": ends(memory.series),
        "rss_mb": [
            [held.at_s, held.mb.get(DRIVER_JVM, 0), held.mb.get(PYTHON_WORKERS, 0), held.all_mb]
            for held in memory.series
        ],
    }
    logging.info("%s", measured)  # before what may end a run of many minutes
    return accounts(warehouse, at.urls) | measured


def accounts(warehouse: Warehouse, urls: Mapping[str, set[str]]) -> dict[str, Any]:
    """What became of the URLs.

    Raises:
        SystemExit: a row is missing or stands twice, or an outcome is not the right one.
    """
    names = ("in", "kept", "rejected", "quarantined")
    (row,) = (
        warehouse.read(batches.TABLE)
        .where(F.col("stage") == fetch.NAME)
        .agg(F.count("*").alias("batches"), *(F.sum(f"rows_{n}").alias(n) for n in names))
        .collect()
    )
    rows = {name: row[name] for name in names}
    _require(rows["in"] == len(urls), f"{rows['in']} rows in of {len(urls)}")
    stored = {
        "kept": warehouse.read(samples.TABLE).count(),
        "rejected": warehouse.read(rejects.TABLE).count(),
        "quarantined": warehouse.read(quarantine.TABLE).count(),
    }
    _require({"in": sum(stored.values())} | stored == rows, f"{rows} met, {stored} stored")
    found = warehouse.read(fetches.TABLE).select("url", "outcome").collect()
    times = Counter(url for url, _ in found)
    _require(times == Counter(urls.keys()), "an URL was not asked for, or twice")
    wrong = [(url, outcome) for url, outcome in found if outcome not in urls[url]]
    _require(not wrong, f"{len(wrong)} outcomes are wrong, the first {wrong[:3]}")
    outcomes = Counter(outcome for _, outcome in found)
    _require(outcomes[fetches.OK] == rows["kept"], "kept is not what was fetched")
    return {"batches": row.batches, "rows": rows, "outcomes": dict(outcomes.most_common())}


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"{otherwise}; figures mean nothing")


def ends(series: Sequence[Held]) -> dict[str, float]:
    """Mean memory of the workers over the first and the last quarter of the time."""
    quarter = max(1, len(series) // 4)
    first, last = (
        mean(held.mb.get(PYTHON_WORKERS, 0) for held in part)
        for part in (series[:quarter], series[-quarter:])
    )
    return {"first_quarter": round(first), "last_quarter": round(last)}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line; ``--help`` lists the settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--urls", type=int, default=100_000, help="distinct ones")
    parser.add_argument("--hosts", type=int, default=200, help="names; the last three misbehave")
    args = parser.parse_args(argv)
    if args.hosts <= REFUSING + 1:
        parser.error(f"--hosts got {args.hosts}; allowed more than {REFUSING + 1}")
    surroundings.log()
    facts = surroundings.machine() | {
        "urls": args.urls,
        "hosts": args.hosts,
    }
    print(json.dumps(facts | measure(args.urls, args.hosts), indent=2))


if __name__ == "__main__":
    main()
