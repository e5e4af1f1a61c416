"""Processes that measure: what they count, and what ends them."""

import os
from dataclasses import dataclass
from typing import ClassVar

import psutil
import pytest

from jobs.runtime.errors import ModelProblem
from jobs.runtime.profiles import Setting
from jobs.tuning import crew, pictures
from jobs.tuning.crew import Pass
from jobs.tuning.search import Crew
from udfs.clip import ClipImage
from udfs.isolation import Limits
from udfs.onnx_session import Placement
from udfs.phash import PHash


@dataclass(frozen=True)
class Failing:
    """A signal that cannot be loaded."""

    how: str
    version: str = "failing/1"
    columns: ClassVar = ("sharpness",)

    def load(self) -> None:
        if self.how == "exits":
            os._exit(3)
        raise RuntimeError("no weights")

    def prepare(self, decoded):
        return decoded.width_px

    def finish(self, prepared):
        return {"sharpness": [1.0] * len(prepared)}


def work(*signals, contents=None, deadline_s: float = 120.0, network_bytes: int = 0) -> Pass:
    drawn = pictures.rendered(3) if contents is None else contents
    return Pass(signals, drawn, 10**6, Limits(), network_bytes, deadline_s)


def children() -> set[psutil.Process]:
    """All below us, but what the standard library keeps for itself."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.ZombieProcess:  # ended, and its parent has not asked yet
            command = []
        except psutil.NoSuchProcess:
            continue
        if "resource_tracker" not in str(command):
            found.add(process)
    return found


def test_a_turn_counts_what_all_processes_scored(tiny_clip) -> None:
    contents = [*pictures.rendered(3), b"no image"]
    before = children()
    with crew.crew(work(PHash(), ClipImage(tiny_clip), contents=contents), Crew(2, 1)) as measure:
        turn = measure(Setting(batch_size=4, processes=2), 0.5)
        again = measure(Setting(batch_size=8, processes=2, decoders=1), 0.1)
        ours = children() - before

    assert turn.images % 4 == again.images % 8 == 0
    assert turn.images >= 2 * 2 * 4
    assert turn.refused == turn.images / 4  # every fourth is no image
    assert turn.provider == "CPUExecutionProvider"
    assert 0 < turn.cpu_ms_per_image < 1000 * os.cpu_count() * 2 / turn.images_per_s * 1.5
    assert turn.memory_mb > 100  # two interpreters with Arrow
    assert 0 <= turn.others <= 1
    assert len(ours) >= 2 + 2 + 2  # processes, their nurseries, a child each at least
    _, alive = psutil.wait_procs(ours, timeout=10)
    assert alive == []


@pytest.mark.parametrize(
    ("how", "message"), [("exits", "ended with code 3"), ("raises", "RuntimeError: no weights")]
)
def test_what_ends_a_process_is_said(how, message) -> None:
    with (
        pytest.raises(ModelProblem, match=message),
        crew.crew(work(Failing(how)), Crew(1, 1)),
    ):
        pass


def test_a_process_that_is_not_done_is_ended() -> None:
    before = children()
    with (
        pytest.raises(ModelProblem, match="was not done within"),
        crew.crew(work(PHash(), deadline_s=0.01), Crew(1, 1)),
    ):
        pass
    assert children() <= before


def test_more_memory_than_is_free_is_not_asked_for() -> None:
    with (
        pytest.raises(ModelProblem, match="4 processes take about"),
        crew.crew(work(PHash(), network_bytes=2**50), Crew(4, 1)),
    ):
        pass


def test_threads_are_those_of_the_crew(tiny_clip) -> None:
    asked = ClipImage(tiny_clip, Placement("cpu"))
    given = crew._threaded(asked, Crew(1, 3))

    assert given.placement == Placement("cpu", 3)
    assert given.version == asked.version
    plain = PHash()
    assert crew._threaded(plain, Crew(1, 3)) is plain


def test_each_process_begins_with_another_image() -> None:
    assert crew._share([b"a", b"b", b"c", b"d"], 1, 2) == [b"c", b"d", b"a", b"b"]
