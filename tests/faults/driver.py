"""A driver that strikes itself at a seeded point: `python driver.py CONFIG POINT SIGNAL`.

The points are put around functions of the runtime from outside, so that the product knows
nothing of them. What only records a run is left out: these tests are about tables.
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pyarrow as pa

from jobs import cycle, report, score_images, score_videos
from jobs.runtime import dumps, lineage, streams
from jobs.runtime.config import Config, load
from jobs.runtime.lineage import Run
from jobs.runtime.models import Operator
from jobs.runtime.session import session
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse

DRIVER: Final = "SLUICE_TEST_DRIVER"  # the process that the operator kills from its worker
STRUCK: Final = "SLUICE_TEST_STRUCK"  # a folder that is there once a worker was killed
PARQUET_END: Final = b"PAR1"  # a file that ends with it is whole
Strike = Callable[[], None]
Point = Callable[[Strike], None]


def before(owner: Any, name: str, meets: Callable[..., bool], *, call: int = 1) -> Point:
    """Strike ahead of the call of that number, among those that meet the condition."""
    return _around(owner, name, meets, call, is_before=True)


def after(owner: Any, name: str, meets: Callable[..., bool], *, call: int = 1) -> Point:
    """Strike once the call of that number, among those that meet the condition, has returned."""
    return _around(owner, name, meets, call, is_before=False)


def _around(
    owner: Any, name: str, meets: Callable[..., bool], call: int, *, is_before: bool
) -> Point:
    def install(strike: Strike) -> None:
        real = getattr(owner, name)
        met = itertools.count(1)

        def wrapped(*args: Any, **named: Any) -> Any:
            is_hit = meets(*args) and next(met) == call
            if is_hit and is_before:
                strike()
            result = real(*args, **named)
            if is_hit and not is_before:
                strike()
            return result

        setattr(owner, name, wrapped)

    return install


def between_data_and_commit(stage: str, table: str, batch_id: int) -> Point:
    """Strike the JVM too, when a data file of the table is whole and its commit is not there."""

    def install(strike: Strike) -> None:  # noqa: ARG001 - a signal to Python alone comes too late
        real = Batch.append

        def append(batch: Batch, frame: Any, to: str, **named: Any) -> None:
            if (batch.stage, batch.batch_id, to) == (stage, batch_id, table):
                folder = Path(batch.warehouse.path(table))
                threading.Thread(target=_watch, args=(folder,), daemon=True).start()
            real(batch, frame, to, **named)

        Batch.append = append  # type: ignore[method-assign]

    return install


def _watch(table: Path) -> None:
    known, commits = set(table.rglob("*.parquet")), len(list(table.glob("_delta_log/*.json")))
    while not any(_is_whole(file) for file in set(table.rglob("*.parquet")) - known):
        time.sleep(0.001)
    if len(list(table.glob("_delta_log/*.json"))) == commits:
        os.killpg(0, signal.SIGKILL)


def _is_whole(file: Path) -> bool:
    return file.read_bytes().endswith(PARQUET_END)


def inside_the_operator(stage: ModuleType, strike: Strike) -> Point:
    """Strike from the Python worker, when it has given the first of what it scored away."""

    def install(_: Strike) -> None:  # the worker strikes
        real = stage.transform
        stage.transform = lambda rows, score, *given, **named: real(  # type: ignore[attr-defined]
            rows, _deadly(score, strike), *given, **named
        )

    return install


def _deadly(score: Operator, strike: Strike) -> Operator:
    def operator(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for scored in score(batches):
            yield scored
            strike()

    return operator


def at_the_driver() -> None:
    """Kill the driver from its worker."""
    os.kill(int(os.environ[DRIVER]), signal.SIGKILL)


def at_one_worker() -> None:
    """Kill this worker, where none of the run was killed before."""
    with contextlib.suppress(FileExistsError):
        (Path(os.environ[STRUCK])).mkdir()
        os.kill(os.getpid(), signal.SIGKILL)


def of(stage: str, table: str, batch_id: int = 0) -> Callable[..., bool]:
    """Condition on `Batch.append`."""
    return lambda batch, _, to: (batch.stage, to, batch.batch_id) == (stage, table, batch_id)


# What is cut short -> the stage it happens in, and the point.
POINTS: Final[dict[str, tuple[str, Point]]] = {
    "half of the tables are made": (
        "ingest",
        after(Warehouse, "create", lambda _, table: table == "silver.pairs"),
    ),
    "the second commit of the manifest is due": (
        "ingest",
        before(dumps, "conform", lambda _frame, _table: True, call=2),
    ),
    "a batch is planned and not begun": (
        "ingest",
        before(streams, "process", lambda batch, _work: batch.stage == "ingest"),
    ),
    "a shard is staged and nothing committed": (
        "ingest",
        before(Batch, "append", lambda batch, *_: batch.stage == "ingest"),
    ),
    "media are committed and samples not": (
        "ingest",
        before(Batch, "append", of("ingest", "bronze.samples", 1)),
    ),
    "data files are written and not committed": (
        "ingest",
        between_data_and_commit("ingest", "bronze.samples", 1),
    ),
    "the staging folder is gone and the ledger not written": (
        "ingest",
        after(Warehouse, "remove", lambda _, folder: folder.endswith("ingest")),
    ),
    "a video is being decoded": ("score_videos", inside_the_operator(score_videos, at_the_driver)),
    "a video is decoded and nothing committed": (
        "score_videos",
        before(Batch, "append", of("score_videos", "silver.clips")),
    ),
    "data files of clips are written and not committed": (
        "score_videos",
        between_data_and_commit("score_videos", "silver.clips", 0),
    ),
    "clips are committed and key frames not": (
        "score_videos",
        before(Batch, "append", of("score_videos", "silver.keyframes")),
    ),
    "clips are committed and their videos not": (
        "score_videos",
        before(Batch, "append", of("score_videos", "silver.video_signals")),
    ),
    "videos are committed and the ledger not": (
        "score_videos",
        before(Batch, "append", of("score_videos", "ops.batches")),
    ),
    "images are being scored": ("score_images", inside_the_operator(score_images, at_the_driver)),
    "key frames are scored and the ledger not written": (
        "score_keyframes",
        before(Batch, "append", of("score_keyframes", "ops.batches")),
    ),
    "clips are paired and the ledger not written": (
        "pair_clips",
        before(Batch, "append", of("pair_clips", "ops.batches")),
    ),
    "hashes of clips are indexed and verdicts not committed": (
        "dedup_clips",
        before(Batch, "append", of("dedup_clips", "silver.duplicates")),
    ),
    "the ledger of clips' verdicts is written and the checkpoint not": (
        "dedup_clips",
        after(streams, "process", lambda batch, _work: batch.stage == "dedup_clips"),
    ),
    "clips are decided on and the ledger not written": (
        "curate_clips",
        before(Batch, "append", of("curate_clips", "ops.batches")),
    ),
    "gold of clips is committed and the ledger not": (
        "publish_clips",
        before(Batch, "append", of("publish_clips", "ops.batches")),
    ),
    "pairs are committed and quarantine not": (
        "pair",
        before(Batch, "append", of("pair", "ops.quarantine")),
    ),
    "the ledger is written and the checkpoint not": (
        "dedup",
        after(streams, "process", lambda batch, _work: batch.stage == "dedup"),
    ),
    "the checkpoint is written and the next stage not begun": (
        "curate",
        after(streams, "run", lambda _, stage: stage.name == "curate"),
    ),
    "gold is committed and the ledger not": (
        "publish",
        before(Batch, "append", of("publish", "ops.batches")),
    ),
}


# Not a driver's end: Spark has others do what the worker did.
A_WORKER: Final = "a worker is killed while it scores images"
SURVIVED: Final = {A_WORKER: ("score_images", inside_the_operator(score_images, at_one_worker))}


def untracked(_config: Config, *, command: str) -> Run:  # noqa: ARG001 - as `lineage.start`
    """A run without MLflow."""
    return Run(uuid.uuid4().hex, is_tracked=False)


def unwritten(*_: Any, folder: Path, **_named: Any) -> Path:
    """A report of nothing."""
    folder.mkdir(exist_ok=True)
    return folder / "index.html"


def main(config_file: str, point: str, signal_name: str) -> None:
    """Run a cycle up to the point; ends of its own accord only where the point is not met."""
    lineage.start = untracked
    report.write = unwritten
    os.environ[DRIVER] = str(os.getpid())
    dumps.COMMIT_ROWS = 1  # type: ignore[misc] # a commit a batch, to strike between two
    os.environ[STRUCK] = str(Path(config_file).with_name("struck"))
    _, install = (POINTS | SURVIVED)[point]
    install(lambda: os.kill(os.getpid(), signal.Signals[signal_name]))
    config = load(config_file)
    cycle.run(cycle.plan(config, session(config, app="victim")), command="victim")


if __name__ == "__main__":
    main(*sys.argv[1:])
