"""CPU time and memory of this process and all that come from it."""

import contextlib
import threading
from collections.abc import Collection
from types import TracebackType
from typing import Final, Self

import psutil

_LOOKS_S: Final = 0.5  # chosen: between two looks at the memory


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


class PeakMemory:
    """The most that a process and all that come from it held, while the context lasts.

    Resident memory, summed: what processes share counts with each of them.
    """

    def __init__(self, root: psutil.Process, others: Collection[int] = ()) -> None:
        self.mb = 0
        self._root = root
        self._others = others
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
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

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOKS_S):
            held = 0
            for process in _tree(self._root, self._others):
                with contextlib.suppress(psutil.NoSuchProcess):
                    held += process.memory_info().rss
            self.mb = max(self.mb, held >> 20)


def _tree(root: psutil.Process, others: Collection[int]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [p for p in (root, *root.children(recursive=True)) if p.pid not in others]
    return []
