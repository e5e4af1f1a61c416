"""A driver that fetches and strikes itself: `python fetch_driver.py CONFIG POINT SIGNAL`."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import pyarrow as pa

from jobs.fetch import stage as fetch
from jobs.fetch.rules import Rules
from jobs.runtime import streams
from jobs.runtime.config import load
from jobs.runtime.session import session
from jobs.runtime.staging import Staging
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse
from tests.faults.driver import DRIVER, Point, Strike, after, before

Operator = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]
BATCH: Final = 1  # of three: one has gone before, one comes after


def inside_the_client(strike: Strike) -> None:  # noqa: ARG001 - the worker strikes
    """Strike from the Python worker, when it has given its first answers away."""
    real = fetch.fetcher

    def deadly(rules: Rules, staging: Staging) -> Operator:
        def operator(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for answered in real(rules, staging)(batches):
                yield answered
                os.kill(int(os.environ[DRIVER]), signal.SIGKILL)

        return operator

    fetch.fetcher = deadly


def _of(table: str) -> Callable[..., bool]:
    return lambda batch, _, to: (to, batch.batch_id) == (table, BATCH)


POINTS: Final[dict[str, Point]] = {
    "answers are coming in": inside_the_client,
    "all is fetched and nothing committed": before(Batch, "append_files", _of("bronze.media")),
    "media are committed and answers not": before(Batch, "append", _of("bronze.fetches")),
    "answers are committed and quarantine not": before(Batch, "append", _of("ops.quarantine")),
    "quarantine is committed and samples not": before(Batch, "append", _of("bronze.samples")),
    "the staging folder is gone and the ledger not written": after(
        Warehouse, "remove", lambda _, folder: folder.endswith("fetch"), call=BATCH + 1
    ),
    "the ledger is written and the checkpoint not": after(
        streams, "process", lambda batch, _work: batch.batch_id == BATCH
    ),
}


def main(config_file: str, point: str, signal_name: str) -> None:
    """Fetch up to the point; ends of its own accord only where the point is not met."""
    os.environ[DRIVER] = str(os.getpid())
    POINTS[point](lambda: os.kill(os.getpid(), signal.Signals[signal_name]))
    config = load(config_file)
    warehouse = Warehouse(session(config, app="victim"), config.warehouse)
    streams.run(warehouse, fetch.stage(config), run_id="victim")


if __name__ == "__main__":
    main(*sys.argv[1:])
