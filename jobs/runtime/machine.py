"""What of this machine a process may use: its cores and its memory, control groups heeded."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Machine:
    """What there is for all processes together.

    Attributes:
        cores: that tasks can run on at a time.
        memory_bytes: of which the kernel ends a process when it is passed.
    """

    cores: int
    memory_bytes: int


def here(root: Path = Path("/")) -> Machine:
    """This machine, or the part of it that a container was given.

    Args:
        root: what ``proc`` and ``sys`` lie under.
    """
    memory = [psutil.virtual_memory().total]
    cores = [len(os.sched_getaffinity(0))]
    for folder in _groups(root):
        # v2: Documentation/admin-guide/cgroup-v2.rst; v1: cgroup-v1/memory.rst, sched-bwc.rst.
        memory += _numbers(folder / "memory.max") + _numbers(folder / "memory.limit_in_bytes")
        quota = _numbers(folder / "cpu.max") or [
            *_numbers(folder / "cpu.cfs_quota_us"),
            *_numbers(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2:  # as Java counts them: of a part of a core one
            cores.append(max(1, math.ceil(quota[0] / quota[1])))
    return Machine(min(cores), min(memory))


def _groups(root: Path) -> Iterator[Path]:
    """Folders of our control groups, and of all that they are in."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            mounted = root / "sys/fs/cgroup" / name
            inside = mounted / path.lstrip("/")  # a container may not see it, but what it is in
            yield from (folder for folder in (inside, *inside.parents) if mounted in folder.parents)
            yield mounted


def _numbers(file: Path) -> list[int]:
    """What a file of limits says; nothing where there is none, or no limit in it."""
    try:
        words = file.read_text().split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []
