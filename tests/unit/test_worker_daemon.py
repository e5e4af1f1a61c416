import gc
import sys
from collections.abc import Iterator
from pathlib import Path
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


@pytest.mark.parametrize("is_installed", [True, False])
def test_archives_of_spark_are_left_where_it_is_installed_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_installed: bool
) -> None:
    mine = str(tmp_path / "mine.zip")
    archives = [f"/spark/{name}" for name in ("pyspark.zip", "py4j-0.10-src.zip")]
    path = [mine, *archives, "/spark/jars/spark-core_2.13-4.1.4.jar", str(tmp_path)]
    monkeypatch.setattr(sys, "path", path.copy())
    monkeypatch.setattr(sys, "path_importer_cache", dict.fromkeys(path))
    monkeypatch.setattr(worker_daemon, "find_spec", lambda _: object() if is_installed else None)

    worker_daemon.leave_archives()

    assert sys.path == ([mine, str(tmp_path)] if is_installed else path)
    assert set(sys.path_importer_cache) == set(sys.path)
