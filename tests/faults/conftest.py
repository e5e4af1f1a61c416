"""An uninterrupted run to compare with, and the warehouse as it was before each of its stages."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import cycle, report
from jobs.cycle import Plan
from jobs.runtime import lineage
from jobs.runtime.config import load
from jobs.runtime.tables import create_all
from tests.e2e import equality, three_shards
from tests.faults import driver


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted run left, and stood on before each stage."""

    dump: Path
    before: dict[str, Path]
    contents: dict[str, Counter[str]]


@pytest.fixture(autouse=True)
def _unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "start", driver.untracked)
    monkeypatch.setattr(report, "write", driver.unwritten)


@pytest.fixture(scope="session")
def reference(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """One cycle, stage by stage."""
    folder = tmp_path_factory.mktemp("reference")
    three_shards.write(folder / "dump")
    planned = cycle.plan(load(str(three_shards.config(folder, folder / "dump"))), spark)
    before = {name: folder / f"before_{name}" for name in cycle.STAGE_NAMES}
    Path(planned.warehouse.root).mkdir()
    for name, snapshot in before.items():
        shutil.copytree(planned.warehouse.root, snapshot)
        create_all(planned.warehouse, planned.recipe.name)
        cycle.run_stage(planned, name, run_id="uninterrupted")
    return Reference(folder / "dump", before, equality.contents(planned.warehouse))


@pytest.fixture
def resumed(reference: Reference, spark: SparkSession, tmp_path: Path) -> Callable[[str], Plan]:
    """Plan a run over a copy of the warehouse as it was before a stage."""

    def make(stage: str) -> Plan:
        config = three_shards.config(tmp_path, reference.dump)
        shutil.copytree(reference.before[stage], tmp_path / "warehouse")
        return cycle.plan(load(str(config)), spark)

    return make
