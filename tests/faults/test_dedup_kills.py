"""Whatever kills a search for duplicates, the next one ends with the tables of an unkilled one."""

import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from pyspark.sql import SparkSession

from jobs.runtime.tables import Warehouse
from tests import equality, small_spark
from tests.dedup_warehouse import DedupWarehouse, of_all_kinds
from tests.faults import dedup_driver
from tests.faults.test_kills import ORPHANS_LIVE_S, driving, family

# `make test` takes these, and one of `test_kills`; `make faults` all.
USUAL = {"shingles are committed and keys not", "links are committed and verdicts not"}
POINTS = [
    pytest.param(point, marks=() if point in USUAL else pytest.mark.faults, id=point)
    for point in dedup_driver.POINTS
]


@dataclass(frozen=True)
class Searched:
    """Pairs that wait for the stage, and what the tables hold once it has run undisturbed."""

    waiting: Path
    contents: dict[str, Counter[str]]


@pytest.fixture(scope="module")
def searched(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("searched")
    made = of_all_kinds(seed=1)
    tables = DedupWarehouse(spark, folder / "waiting", dedup_driver.SETTINGS)
    for part in (made[:25], made[25:]):
        tables.put(part)
    shutil.copytree(folder / "waiting", folder / "searched")
    warehouse = Warehouse(spark, str(folder / "searched"))
    assert dedup_driver.search(warehouse, "undisturbed") == 2
    return Searched(folder / "waiting", equality.contents(warehouse))


@pytest.mark.parametrize("point", POINTS)
def test_a_search_after_a_kill_makes_the_tables_of_an_undisturbed_one(
    point: str, searched: Searched, spark: SparkSession, tmp_path: Path
) -> None:
    shutil.copytree(searched.waiting, tmp_path / "warehouse")
    settings = {
        "warehouse": "warehouse",
        "dumps": [{"name": "none", "path": "."}],
        "spark": {"master": "local[2]", "shuffle_partitions": 2, "conf": small_spark.CONF},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    warehouse = Warehouse(spark, str(tmp_path / "warehouse"))
    with driving(tmp_path, point, "SIGKILL", driver=dedup_driver.__file__) as killed:
        assert killed.wait() == -signal.SIGKILL
        # At once, whatever the orphaned JVM is still doing.
        dedup_driver.search(warehouse, "again")
        _, alive = psutil.wait_procs(family(killed.pid), timeout=ORPHANS_LIVE_S)
        assert not alive

    assert equality.contents(warehouse) == searched.contents
    versions = equality.versions(warehouse)
    assert dedup_driver.search(warehouse, "and again") == 0
    assert equality.versions(warehouse) == versions
