"""The search finds what is fastest by turns that are told it, within the time that it has."""

import contextlib
import random
from collections.abc import Callable

import pytest

from jobs.runtime.errors import ModelProblem
from jobs.runtime.profiles import Setting
from jobs.tuning import search
from jobs.tuning.search import Crew, Result, Search, TooShort, Turn

START_S = 4.0


class Machine:
    """A machine of known speeds; its clock moves as it works."""

    def __init__(
        self,
        speed: Callable[[Setting], float],
        *,
        memory: Callable[[Setting], float] = lambda setting: 100.0 * setting.processes,
        fails: Callable[[Crew], bool] = lambda _: False,
        load: Callable[[float], float] = lambda _: 1.0,
        noise: float = 0.0,
    ) -> None:
        self.speed, self.memory, self.fails, self.load = speed, memory, fails, load
        self.now = 1000.0
        self.turns: list[Setting] = []
        self.crews: list[Crew] = []
        self._noise, self._random = noise, random.Random(1)

    @contextlib.contextmanager
    def start(self, crew: Crew):
        self.now += START_S
        self.crews.append(crew)
        if self.fails(crew):
            raise ModelProblem("no memory")
        yield self.measure

    def measure(self, setting: Setting, turn_s: float) -> Turn:
        rate = self.speed(setting) * self.load(self.now)
        rate *= 1 + self._random.uniform(-self._noise, self._noise)
        self.now += max(turn_s, 3 * setting.batch_size * setting.processes / rate)
        self.turns.append(setting)
        return Turn(rate, 1000 / rate, self.memory(setting), 0.0, 100)


def found(machine: Machine, *, cores: int = 2, seconds: float = 120, fixed=None, gpu=False):
    looking = Search(
        cores=cores,
        fixed_batch=fixed,
        has_gpu=gpu,
        seconds=seconds,
        start=machine.start,
        clock=lambda: machine.now,
    )
    return looking, looking.run()


def by_cores(setting: Setting) -> float:
    """As networks mostly are: all cores count, small batches cost, and so does a lone decoder."""
    full = 50.0 * setting.processes * setting.intra_op_threads**0.8 - 20 / setting.batch_size
    return full * (0.9 if setting.decoders == 1 else 1.0)


def test_the_fastest_is_found_and_had_its_turns() -> None:
    machine = Machine(lambda s: by_cores(s) * (1.2 if s.batch_size == 4 else 1.0), noise=0.02)
    _, results = found(machine)

    assert search.chosen(results).setting == Setting(batch_size=4, processes=2)
    assert all(len(result.turns) >= search.ROUNDS for result in results)
    assert results == sorted(results, key=lambda result: -result.ratio)
    assert Setting(batch_size=1, intra_op_threads=2) in machine.turns


def test_other_decoders_are_tried_where_there_are_cores_for_them() -> None:
    machine = Machine(lambda s: by_cores(s) * (1 + 0.1 * s.decoders))
    _, results = found(machine, cores=4, seconds=240)

    assert search.chosen(results).setting.decoders == 4
    assert search.chosen(results).setting.processes == 4


def test_within_noise_the_least_memory_is_taken() -> None:
    machine = Machine(lambda s: 100.0 if s.batch_size >= 8 else 50.0, noise=0.01)
    _, results = found(machine)

    assert search.chosen(results).setting.processes == 1
    fast = Result(Setting(batch_size=8), {1: Turn(1, 1, 300, 0, 1)}, 1.10)
    small = Result(Setting(batch_size=4), {1: Turn(1, 1, 100, 0, 1)}, 1.10 * 0.975)
    slower = Result(Setting(batch_size=2), {1: Turn(1, 1, 10, 0, 1)}, 1.10 * 0.965)
    assert search.chosen([fast, small, slower]) is small


def test_memory_is_the_least_that_was_seen() -> None:
    turns = {n: Turn(1, 1, memory, 0, 1) for n, memory in enumerate((300, 200, 400))}
    assert Result(Setting(), turns, 1.0).memory_mb == 200
    assert Result(Setting(), turns, 1.0).median("memory_mb") == 300


