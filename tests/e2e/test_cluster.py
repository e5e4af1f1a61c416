import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.runtime.config import load
from jobs.runtime.tables import Warehouse
from tests import equality, standalone_cluster, two_shards
from tests.standalone_cluster import Cluster
from tests.two_shards import Uninterrupted

TASK_GPU = "spark.task.resource.gpu.amount"
ONE_GPU = {"spark.executor.resource.gpu.amount": "1"}


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of two workers."""
    folder = tmp_path_factory.mktemp("cluster")
    return [folder / "worker-1", folder / "worker-2"]


@pytest.fixture(scope="module")
def cluster(workers: list[Path]) -> Iterator[Cluster]:
    """A cluster of them, two cores each."""
    with standalone_cluster.started(workers[0].parent, workers, cores=2) as started:
        yield started


def test_a_cluster_that_has_only_the_zip_makes_the_gold_of_one_machine(
    uninterrupted: Uninterrupted,
    cluster: Cluster,
    workers: list[Path],
    spark: SparkSession,
    tmp_path: Path,
) -> None:
    config = two_shards.config(tmp_path, uninterrupted.dump, shards_per_batch=2)
    submitted = subprocess.run(
        cluster.submission("run", "--config", config, conf=ONE_GPU | {TASK_GPU: "1"}),
        cwd=tmp_path,
        env=cluster.environment,
        capture_output=True,
        text=True,
    )

    # Every task had a GPU, so it was said; the scores are those of a machine without one.
    assert submitted.returncode == 0, submitted.stderr
    assert all(list(worker.glob("app-*/*")) for worker in workers)
    gold = equality.rows(Warehouse(spark, load(str(config)).warehouse), "gold.default")
    assert gold == uninterrupted.contents["gold.default"]


@pytest.mark.timeout(300)
def test_each_task_has_a_device_and_as_many_share_it_as_configured(
    cluster: Cluster, tmp_path: Path
) -> None:
    told = {tasks: _devices(cluster, tmp_path, tasks_a_device=tasks) for tasks in (1, 2)}
    for tasks_a_device, tasks in told.items():
        assert len(tasks) == 8
        assert {task["address"] for task in tasks} == {0, 1}
        for executor in {task["executor"] for task in tasks}:
            assert len({t["address"] for t in tasks if t["executor"] == executor}) == 1
        assert max(_at_a_time(tasks, address) for address in (0, 1)) == tasks_a_device


def _devices(cluster: Cluster, folder: Path, *, tasks_a_device: int) -> list[dict[str, Any]]:
    """What eight tasks say of the device that each was given."""
    conf = ONE_GPU | {TASK_GPU: str(1 / tasks_a_device), "spark.executor.cores": "2"}
    command = cluster.submission(conf=conf)
    launcher = next(n for n, part in enumerate(command) if part.endswith("launch.py"))
    done = subprocess.run(
        [*command[:launcher], str(Path(__file__).with_name("gpu_tasks.py"))],
        cwd=folder,
        env=cluster.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    tasks: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return tasks


def _at_a_time(tasks: list[dict[str, Any]], address: int) -> int:
    """The most tasks that were on a device together."""
    on = [task for task in tasks if task["address"] == address]
    return max(sum(o["start"] <= task["start"] < o["end"] for o in on) for task in on)
