import os
from pathlib import Path

import psutil
import pytest

from jobs.runtime.machine import Machine, here

MEMORY = psutil.virtual_memory().total
CORES = len(os.sched_getaffinity(0))


def _written(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_without_groups_it_is_the_whole_machine(tmp_path: Path) -> None:
    assert here(tmp_path) == Machine(CORES, MEMORY)


def test_this_machine_has_both() -> None:
    found = here()

    assert 1 <= found.cores <= CORES
    assert 0 < found.memory_bytes <= MEMORY


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000\n"},
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1000000\n"},
        # A container that does not see its own folder.
        {
            "proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000\n",
        },
        {
            "proc/self/cgroup": "4:memory:/a/b\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "2000000\n",
        },
    ],
)
def test_the_least_limit_of_all_groups_holds(tmp_path: Path, files: dict[str, str]) -> None:
    assert here(_written(tmp_path, files)) == Machine(CORES, 1_000_000)


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_no_limit_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    groups = {"proc/self/cgroup": "0::/\n3:cpu:/\n"}

    assert here(_written(tmp_path, groups | files)) == Machine(CORES, MEMORY)


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "50000 100000\n"},
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_a_part_of_a_core_is_one(tmp_path: Path, files: dict[str, str]) -> None:
    groups = {"proc/self/cgroup": "0::/\n3:cpu:/\n"}

    assert here(_written(tmp_path, groups | files)).cores == 1
