import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from jobs import cycle
from jobs.__main__ import app
from jobs.cycle import Plan
from jobs.runtime.errors import CheckpointBusy
from tests import equality
from tests.faults import driver
from tests.two_shards import Uninterrupted

ROOT = Path(__file__).parents[2]
# `make test` takes these two, and a third at which the driver was stopped first; `make faults` all.
USUAL = {"images are being scored", "gold is committed and the ledger not"}
POINTS = [
    pytest.param(point, marks=() if point in USUAL else pytest.mark.faults, id=point)
    for point in driver.POINTS
]
ORPHANS_LIVE_S = 60  # chosen: a JVM that finds its parent gone ends within seconds


@contextmanager
def driving(
    folder: Path, point: str, signal_name: str, *, driver: str = driver.__file__
) -> Iterator[subprocess.Popen[bytes]]:
    """A driver in a session of its own, by which its JVM and workers are known later."""
    command = [sys.executable, driver, folder / "config.yaml", point, signal_name]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for orphan in family(process.pid):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                orphan.kill()
        process.wait()


def family(session: int) -> list[psutil.Process]:
    """The live processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize("point", POINTS)
def test_a_run_after_a_kill_makes_the_tables_of_an_uninterrupted_one(
    point: str, uninterrupted: Uninterrupted, resumed: Callable[[str], Plan], tmp_path: Path
) -> None:
    stage, _ = driver.POINTS[point]
    planned = resumed(stage)
    with driving(tmp_path, point, "SIGKILL") as killed:
        assert killed.wait() == -signal.SIGKILL
        # At once, whatever the orphaned JVM is still doing.
        cycle.run(planned, command="again")
        _, alive = psutil.wait_procs(family(killed.pid), timeout=ORPHANS_LIVE_S)
        assert not alive

    assert equality.contents(planned.warehouse) == uninterrupted.contents
    assert not list(Path(planned.warehouse.root).glob("_staging/*"))
    versions = equality.versions(planned.warehouse)
    cycle.run(planned, command="and again")
    assert equality.versions(planned.warehouse) == versions


@pytest.mark.faults
def test_of_a_worker_that_is_killed_every_image_is_scored_once(
    uninterrupted: Uninterrupted, resumed: Callable[[str], Plan], tmp_path: Path
) -> None:
    planned = resumed("score_images")
    file = tmp_path / "config.yaml"
    file.write_text(file.read_text().replace("local[2]", "local[2,4]"))  # tasks have four lives
    with driving(tmp_path, driver.A_WORKER, "SIGKILL") as survived:
        assert survived.wait() == 0
    assert (tmp_path / "struck").is_dir()
    assert equality.contents(planned.warehouse) == uninterrupted.contents


def test_a_second_live_driver_is_refused_and_a_killed_one_leaves_nothing_held(
    uninterrupted: Uninterrupted, resumed: Callable[[str], Plan], tmp_path: Path
) -> None:
    planned = resumed("dedup")
    with driving(tmp_path, "the ledger is written and the checkpoint not", "SIGSTOP") as first:
        _, status = os.waitpid(first.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        with pytest.raises(CheckpointBusy, match="another live driver"):
            cycle.run(planned, command="second")
        refused = CliRunner().invoke(app, ["stage", "dedup", str(tmp_path / "config.yaml")])
        assert refused.exit_code == CheckpointBusy.exit_code
        first.kill()
        cycle.run(planned, command="third")

    assert equality.contents(planned.warehouse) == uninterrupted.contents
