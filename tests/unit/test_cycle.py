"""What a cycle goes on after, and when it writes the report."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import cycle, report
from jobs.cycle import CURATE_CLIPS, PUBLISH_CLIPS, STAGE_NAMES, _past_refusals
from jobs.runtime.errors import CheckpointBusy, GateFailed, LedgerMismatch, NotFound
from jobs.runtime.lineage import Run


def test_all_steps_are_taken_and_all_refusals_told() -> None:
    taken: list[str] = []

    def step(name: str, error: Exception | None = None) -> Callable[[], None]:
        def take() -> None:
            taken.append(name)
            if error is not None:
                raise error

        return take

    refused = [step("a", GateFailed("no a")), step("b"), step("c", GateFailed("no c")), step("d")]
    with pytest.raises(GateFailed, match="no a\nno c"):
        _past_refusals(refused)
    assert taken == ["a", "b", "c", "d"]
    _past_refusals([step("e")])
    with pytest.raises(LedgerMismatch):  # of anything else nothing later is sure
        _past_refusals([step("f", LedgerMismatch("odd")), step("g")])
    assert taken == ["a", "b", "c", "d", "e", "f"]


def test_all_is_decided_before_anything_is_published() -> None:
    assert STAGE_NAMES[-4:] == ("curate", CURATE_CLIPS, "publish", PUBLISH_CLIPS)


class Cycles:
    """Ends of cycles over nothing, and what they had reported."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[dict[str, Any]] = []
        self.reported = 0
        self.page = folder / report.NUMBERS
        facts = ("warehouse", "config", "recipe", "clip_recipes")
        self.plan: Any = SimpleNamespace(
            report_folder=folder, unreported=folder / "unreported", **dict.fromkeys(facts)
        )
        monkeypatch.setattr(report, "write", self.write)
        monkeypatch.setattr(report, "stored", self.stored)
        monkeypatch.setattr(cycle, "_done", lambda *_: self.done)
        monkeypatch.setattr(cycle, "_record", lambda *_, **__: None)

    def write(self, *_: Any, folder: Path, **__: Any) -> Path:
        self.reported += 1
        folder.mkdir(exist_ok=True)
        self.page.write_text("")
        return self.page

    def stored(self, *_: Any) -> None:
        if not self.page.exists():
            raise NotFound("no report")

    def end(self, result: Any = "finished", *, news: int = 0, every_s: float | None = 0.0) -> int:
        """End a cycle of so many batches; how many reports there have been."""
        self.done = [{}] * news
        cycle._close(self.plan, Run("r", is_tracked=False), result, report_every_s=every_s)
        return self.reported


@pytest.fixture
def cycles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cycles:
    return Cycles(tmp_path / "_report", monkeypatch)


def test_a_report_is_written_of_news_and_of_a_refusal(cycles: Cycles) -> None:
    assert cycles.end(news=1) == 1
    assert cycles.end() == 1
    assert cycles.end("gate_failed") == 2
    assert cycles.end("failed", news=1) == 2
    assert cycles.end() == 2


def test_what_a_stage_alone_did_is_in_the_next_report(cycles: Cycles) -> None:
    assert cycles.end(news=1, every_s=None) == 0
    assert cycles.end() == 1
    assert cycles.end(news=1, every_s=None) == 1
    assert cycles.end() == 2


def test_a_report_that_is_gone_is_written_again(cycles: Cycles) -> None:
    cycles.end(news=1)
    cycles.page.unlink()
    assert cycles.end(every_s=600) == 2
    assert cycles.end() == 2


def test_cycles_that_repeat_report_now_and_then_and_the_last_news_too(cycles: Cycles) -> None:
    assert cycles.end(news=1, every_s=600) == 1
    assert cycles.end(news=1, every_s=600) == 1
    written_s = time.time() - 601
    os.utime(cycles.page, (written_s, written_s))
    assert cycles.end(every_s=600) == 2
    os.utime(cycles.page, (written_s, written_s))
    assert cycles.end(every_s=600) == 2


@pytest.mark.parametrize("name", ["dedup", "dedup_clips"])
def test_a_search_that_found_batches_is_followed_by_compaction_and_is_not_stopped_by_another(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    done: list[int] = []
    compacted: list[Any] = []
    plan: Any = SimpleNamespace(
        warehouse="w", config=SimpleNamespace(dedup=SimpleNamespace(clip_kinds=("video",)))
    )
    monkeypatch.setattr(cycle, "stages", lambda _: {name: None})
    monkeypatch.setattr(cycle.streams, "run", lambda *_, **__: done.pop())
    monkeypatch.setattr(cycle.compaction, "compact", compacted.append)

    done += [0]
    cycle.run_stage(plan, name, run_id="r")
    assert compacted == []

    done += [0, 2, 1]
    cycle.run_stage(plan, name, run_id="r")
    assert compacted == ["w"]

    def busy(_: Any) -> None:
        raise CheckpointBusy("held")

    monkeypatch.setattr(cycle.compaction, "compact", busy)
    done += [0, 1]
    cycle.run_stage(plan, name, run_id="r")
    assert not done
