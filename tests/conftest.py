"""What every test may ask for."""

import os
from collections.abc import Iterator
from typing import Any, Final

import pytest
from pyspark.sql import SparkSession
from xdist.scheduler import LoadScopeScheduling

from jobs.runtime.config import Config, Dump, Spark
from jobs.runtime.session import session
from tests import gpu_device, small_spark, two_shards
from tests.two_shards import Uninterrupted

os.environ[small_spark.JAVA_VARIABLE] = small_spark.JAVA
# A session's fixture -> where it is asked for.
SHARED: Final = {
    "demo": ("tests/e2e/test_demo.py", "tests/e2e/test_notebook.py", "tests/e2e/test_readme.py"),
    "uninterrupted": (
        "tests/faults/test_kills.py",
        "tests/faults/test_lost_rows.py",
        "tests/e2e/test_cluster.py",
        "tests/e2e/test_continuous.py",
    ),
}


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The product's own session on two cores, started by the first test that asks."""
    folder = tmp_path_factory.mktemp("spark")
    config = Config(
        warehouse=str(folder / "warehouse"),
        dumps=(Dump(name="none", path=str(folder)),),
        spark=Spark(
            master="local[2]",
            shuffle_partitions=2,
            conf={"spark.sql.warehouse.dir": str(folder / "spark-warehouse"), **small_spark.LONG},
        ),
    )
    started = session(config, app="tests")
    yield started
    started.stop()


@pytest.fixture(autouse=True, scope="module")
def _forgotten() -> Iterator[None]:
    """Have Delta forget the tables of a file: an hour of them fills the heap with their plans."""
    yield
    if (started := SparkSession.getActiveSession()) is not None:
        started._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@pytest.fixture(scope="session")
def uninterrupted(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """One cycle over two shards, for all that must end as it did."""
    return two_shards.run(tmp_path_factory.mktemp("uninterrupted"), spark)


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """One process runs a file, and all files that look at one costly thing: it is made once.

    The plugin's own groups do not reach it: they rename tests in a way that pytest 9.2 ignores.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((what for what, files in SHARED.items() if file.startswith(files)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    """How `pytest -n 2` deals out the tests."""
    return _ByFile(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, with the reason."""
    if item.get_closest_marker("gpu") and (problem := gpu_device.missing()):
        pytest.skip(f"needs an NVIDIA GPU: {problem}")
