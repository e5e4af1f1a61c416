"""Score new texts: `bronze.samples` -> `silver.text_signals`, each distinct text once.

The texts of clips, in `silver.captions`, are scored in a stage of their own, likewise.
"""

from typing import Final

from pyspark.resource import ResourceProfile
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.models import Operator, Side
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.scoring import score_once
from schemas import captions, samples, signal_sets, text_signals

NAME: Final = "score_text"
OF_CAPTIONS: Final = "score_captions"


def transform(
    texts: DataFrame, operator: Operator, asks: ResourceProfile | None = None
) -> DataFrame:
    """One row of signals for each text.

    Args:
        texts: `text_sha256`, `caption`, each text once.
        operator: scores them, a fake in tests of the plumbing.
        asks: what its tasks ask Spark for; null: nothing beside a core.
    """
    read = texts.select("text_sha256", "caption")
    return read.mapInArrow(operator, text_signals.SIGNALS, profile=asks)


def stage(side: Side) -> Stage:
    """The stage for a signal set; another set has its own checkpoint and sees all texts."""
    return Stage(
        name=NAME,
        checkpoint=side.signal_set,
        source=samples.TABLE,
        columns=("text_sha256", "caption"),
        process=lambda batch: _process(batch, side),
        outputs=(text_signals.TABLE, signal_sets.TABLE),
    )


def captions_stage(side: Side) -> Stage:
    """The stage that scores the texts of clips likewise."""
    return Stage(
        name=OF_CAPTIONS,
        checkpoint=side.signal_set,
        source=captions.TABLE,
        columns=("text_sha256", F.col("text").alias("caption")),
        process=lambda batch: _process(batch, side),
        outputs=(text_signals.TABLE, signal_sets.TABLE),
    )


def _process(batch: Batch, side: Side) -> Outcome:
    # An explicit number of partitions: adaptive execution would merge the few bytes of text
    # into one, and one core would do all the work.
    tasks = batch.warehouse.spark.sparkContext.defaultParallelism

    def score(todo: DataFrame, operator: Operator, asks: ResourceProfile | None) -> DataFrame:
        return transform(todo.repartition(tasks), operator, asks)

    return score_once(batch, side, score)
