"""Fetch what dumps only name: `bronze.urls` -> `bronze.samples`, `bronze.media`, `bronze.fetches`.

A URL is asked for once, however many items name it and whichever batch they come in; what it
gave stands in `bronze.fetches`. An item whose URL gave no media goes to `ops.rejects` if a rule
or the server says so, else to `ops.quarantine`, from where `sluice retry` sends it back here.
"""

from dataclasses import replace
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.fetch.operator import ANSWERED, ASKED, fetcher
from jobs.fetch.rules import Rules, rules
from jobs.fetch.silence import Silence, is_silent
from jobs.guard import guard
from jobs.runtime.config import Config
from jobs.runtime.staging import Staging, append_media
from jobs.runtime.streams import Batch, Breaker, Outcome, Stage
from jobs.runtime.tables import belonging, counted
from schemas import fetches, media, quarantine, rejects, samples, tombstones, urls
from schemas.reject_reasons import REJECT_REASONS, TOMBSTONED
from udfs.identity import digest

NAME: Final = "fetch"
COLUMNS: Final = tuple(f.name for f in urls.SCHEMA if f.name not in urls.VOLATILE)
_ORIGIN: Final = "http"
# Hashes that dumps carry of their media, as img2dataset, DataComp and Re-LAION name them.
_EXPECTED: Final = {"sha256": ("media_sha256", 64), "md5": ("md5", 32)}
OK: Final = "ok"
REJECTED: Final = "rejected"
FAILED: Final = "failed"


def transform(asked: DataFrame, fetch_rules: Rules, staging: Staging, *, tasks: int) -> DataFrame:
    """An answer for every row, columns of `ANSWERED`; a host's urls are all in one task.

    Args:
        asked: columns of `ASKED`, each url once.
        fetch_rules: manners and limits.
        staging: which gets the media.
        tasks: how many fetch side by side.
    """
    return (
        dealt(asked.select(*ASKED), tasks)
        .select(*ASKED)
        .mapInArrow(fetcher(fetch_rules, staging), ANSWERED)
    )


def dealt(asked: DataFrame, tasks: int) -> DataFrame:
    """The urls of a batch in so many partitions, about as many in each, a host's in one.

    Args:
        asked: `host`, and more; as few as a batch has, for one task puts the hosts in order.
        tasks: how many.
    """
    per_host = F.count("*").over(Window.partitionBy("host"))
    most_first = Window.orderBy(F.desc("host_urls"), "host")
    # There and back: whoever had the first choice of two has the last one of the next two.
    turn = F.col("host_turn") % (2 * tasks)
    return (
        asked.withColumn("host_urls", per_host)
        .withColumn("host_turn", F.dense_rank().over(most_first) - 1)
        .repartitionById(tasks, F.least(turn, 2 * tasks - 1 - turn))
    )


def stage(config: Config) -> Stage:
    """The stage of a configuration.

    Raises:
        ConfigError: nobody to contact, or a network or blocklist that is none.
    """
    fetch_rules = rules(config, guard(config))
    silence = Silence(config.fetch.silence_s)

    def process(batch: Batch) -> Outcome:
        return _process(batch, fetch_rules, silence)

    return Stage(
        name=NAME,
        checkpoint="urls",
        source=urls.TABLE,
        columns=COLUMNS,
        process=process,
        outputs=(fetches.TABLE, media.TABLE, samples.TABLE, rejects.TABLE, quarantine.TABLE),
        # One file of urls is one batch: ingest writes them at the configured size.
        max_files=1,
        breaker=Breaker(**config.breaker.model_dump()),
    )


