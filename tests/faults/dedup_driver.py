"""Duplicates are searched, and it strikes itself: `dedup_driver.py CONFIG POINT SIGNAL`."""

import os
import signal
import sys
from dataclasses import replace
from typing import Final

from jobs.dedup import schemes, stage
from jobs.runtime import streams
from jobs.runtime.config import BoilerplateSearch, Dedup, load
from jobs.runtime.session import session
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse
from schemas.duplicate_kinds import SAMPLE_KINDS
from tests.faults.driver import Point, after, before, between_data_and_commit, of

SETTINGS: Final = Dedup(kinds=SAMPLE_KINDS, boilerplate=BoilerplateSearch(max_pages=1))


def search(warehouse: Warehouse, run_id: str) -> int:
    """Run the stage, a file of pairs a batch."""
    return streams.run(warehouse, replace(stage.stage(SETTINGS), max_files=1), run_id=run_id)


# Of the first batch, which finds no history, and of the second.
POINTS: Final[dict[str, Point]] = {
    "rules are written and nothing compared": after(schemes, "hold", lambda *_: True),
    "contents are compared and not indexed": before(
        Batch, "append", of(stage.NAME, "silver.exact_index", 1)
    ),
    "contents are indexed and hashes not": before(
        Batch, "append", of(stage.NAME, "silver.phash_index", 1)
    ),
    "data files of hashes are written and not committed": between_data_and_commit(
        stage.NAME, "silver.phash_index", 0
    ),
    "segments are indexed together and not one by one": before(
        Batch, "append", of(stage.NAME, "silver.crop_index", 1)
    ),
    "shingles are written and not committed": before(
        Batch, "append_files", of(stage.NAME, "silver.shingles", 1)
    ),
    "shingles are committed and keys not": before(
        Batch, "append_files", of(stage.NAME, "silver.minhash_index", 1)
    ),
    "keys are committed and candidates not verified": after(
        Batch, "append_files", of(stage.NAME, "silver.minhash_index", 0)
    ),
    "centroids are stored and codes not": before(
        Batch, "append", of(stage.NAME, "silver.semantic_index", 0)
    ),
    "codes are committed and vectors not": before(
        Batch, "append", of(stage.NAME, "silver.semantic_vectors", 1)
    ),
    "all is indexed and links not committed": before(
        Batch, "append", of(stage.NAME, "silver.duplicate_edges", 1)
    ),
    "links are committed and verdicts not": before(
        Batch, "append", of(stage.NAME, "silver.duplicates", 1)
    ),
    "verdicts are committed and the ledger not": before(
        Batch, "append", of(stage.NAME, "ops.batches", 1)
    ),
    "the ledger is written and the next batch not begun": after(
        streams, "process", lambda batch, _work: batch.batch_id == 0
    ),
}


def main(config_file: str, point: str, signal_name: str) -> None:
    """Search up to the point; ends of its own accord only where the point is not met."""
    POINTS[point](lambda: os.kill(os.getpid(), signal.Signals[signal_name]))
    config = load(config_file)
    search(Warehouse(session(config, app="victim"), config.warehouse), "victim")


if __name__ == "__main__":
    main(*sys.argv[1:])
