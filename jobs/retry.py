"""Give quarantined inputs another chance: those of ingest and of fetch, once each."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs import ingest
from jobs.fetch import stage as fetch
from jobs.runtime import dumps, streams
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import Warehouse, conform
from jobs.sources.place import Place
from schemas import retries, shards, urls
from schemas.error_classes import ERROR_CLASSES

log: Final = logging.getLogger("sluice")
BACKLOG: Final = ("error_class", "stage", "dump", "host")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which quarantined inputs are meant; null: any.

    Attributes:
        error_class: of `schemas.error_classes`.
        dump: name of the delivery.
        host: of the URL.
        older_than: since quarantine, at least.
    """

    error_class: str | None = None
    dump: str | None = None
    host: str | None = None
    older_than: timedelta | None = None

    def of(self, rows: DataFrame) -> DataFrame:
        """Those rows of `ops.quarantine` that are meant.

        Raises:
            ConfigError: there is no such class.
        """
        if self.error_class is not None and self.error_class not in ERROR_CLASSES:
            raise ConfigError(
                f"--class got {self.error_class}; allowed {', '.join(sorted(ERROR_CLASSES))}"
            )
        for column in ("error_class", "dump", "host"):
            value = getattr(self, column)
            if value is not None:
                rows = rows.where(F.col(column) == value)
        if self.older_than is not None:
            before = F.current_timestamp() - F.expr(
                f"make_dt_interval(0, 0, 0, {self.older_than.total_seconds()})"
            )
            rows = rows.where(F.col("quarantined_at") <= before)
        return rows


def backlog(warehouse: Warehouse, chosen: Chosen) -> DataFrame:
    """What stands in quarantine, most first: `BACKLOG`, `inputs`, `oldest`."""
    return (
        chosen.of(warehouse.standing())
        .groupBy(*BACKLOG)
        .agg(F.count("*").alias("inputs"), F.min("quarantined_at").alias("oldest"))
        .orderBy(F.desc("inputs"), *BACKLOG)
    )


def retry(warehouse: Warehouse, config: Config, chosen: Chosen, *, run_id: str) -> dict[str, int]:
    """Send inputs back to the stage that refused them: stage -> how many.

    What is sent back is written first and the retry last, each idempotent: a kill between the
    two leaves work to be done again, nothing lost or doubled.

    Raises:
        ConfigError: no such class, or one that only a new signal set looks at again.
        NotFound: nothing of the kind stands in quarantine.
    """
    with streams.exclusive(f"{warehouse.root}/_checkpoints/retry"):
        rows = chosen.of(warehouse.standing()).localCheckpoint()
        counts = {row[0]: row[1] for row in rows.groupBy("stage").count().collect()}
        if not counts:
            raise NotFound("nothing of the kind stands in quarantine; `sluice quarantine` lists it")
        others = sorted(counts.keys() - {ingest.NAME, fetch.NAME})
        if others:
            raise ConfigError(
                f"retry got inputs of stage {', '.join(others)}; allowed those of ingest and"
                " fetch: a score is computed again when its model or rule changes"
            )
        if ingest.NAME in counts:
            _shards_again(warehouse, config, rows, run_id)
        if fetch.NAME in counts:
            _urls_again(warehouse, rows, run_id)
        marked = rows.select(
            "quarantine_id",
            F.current_timestamp().alias("retried_at"),
            F.lit(run_id).alias("run_id"),
        )
        conform(marked, retries.TABLE).write.format("delta").mode("append").save(
            warehouse.path(retries.TABLE)
        )
    return counts


def _urls_again(warehouse: Warehouse, rows: DataFrame, run_id: str) -> None:
    listed = warehouse.read(urls.TABLE)
    due = rows.where(F.col("stage") == fetch.NAME).select("sample_id", "attempt")
    again = (
        listed.join(F.broadcast(due), ["sample_id", "attempt"], "left_semi")
        .withColumn("attempt", F.col("attempt") + 1)
        .join(listed.select("sample_id", "attempt"), ["sample_id", "attempt"], "left_anti")
        .withColumns(
            {
                "listed_at": F.current_timestamp(),
                "batch": F.lit("retry"),
                "run_id": F.lit(run_id),
            }
        )
        .localCheckpoint()
    )
    if not again.isEmpty():
        conform(again, urls.TABLE).write.format("delta").mode("append").save(
            warehouse.path(urls.TABLE)
        )


def _shards_again(warehouse: Warehouse, config: Config, rows: DataFrame, run_id: str) -> None:
    refused = (
        rows.where(F.col("stage") == ingest.NAME)
        .groupBy("dump", "shard")
        .agg(F.max("attempt").alias("refused_at"))
    )
    newest = Window.partitionBy("dump", "shard").orderBy(F.desc("revision"))
    last = (
        warehouse.read(shards.TABLE)
        .withColumn("nth", F.row_number().over(newest))
        .where("nth = 1")
        .drop("nth")
    )
    due = last.join(F.broadcast(refused), ["dump", "shard"]).where(
        # Another reading that has not refused anything yet may be on its way.
        (F.col("revision") <= F.col("refused_at")) | (F.col("cause") != dumps.RETRY)
    )
    roots = {dump.name: (dumps.root_of(dump), dump.options) for dump in config.dumps}
    manifest = _readings(due.toLocalIterator(), roots)
    dumps.enter(warehouse, manifest, shards_per_batch=config.ingest.shards_per_batch, run_id=run_id)


def _readings(
    rows: Iterator[Any], roots: dict[str, tuple[str, dict[str, str]]]
) -> Iterator[dict[str, Any]]:
    """Rows for the manifest: the shard as it is now, in the dump as it is configured now."""
    for row in rows:
        root, options = roots.get(row.dump, (row.root, row.options))
        now = Place(root, row.shard).info()
        yield {
            "dump": row.dump,
            "shard": row.shard,
            "revision": row.revision + 1,
            "cause": dumps.RETRY,
            "root": root,
            "format": row.format,
            "options": options,
            "size_bytes": row.size_bytes if now is None else now.size_bytes,
            "modified_at": (row.modified_at.astimezone(UTC) if now is None else now.modified_at),
        }
