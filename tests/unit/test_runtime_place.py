import pytest

from jobs.runtime.errors import ConfigError
from jobs.runtime.machine import Machine
from jobs.runtime.place import place

GIB = 1 << 30
HERE = Machine(cores=8, memory_bytes=4 * GIB)


def _sizes(**settings: str) -> dict[str, str]:
    return {f"spark.{key.replace('__', '.')}": value for key, value in settings.items()}


@pytest.mark.parametrize(
    ("master", "tasks"),
    [("local", 1), ("local[*]", 8), ("local[3]", 3), ("local[3,2]", 3), ("local[*,2]", 8)],
)
def test_a_local_master_has_the_machine_and_the_driver(master: str, tasks: int) -> None:
    at = place(_sizes(master=master, driver__memory="2g"), HERE)

    assert (at.tasks, at.has_driver, at.room_bytes) == (tasks, True, 4 * GIB)
    assert at.heap_bytes == 2 * GIB
    assert at.worker_bytes is None


def test_a_task_of_several_cores_runs_less_often() -> None:
    assert place(_sizes(master="local[*]", task__cpus="3"), HERE).tasks == 2
    assert place(_sizes(master="local[2]", task__cpus="3"), HERE).tasks == 1


@pytest.mark.parametrize(
    ("settings", "room_bytes"),
    [
        (
            {},
            GIB + (384 << 20),
        ),  # Spark's defaults: a heap of 1 GiB, beside it no less than 384 MiB
        ({"executor__memory": "8g"}, 8 * GIB + int(0.1 * 8 * GIB)),
        ({"executor__memory": "8g", "executor__memoryOverheadFactor": "0.5"}, 12 * GIB),
        ({"executor__memory": "8g", "executor__memoryOverhead": "1024"}, 9 * GIB),
        ({"executor__memoryOverhead": "1g", "executor__pyspark__memory": "2g"}, 4 * GIB),
    ],
)
def test_an_executor_is_held_to_what_it_asks_for(settings: dict[str, str], room_bytes: int) -> None:
    at = place(_sizes(master="yarn", **settings), HERE)

    assert (at.tasks, at.has_driver, at.room_bytes) == (1, False, room_bytes)


def test_kubernetes_gives_python_more() -> None:
    at = place(_sizes(master="k8s://https://h:6443", executor__memory="10g"), HERE)

    assert at.room_bytes == 14 * GIB


def test_nobody_knows_what_a_standalone_worker_holds_an_executor_to() -> None:
    at = place(_sizes(master="spark://h:7077"), HERE)

    assert (at.tasks, at.room_bytes, at.worker_bytes) == (None, None, None)


def test_a_limit_of_python_is_shared_among_the_cores() -> None:
    settings = _sizes(
        master="spark://h:7077", executor__cores="4", executor__pyspark__memory="2g", task__cpus="2"
    )
    at = place(settings, HERE)

    assert (at.tasks, at.room_bytes, at.worker_bytes) == (2, None, GIB // 2)


def test_a_gpu_is_one_that_spark_gives() -> None:
    assert not place(_sizes(master="yarn"), HERE).has_gpu
    assert place(_sizes(master="yarn", executor__resource__gpu__amount="1"), HERE).has_gpu


@pytest.mark.parametrize(
    ("key", "value"),
    [("executor__memory", "much"), ("executor__cores", "few"), ("executor__memoryOverhead", "")],
)
def test_what_is_no_number_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=r"spark\.executor\.\w+ got .*; allowed"):
        place(_sizes(master="yarn", **{key: value}), HERE)


@pytest.mark.parametrize(
    ("written", "size"),
    [("512m", 512 << 20), ("512", 512 << 20), ("2GB", 2 * GIB), ("1024b", 1024), ("1t", GIB << 10)],
)
def test_sizes_are_read_as_spark_reads_them(written: str, size: int) -> None:
    assert place(_sizes(master="local", driver__memory=written), HERE).heap_bytes == size
