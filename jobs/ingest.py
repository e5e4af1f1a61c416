"""Read new shards: `bronze.shards` -> `bronze.samples`, `bronze.media`, `ops.quarantine`.

A shard is read once. What it held lies for a moment in a staging folder, so that the three
tables are written from one reading and the narrow ones never touch the bytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StringType, StructType

from jobs.runtime import dumps
from jobs.runtime.config import Config
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import counted
from jobs.sources import webdataset
from jobs.sources.entry import Entry, Limits
from schemas import media, quarantine, samples, shards
from schemas.field import field
from udfs.arrow import record_batch
from udfs.identity import digest, sample_id

NAME: Final = "ingest"
# What one record batch to Spark may hold; Arrow and the JVM both keep a copy.
BATCH_BYTES: Final = 16 * 1024 * 1024
# Positions of one shard: 4 billion items, far more than a shard ever holds.
ORDINALS_PER_SHARD: Final = 1 << 32

_FROM_SAMPLES: Final = [f for f in samples.SCHEMA if f.name not in samples.VOLATILE]
_NULLABLE: Final = StructType(
    [field(f.name, f.dataType, f.metadata["comment"], nullable=True) for f in _FROM_SAMPLES]
)
STAGED: Final = StructType(
    [
        *_NULLABLE.fields,
        field("md5", StringType(), "of the media", nullable=True),
        field("sha1", StringType(), "of the media", nullable=True),
        field("content", BinaryType(), "the media", nullable=True),
        field("error_class", StringType(), "null: accepted", nullable=True),
        field("detail", StringType(), "of the error", nullable=True),
        field("quarantine_id", StringType(), "null: accepted", nullable=True),
    ]
)
SHARD_COLUMNS: Final = ("dump", "shard", "uri", "format", "size_bytes", "shard_ordinal")


def reader(limits: Limits) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Arrow function from shard rows to staged entries, in bounded batches."""

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for shard in batch.to_pylist():
                yield from _bounded(_staged(shard, limits))

    return read


def _bounded(rows: Iterator[dict[str, object]]) -> Iterator[pa.RecordBatch]:
    held: list[dict[str, object]] = []
    held_bytes = 0
    for row in rows:
        held.append(row)
        held_bytes += int(row["size_bytes"] or 0) + 1024  # type: ignore[call-overload]
        if held_bytes >= BATCH_BYTES:
            yield record_batch(held, STAGED)
            held, held_bytes = [], 0
    if held:
        yield record_batch(held, STAGED)


def _staged(shard: dict[str, object], limits: Limits) -> Iterator[dict[str, object]]:
    dump, path = str(shard["dump"]), str(shard["shard"])
    first = int(shard["shard_ordinal"]) * ORDINALS_PER_SHARD  # type: ignore[call-overload]
    for entry in _entries(str(shard["uri"]), limits):
        yield _row(entry, dump, path, first + entry.position)


def _entries(uri: str, limits: Limits) -> Iterator[Entry]:
    try:
        stream = dumps.open_shard(uri)
    except OSError as error:
        detail = f"cannot be opened: {type(error).__name__}"
        yield Entry(position=0, sample_key=None, error_class="unreadable_shard", detail=detail)
        return
    with stream:
        yield from webdataset.entries(stream, limits)


def _row(entry: Entry, dump: str, shard: str, ordinal: int) -> dict[str, object]:
    row: dict[str, object] = {
        **{name: getattr(entry, name, None) for name in STAGED.names},
        "dump": dump,
        "shard": shard,
        "ingest_ordinal": ordinal,
        "modality": "image_text",
    }
    if entry.error_class is not None:
        row["content"] = None
        row["quarantine_id"] = digest(
            NAME, dump, shard, entry.sample_key or "", entry.occurrence, entry.position
        )
        return row
    assert entry.content is not None
    assert entry.caption is not None
    assert entry.sample_key is not None
    return row | {
        "sample_id": sample_id(dump, shard, entry.sample_key, entry.occurrence),
        "text_sha256": hashlib.sha256(entry.caption.encode("utf-8", "surrogatepass")).hexdigest(),
        "md5": hashlib.md5(entry.content, usedforsecurity=False).hexdigest(),
        "sha1": hashlib.sha1(entry.content, usedforsecurity=False).hexdigest(),
    }


