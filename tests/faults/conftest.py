"""Warehouses to go on from, as they were before a stage."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import cycle, report
from jobs.cycle import Plan
from jobs.runtime import lineage
from jobs.runtime.config import load
from tests import two_shards
from tests.faults import driver
from tests.two_shards import Uninterrupted


@pytest.fixture(autouse=True)
def _unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "start", driver.untracked)
    monkeypatch.setattr(report, "write", driver.unwritten)


@pytest.fixture
def resumed(
    uninterrupted: Uninterrupted, spark: SparkSession, tmp_path: Path
) -> Callable[[str], Plan]:
    """Plan a run over a copy of the warehouse as it was before a stage."""

    def make(stage: str) -> Plan:
        config = two_shards.config(tmp_path, uninterrupted.dump)
        shutil.copytree(uninterrupted.before[stage], tmp_path / "warehouse")
        return cycle.plan(load(str(config)), spark)

    return make
