"""CPU time and memory of this process and all that come from it."""

import contextlib
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil


def cpu_s(root: psutil.Process, others: Collection[int] = ()) -> float:
    """CPU seconds so far of a process and all that come from it, of those that have ended too.

    Args:
        root: where the tree starts.
        others: processes of the tree that do not count.
    """
    spent = 0.0
    for process in _tree(root, others):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # Who has ended counts with the one that waited for it.
            spent += times.user + times.system + times.children_user + times.children_system
    return spent


@dataclass(frozen=True)
class Held:
    """Resident memory at a moment, summed: what processes share counts with each of them.

    Attributes:
        at_s: since the watch began.
        root_mb: of the process at the root.
        jvm_mb: of Java's.
        workers_mb: of all others, in a run on Spark its Python workers.
    """

    at_s: float
    root_mb: int
    jvm_mb: int
    workers_mb: int

    @property
    def all_mb(self) -> int:
        """Of the whole tree."""
        return self.root_mb + self.jvm_mb + self.workers_mb


def held(root: psutil.Process, others: Collection[int] = (), *, at_s: float = 0.0) -> Held:
    """What a process and all that come from it hold now.

    Args:
        root: where the tree starts.
        others: processes of the tree that do not count.
        at_s: of the answer.
    """
    of_root = of_jvm = of_workers = 0
    for process in _tree(root, others):
        with contextlib.suppress(psutil.NoSuchProcess):
            size_bytes = process.memory_info().rss
            if process == root:
                of_root += size_bytes
            elif process.name() == "java":
                of_jvm += size_bytes
            else:
                of_workers += size_bytes
    return Held(at_s, of_root >> 20, of_jvm >> 20, of_workers >> 20)


class MemoryWatch:
    """Looks at the memory of a process and all that come from it, while the context lasts.

    Attributes:
        looks: one at the start, one every so often, one at the end.
    """

    def __init__(
        self,
        root: psutil.Process,
        others: Collection[int] = (),
        *,
        every_s: float = 0.5,  # chosen: few peaks are shorter, and a look takes milliseconds
    ) -> None:
        self.looks: list[Held] = []
        self._root = root
        self._others = others
        self._every_s = every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def peak_mb(self) -> int:
        """The most that all of them together held at a look."""
        return max(look.all_mb for look in self.looks)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        self._look()
        while not self._is_over.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        at_s = time.monotonic() - self._started
        self.looks.append(held(self._root, self._others, at_s=at_s))


def _tree(root: psutil.Process, others: Collection[int]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [p for p in (root, *root.children(recursive=True)) if p.pid not in others]
    return []
