"""This machine: what a process may use of it, control groups heeded, and what it is called."""

import math
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_CPU: Final = Path("/proc/cpuinfo")
_GPUS: Final = Path("/proc/driver/nvidia/gpus")  # a folder for each, with a file `information`
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
MAX_NAME: Final = 200  # chosen: names of processors have 60 letters


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


def cpu() -> str:
    """Model of the processor, or its architecture where the kernel names none (ARM)."""
    found = _first(_CPU, r"model name\s*:\s*(.+)")
    return _plain(found or platform.machine() or "unknown")


def gpu() -> str:
    """Model of the first NVIDIA GPU, or that it is not known."""
    files = sorted(_GPUS.glob("*/information"))
    return _plain(_first(files[0], r"Model:\s*(.+)") or "unknown") if files else "unknown"


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


def _first(path: Path, pattern: str) -> str | None:
    found = re.search(pattern, _text(path))
    return found[1] if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # another kernel, or not ours to read
        return ""


def _plain(name: str) -> str:
    return _UNPRINTABLE.sub(" ", name).strip()[:MAX_NAME] or "unknown"
