"""Where Spark's settings have tasks run, and in how much memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from jobs.runtime.errors import ConfigError
from jobs.runtime.machine import Machine

_LOCAL: Final = re.compile(r"local(?:\[([0-9]+|\*)(?:,[0-9]+)?\])?")  # Spark, SparkMasterRegex
# Their executors get no more than they ask for; a standalone master's take what their machine has.
_HOLDS_EXECUTORS: Final = re.compile(r"yarn|k8s://")
_SIZE: Final = re.compile(r"([0-9]+)([kmgtp]?)b?", re.IGNORECASE)
_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}

EXECUTOR_GPUS: Final = "spark.executor.resource.gpu.amount"

_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class Place:
    """Where tasks run, as far as it is known before they do.

    Attributes:
        name: of a machine, for people.
        tasks: that it works on at a time; null: nobody knows.
        heap_bytes: of its JVM.
        has_driver: whether the driver is there too.
        room_bytes: that it holds all processes to; null: nobody knows.
        worker_bytes: that Spark holds a process of Python to; null: it does not.
        has_gpu: whether Spark gives its tasks a GPU.
        remedy: what gives it more memory.
    """

    name: str
    tasks: int | None
    heap_bytes: int
    has_driver: bool
    room_bytes: int | None = None
    worker_bytes: int | None = None
    has_gpu: bool = False
    remedy: str = ""


def place(settings: Mapping[str, str], here: Machine) -> Place:
    """Where Spark's settings have tasks run.

    Args:
        settings: as Spark names them, its master among them.
        here: the machine that the driver is on.

    Raises:
        ConfigError: a number or a size is none.
    """
    master = settings["spark.master"]
    cores = slots(master, here)
    if cores is None:
        return _executor(settings, master)
    tasks = _at_a_time(settings, cores)
    return Place(
        name=f"this machine, {tasks} at a time ({master})",
        tasks=tasks,
        heap_bytes=_size(settings, "spark.driver.memory", "1g"),
        has_driver=True,
        room_bytes=here.memory_bytes,
        remedy="set spark.master to fewer cores, e.g. local[1]",
    )


def slots(master: str, here: Machine) -> int | None:
    """Cores that Spark's tasks have on the driver's machine; null: its workers are on others.

    Args:
        master: Spark's, such as `local[4]`.
        here: the machine that the driver is on.

    >>> here = Machine(cores=8, memory_bytes=1 << 30)
    >>> [slots(master, here) for master in ("local[4,2]", "local", "local[*]", "yarn")]
    [4, 1, 8, None]
    """
    local = _LOCAL.fullmatch(master)
    if local is None:
        return None
    return here.cores if local[1] == "*" else int(local[1] or 1)


def _executor(settings: Mapping[str, str], master: str) -> Place:
    is_held = _HOLDS_EXECUTORS.match(master) is not None
    # Spark's default is one core where its executors are held, elsewhere all that a machine has.
    cores = _number(settings, "spark.executor.cores", 1 if is_held else 0)
    tasks = _at_a_time(settings, cores) if cores else None
    heap = _size(settings, "spark.executor.memory", "1g")
    python = _size(settings, "spark.executor.pyspark.memory", "0")
    return Place(
        name=f"executors, {tasks or 'as many as their cores'} at a time each ({master})",
        tasks=tasks,
        heap_bytes=heap,
        has_driver=False,
        room_bytes=heap + _overhead(settings, master, heap) + python if is_held else None,
        # PythonRunner shares it among the cores, and each process is held to its part.
        worker_bytes=python // cores if cores and python else None,
        has_gpu=_number(settings, EXECUTOR_GPUS, 0) > 0,
        remedy=(
            "set spark.executor.memoryOverhead or spark.executor.pyspark.memory higher,"
            " spark.executor.cores lower"
        ),
    )


def _overhead(settings: Mapping[str, str], master: str, heap_bytes: int) -> int:
    """Bytes that an executor asks for beside its heap: Spark, docs/configuration.md."""
    key = "spark.executor.memoryOverhead"
    if key in settings:
        return _size(settings, key, "")
    usual = 0.4 if master.startswith("k8s://") else 0.1  # on Kubernetes more, for Python
    share = _number(settings, f"{key}Factor", usual)
    return max(_size(settings, "spark.executor.minMemoryOverhead", "384m"), int(share * heap_bytes))


def _at_a_time(settings: Mapping[str, str], cores: int) -> int:
    return max(1, cores // max(1, _number(settings, "spark.task.cpus", 1)))


def _number(settings: Mapping[str, str], key: str, default: _N) -> _N:
    try:
        return type(default)(settings.get(key, default))
    except ValueError:
        raise ConfigError(f"{key} got {settings[key]}; allowed a number; correct it") from None


def _size(settings: Mapping[str, str], key: str, default: str) -> int:
    """Bytes of a size as Spark writes it; a number alone is MiB.

    >>> _size({"spark.executor.memory": "2g"}, "spark.executor.memory", "1g")
    2147483648
    """
    written = settings.get(key, default)
    read = _SIZE.fullmatch(written.strip())
    if read is None:
        raise ConfigError(f"{key} got {written}; allowed a size, e.g. 512m or 4g; correct it")
    unit = read[2].lower() or ("" if written.strip().lower().endswith("b") else "m")
    return int(read[1]) << (10 * _UNITS[unit])