def transform(discovered: DataFrame, limits: Limits) -> DataFrame:
    """Every entry of the shards, accepted or refused: one row each, columns of `STAGED`."""
    return discovered.select(*SHARD_COLUMNS).mapInArrow(reader(limits), STAGED)


def new_media(staged: DataFrame, known: DataFrame) -> DataFrame:
    """The accepted rows that bring bytes not known yet: for each content its first row.

    Args:
        staged: columns of `STAGED`.
        known: `media_sha256` of what `bronze.media` holds.
    """
    firsts = (
        staged.where("error_class IS NULL")
        .groupBy("media_sha256")
        .agg(F.min("ingest_ordinal").alias("ingest_ordinal"))
        .join(known.select("media_sha256"), "media_sha256", "left_anti")
        .select("ingest_ordinal")
    )
    # The keys travel, the bytes stay where they are.
    return staged.join(F.broadcast(firsts), "ingest_ordinal", "left_semi")


def stage(config: Config) -> Stage:
    """The stage of a configuration."""
    limits = Limits(
        max_member_bytes=config.ingest.max_member_bytes,
        max_pixels=config.ingest.max_pixels,
        max_decompression_ratio=config.ingest.max_decompression_ratio,
        max_decompressed_bytes=config.ingest.max_decompressed_bytes,
    )

    def process(batch: Batch) -> Outcome:
        return _process(batch, limits)

    return Stage(
        name=NAME,
        checkpoint="shards",
        source=shards.TABLE,
        columns=SHARD_COLUMNS,
        process=process,
        outputs=(samples.TABLE, media.TABLE, quarantine.TABLE),
        # One file of the manifest is one batch: discovery writes them at the configured size.
        max_files=1,
    )


def _process(batch: Batch, limits: Limits) -> Outcome:
    spark = batch.warehouse.spark
    folder = batch.staging()
    tasks = max(1, batch.frame.count())
    transform(batch.frame.repartition(tasks), limits).write.mode("overwrite").parquet(folder)
    staged = spark.read.schema(STAGED).parquet(folder)
    is_accepted = F.isnull("error_class")
    staged_rows = counted(staged, accepted=is_accepted, refused=~is_accepted)
    if staged_rows["refused"]:
        named = staged.where(~is_accepted).withColumn("stage", F.lit(NAME))
        batch.append(batch.stamped(named, at="quarantined_at"), quarantine.TABLE)
    fresh = new_media(staged, batch.warehouse.read(media.TABLE).where(F.col("batch") != batch.name))
    if not fresh.select("ingest_ordinal").isEmpty():
        batch.append(batch.stamped(fresh, at="ingested_at"), media.TABLE)
    # Last of the three: whoever sees a sample finds its media.
    if staged_rows["accepted"]:
        batch.append(batch.stamped(staged.where(is_accepted), at="ingested_at"), samples.TABLE)
    return Outcome(
        rows_in=_met(staged),
        rows_kept=batch.written(samples.TABLE).count(),
        rows_quarantined=batch.written(quarantine.TABLE).count(),
    )


def _met(staged: DataFrame) -> int:
    """Entries by the readers' own numbering, so that one lost between them and here is missed."""
    position = F.col("ingest_ordinal") % ORDINALS_PER_SHARD
    by_shard = staged.groupBy("dump", "shard").agg((F.max(position) + 1).alias("entries"))
    (row,) = by_shard.agg(F.coalesce(F.sum("entries"), F.lit(0)).alias("entries")).collect()
    return int(row.entries)