def test_a_machine_that_slows_down_changes_no_ratio() -> None:
    machine = Machine(
        lambda s: by_cores(s) * (1.3 if s.batch_size == 16 else 1.0),
        load=lambda now: 1.0 if now < 1060 else 0.4,
    )
    looking, results = found(machine, seconds=150)

    assert search.chosen(results).setting == Setting(batch_size=16, processes=2)
    assert search.chosen(results).ratio == pytest.approx(1.3, rel=0.02)
    assert looking.standing(results).setting == Setting(processes=2)
    assert looking.standing(results).ratio == 1.0


def test_rounds_are_interleaved_and_turn_about() -> None:
    machine = Machine(by_cores, memory=lambda s: float(s.batch_size))
    found(machine)
    two = [s.batch_size for s in machine.turns if (s.processes, s.decoders) == (2, 2)]

    first, rest = two[:7], two[7:]
    assert first == [1, 2, 4, 8, 16, 32, 64]
    second = rest[: rest.index(max(rest)) + 1]
    assert rest.index(max(rest)) == 0 or second == sorted(second, reverse=True)
    assert len(set(rest)) < len(rest)  # no setting has its turns one after another


@pytest.mark.parametrize("seconds", [60, 120, 600])
@pytest.mark.parametrize("speed", [by_cores, lambda s: 20.0 * s.processes])
def test_the_time_is_kept_but_for_the_turn_in_hand(seconds, speed) -> None:
    ends = []

    class Watched(Machine):
        def measure(self, setting: Setting, turn_s: float) -> Turn:
            ends.append(self.now)
            return super().measure(setting, turn_s)

    machine = Watched(speed)
    with contextlib.suppress(TooShort):
        found(machine, cores=16, seconds=seconds)

    assert max(ends) - 1000 < seconds + START_S  # a crew that is started gets a turn
    assert len(ends) > 10


def test_too_little_time_is_said() -> None:
    with pytest.raises(TooShort):
        found(Machine(by_cores), seconds=10)
    with pytest.raises(TooShort):
        found(Machine(lambda _: 1.0), seconds=0)


def test_a_batch_that_takes_too_long_is_left_out() -> None:
    machine = Machine(lambda s: 2.0 * s.processes)
    looking, results = found(machine, seconds=240)

    assert max(s.batch_size for s in machine.turns) <= 16
    assert Setting(batch_size=64, processes=2) in looking.skipped
    assert looking.standing(results).setting.batch_size == max(s.batch_size for s in machine.turns)


def test_a_crew_that_fails_is_left_out_and_said() -> None:
    looking, results = found(Machine(by_cores, fails=lambda crew: crew.processes == 2))

    assert list(looking.failed) == [Crew(2, 1)]
    assert {result.setting.processes for result in results} == {1}
    assert looking.standing(results).setting == Setting(processes=1)


def test_if_every_crew_fails_the_reason_is_raised() -> None:
    with pytest.raises(ModelProblem, match="no memory"):
        found(Machine(by_cores, fails=lambda _: True))


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 16, 64])
def test_no_setting_has_more_threads_than_cores(cores) -> None:
    for has_gpu in (False, True):
        settings = search.grid(cores, None, has_gpu=has_gpu)
        assert len(settings) == len(set(settings))
        assert all(s.processes * s.intra_op_threads <= cores for s in settings)
        assert Setting(processes=cores) in settings  # what a run without a profile does


@pytest.mark.parametrize(
    ("fixed", "gpu", "sizes"),
    [
        (None, False, [1, 2, 4, 8, 16, 32, 64]),
        (1, True, [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        (16, False, [16, 32, 64]),
        (100, False, [100]),
        (10**6, False, [1024]),
    ],
)
def test_a_fixed_batch_is_never_padded(fixed, gpu, sizes) -> None:
    assert search.batches(fixed, has_gpu=gpu) == sizes


def test_what_is_measured_is_told_with_the_time() -> None:
    machine, told = Machine(by_cores), []
    Search(
        cores=1,
        fixed_batch=None,
        has_gpu=False,
        seconds=60,
        start=machine.start,
        clock=lambda: machine.now,
        said=lambda elapsed_s, what: told.append((elapsed_s, what)),
    ).run()

    assert [elapsed_s for elapsed_s, _ in told] == sorted(elapsed_s for elapsed_s, _ in told)
    assert "round 1: batch 1, processes 1, threads 1, decoders 2:" in told[0][1]
