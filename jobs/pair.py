"""Bring image and text of a sample together: `bronze.samples` -> `silver.pairs`.

Driven by samples, so that a new sample of old bytes gets its pair without any network. A
sample whose image or text could not be scored goes to `ops.quarantine` here, once a sample.
"""

from collections.abc import Callable
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime.errors import SluiceError
from jobs.runtime.held import held
from jobs.runtime.models import Scoring
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import belonging
from schemas import error_classes, image_signals, pairs, quarantine, samples, text_signals
from udfs.identity import digest

NAME: Final = "pair"
Cosine = Callable[[Column, Column], Column]

COLUMNS: Final = (
    "sample_id",
    "ingest_ordinal",
    "dump",
    "shard",
    "sample_key",
    "member",
    "shard_offset_bytes",
    "size_bytes",
    "url",
    "media_sha256",
    "text_sha256",
)


def transform(
    arrived: DataFrame, images: DataFrame, texts: DataFrame, clip_score: Cosine
) -> DataFrame:
    """Samples with the signals of both halves; a half that is missing leaves nulls.

    Args:
        arrived: columns of `COLUMNS`.
        images: rows of `silver.image_signals` of one signal set.
        texts: rows of `silver.text_signals` of one signal set.
        clip_score: cosine of two packed embeddings.
    """
    image = images.select(
        "media_sha256",
        F.col("status").alias("image_status"),
        F.col("detail").alias("image_detail"),
        F.col("clip_embedding").alias("image_embedding"),
        F.col("signal_set").alias("image_signal_set"),
    )
    text = texts.select(
        "text_sha256",
        F.col("status").alias("text_status"),
        F.col("detail").alias("text_detail"),
        F.col("clip_embedding").alias("text_embedding"),
        F.col("signal_set").alias("text_signal_set"),
    )
    return (
        arrived.join(image, "media_sha256", "left")
        .join(text, "text_sha256", "left")
        .withColumn("clip_score", clip_score(F.col("image_embedding"), F.col("text_embedding")))
        .drop("image_embedding", "text_embedding")
    )


def stage(scoring: Scoring) -> Stage:
    """The stage for the two signal sets of a scoring."""

    def process(batch: Batch) -> Outcome:
        return _process(batch, scoring)

    return Stage(
        name=NAME,
        checkpoint=scoring.signal_set,
        source=samples.TABLE,
        columns=COLUMNS,
        where=F.col("modality") == samples.IMAGE_TEXT,
        process=process,
        outputs=(pairs.TABLE, quarantine.TABLE),
    )


def _process(batch: Batch, scoring: Scoring) -> Outcome:
    arrived = held(batch.frame)

    def signals(table: str, key: str, signal_set: str) -> DataFrame:
        rows = batch.warehouse.read(table).where(F.col("signal_set") == signal_set)
        return belonging(rows, arrived.frame, key)

    joined = transform(
        arrived.frame,
        signals(image_signals.TABLE, "media_sha256", scoring.images.signal_set),
        signals(text_signals.TABLE, "text_sha256", scoring.texts.signal_set),
        scoring.clip_score,
    )
    is_ok = (F.col("image_status") == error_classes.OK) & (F.col("text_status") == error_classes.OK)
    paired = held(
        joined,
        complete=F.count_if(is_ok),
        poisoned=F.count_if(~is_ok),
        waiting=F.count_if(F.isnull("image_status") | F.isnull("text_status")),
    )
    met = paired.said
    if met["waiting"]:
        raise SluiceError(
            f"{met['waiting']} of {paired.rows} samples have no signals yet, all need them "
            "before they can be paired; run the stages score_images and score_text first"
        )
    if met["complete"]:
        complete = paired.frame.where(is_ok).withColumn("signal_set", F.lit(scoring.signal_set))
        batch.append(batch.stamped(complete, at="paired_at"), pairs.TABLE)
    if met["poisoned"]:
        poisoned = quarantined(paired.frame.where(~is_ok))
        batch.append(batch.stamped(poisoned, at="quarantined_at"), quarantine.TABLE)
    return Outcome(
        rows_in=arrived.rows,
        rows_kept=batch.count_written(pairs.TABLE),
        rows_quarantined=batch.count_written(quarantine.TABLE) if met["poisoned"] else 0,
    )


def quarantined(poisoned: DataFrame) -> DataFrame:
    """Quarantine rows of samples whose image, or else text, has a status that is not ok."""
    is_image = F.col("image_status") != error_classes.OK
    name = F.udf(lambda sample: digest(NAME, sample), "string")
    return poisoned.withColumns(
        {
            "quarantine_id": name("sample_id"),
            "stage": F.lit(NAME),
            "host": F.expr("try_parse_url(url, 'HOST')"),
            "position": F.lit(None),
            "attempt": F.lit(0),
            "error_class": F.when(is_image, F.col("image_status")).otherwise(F.col("text_status")),
            "detail": F.when(is_image, F.col("image_detail")).otherwise(F.col("text_detail")),
        }
    )
