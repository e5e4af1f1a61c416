"""Which setting is fastest: all are looked at once, those that may win again and again, in turns.

Each round measures how a run without a profile does it, too; a setting counts by its median ratio
to that, so that a machine that slows down between rounds slows both down.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median
from typing import Final, NamedTuple

from jobs.runtime.errors import ModelProblem
from jobs.runtime.profiles import MAX_BATCH, Setting
from udfs.image_signals import BATCH_SIZE, DECODERS

# Settings whose ratios are no further apart are equal. Chosen: by so much a stage with a full-size
# network may be slower than a bare loop and count as its equal.
NOISE: Final = 0.03
ROUNDS: Final = 3  # chosen: the fewest of which a median forgets one outlier
_MOST_ROUNDS: Final = 5  # chosen: what differs less than the median of five shows is as good
# By which part of the best a setting may stay behind after the first round, the second, and so on.
# Chosen: a turn of a second is off by more than the median of some.
_BEHIND: Final = (0.2, 0.1, 2 * NOISE)
_KEPT: Final = (8, 6, 4)  # chosen: so that rounds after the first are short
_VARIED: Final = 3  # chosen: the best so many are tried with other numbers of decoders
_FIRST_SHARE: Final = 0.5  # chosen: of the time, for looking at all once
_TURN_S: Final = (0.5, 2.0)  # chosen: a hundred images of a small network, at least; at most
_BATCHES: Final = 3  # of a turn at least: one that does not count, and two that do
_LONGEST_SHARE: Final = 1 / 12  # chosen: of the time, of one turn; ten others must be had of it
_CPU_BATCH: Final = 64  # chosen: on a CPU networks gain nothing beyond; on a GPU they may
_GPU_BATCH: Final = 256  # chosen: crops of 224 px as float32 are 150 MB then
_GPU_PROCESSES: Final = 8  # chosen: each has its own copy of the networks on the device


class Crew(NamedTuple):
    """Processes that are started together: another number, or other threads, are another crew."""

    processes: int
    intra_op_threads: int


@dataclass(frozen=True)
class Turn:
    """What a setting gave once.

    Attributes:
        images_per_s: of all processes together.
        cpu_ms_per_image: of the processes and their children.
        memory_mb: of the same, what they share counted once.
        others: share of the cores that other work took meanwhile, 0 to 1.
        images: that it was measured on.
        refused: those of them that gave no signals.
        provider: that ran the networks; null: none ran.
    """

    images_per_s: float
    cpu_ms_per_image: float
    memory_mb: float
    others: float
    images: int
    refused: int = 0
    provider: str | None = None


Measure = Callable[[Setting, float], Turn]
Start = Callable[[Crew], AbstractContextManager[Measure]]


@dataclass(frozen=True)
class Result:
    """What was seen of a setting.

    Attributes:
        setting: how the pass was run.
        turns: round -> what it gave.
        ratio: median over its rounds of images a second against the run without a profile.
    """

    setting: Setting
    turns: dict[int, Turn]
    ratio: float

    def median(self, what: str) -> float:
        """Of one figure over the turns."""
        return float(median(getattr(turn, what) for turn in self.turns.values()))

    @property
    def memory_mb(self) -> float:
        """The least that was seen: processes keep what larger batches before it made them take."""
        return min(turn.memory_mb for turn in self.turns.values())


class TooShort(ValueError):
    """The time was over before every setting that may win had its turns."""


@dataclass
class Search:
    """Looking for the fastest setting within some seconds.

    Attributes:
        cores: that processes and their threads may take.
        fixed_batch: images that a network takes at once, never less; null: any number.
        has_gpu: networks run on one.
        seconds: for all of it.
        start: starts a crew; it measures until it is left.
        clock: seconds, monotonic.
        said: told the seconds so far, and in words what was measured.
        skipped: settings that were not looked at, for they take too long.
        failed: crews that could not be had, or did not live, with the reason.
    """

    cores: int
    fixed_batch: int | None
    has_gpu: bool
    seconds: float
    start: Start
    clock: Callable[[], float]
    said: Callable[[float, str], None] = lambda *_: None
    skipped: list[Setting] = field(default_factory=list)
    failed: dict[Crew, ModelProblem] = field(default_factory=dict)
    _turns: dict[Setting, dict[int, Turn]] = field(default_factory=dict)
    _began: float = 0.0

    def run(self) -> list[Result]:
        """Measure; the fastest first.

        Raises:
            TooShort: it takes more seconds.
            ModelProblem: no process can run the pass.
        """
        self._began = self.clock()
        until = self._began + self.seconds
        settings = grid(self.cores, self.fixed_batch, has_gpu=self.has_gpu)
        first_s = self.seconds * _FIRST_SHARE
        turn_s = min(max(first_s / (2 * len(settings)), _TURN_S[0]), _TURN_S[1])
        self._round(1, settings, turn_s, self._began + first_s)
        if not self._turns and self.failed:
            raise next(iter(self.failed.values()))
        standing = self._standing()
        spent = (self.clock() - self._began) / max(1, len(self._turns))
        alive = self._alive(1, standing, until, spent)
        alive += varied(alive[:_VARIED], self.cores)
        for number in range(2, _MOST_ROUNDS + 1):
            if standing not in alive:
                alive.append(standing)
            self._round(number, alive, turn_s, until)
            if self.clock() >= until or (number >= ROUNDS and alive == [standing]):
                break
            alive = self._alive(number, standing, until, spent)
        results = [result for result in self._results(standing) if len(result.turns) >= ROUNDS]
        if standing not in [result.setting for result in results]:
            raise TooShort
        return results

    def standing(self, results: Sequence[Result]) -> Result:
        """How a run without a profile does it."""
        return next(result for result in results if result.setting == self._standing())

    def _standing(self) -> Setting:
        """How a run without a profile does it, or nearly, where that takes too long or fails."""
        looked = [setting for setting in self._turns if setting.decoders == DECODERS]
        if not looked:
            raise TooShort
        return min(
            looked,
            key=lambda s: (
                s.intra_op_threads,
                self.cores - s.processes,
                abs(math.log2(s.batch_size / BATCH_SIZE)),
            ),
        )

    def _round(self, number: int, settings: Sequence[Setting], turn_s: float, until: float) -> None:
        """A turn of each; every second round the other way round, as the machine may drift."""
        ordered = sorted(settings, key=_in_order, reverse=number % 2 == 0)
        for crew, ours in groupby(ordered, crew_of):
            if self.clock() < until and crew not in self.failed:
                try:
                    with self.start(crew) as measure:
                        self._turns_of(number, list(ours), measure, turn_s, until)
                except ModelProblem as problem:
                    self.failed[crew] = problem
        self.skipped += [setting for setting in settings if setting not in self._turns]

    def _turns_of(
        self, number: int, ours: Sequence[Setting], measure: Measure, turn_s: float, until: float
    ) -> None:
        """A turn of each setting of a crew; what was never had and takes too long is left out."""
        rate = None
        for setting in ours:
            if self.clock() >= until:
                return
            images = _BATCHES * setting.batch_size * setting.processes
            is_known = setting in self._turns
            if rate and not is_known and images / rate > self.seconds * _LONGEST_SHARE:
                continue
            turn = measure(setting, turn_s)
            rate = turn.images_per_s
            self._turns.setdefault(setting, {})[number] = turn
            said = f"round {number}: {setting}: {turn.images_per_s:.0f} images/s"
            self.said(self.clock() - self._began, said)

    def _alive(
        self, number: int, standing: Setting, until: float, turn_cost_s: float
    ) -> list[Setting]:
        """Those that may be the fastest, best first; no more than there is time for."""
        at = min(number, len(_BEHIND)) - 1
        rounds_left = max(1, ROUNDS - number)
        time_for = int((until - self.clock()) / rounds_left / max(turn_cost_s, 1e-9)) - 1
        results = self._results(standing)
        alive = [r for r in results if r.ratio >= results[0].ratio * (1 - _BEHIND[at])]
        # One turn fewer is forgiven: decoders are tried from the second round on.
        whole = [r for r in alive if len(r.turns) >= min(number, ROUNDS) - 1]
        return [r.setting for r in whole[: max(1, min(_KEPT[at], time_for))]]

    def _results(self, standing: Setting) -> list[Result]:
        base = self._turns[standing]
        found = []
        for setting, turns in self._turns.items():
            ratios = [
                turn.images_per_s / base[n].images_per_s for n, turn in turns.items() if n in base
            ]
            if ratios:
                found.append(Result(setting, turns, float(median(ratios))))
        return sorted(found, key=lambda result: -result.ratio)


def crew_of(setting: Setting) -> Crew:
    """The processes that a setting asks for."""
    return Crew(setting.processes, setting.intra_op_threads)


def grid(cores: int, fixed_batch: int | None, *, has_gpu: bool) -> list[Setting]:
    """Settings to look at: batches, processes and threads; no more threads than cores.

    >>> sorted({(s.processes, s.intra_op_threads) for s in grid(4, None, has_gpu=False)})
    [(1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]
    """
    return [
        Setting(batch_size=batch, intra_op_threads=threads, processes=processes)
        for processes, threads in crews(cores, has_gpu=has_gpu)
        for batch in batches(fixed_batch, has_gpu=has_gpu)
    ]


def batches(fixed_batch: int | None, *, has_gpu: bool) -> list[int]:
    """Sizes of batches, doubled; a network of a fixed one is given whole ones, others are padded.

    >>> batches(None, has_gpu=False), batches(24, has_gpu=False)
    ([1, 2, 4, 8, 16, 32, 64], [24, 48])
    """
    least = min(fixed_batch or 1, MAX_BATCH)
    most = max(least, _GPU_BATCH if has_gpu else _CPU_BATCH)
    return [least << n for n in range(int(math.log2(most / least)) + 1)]


def crews(cores: int, *, has_gpu: bool) -> list[Crew]:
    """Of each number of threads as many processes as there are cores for, and half of them.

    With a GPU the processor's threads run no network: one, and more and more processes.
    """
    if has_gpu:
        most = min(cores, _GPU_PROCESSES)
        return [Crew(n, 1) for n in sorted({*_doubled(most), cores}, reverse=True)]
    found: list[Crew] = []
    for threads in _doubled(cores):
        whole = cores // threads
        found += [Crew(processes, threads) for processes in dict.fromkeys((whole, whole // 2))]
    return [crew for crew in found if crew.processes]


def _doubled(most: int) -> Iterator[int]:
    number = 1
    while number <= most:
        yield number
        number *= 2


def varied(settings: Iterable[Setting], cores: int) -> list[Setting]:
    """The same with half and twice as many decoders, of which no process has more than cores."""
    return [
        setting.model_copy(update={"decoders": decoders})
        for setting in settings
        for decoders in (DECODERS // 2, DECODERS * 2)
        if decoders <= max(2, cores)
    ]


def _in_order(setting: Setting) -> tuple[int, int, int, int]:
    """First what runs without a profile, by the size of its batch: memory grows with it."""
    return (
        setting.intra_op_threads,
        -setting.processes,
        setting.batch_size,
        setting.decoders,
    )


def chosen(results: Sequence[Result]) -> Result:
    """Of those that are as fast as the fastest, within noise, the one of the least memory.

    Args:
        results: the fastest first.
    """
    fast = [result for result in results if result.ratio >= results[0].ratio * (1 - NOISE)]
    return min(fast, key=lambda result: (result.memory_mb, -result.ratio))
