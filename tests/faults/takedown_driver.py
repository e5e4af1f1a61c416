"""Media are taken down, and it strikes itself: `takedown_driver.py CONFIG POINT SHA256`."""

import os
import signal
import sys
from typing import Final

from jobs.runtime.config import load
from jobs.runtime.session import session
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse
from jobs.takedown import stage as takedown
from jobs.takedown.keys import Key
from schemas.tombstones import MEDIA
from tests.faults.driver import Point, after, before


def _table(*names: str) -> object:
    return lambda _owner, table, *_: table in names


POINTS: Final[dict[str, Point]] = {
    "all is noted and nothing done": before(Batch, "append", lambda *_: True),
    "tombstones are committed and nothing removed": before(Batch, "delete", lambda *_: True),
    "media are removed and samples not": after(Batch, "delete", _table("bronze.media")),
    "all is removed and decisions not superseded": before(
        Batch, "append", lambda _batch, _frame, table: table == "ops.decisions"
    ),
    "rows are removed and their files not": before(Warehouse, "vacuum", lambda *_: True),
    "files are removed and the ledger not written": before(
        Batch, "append", lambda _batch, _frame, table: table == "ops.batches"
    ),
    "the ledger is written and the note not removed": after(
        Batch, "append", lambda _batch, _frame, table: table == "ops.batches"
    ),
}


def main(config_file: str, point: str, sha256: str) -> None:
    """Take down up to the point; ends of its own accord only where the point is not met."""
    POINTS[point](lambda: os.kill(os.getpid(), signal.SIGKILL))
    config = load(config_file)
    warehouse = Warehouse(session(config, app="victim"), config.warehouse)
    takedown.run(warehouse, config, [Key(MEDIA, sha256)], run_id="victim")


if __name__ == "__main__":
    main(*sys.argv[1:])
