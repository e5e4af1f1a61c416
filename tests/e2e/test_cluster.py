import subprocess
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.runtime.config import load
from jobs.runtime.tables import Warehouse
from tests import equality, standalone_cluster, three_shards
from tests.three_shards import Uninterrupted


@pytest.mark.timeout(600)
def test_a_cluster_that_has_only_the_zip_makes_the_gold_of_one_machine(
    uninterrupted: Uninterrupted, spark: SparkSession, tmp_path: Path
) -> None:
    config = three_shards.config(tmp_path, uninterrupted.dump, shards_per_batch=3)
    workers = [tmp_path / "worker-1", tmp_path / "worker-2"]

    with standalone_cluster.started(tmp_path, workers) as cluster:
        submitted = subprocess.run(
            cluster.submission("run", "--config", config),
            cwd=tmp_path,
            env=cluster.environment,
            capture_output=True,
            text=True,
        )

    assert submitted.returncode == 0, submitted.stderr
    assert all(list(worker.glob("app-*/*")) for worker in workers)
    gold = equality.rows(Warehouse(spark, load(str(config)).warehouse), "gold.default")
    assert gold == uninterrupted.contents["gold.default"]
