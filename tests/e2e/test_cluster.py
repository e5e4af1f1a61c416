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
_EVENTS = {"enabled": "true", "compress": "false", "rolling.enabled": "false"}


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
    events = tmp_path / "events"
    events.mkdir()
    logged = {f"spark.eventLog.{key}": value for key, value in _EVENTS.items()}
    submitted = subprocess.run(
        cluster.submission(
            *("run", "--config", config),
            conf=ONE_GPU | logged | {"spark.eventLog.dir": str(events)},
        ),
        cwd=tmp_path,
        env=cluster.environment,
        capture_output=True,
        text=True,
    )

    assert submitted.returncode == 0, submitted.stderr
    assert all(list(worker.glob("app-*/*")) for worker in workers)
    # Tasks that score had a GPU, so it was said; what they tell is what a machine without one does.
    warehouse = Warehouse(spark, load(str(config)).warehouse)
    for table in ("silver.image_signals", "silver.text_signals", "gold.default"):
        assert equality.rows(warehouse, table) == uninterrupted.contents[table]
    assert _on_gpus(events) == {"score_images", "score_keyframes", "score_text"}


@pytest.mark.timeout(300)
def test_each_task_has_a_device_and_as_many_share_it_as_configured(
    cluster: Cluster, tmp_path: Path
) -> None:
    of_all = _devices(cluster, tmp_path, "all", conf={TASK_GPU: "0.5"})
    by_stage = _devices(cluster, tmp_path, "1", "2", "all")
    for tasks_a_device, tasks in [(2, of_all["all"]), (1, by_stage["1"]), (2, by_stage["2"])]:
        assert len(tasks) == 8
        assert {task["address"] for task in tasks} == {0, 1}
        for executor in {task["executor"] for task in tasks}:
            assert len({t["address"] for t in tasks if t["executor"] == executor}) == 1
        assert max(_at_a_time(tasks, address) for address in (0, 1)) == tasks_a_device
    # Its cores are shared out with it.
    cores = {how: {task["cores"] for task in tasks} for how, tasks in by_stage.items()}
    assert cores == {"1": {2}, "2": {1}, "all": {1}}
    # Of a stage that asks for none nobody is given one, and no task waits for it.
    assert {task["address"] for task in by_stage["all"]} == {None}
    assert _at_a_time(by_stage["all"], None) > 2


def _on_gpus(events: Path) -> set[str]:
    """Stages of ours of which Spark gave tasks a share of a GPU, by its event log."""
    profiles, submitted = set(), set()
    for line in (line for file in events.iterdir() for line in file.open()):
        event = json.loads(line)
        if event["Event"] == "SparkListenerResourceProfileAdded":
            if "gpu" in event["Task Resource Requests"]:
                profiles.add(event["Resource Profile Id"])
        elif event["Event"] == "SparkListenerStageSubmitted":
            said = event["Properties"].get("spark.job.description", "")
            submitted.add((event["Stage Info"]["Resource Profile Id"], said.partition("/")[0]))
    return {stage for profile, stage in submitted if profile in profiles}


def _devices(
    cluster: Cluster, folder: Path, *asked: str, conf: dict[str, str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """What eight tasks a stage say of the device that each was given."""
    command = cluster.submission(conf=ONE_GPU | {"spark.executor.cores": "2"} | (conf or {}))
    launcher = next(n for n, part in enumerate(command) if part.endswith("launch.py"))
    done = subprocess.run(
        [*command[:launcher], str(Path(__file__).with_name("gpu_tasks.py")), *asked],
        cwd=folder,
        env=cluster.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    return told


def _at_a_time(tasks: list[dict[str, Any]], address: int | None) -> int:
    """The most tasks that were on a device together."""
    on = [task for task in tasks if task["address"] == address]
    return max(sum(o["start"] <= task["start"] < o["end"] for o in on) for task in on)
