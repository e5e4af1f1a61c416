"""A kill while fetching: no item lost or doubled, no half of a media, little fetched twice."""

import csv
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from jobs import ingest
from jobs.fetch import stage as fetch
from jobs.runtime import dumps, streams
from jobs.runtime.config import load
from jobs.runtime.tables import CONTRACTS, Warehouse
from tests import equality, hostile_web, small_spark
from tests.faults import fetch_driver
from tests.faults.test_kills import driving
from tests.hostile_web import Web, picture, response

URLS_PER_BATCH = 5
USUAL = {"answers are coming in"}  # `make test` takes this one, `make faults` all
POINTS = [
    pytest.param(point, marks=() if point in USUAL else pytest.mark.faults, id=point)
    for point in fetch_driver.POINTS
]


@dataclass
class Whole:
    """A web, a warehouse before its urls are fetched, and what it holds when they are."""

    web: Web
    folder: Path
    contents: dict[str, Counter[str]]


@pytest.fixture(scope="module")
def whole(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "dump").mkdir()
    with hostile_web.running() as web:
        rows = []
        for n in range(3 * URLS_PER_BATCH):
            # Of every batch: pictures, one that is there already, one that is gone.
            answers = (response(picture(n % 11)), response(status="404 Not Found"))
            rows.append((web.page(f"/{n}", answers[n % URLS_PER_BATCH == 0]), f"caption {n}"))
        with (folder / "dump" / "0.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("url", "caption"), *rows])
        config = load(str(_config(folder, folder / "dump", web)))
        warehouse = Warehouse(spark, config.warehouse)
        for table in CONTRACTS:
            if not table.startswith("silver"):
                warehouse.create(table)
        warehouse.create("silver.documents")
        dumps.discover(warehouse, config, run_id="whole")
        streams.run(warehouse, ingest.stage(config), run_id="whole")
        shutil.copytree(warehouse.root, folder / "before")
        streams.run(warehouse, fetch.stage(config), run_id="whole")
        yield Whole(web, folder, equality.contents(warehouse))


def _config(folder: Path, dump: Path, web: Web) -> Path:
    settings = {
        "warehouse": "warehouse",
        "dumps": [{"name": "lists", "path": str(dump), "format": "table"}],
        "spark": {"master": "local[2]", "shuffle_partitions": 2, "conf": small_spark.CONF},
        "fetch": {
            "contact": "mailto:crawl@example.org",
            "urls_per_batch": URLS_PER_BATCH,
            "host_rate": 1000.0,
            "allow_networks": ["127.0.0.1/32"],
            "allow_ports": [web.port],
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("point", POINTS)
def test_a_fetch_after_a_kill_makes_the_tables_of_an_uninterrupted_one(
    point: str, whole: Whole, spark: SparkSession, tmp_path: Path
) -> None:
    config = load(str(_config(tmp_path, whole.folder / "dump", whole.web)))
    shutil.copytree(whole.folder / "before", config.warehouse)
    warehouse = Warehouse(spark, config.warehouse)
    whole.web.asked.clear()
    with driving(tmp_path, point, "SIGKILL", driver=fetch_driver.__file__) as killed:
        assert killed.wait() == -signal.SIGKILL

    streams.run(warehouse, fetch.stage(config), run_id="again")

    assert equality.contents(warehouse) == whole.contents
    assert not list(Path(warehouse.root).glob("_staging/*"))
    pages = Counter({path: n for (_, path), n in whole.web.asked.items() if path != "/robots.txt"})
    assert len(pages) == 3 * URLS_PER_BATCH
    assert sum(pages.values()) - len(pages) <= URLS_PER_BATCH
    versions = equality.versions(warehouse)
    streams.run(warehouse, fetch.stage(config), run_id="and again")
    assert equality.versions(warehouse) == versions
