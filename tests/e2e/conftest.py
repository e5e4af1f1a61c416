"""The demo, run once for all tests that look at it, and copies for those that change it."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from pyspark.sql import SparkSession

from jobs import cycle
from jobs.cycle import Plan
from jobs.demo import prepare
from jobs.runtime.config import Config, load
from jobs.runtime.lineage import Run


@dataclass(frozen=True)
class Demo:
    """A folder with a dump, a configuration and the warehouse that a run of it made."""

    folder: Path
    plan: Plan
    run: Run | None

    @property
    def config_path(self) -> Path:
        return self.folder / "demo.yaml"

    @property
    def dump(self) -> Path:
        return self.folder / "dump"


@pytest.fixture(scope="session")
def demo(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo as `make demo` runs it, but for the folder."""
    logging.getLogger("sluice").setLevel(logging.INFO)
    folder = tmp_path_factory.mktemp("demo")
    planned = cycle.plan(load(str(prepare.scenes(folder))), spark)
    return Demo(folder, planned, cycle.run(planned, command="demo"))


@pytest.fixture
def copy(demo: Demo, spark: SparkSession, tmp_path: Path) -> Callable[..., Demo]:
    """Make a copy of the demo's warehouse under a changed configuration."""

    def make(*overrides: str, more_dumps: tuple[dict[str, str], ...] = ()) -> Demo:
        shutil.copytree(demo.folder / "warehouse", tmp_path / "warehouse")
        tree = yaml.safe_load(demo.config_path.read_text())
        tree["dumps"] = [{"name": "demo", "path": str(demo.dump)}, *more_dumps]
        (tmp_path / "demo.yaml").write_text(yaml.safe_dump(tree))
        config: Config = load(str(tmp_path / "demo.yaml"), overrides)
        return Demo(tmp_path, cycle.plan(config, spark), None)

    return make


def versions(planned: Plan) -> dict[str, int]:
    """Every table's version."""
    return {table: planned.warehouse.version(table) for table in planned.warehouse.tables()}
