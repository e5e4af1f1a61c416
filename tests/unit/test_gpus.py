"""Which tasks ask Spark for a GPU, and where that cannot be, said before anything starts."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from pyspark import SparkContext

from jobs.runtime import gpus
from jobs.runtime.config import Models
from jobs.runtime.errors import ConfigError
from jobs.runtime.place import EXECUTOR_GPUS
from tests import plain_signals
from udfs.clip import ClipImage
from udfs.phash import PHash

GPUS = {EXECUTOR_GPUS: "1"}


def context(master: str, **conf: str) -> SparkContext:
    return SimpleNamespace(master=master, getConf=lambda: conf)


@pytest.mark.parametrize(
    "master", ["spark://h:7077", "yarn", "k8s://https://h", "local-cluster[2,1,1]"]
)
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_tasks_of_single_stages_share_what_executors_have(master, tasks) -> None:
    share = gpus.share(Models(tasks_per_gpu=tasks), context(master, **GPUS))
    assert share.taskResources["gpu"].amount == pytest.approx(1 / tasks)
    assert share.taskResources["cpus"].amount == 1
    assert not share.executorResources  # else Spark would ask for other executors


@pytest.mark.parametrize(
    ("held", "tasks", "cores", "expected"),
    [("1", 1, "8", 8), ("1", 2, "8", 4), ("2", 2, "8", 2), ("1", 3, "8", 2), ("1", 4, "2", 1)],
)
def test_they_share_its_cores_too(held, tasks, cores, expected) -> None:
    conf = {EXECUTOR_GPUS: held, gpus.CORES: cores}
    share = gpus.share(Models(tasks_per_gpu=tasks), context("yarn", **conf))
    assert share.taskResources["cpus"].amount == expected
    share = gpus.share(
        Models(tasks_per_gpu=tasks), context("yarn", **conf, **{"spark.task.cpus": "3"})
    )
    assert share.taskResources["cpus"].amount == max(3, expected)


@pytest.mark.parametrize(
    ("device", "master", "conf"),
    [
        ("cpu", "spark://h:7077", GPUS),
        ("auto", "local[2]", {}),
        ("cuda", "local[*]", {}),  # the machine's own
        ("auto", "yarn", {}),
        ("auto", "yarn", {EXECUTOR_GPUS: "0"}),
        ("cuda", "yarn", GPUS | {gpus.TASK: "0.5"}),  # of all stages
        ("auto", "other://h", GPUS | {gpus.TASK: "1"}),
    ],
)
def test_elsewhere_nothing_is_asked(device, master, conf) -> None:
    assert gpus.share(Models(device=device), context(master, **conf)) is None


@pytest.mark.parametrize(
    ("device", "master", "conf", "message"),
    [
        ("cuda", "spark://h:7077", {}, "cuda under master spark://h:7077 without spark.executor"),
        ("cuda", "yarn", {EXECUTOR_GPUS: "0"}, "allowed where Spark gives GPUs to executors"),
        ("auto", "other://h", GPUS, "allowed under standalone, YARN and Kubernetes"),
    ],
)
def test_what_the_cluster_cannot_give_is_refused(device, master, conf, message) -> None:
    with pytest.raises(ConfigError, match=message):
        gpus.share(Models(device=device), context(master, **conf))


def test_rules_do_not_wait_for_a_gpu(tiny_clip) -> None:
    asked = object()
    signals = {"phash": PHash(), "clip": ClipImage(tiny_clip)}
    side = replace(plain_signals.side(signals), gpu=asked)
    assert side.asks(["phash"]) is None
    assert side.asks(["phash", "clip"]) is asked
    assert replace(side, gpu=None).asks(["clip"]) is None
