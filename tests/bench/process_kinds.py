"""What each process of a Spark application is, by its command line."""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Final

import psutil

from udfs import isolation

PYTHON_DRIVER: Final = "python_driver"
DRIVER_JVM: Final = "driver_jvm"
EXECUTOR_JVMS: Final = "executor_jvms"
PYTHON_WORKERS: Final = "python_workers"
CLUSTER_JVMS: Final = "cluster_jvms"  # a standalone master and its workers
DECODERS: Final = "decoders"  # children of workers, and what they are forked from
OTHER: Final = "other"  # scripts that start one of them
_MARKS: Final = {
    "org.apache.spark.executor.CoarseGrainedExecutorBackend": EXECUTOR_JVMS,
    "org.apache.spark.deploy.SparkSubmit": DRIVER_JVM,
    "org.apache.spark.deploy.master.Master": CLUSTER_JVMS,
    "org.apache.spark.deploy.worker.Worker": CLUSTER_JVMS,
    "pyspark.daemon": PYTHON_WORKERS,
    "jobs.runtime.worker_daemon": PYTHON_WORKERS,
    isolation.BOOT: DECODERS,
}


def kind(command: Collection[str]) -> str:
    """The kind of a process.

    Args:
        command: its arguments, the program first.

    >>> kind(["/venv/bin/python", "-m", "pyspark.daemon"])
    'python_workers'
    >>> kind(["/bin/bash", "spark-class"])
    'other'
    """
    for argument in command:
        if argument in _MARKS:
            return _MARKS[argument]
    program = next(iter(command), "").rpartition("/")[2]
    return PYTHON_DRIVER if program.startswith("python") else OTHER


def members(
    root: psutil.Process, others: Collection[int] = ()
) -> Iterator[tuple[str, psutil.Process]]:
    """A process and all that come from it, each with its kind.

    Args:
        root: where the tree starts.
        others: processes of the tree that do not count.
    """
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.NoSuchProcess):
        found = [root, *root.children(recursive=True)]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if process.pid not in others:
                yield kind(process.cmdline()), process


def cpu_s(root: psutil.Process, others: Collection[int] = ()) -> dict[str, float]:
    """Kind -> CPU seconds so far, with those of processes that it has waited for."""
    spent: dict[str, float] = defaultdict(float)
    for name, process in members(root, others):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent[name] += times.user + times.system + times.children_user + times.children_system
    return dict(spent)