def _process(batch: Batch, fetch_rules: Rules, silence: Silence) -> Outcome:
    listed = batch.frame.localCheckpoint()
    answered = _answered(batch, listed, fetch_rules, silence)
    told = with_outcome(listed, answered).localCheckpoint()
    met = counted(told, **{fate: F.col("fate") == fate for fate in (OK, REJECTED, FAILED)})

    def of(fate: str) -> DataFrame:
        return told.where(F.col("fate") == fate).withColumn("stage", F.lit(NAME))

    if met[FAILED]:
        batch.append(batch.stamped(_named(of(FAILED)), at="quarantined_at"), quarantine.TABLE)
    if met[REJECTED]:
        batch.append(batch.stamped(_named(of(REJECTED)), at="rejected_at"), rejects.TABLE)
    # Last: whoever sees a sample finds its media.
    if met[OK]:
        batch.append(batch.stamped(of(OK), at="ingested_at"), samples.TABLE)
    kept = batch.count_written(samples.TABLE) if met[OK] else 0
    return Outcome(
        rows_in=listed.count(),
        rows_kept=kept,
        rows_rejected=batch.count_written(rejects.TABLE) if met[REJECTED] else 0,
        rows_quarantined=batch.count_written(quarantine.TABLE) if met[FAILED] else 0,
        rows_reused=kept - _fetched_here(batch) if kept else 0,
    )


def _fetched_here(batch: Batch) -> int:
    """Samples, one a url, whose media this batch asked for."""
    asked = batch.written(fetches.TABLE).where(F.col("outcome") == fetches.OK)
    written = batch.written(samples.TABLE)
    return written.select("url_sha256").distinct().join(asked, "url_sha256", "left_semi").count()


def _answered(batch: Batch, listed: DataFrame, fetch_rules: Rules, silence: Silence) -> DataFrame:
    """The last answer to every url of the batch; those without one are fetched."""
    wanted = listed.groupBy("url_sha256").agg(
        F.max("attempt").alias("attempt"),
        F.first("url").alias("url"),
        F.first("host").alias("host"),
    )
    known = belonging(batch.history(fetches.TABLE), wanted, "url_sha256")
    newest = known.groupBy("url_sha256").agg(
        F.max("attempt").alias("last_attempt"),
        F.max_by("outcome", "attempt").alias("last_outcome"),
    )
    is_due = F.isnull("last_attempt") | (F.col("last_outcome") != fetches.OK) & (
        F.col("attempt") > F.col("last_attempt")
    )
    due = wanted.join(newest, "url_sha256", "left").where(is_due).select(*ASKED).localCheckpoint()
    if not due.isEmpty():
        _fetch(batch, due, fetch_rules, silence)
    every = belonging(batch.warehouse.read(fetches.TABLE), wanted, "url_sha256")
    columns = [name for name in fetches.SCHEMA.names if name != "url_sha256"]
    return every.groupBy("url_sha256").agg(F.max_by(F.struct(*columns), "attempt").alias("answer"))


def _fetch(batch: Batch, due: DataFrame, fetch_rules: Rules, silence: Silence) -> None:
    """Ask for every url, and write what they gave; a killed attempt's answers are used again."""
    spark = batch.warehouse.spark
    answered = f"{batch.staging()}/answers"
    # Spark leaves the mark when all of it is written; what is there need not be fetched twice.
    if batch.warehouse.read_text(f"{answered}/_SUCCESS") is None:
        tasks = spark.sparkContext.defaultParallelism
        known = replace(fetch_rules, silent=silence.hosts())
        answers = transform(due, known, Staging.of(batch), tasks=tasks)
        answers.write.mode("overwrite").parquet(answered)
    staged = _not_taken_down(batch, spark.read.schema(ANSWERED).parquet(answered))
    append_media(batch, staged.where(F.col("outcome") == fetches.OK))
    told = staged.withColumn("origin", F.lit(_ORIGIN))
    batch.append(batch.stamped(told, at="stamped_at"), fetches.TABLE)
    # No more hosts than a batch has urls.
    silent = told.groupBy("host").agg(is_silent(F.col("outcome")).alias("is_silent"))
    found = silent.where("is_silent AND host IS NOT NULL").select("host").collect()
    silence.note(row.host for row in found)


