import gc
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from jobs.runtime import worker_daemon


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_is_there_is_frozen_once_and_again_when_modules_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_daemon, "_known", 0)

    worker_daemon.freeze()
    first = gc.get_freeze_count()
    assert first > 10_000
    kept = [[number] for number in range(1_000)]
    worker_daemon.freeze()
    assert gc.get_freeze_count() <= first
    monkeypatch.setitem(sys.modules, "a_module_that_comes", ModuleType("a_module_that_comes"))
    worker_daemon.freeze()
    assert gc.get_freeze_count() >= first + len(kept)


def test_a_task_that_fails_fails_and_is_frozen_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(worker_daemon, "_known", 0)
    monkeypatch.setattr(worker_daemon, "_work", failing)

    with pytest.raises(SystemExit, match="3"):
        worker_daemon.work(None, None)  # type: ignore[arg-type]  # not looked at
    assert gc.get_freeze_count()
