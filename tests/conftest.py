"""What every test may ask for."""

from collections.abc import Iterator

import onnxruntime
import pytest
from pyspark.sql import SparkSession

from jobs.runtime.config import Config, Dump, Spark
from jobs.runtime.session import session
from tests import small_spark


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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if item.get_closest_marker("gpu") and not has_gpu:
        pytest.skip("needs an NVIDIA GPU and onnxruntime-gpu")
