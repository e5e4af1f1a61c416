"""Read new shards: `bronze.shards` -> what is in them, each entry into the table it belongs to.

A sample with its media goes to `bronze.samples` and `bronze.media`, one whose media must be
fetched to `bronze.urls`, media that the dump holds for a URL to `bronze.fetches`, a page to
`silver.documents`; the rest to `ops.rejects` and `ops.quarantine`.

A shard is read once. What it held lies for a moment in a staging folder, so that all tables are
written from one reading and the narrow ones never touch the bytes.
"""

from collections.abc import Callable
from functools import reduce
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.guard import Guard, guard
from jobs.runtime import dumps
from jobs.runtime.config import Config
from jobs.runtime.staging import Staging, append_media
from jobs.runtime.streams import Batch, Breaker, Outcome, Stage
from jobs.runtime.tables import Warehouse, counted
from jobs.sources.entry import Limits
from jobs.staged import (
    CONTINUED,
    DOCUMENT,
    ORDINALS_PER_SHARD,
    QUARANTINED,
    REJECTED,
    RESPONSE,
    SAMPLE,
    SHARD_COLUMNS,
    STAGE,
    STAGED,
    URL,
    Portion,
    reader,
)
from schemas import (
    documents,
    fetches,
    media,
    quarantine,
    rejects,
    retries,
    samples,
    shards,
    tombstones,
    urls,
)
from schemas.reject_reasons import TOMBSTONED

NAME: Final = STAGE
# URLs that one task sorts and writes: chosen, some 300 MB.
URLS_PER_TASK: Final = 1_000_000


def transform(
    discovered: DataFrame, limits: Limits, rules: Guard, staging: Staging, portion: Portion
) -> DataFrame:
    """Every entry of the shards, whatever becomes of it: one row each, columns of `STAGED`.

    Args:
        discovered: columns of `SHARD_COLUMNS`.
        limits: what an entry may cost.
        rules: what is turned away.
        staging: which gets the media.
        portion: how much of a shard is read, and stored.
    """
    read = reader(limits, rules, staging, portion)
    return discovered.select(*SHARD_COLUMNS).mapInArrow(read, STAGED)


def stage(config: Config) -> Stage:
    """The stage of a configuration."""
    limits = Limits(
        max_member_bytes=config.ingest.max_member_bytes,
        max_pixels=config.ingest.max_pixels,
        max_decompression_ratio=config.ingest.max_decompression_ratio,
        max_decompressed_bytes=config.ingest.max_decompressed_bytes,
    )
    rules = guard(config)
    portion = Portion(
        slice_bytes=config.ingest.slice_bytes,
        slice_items=config.ingest.slice_items,
        max_inline_bytes=config.ingest.max_inline_bytes,
    )

    def read(discovered: DataFrame, staging: Staging) -> DataFrame:
        return transform(discovered, limits, rules, staging, portion)

    def process(batch: Batch) -> Outcome:
        return _process(batch, read, urls_per_file=config.fetch.urls_per_batch)

    return Stage(
        name=NAME,
        checkpoint="shards",
        source=shards.TABLE,
        columns=SHARD_COLUMNS,
        process=process,
        outputs=(
            samples.TABLE,
            media.TABLE,
            urls.TABLE,
            fetches.TABLE,
            documents.TABLE,
            rejects.TABLE,
            quarantine.TABLE,
            shards.TABLE,
        ),
        # One file of the manifest is one batch: discovery writes them at the configured size.
        max_files=1,
        breaker=Breaker(**config.breaker.model_dump()),
    )


# Of a shard that was read before: sent back by a retry, or read on while a retry is under way.
_MAY_BE_PRESENT: Final = f"cause = '{dumps.RETRY}' OR first_position > 0"


