"""Bring image and text of a sample together: `bronze.samples` -> `silver.pairs`.

Driven by samples, so that a new sample of old bytes gets its pair without any network. A
sample whose image or text could not be scored goes to `ops.quarantine` here, once a sample.
"""

from collections.abc import Callable
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime.errors import SluiceError
from jobs.runtime.models import Scoring
from jobs.runtime.streams import Batch, Outcome, Stage
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
        process=process,
        outputs=(pairs.TABLE, quarantine.TABLE),
    )


def restricted(signals: DataFrame, keys: DataFrame, key: str, signal_set: str) -> DataFrame:
    """The signal rows of one set that belong to the keys of a batch."""
    return signals.where(F.col("signal_set") == signal_set).join(
        F.broadcast(keys.select(key).distinct()), key, "left_semi"
    )


def _process(batch: Batch, scoring: Scoring) -> Outcome:
    arrived = batch.frame.localCheckpoint()
    read = batch.warehouse.read
    paired = transform(
        arrived,
        restricted(read(image_signals.TABLE), arrived, "media_sha256", scoring.images.signal_set),
        restricted(read(text_signals.TABLE), arrived, "text_sha256", scoring.texts.signal_set),
        scoring.clip_score,
    ).localCheckpoint()
    _require_signals(paired)
    is_ok = (F.col("image_status") == error_classes.OK) & (F.col("text_status") == error_classes.OK)
    complete = paired.where(is_ok).withColumn("signal_set", F.lit(scoring.signal_set))
    if not complete.isEmpty():
        batch.append(batch.stamped(complete, at="paired_at"), pairs.TABLE)
    poisoned = paired.where(~is_ok)
    if not poisoned.isEmpty():
        batch.append(batch.stamped(quarantined(poisoned), at="quarantined_at"), quarantine.TABLE)
    return Outcome(
        rows_in=arrived.count(),
        rows_kept=batch.written(pairs.TABLE),
        rows_quarantined=batch.written(quarantine.TABLE),
    )


def quarantined(poisoned: DataFrame) -> DataFrame:
    """Quarantine rows of samples whose image, or else text, has a status that is not ok."""
    is_image = F.col("image_status") != error_classes.OK
    name = F.udf(lambda sample: digest(NAME, sample), "string")
    return poisoned.withColumns(
        {
            "quarantine_id": name("sample_id"),
            "stage": F.lit(NAME),
            "error_class": F.when(is_image, F.col("image_status")).otherwise(F.col("text_status")),
            "detail": F.when(is_image, F.col("image_detail")).otherwise(F.col("text_detail")),
        }
    )


def _require_signals(paired: DataFrame) -> None:
    missing = paired.where("image_status IS NULL OR text_status IS NULL").count()
    if missing:
        raise SluiceError(
            f"{missing} of {paired.count()} samples have no signals yet, all need them before "
            "they can be paired; run the stages score_images and score_text first"
        )
