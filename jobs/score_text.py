"""Score new texts: `bronze.samples` -> `silver.text_signals`, each distinct text once."""

from typing import Final

from pyspark.sql import DataFrame

from jobs.runtime.models import Operator, Side
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.scoring import score_once
from schemas import samples, signal_sets, text_signals

NAME: Final = "score_text"


def transform(texts: DataFrame, operator: Operator) -> DataFrame:
    """One row of signals for each text.

    Args:
        texts: `text_sha256`, `caption`, each text once.
        operator: scores them, a fake in tests of the plumbing.
    """
    return texts.select("text_sha256", "caption").mapInArrow(operator, text_signals.SIGNALS)


def stage(side: Side) -> Stage:
    """The stage for a signal set; another set has its own checkpoint and sees all texts."""

    def process(batch: Batch) -> Outcome:
        return _process(batch, side)

    return Stage(
        name=NAME,
        checkpoint=side.signal_set,
        source=samples.TABLE,
        columns=("text_sha256", "caption"),
        process=process,
        outputs=(text_signals.TABLE, signal_sets.TABLE),
    )


def _process(batch: Batch, side: Side) -> Outcome:
    # An explicit number of partitions: adaptive execution would merge the few bytes of text
    # into one, and one core would do all the work.
    tasks = batch.warehouse.spark.sparkContext.defaultParallelism

    def score(todo: DataFrame, operator: Operator) -> DataFrame:
        return transform(todo.repartition(tasks), operator)

    return score_once(batch, side, score)
