"""What the two score stages share: every distinct key is scored once by a signal set."""

from collections.abc import Callable, Iterable

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.models import ImageScoring, TextScoring
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import belonging, counted
from schemas import error_classes

Score = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]


def score_once(
    batch: Batch,
    table: str,
    *,
    key: str,
    scoring: ImageScoring | TextScoring,
    score: Callable[[DataFrame], DataFrame],
) -> Outcome:
    """Score the keys of a batch that the signal set has not met yet.

    Args:
        batch: its frame holds the key and what `score` asks for.
        table: the signals; gets a row for every key that has none.
        key: what a row of signals is known by.
        scoring: the signal set, and what its rows are stamped with.
        score: rows of the batch's frame, each key once -> their signals.
    """

    def known() -> DataFrame:
        return batch.warehouse.read(table).where(F.col("signal_set") == scoring.signal_set)

    keys = batch.frame.dropDuplicates([key]).localCheckpoint()
    done = belonging(known(), keys, key).select(key)
    todo = keys.join(F.broadcast(done), key, "left_anti").localCheckpoint()
    if not todo.isEmpty():
        scored = score(todo).withColumns(scoring.stamp())
        batch.append(batch.stamped(scored, at="scored_at"), table)
    return _outcome(batch, keys, belonging(known(), keys, key))


def _outcome(batch: Batch, keys: DataFrame, signals: DataFrame) -> Outcome:
    """Count what became of the keys from their signals, whoever wrote them."""
    is_ok = F.col("status") == error_classes.OK
    counts = counted(
        signals,
        rows_kept=is_ok,
        rows_quarantined=~is_ok,
        rows_reused=is_ok & (F.col("batch") != batch.name),
    )
    return Outcome(rows_in=keys.count(), **counts)