def _process(
    batch: Batch, read: Callable[[DataFrame, Staging], DataFrame], *, urls_per_file: int
) -> Outcome:
    spark = batch.warehouse.spark
    entries = f"{batch.staging()}/entries"
    tasks = max(1, batch.frame.count())
    read(batch.frame.repartition(tasks), Staging.of(batch)).write.mode("overwrite").parquet(entries)
    whole = spark.read.schema(STAGED).parquet(entries)
    staged, met = _overruled(batch, whole)

    def of(*fates: str) -> DataFrame:
        return staged.where(F.col("fate").isin(*fates))

    if met[QUARANTINED]:
        named = of(QUARANTINED).withColumns(
            {"stage": F.lit(NAME), "quarantine_id": F.col("input_id")}
        )
        batch.append(batch.stamped(named, at="quarantined_at"), quarantine.TABLE)
    if met[REJECTED]:
        named = of(REJECTED).withColumn("stage", F.lit(NAME))
        batch.append(batch.stamped(named, at="rejected_at"), rejects.TABLE)
    append_media(batch, of(SAMPLE, RESPONSE))
    if met[RESPONSE]:
        answers = _answers(of(RESPONSE), _fetched(batch))
        batch.append(batch.stamped(answers, at="fetched_at"), fetches.TABLE)
    if met[DOCUMENT]:
        pages = of(DOCUMENT).withColumnRenamed("sample_id", "document_id")
        batch.append(batch.stamped(pages, at="ingested_at"), documents.TABLE)
    if met[URL]:
        # A file is what a batch of fetch takes at a time, in the order of the dump.
        listed = (
            of(URL)
            .withColumn("attempt", F.lit(0))
            .repartitionByRange(1 + met[URL] // URLS_PER_TASK, "ingest_ordinal")
            .sortWithinPartitions("ingest_ordinal")
        )
        batch.append(
            batch.stamped(listed, at="listed_at"), urls.TABLE, max_rows_per_file=urls_per_file
        )
    # Whoever sees a sample finds its media.
    if met[SAMPLE]:
        batch.append(batch.stamped(of(SAMPLE), at="ingested_at"), samples.TABLE)
    if met[CONTINUED]:
        # One file, so that the next batch reads on where this one stopped, in all shards.
        rest = _rest(batch.frame, of(CONTINUED)).coalesce(1)
        batch.append(batch.stamped(rest, at="discovered_at"), shards.TABLE)

    def written(table: str, fate: str) -> int:
        return batch.count_written(table) if met[fate] else 0

    return Outcome(
        rows_in=_met(whole),
        rows_kept=sum(written(table, fate) for fate, table in _KEPT.items()),
        rows_rejected=written(rejects.TABLE, REJECTED),
        rows_quarantined=written(quarantine.TABLE, QUARANTINED),
    )


_KEPT: Final = {
    SAMPLE: samples.TABLE,
    URL: urls.TABLE,
    RESPONSE: fetches.TABLE,
    DOCUMENT: documents.TABLE,
}


def _rest(read: DataFrame, stopped: DataFrame) -> DataFrame:
    """Rows for the manifest: shards of a batch that are to be read on.

    Args:
        read: columns of `SHARD_COLUMNS`.
        stopped: the staged rows that say where.
    """
    where = stopped.select("dump", "shard", F.col("attempt").alias("revision"), "position")
    return (
        read.join(F.broadcast(where), ["dump", "shard", "revision"])
        .withColumn("first_position", F.col("position"))
        .withColumn("revision", F.col("revision") + 1)
    )


def _counts(staged: DataFrame) -> dict[str, int]:
    fates = (*_KEPT, REJECTED, QUARANTINED, CONTINUED)
    return counted(
        staged,
        **{fate: F.col("fate") == fate for fate in fates},
        read_again=F.expr(_MAY_BE_PRESENT),
    )


def _overruled(batch: Batch, staged: DataFrame) -> tuple[DataFrame, dict[str, int]]:
    """The entries, and how many meet each fate, once the tables have had their say."""
    met = _counts(staged)
    against = []
    if batch.warehouse.version(tombstones.TABLE):  # version 0 only creates the table
        against.append(_tombstoned(batch.warehouse, staged))
    if met[RESPONSE]:
        against.append(_answered(staged, _fetched(batch)))
    if met["read_again"]:
        against.append(_present(batch, staged))
    if not against:
        return staged, met
    verdicts = (
        reduce(DataFrame.unionByName, against)
        .groupBy("ingest_ordinal")
        .agg(F.max("verdict").alias("verdict"))
        .localCheckpoint()
    )
    is_turned_away = F.isnotnull("verdict")
    overruled = (
        staged.join(F.broadcast(verdicts), "ingest_ordinal", "left")
        .withColumn("fate", F.when(is_turned_away, REJECTED).otherwise(F.col("fate")))
        .withColumn("reason", F.coalesce("verdict", "reason"))
        .withColumn("url", F.when(~F.col("verdict").eqNullSafe(TOMBSTONED), F.col("url")))
        .drop("verdict")
    )
    return overruled, _counts(overruled)


def _tombstoned(warehouse: Warehouse, staged: DataFrame) -> DataFrame:
    removed = warehouse.read(tombstones.TABLE).select(
        F.concat_ws("/", "kind", "key").alias("removed")
    )
    own = F.array(*(F.concat(F.lit(f"{kind}/"), F.col(kind)) for kind in tombstones.KINDS))
    # A page goes with any image that it shows.
    of_kind = F.lit(f"{tombstones.URL}/")
    shown = F.transform("items", lambda item: F.concat(of_kind, item[tombstones.URL]))
    every = F.concat(own, F.coalesce(shown, F.array().cast("array<string>")))
    keys = staged.where(~F.col("fate").isin(REJECTED, QUARANTINED)).select(
        "ingest_ordinal", F.explode(every).alias("removed")
    )
    return keys.join(removed, "removed", "left_semi").select(
        "ingest_ordinal", F.lit(TOMBSTONED).alias("verdict")
    )


def _fetched(batch: Batch) -> DataFrame:
    """The last answer of every URL that earlier batches know of."""
    return (
        batch.history(fetches.TABLE)
        .groupBy("url_sha256")
        .agg(
            F.max("attempt").alias("last_attempt"),
            F.max_by("outcome", "attempt").alias("last_outcome"),
        )
    )


def _answered(staged: DataFrame, fetched: DataFrame) -> DataFrame:
    """Answers of the dump for a URL that has media already, or gets it from an earlier entry."""
    in_turn = Window.partitionBy("url_sha256").orderBy("ingest_ordinal")
    responses = (
        staged.where(F.col("fate") == RESPONSE)
        .select("ingest_ordinal", "url_sha256", F.row_number().over(in_turn).alias("nth"))
        .join(fetched, "url_sha256", "left")
    )
    is_known = (F.col("nth") > 1) | F.coalesce(F.col("last_outcome") == fetches.OK, F.lit(False))
    return responses.where(is_known).select(
        "ingest_ordinal", F.lit("already_present").alias("verdict")
    )


def _answers(responses: DataFrame, fetched: DataFrame) -> DataFrame:
    """Media that the dump holds for a URL, as if fetched: nobody needs to ask the host."""
    unknown = ("content_type", "etag", "last_modified", "robots_tag", "tdm_reservation")
    return responses.join(fetched, "url_sha256", "left").withColumns(
        {
            "attempt": F.coalesce(F.col("last_attempt") + 1, F.lit(0)),
            "origin": F.lit("warc"),
            "outcome": F.lit(fetches.OK),
            "http_status": F.lit(200),
            "final_url": F.col("url"),
            "redirects": F.lit(0),
            "tries": F.lit(0),
            "is_type_mismatch": F.col("is_extension_mismatch"),
            "duration_s": F.lit(None),
            **dict.fromkeys(unknown, F.lit(None)),
        }
    )


def _present(batch: Batch, staged: DataFrame) -> DataFrame:
    """Entries that earlier batches have taken."""
    again = staged.where(_MAY_BE_PRESENT)

    def earlier(table: str) -> DataFrame:
        return batch.history(table)

    known_ids = (
        earlier(samples.TABLE)
        .select("sample_id")
        .union(earlier(urls.TABLE).select("sample_id"))
        .union(earlier(documents.TABLE).select("document_id"))
        .union(earlier(rejects.TABLE).select("sample_id"))
    )
    taken = again.where(F.col("fate") != QUARANTINED).join(known_ids, "sample_id", "left_semi")
    place = ["dump", "shard", "position", "error_class"]
    standing = (
        earlier(quarantine.TABLE)
        .where(F.col("stage") == NAME)
        .join(batch.warehouse.read(retries.TABLE), "quarantine_id", "left_anti")
    )
    refused = again.where(F.col("fate") == QUARANTINED).join(standing, place, "left_semi")
    return (
        taken.select("ingest_ordinal")
        .union(refused.select("ingest_ordinal"))
        .withColumn("verdict", F.lit("already_present"))
    )


def _met(staged: DataFrame) -> int:
    """Entries by the readers' own numbering, so that one lost between them and here is missed."""
    shard = F.floor(F.col("ingest_ordinal") / ORDINALS_PER_SHARD)
    entries = F.max("position") + 1 - F.min("first_position")
    by_shard = staged.where(F.col("fate") != CONTINUED).groupBy(shard).agg(entries.alias("entries"))
    (row,) = by_shard.agg(F.coalesce(F.sum("entries"), F.lit(0)).alias("entries")).collect()
    return int(row.entries)
