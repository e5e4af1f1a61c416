"""Score new images: `bronze.media` -> `silver.image_signals`, one decode and one pass each."""

from collections.abc import Sequence
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.media import COLUMNS, with_bytes
from jobs.runtime.models import Operator, Side
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import belonging
from jobs.scoring import score_once
from schemas import image_signals, media, signal_sets

NAME: Final = "score_images"


def transform(images: DataFrame, operator: Operator) -> DataFrame:
    """One row of signals for each image.

    Args:
        images: columns of `jobs.media.COLUMNS`: nothing else crosses to Python.
        operator: scores them, a fake in tests of the plumbing.
    """
    return images.select(*COLUMNS).mapInArrow(with_bytes(operator), image_signals.SIGNALS)


def stage(side: Side) -> Stage:
    """The stage for a signal set; another set has its own checkpoint and sees all images."""

    def process(batch: Batch) -> Outcome:
        return _process(batch, side)

    return Stage(
        name=NAME,
        checkpoint=side.signal_set,
        source=media.TABLE,
        # Keys only: the bytes are fetched for those that need them.
        columns=("media_sha256", F.col("batch").alias("source_batch")),
        where=F.col("mime").startswith("image/"),
        process=process,
        outputs=(image_signals.TABLE, signal_sets.TABLE),
    )


def _process(batch: Batch, side: Side) -> Outcome:
    def score(todo: DataFrame, operator: Operator) -> DataFrame:
        return transform(content(batch.warehouse.read(media.TABLE), todo), operator)

    return score_once(batch, side, score)


def content(stored: DataFrame, wanted: DataFrame) -> DataFrame:
    """The wanted media: their bytes, or where those lie.

    The name of the batch that stored them prunes the files, so that only those are opened.
    """
    batches: Sequence[str] = [
        row.source_batch for row in wanted.select("source_batch").distinct().collect()
    ]
    stored = stored.where(F.col("batch").isin(*batches)).select(*COLUMNS)
    return belonging(stored, wanted, "media_sha256")
