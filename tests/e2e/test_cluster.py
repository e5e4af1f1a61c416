import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from infra import package
from jobs.runtime.config import load
from jobs.runtime.jars import delta_jars
from jobs.runtime.java import require_java
from jobs.runtime.tables import Warehouse
from tests import equality, three_shards
from tests.three_shards import Uninterrupted

ROOT = Path(__file__).parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
# The environment's packages without its .pth files: one of them names this repository, and the
# code must come from the zip.
PYTHON = f"""#!/bin/sh
PYTHONPATH="$PYTHONPATH:{SPARK_HOME.parent}" exec "{sys.executable}" -S "$@"
"""


@contextmanager
def daemon(environment: dict[str, str], *command: str) -> Iterator[None]:
    process = subprocess.Popen(
        [str(SPARK_HOME / "bin" / "spark-class"), *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def cluster(environment: dict[str, str], workers: Sequence[Path]) -> Iterator[str]:
    """A standalone master and its workers, one core each; yields the master's URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, here = f"spark://127.0.0.1:{port}", ("--host", "127.0.0.1", "--webui-port", "0")
    deploy = "org.apache.spark.deploy"
    with ExitStack() as daemons:
        daemons.enter_context(
            daemon(environment, f"{deploy}.master.Master", *here, "--port", str(port))
        )
        while not listens(port):
            time.sleep(0.2)
        for folder in workers:
            size = ("--cores", "1", "--memory", "1g", "--work-dir", str(folder))
            daemons.enter_context(daemon(environment, f"{deploy}.worker.Worker", *here, *size, url))
        yield url


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(600)
def test_a_cluster_that_has_only_the_zip_makes_the_gold_of_one_machine(
    uninterrupted: Uninterrupted, spark: SparkSession, tmp_path: Path
) -> None:
    config = three_shards.config(tmp_path, uninterrupted.dump, shards_per_batch=3)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "JAVA_HOME": require_java(),
        "SPARK_HOME": str(SPARK_HOME),
        "PYSPARK_PYTHON": str(python),
    }
    workers = [tmp_path / "worker-1", tmp_path / "worker-2"]

    with cluster(environment, workers) as url:
        submitted = subprocess.run(
            [
                SPARK_HOME / "bin" / "spark-submit",
                *("--master", url),
                *("--jars", ",".join(map(str, delta_jars()))),
                *("--py-files", package.build(tmp_path / "dist")),
                *(ROOT / "infra" / "launch.py", "run", "--config", config),
            ],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    assert submitted.returncode == 0, submitted.stderr
    assert all(list(worker.glob("app-*/*")) for worker in workers)
    gold = equality.rows(Warehouse(spark, load(str(config)).warehouse), "gold.default")
    assert gold == uninterrupted.contents["gold.default"]
