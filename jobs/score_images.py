"""Score new images: `bronze.media` -> `silver.image_signals`, one decode and one pass each."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.models import ImageScoring
from jobs.runtime.streams import Batch, Outcome, Stage
from schemas import error_classes, image_signals, media

NAME: Final = "score_images"
Score = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]


def transform(images: DataFrame, score: Score) -> DataFrame:
    """One row of signals for each image.

    Args:
        images: `media_sha256`, `content`: nothing else crosses to Python.
        score: the operator, a fake in tests of the plumbing.
    """
    return images.select("media_sha256", "content").mapInArrow(score, image_signals.SIGNALS)


def unscored(keys: DataFrame, signals: DataFrame, signal_set: str, key: str) -> DataFrame:
    """The keys that have no row of the signal set yet."""
    done = signals.where(F.col("signal_set") == signal_set).join(
        F.broadcast(keys.select(key)), key, "left_semi"
    )
    return keys.join(F.broadcast(done.select(key)), key, "left_anti")


def outcome(batch: Batch, keys: DataFrame, table: str, signal_set: str, key: str) -> Outcome:
    """Count what became of the keys from the table's rows, whoever wrote them."""
    rows = (
        batch.warehouse.read(table)
        .where(F.col("signal_set") == signal_set)
        .join(F.broadcast(keys.select(key)), key, "left_semi")
    )
    is_ok = F.col("status") == error_classes.OK
    counted = rows.agg(
        F.count_if(is_ok).alias("kept"),
        F.count_if(~is_ok).alias("quarantined"),
        F.count_if(is_ok & (F.col("batch") != batch.name)).alias("reused"),
    ).first()
    assert counted is not None
    return Outcome(
        rows_in=keys.count(),
        rows_kept=counted.kept,
        rows_quarantined=counted.quarantined,
        rows_reused=counted.reused,
    )


def stage(scoring: ImageScoring) -> Stage:
    """The stage for a signal set; another set has its own checkpoint and sees all images."""

    def process(batch: Batch) -> Outcome:
        return _process(batch, scoring)

    return Stage(
        name=NAME,
        checkpoint=scoring.signal_set,
        source=media.TABLE,
        # Keys only: the bytes are fetched for those that need them.
        columns=("media_sha256", F.col("batch").alias("source_batch")),
        process=process,
        outputs=(image_signals.TABLE,),
    )


def _process(batch: Batch, scoring: ImageScoring) -> Outcome:
    warehouse = batch.warehouse
    keys = batch.frame.dropDuplicates(["media_sha256"]).localCheckpoint()
    todo = unscored(
        keys, warehouse.read(image_signals.TABLE), scoring.signal_set, "media_sha256"
    ).localCheckpoint()
    if not todo.isEmpty():
        images = content(warehouse.read(media.TABLE), todo)
        scored = transform(images, scoring.operator).withColumns(scoring.stamp())
        batch.append(batch.stamped(scored, at="scored_at"), image_signals.TABLE)
    return outcome(batch, keys, image_signals.TABLE, scoring.signal_set, "media_sha256")


def content(stored: DataFrame, wanted: DataFrame) -> DataFrame:
    """The bytes of the wanted media.

    The name of the batch that stored them prunes the files, so that only those are opened.
    """
    batches: Sequence[str] = [
        row.source_batch for row in wanted.select("source_batch").distinct().collect()
    ]
    return (
        stored.where(F.col("batch").isin(*batches))
        .select("media_sha256", "content")
        .join(F.broadcast(wanted.select("media_sha256")), "media_sha256", "left_semi")
    )
