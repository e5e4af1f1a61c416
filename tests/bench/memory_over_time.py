"""Resident memory over time of a tree of processes, by their kind."""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import psutil

from tests.bench.process_kinds import members

_LOOKS_S: Final = 0.5  # chosen: shorter than a garbage collector takes to hide a peak


@dataclass(frozen=True)
class Held:
    """The most that was held in a span of time.

    Attributes:
        at_s: end of the span, from the start of the watch.
        mb: kind -> all processes of it together; what they share counts with each.
        largest_mb: kind -> one process.
        all_mb: all processes together, at one look.
    """

    at_s: float
    mb: Mapping[str, int]
    largest_mb: Mapping[str, int]
    all_mb: int = 0


class MemoryOverTime:
    """Watches from a thread of its own while the context lasts.

    Attributes:
        series: one entry for every span that has ended.
    """

    def __init__(
        self, root: psutil.Process, others: Collection[int] = (), *, every_s: float = 5.0
    ) -> None:
        """Watch a process and all that come from it.

        Args:
            root: where the tree starts.
            others: processes of the tree that do not count.
            every_s: length of a span, which is looked at several times.
        """
        self.series: list[Held] = []
        self._root = root
        self._others = others
        self._every_s = every_s
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

    def peak(self) -> Held:
        """The most of every kind, over all spans."""
        return Held(
            at_s=self.series[-1].at_s if self.series else 0.0,
            mb=_most(*(held.mb for held in self.series)),
            largest_mb=_most(*(held.largest_mb for held in self.series)),
            all_mb=max((held.all_mb for held in self.series), default=0),
        )

    def _watch(self) -> None:
        started = begun = time.monotonic()
        mb: dict[str, int] = {}
        largest_mb: dict[str, int] = {}
        all_mb = 0
        is_over = False
        while not is_over:
            is_over = self._is_over.wait(min(_LOOKS_S, self._every_s))
            now_mb, now_largest_mb = self._look()
            mb, largest_mb = _most(mb, now_mb), _most(largest_mb, now_largest_mb)
            all_mb = max(all_mb, sum(now_mb.values()))
            now = time.monotonic()
            if is_over or now - begun >= self._every_s:
                self.series.append(Held(round(now - started, 1), mb, largest_mb, all_mb))
                begun, mb, largest_mb, all_mb = now, {}, {}, 0

    def _look(self) -> tuple[dict[str, int], dict[str, int]]:
        total: dict[str, int] = defaultdict(int)
        largest: dict[str, int] = defaultdict(int)
        for kind, process in members(self._root, self._others):
            with contextlib.suppress(psutil.NoSuchProcess):
                mb = process.memory_info().rss >> 20
                total[kind] += mb
                largest[kind] = max(largest[kind], mb)
        return dict(total), dict(largest)


def _most(*found: Mapping[str, int]) -> dict[str, int]:
    kinds = sorted({kind for one in found for kind in one})
    return {kind: max(one.get(kind, 0) for one in found) for kind in kinds}