def _not_taken_down(batch: Batch, answered: DataFrame) -> DataFrame:
    """The answers; of one whose media were taken down, nothing is kept of them."""
    if not batch.warehouse.version(tombstones.TABLE):  # version 0 only creates the table
        return answered
    stones = batch.warehouse.read(tombstones.TABLE).where(F.col("kind") == tombstones.MEDIA)
    met = belonging(
        answered.select("media_sha256"),
        stones.withColumnRenamed("key", "media_sha256"),
        "media_sha256",
    )
    is_gone = F.col("is_gone")
    told = answered.join(
        F.broadcast(met.distinct().withColumn("is_gone", F.lit(True))), "media_sha256", "left"
    )
    of_media = ("media_sha256", "md5", "size_bytes", "mime", "header_width_px", "header_height_px")
    return told.withColumns(
        {"outcome": F.when(is_gone, TOMBSTONED).otherwise(F.col("outcome"))}
        | {name: F.when(is_gone.isNull(), F.col(name)) for name in of_media}
    ).drop("is_gone")


def with_outcome(listed: DataFrame, answered: DataFrame) -> DataFrame:
    """The items with their url's answer, what becomes of them, and the columns of a sample.

    Args:
        listed: columns of `COLUMNS`.
        answered: `url_sha256` and `answer`, a struct of the other columns of `bronze.fetches`.
    """
    answer = F.col("answer")
    joined = listed.join(answered, "url_sha256", "left")
    outcome = F.when(_is_other_media(), F.lit("hash_mismatch")).otherwise(answer["outcome"])
    detail = F.when(_is_other_media(), F.lit("the dump names another hash")).otherwise(
        answer["detail"]
    )
    is_blocklisted = F.col("outcome") == "blocklisted"
    is_nowhere = F.col("outcome").isin("blocklisted", TOMBSTONED)
    return (
        joined.withColumn("outcome", outcome)
        .withColumns(
            {
                "fate": F.when(F.col("outcome") == fetches.OK, OK)
                .when(F.col("outcome").isin(*REJECT_REASONS), REJECTED)
                .otherwise(FAILED),
                "error_class": F.col("outcome"),
                "reason": F.col("outcome"),
                "detail": detail,
                "matched": answer["matched"],
                "member": F.lit(None),
                "shard_offset_bytes": F.lit(None),
                "position": F.lit(None),
                "modality": F.lit(samples.IMAGE_TEXT),
                "is_extension_mismatch": F.coalesce(answer["is_type_mismatch"], F.lit(False)),
                **{
                    name: answer[name]
                    for name in (
                        "media_sha256",
                        "size_bytes",
                        "mime",
                        "header_width_px",
                        "header_height_px",
                    )
                },
            }
        )
        .withColumns(
            {
                "url": F.when(~is_nowhere, F.col("url")),
                "sample_key": F.when(~is_blocklisted, F.col("sample_key")),
            }
        )
        .drop("answer")
    )


def _is_other_media() -> Column:
    """Whether the dump names a hash of the media, and this is not it."""
    differs = []
    for name, (column, digits) in _EXPECTED.items():
        expected = F.lower(F.col("extra")[name])
        is_digest = F.length(expected) == digits
        differs.append(is_digest & (expected != F.col("answer")[column]))
    is_any = reduce(Column.__or__, (F.coalesce(each, F.lit(False)) for each in differs))
    return (F.col("answer")["outcome"] == fetches.OK) & is_any


def _named(told: DataFrame) -> DataFrame:
    """With the name that quarantine and rejects know an input by."""
    name = F.udf(lambda sample, attempt: digest(NAME, sample, attempt), "string")
    named = told.withColumn("input_id", name("sample_id", "attempt"))
    return named.withColumn("quarantine_id", F.col("input_id"))
