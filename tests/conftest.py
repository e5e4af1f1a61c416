"""What every test may ask for."""

from collections.abc import Iterator

import onnxruntime
import pytest
from pyspark.sql import SparkSession

from jobs.runtime.config import Config, Dump, Spark
from jobs.runtime.session import session
from tests import small_spark, three_shards
from tests.three_shards import Uninterrupted


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
            conf={"spark.sql.warehouse.dir": str(folder / "spark-warehouse"), **small_spark.CONF},
        ),
    )
    started = session(config, app="tests")
    yield started
    started.stop()


@pytest.fixture(scope="session")
def uninterrupted(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """One cycle over three shards, for all that must end as it did."""
    return three_shards.run(tmp_path_factory.mktemp("uninterrupted"), spark)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `pytest -n 2 --dist loadgroup` make what is costly in one process only."""
    for item in items:
        asked = getattr(item, "fixturenames", ())
        for group in ("demo", "uninterrupted"):
            if group in asked:
                item.add_marker(pytest.mark.xdist_group(group))
                break


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if item.get_closest_marker("gpu") and not has_gpu:
        pytest.skip("needs an NVIDIA GPU and onnxruntime-gpu")
