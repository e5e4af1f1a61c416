"""Score new images: `bronze.media` -> `silver.image_signals`, one decode and one pass each.

The key frames of videos, in `silver.keyframes`, are scored in a stage of their own, by the same
signal set into the same table: equal bytes are scored once, wherever they came from.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pyspark.resource import ResourceProfile
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.media import COLUMNS, with_bytes
from jobs.runtime.models import Operator, Side
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import belonging
from jobs.scoring import score_once
from schemas import image_signals, keyframes, media, signal_sets

log: Final = logging.getLogger("sluice")

NAME: Final = "score_images"
OF_KEYFRAMES: Final = "score_keyframes"


def transform(
    images: DataFrame,
    operator: Operator,
    asks: ResourceProfile | None = None,
    *,
    tasks: int | None = None,
) -> DataFrame:
    """One row of signals for each image.

    Args:
        images: columns of `jobs.media.COLUMNS`: nothing else crosses to Python.
        operator: scores them, a fake in tests of the plumbing.
        asks: what its tasks ask Spark for; null: nothing beside a core.
        tasks: most that do it at a time; null: as many as Spark has room for.
    """
    wanted = images.select(*COLUMNS)
    if tasks is not None:  # of more parts each task takes several, one after another
        wanted = wanted.coalesce(tasks)
    return wanted.mapInArrow(with_bytes(operator), image_signals.SIGNALS, profile=asks)


def stage(side: Side) -> Stage:
    """The stage for a signal set; another set has its own checkpoint and sees all images."""

    def stored(batch: Batch, todo: DataFrame) -> DataFrame:
        return content(batch.warehouse.read(media.TABLE), todo)

    return Stage(
        name=NAME,
        checkpoint=side.signal_set,
        source=media.TABLE,
        # Keys only: the bytes are fetched for those that need them.
        columns=("media_sha256", F.col("batch").alias("source_batch")),
        where=F.col("mime").startswith("image/"),
        process=partial(_process, side=side, content_of=stored),
        outputs=(image_signals.TABLE, signal_sets.TABLE),
    )


def keyframes_stage(side: Side) -> Stage:
    """The stage that scores key frames likewise."""

    def stills(batch: Batch, todo: DataFrame) -> DataFrame:
        """The one of equal frames that the batch chose: their bytes are all in the table."""
        nowhere = {name: F.lit(None) for name in ("root", "path", "offset_bytes")}
        stored = _of_batches(batch.warehouse.read(keyframes.TABLE), todo)
        return belonging(stored.withColumn("place", _place()), todo, "place").withColumns(nowhere)

    return Stage(
        name=OF_KEYFRAMES,
        checkpoint=side.signal_set,
        source=keyframes.TABLE,
        columns=("media_sha256", F.col("batch").alias("source_batch"), _place().alias("place")),
        process=partial(_process, side=side, content_of=stills),
        outputs=(image_signals.TABLE, signal_sets.TABLE),
    )


def _place() -> Column:
    return F.struct(*keyframes.KEY)


def _process(
    batch: Batch, *, side: Side, content_of: Callable[[Batch, DataFrame], DataFrame]
) -> Outcome:
    def score(todo: DataFrame, operator: Operator, asks: ResourceProfile | None) -> DataFrame:
        return transform(content_of(batch, todo), operator, asks, tasks=side.tasks)

    if side.note is not None:
        log.info("%s: %s", batch.stage, side.note)
    return score_once(batch, side, score)


def content(stored: DataFrame, wanted: DataFrame) -> DataFrame:
    """The wanted media: their bytes, or where those lie."""
    return belonging(_of_batches(stored, wanted).select(*COLUMNS), wanted, "media_sha256")


def _of_batches(stored: DataFrame, wanted: DataFrame) -> DataFrame:
    """Rows of the batches that stored what is wanted: by their names files are passed over."""
    batches: Sequence[str] = [
        row.source_batch for row in wanted.select("source_batch").distinct().collect()
    ]
    return stored.where(F.col("batch").isin(*batches))
