"""Score new texts: `bronze.samples` -> `silver.text_signals`, each distinct text once."""

from typing import Final

from pyspark.sql import DataFrame

from jobs.runtime.models import TextScoring
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.scoring import Score, score_once
from schemas import samples, text_signals

NAME: Final = "score_text"


def transform(texts: DataFrame, score: Score) -> DataFrame:
    """One row of signals for each text.

    Args:
        texts: `text_sha256`, `caption`, each text once.
        score: the operator, a fake in tests of the plumbing.
    """
    return texts.select("text_sha256", "caption").mapInArrow(score, text_signals.SIGNALS)


def stage(scoring: TextScoring) -> Stage:
    """The stage for a signal set; another set has its own checkpoint and sees all texts."""

    def process(batch: Batch) -> Outcome:
        return _process(batch, scoring)

    return Stage(
        name=NAME,
        checkpoint=scoring.signal_set,
        source=samples.TABLE,
        columns=("text_sha256", "caption"),
        process=process,
        outputs=(text_signals.TABLE,),
    )


def _process(batch: Batch, scoring: TextScoring) -> Outcome:
    # An explicit number of partitions: adaptive execution would merge the few bytes of text
    # into one, and one core would do all the work.
    tasks = batch.warehouse.spark.sparkContext.defaultParallelism

    def score(todo: DataFrame) -> DataFrame:
        return transform(todo.repartition(tasks), scoring.operator)

    return score_once(batch, text_signals.TABLE, key="text_sha256", scoring=scoring, score=score)
