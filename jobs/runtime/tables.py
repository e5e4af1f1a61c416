"""The warehouse: where tables are, and the only writes to them."""

import contextlib
import json
import time
import urllib.parse
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import pyarrow as pa
from delta.exceptions import (
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    MetadataChangedException,
    ProtocolChangedException,
)
from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.session import setting
from schemas import (
    batches,
    benchmark_items,
    captions,
    centroids,
    clip_index,
    clip_pairs,
    clip_runs,
    clips,
    contamination,
    coreset,
    crop_index,
    crop_segments,
    decisions,
    documents,
    duplicate_edges,
    duplicates,
    exact_index,
    fetches,
    gold,
    gold_clips,
    image_signals,
    keyframes,
    media,
    minhash_index,
    page_index,
    pairs,
    phash_index,
    quarantine,
    rejects,
    retries,
    reviews,
    samples,
    semantic_index,
    semantic_vectors,
    semdedup,
    shards,
    shingles,
    signal_sets,
    text_signals,
    tombstones,
    urls,
    video_signals,
)
from schemas.layout import Layout
from udfs.arrow import record_batch

CONTRACTS: Final[Mapping[str, ModuleType]] = {
    module.TABLE: module
    for module in (
        shards,
        samples,
        media,
        urls,
        fetches,
        image_signals,
        text_signals,
        video_signals,
        clips,
        keyframes,
        captions,
        clip_pairs,
        signal_sets,
        pairs,
        documents,
        duplicates,
        duplicate_edges,
        exact_index,
        phash_index,
        crop_index,
        crop_segments,
        minhash_index,
        shingles,
        semantic_index,
        semantic_vectors,
        centroids,
        page_index,
        clip_index,
        clip_runs,
        benchmark_items,
        contamination,
        decisions,
        reviews,
        quarantine,
        rejects,
        retries,
        tombstones,
        batches,
    )
}


# Made by whoever first needs them: most warehouses never do, and an empty table costs a commit.
ON_DEMAND: Final = frozenset(
    module.TABLE
    for module in (
        crop_index,
        crop_segments,
        minhash_index,
        shingles,
        semantic_index,
        semantic_vectors,
        centroids,
        page_index,
        benchmark_items,
        contamination,
        reviews,
        video_signals,
        clips,
        keyframes,
        captions,
        clip_pairs,
        clip_index,
        clip_runs,
    )
)
# Each is the work of one thread (chosen: as many as a small machine has cores).
CREATED_AT_A_TIME: Final = 4
# What people wrote stays out of Delta's log, where no DELETE reaches it: by default the log keeps
# the first 32 characters of a file's least and greatest value.
_WRITTEN: Final = frozenset({"caption", "text", "title", "markdown", "url", "final_url"})
_SKIPPED_BY: Final = 32  # Delta's own number of columns with statistics
# What Delta says of a commit whose files, or whose table, another has changed meanwhile.
_CONFLICTS: Final = (
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    MetadataChangedException,
    ProtocolChangedException,
)
CURRENT: Final = "current_"  # how the view of a revised table's newest rows is named


def contract(table: str) -> ModuleType:
    """The schema module of a table; those of gold share one by what their name begins with."""
    for of_gold in (coreset, gold_clips, semdedup):
        if table.startswith(of_gold.PREFIX):
            return of_gold
    return gold if table.startswith("gold.") else CONTRACTS[table]


@dataclass(frozen=True)
class Warehouse:
    """A folder of Delta tables, reached through one Spark session."""

    spark: SparkSession
    root: str

    def path(self, table: str) -> str:
        """Folder of a table: `bronze.samples` lies in `<root>/bronze/samples`."""
        return f"{self.root}/{table.replace('.', '/')}"

    def exists(self, table: str) -> bool:
        """Whether the table has been created."""
        return DeltaTable.isDeltaTable(self.spark, self.path(table))

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """The table as it is, or as it was at a version.

        One without a file is an empty frame: Spark then leaves out what is joined with it, where a
        Delta table costs a job whatever it holds.
        """
        reader = self.spark.read.format("delta")
        if version is not None:
            return reader.option("versionAsOf", version).load(self.path(table))
        if self._is_empty(table):
            return self.empty(contract(table).SCHEMA)
        return reader.load(self.path(table))

    def _is_empty(self, table: str) -> bool:
        """No file, and so no row; false where it would take a job to know."""
        checksum = self._snapshot(table).checksumOpt()
        return bool(checksum.isDefined() and not checksum.get().numFiles())

    def empty(self, schema: T.StructType) -> DataFrame:
        """A frame of these columns without a row, as which Spark knows it."""
        session = self.spark._jsparkSession
        parsed = self._class("org.apache.spark.sql.types.StructType").fromJson(schema.json())
        rows = self._class("java.util.ArrayList")()
        return DataFrame(session.createDataFrame(rows, parsed), self.spark)

    def current(self, table: str) -> DataFrame:
        """The rows that hold, of a table to which later changes are appended: see `newest`."""
        return self.spark.sql(_newest_sql(table, f"delta.`{self.path(table)}`"))

    def local(self, rows: Sequence[Mapping[str, Any]], schema: T.StructType) -> DataFrame:
        """A few rows that the driver has, as a frame.

        It goes by Arrow: from a list Spark has a Python process make the frame (measured for one
        row, 0.3 s in place of 0.1).

        Args:
            rows: name of a column -> value.
            schema: the columns; one that a row lacks is null in it, whatever the schema says, and
                is for the table to refuse.
        """
        nullable = T.StructType([T.StructField(f.name, f.dataType) for f in schema])
        return self.spark.createDataFrame(pa.Table.from_batches([record_batch(rows, nullable)]))

    def files(self, table: str) -> DataFrame:
        """The table's files as its log names them: `path`, `size` in bytes, `stats` as JSON."""
        entries = self._snapshot(table).allFiles().toDF()
        return DataFrame(entries, self.spark).select("path", "size", "stats")

    def file_count(self, table: str) -> int:
        """How many files the table consists of."""
        snapshot = self._snapshot(table)
        checksum = snapshot.checksumOpt()  # without it, a Spark job over the whole log
        return int(checksum.get().numFiles() if checksum.isDefined() else snapshot.numOfFiles())

    def size_bytes(self, table: str) -> int:
        """How large the table's files are together."""
        snapshot = self._snapshot(table)
        checksum = snapshot.checksumOpt()
        known = checksum.get().tableSizeBytes() if checksum.isDefined() else snapshot.sizeInBytes()
        return int(known)

    def properties(self, table: str) -> dict[str, str]:
        """The table's properties."""
        said = self._snapshot(table).metadata()
        properties: dict[str, str] = self._parsed(said.configuration())
        return properties

    def set_properties(self, table: str, properties: Mapping[str, str]) -> None:
        """Add properties to the table, in a commit of their own."""
        said = ", ".join(
            f"'{_quoted(name)}' = '{_quoted(value)}'" for name, value in properties.items()
        )
        self.spark.sql(f"ALTER TABLE delta.`{self.path(table)}` SET TBLPROPERTIES ({said})")

    def unset_properties(self, table: str, names: Collection[str]) -> None:
        """Take properties off the table, in a commit of their own; of none, no commit."""
        if names:
            said = ", ".join(f"'{_quoted(name)}'" for name in sorted(names))
            self.spark.sql(f"ALTER TABLE delta.`{self.path(table)}` UNSET TBLPROPERTIES ({said})")

    def standing(self) -> DataFrame:
        """Rows of `ops.quarantine` that still stand: those retried since are history."""
        retried = self.read(retries.TABLE).select("quarantine_id")
        return self.read(quarantine.TABLE).join(retried, "quarantine_id", "left_anti")

    def version(self, table: str) -> int:
        """The table's newest version.

        Raises:
            NotFound: there is no such table.
        """
        # The log through Delta's own reader: right on any filesystem, and no Spark job.
        version = int(self._snapshot(table).version())
        if version < 0:
            raise NotFound(f"table {table} is not in {self.root}; run the pipeline first")
        return version

    def _none(self) -> Any:
        return self._class("scala.Option").empty()

    def _class(self, name: str) -> Any:
        # By its whole name at once: asked for `jvm.org` and on, py4j seeks a class that is named
        # like each package in every jar (measured: 1.7 ms a name in place of 0.1).
        return getattr(self.spark._jvm, name)

    def _parsed(self, collection: Any) -> Any:
        """A collection of the JVM, fetched in one call."""
        mapper = self._class("org.apache.spark.sql.delta.util.JsonUtils").mapper()
        return json.loads(mapper.writeValueAsString(collection))

    def tables(self) -> list[str]:
        """Names of the tables that exist, gold ones included."""
        return [*(name for name in CONTRACTS if self.exists(name)), *self._gold()]

    def _gold(self) -> list[str]:
        names = self.folders(f"{self.root}/gold")
        return [table for name in names if self.exists(table := f"gold.{name}")]

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder of the warehouse; of none, none."""
        path, files = self._file(folder)
        if not files.exists(path):
            return []
        found = (status for status in files.listStatus(path) if status.isDirectory())
        return sorted(str(status.getPath().getName()) for status in found)

    def remove(self, folder: str) -> None:
        """Delete a folder of the warehouse that is no table; none there is no error."""
        path, files = self._file(folder)
        files.delete(path, True)

    def read_text(self, name: str) -> str | None:
        """A small file of the warehouse; null where there is none."""
        path, files = self._file(name)
        if not files.exists(path):
            return None
        opened = files.open(path)
        try:
            return bytes(opened.readAllBytes()).decode()
        finally:
            opened.close()

    def write_text(self, name: str, text: str) -> None:
        """Write a small file whole; a kill may leave none, never half of one."""
        path, files = self._file(name)
        aside, _ = self._file(f"{name}.{uuid.uuid4().hex}")
        out = files.create(aside)
        out.write(text.encode())
        out.close()
        files.delete(path, False)
        files.rename(aside, path)

    def _file(self, name: str) -> tuple[Any, Any]:
        path = self._class("org.apache.hadoop.fs.Path")(name)
        return path, path.getFileSystem(self.spark._jsc.hadoopConfiguration())

    def move(self, source: str, target: str) -> None:
        """Give a file another name on the same filesystem; one that is there already stays.

        Raises:
            OSError: it is at neither.
        """
        path, files = self._file(source)
        aim, _ = self._file(target)
        if not files.exists(aim) and not files.rename(path, aim):
            raise OSError(f"cannot move {source} to {target}")

    def last_append(self, table: str, application: str) -> int:
        """The version that an application's last append to the table carries; -1: none."""
        return self._last_append(self._log(table).startTransaction(), application)

    def _last_append(self, transaction: Any, application: str) -> int:
        # The newest commit's checksum names the last append of each application, unless there are
        # very many; Delta's own look-up is two Spark jobs over the whole log.
        checksum = transaction.snapshot().checksumOpt()
        known = checksum.get().setTransactions() if checksum.isDefined() else self._none()
        if known.isEmpty():
            return int(transaction.txnVersion(application))
        last = {append["appId"]: append["version"] for append in self._parsed(known.get())}
        return int(last.get(application, -1))

    def append(
        self,
        rows: DataFrame,
        table: str,
        *,
        by: tuple[str, int],
        max_rows_per_file: int = 0,
    ) -> int | None:
        """Append rows once, however often the application says so.

        What the options `txnAppId` and `txnVersion` of Delta's writer do; but those have every
        append read the whole log (on a table of 90 versions 1.3 s where this takes 0.8).

        Args:
            rows: exactly the columns of the table's contract.
            table: its name.
            by: application, and a version that its later appends to the table surpass.
            max_rows_per_file: 0: whatever a task has goes into one file.

        Returns:
            Rows in the files that the commit names; null where it was made before, or where
            Spark was told to keep no statistics of files.

        Raises:
            ConfigError: the table has other columns than its contract.
        """
        application, version = by
        transaction = self._log(table).startTransaction()
        if self._last_append(transaction, application) >= version:
            return None
        self._require_contract(table, str(transaction.metadata().schemaString()))
        # Another driver's append of the same meanwhile makes ours fail, not land twice.
        transaction.readTxn().addOne(application)
        per_file = setting(self.spark, "spark.sql.files.maxRecordsPerFile", max_rows_per_file)
        with per_file, self._laid_out(table):
            written = transaction.writeFiles(rows._jdf).toSeq()
        transaction.commit(written.prepended(self._transaction(by)), self._appending())
        stats = [file.get("stats") for file in self._parsed(written)]
        return sum(json.loads(said)["numRecords"] for said in stats) if all(stats) else None

    def delete(self, table: str, condition: str) -> None:
        """Delete the rows that meet a condition, in a commit of its own; of none, no commit.

        Their files are written again without them: no deletion vector leaves them where they are.
        """
        whole = setting(
            self.spark, "spark.databricks.delta.delete.deletionVectors.persistent", "false"
        )
        with whole, self._laid_out(table):
            DeltaTable.forPath(self.spark, self.path(table)).delete(condition)

    def _laid_out(self, table: str) -> contextlib.AbstractContextManager[None]:
        """Files written meanwhile have row groups as the table's layout says, if it has one."""
        layout: Layout | None = getattr(contract(table), "LAYOUT", None)
        if layout is None:
            return contextlib.nullcontext()
        # As the session's: Delta passes no such option of a write on.
        return setting(self.spark, "parquet.block.size", layout.row_group_bytes)

    def vacuum(self, table: str, *, kept_s: float = 0.0) -> None:
        """Remove the data files that are not of the table's newest version.

        Nobody may be reading an older version, or writing, unless `kept_s` is longer than that
        takes. Delta's own VACUUM lists each folder by as many tasks as
        `spark.sql.sources.parallelPartitionDiscovery.parallelism` says, 10,000.

        Args:
            table: its name.
            kept_s: files that were written, or of the newest version, within so many seconds stay.
        """
        folder, files = self._file(self.path(table))
        since_ms = int((time.time() - kept_s) * 1000)
        lying = {
            name: status.getPath()
            for status in files.listStatus(folder)
            if (name := str(status.getPath().getName())).endswith(".parquet")
            and not (kept_s and status.getModificationTime() >= since_ms)
        }
        if not lying or (not kept_s and len(lying) == self.file_count(table)):
            return
        named = {urllib.parse.unquote(row.path) for row in self.files(table).collect()}
        if kept_s:
            removed = DataFrame(self._snapshot(table).tombstones().toDF(), self.spark)
            lately = removed.where(F.col("deletionTimestamp") >= since_ms).select("path").collect()
            named |= {urllib.parse.unquote(row.path) for row in lately}
        for name in lying.keys() - named:
            files.delete(lying[name], False)

    def _require_contract(self, table: str, schema: str) -> None:
        found, asked = (
            {field.name: field.dataType.simpleString() for field in fields}
            for fields in (T.StructType.fromJson(json.loads(schema)), contract(table).SCHEMA)
        )
        differing = sorted(
            name for name in found.keys() | asked.keys() if found.get(name) != asked.get(name)
        )
        if differing:
            raise ConfigError(
                f"table {table} in {self.root} was made by another version, its"
                f" {', '.join(differing)} differ; CHANGELOG.md says what to do about a schema"
                " change, or set warehouse to a new folder"
            )

    def _transaction(self, by: tuple[str, int]) -> Any:
        application, version = by
        now_ms = self._class("java.lang.Long").valueOf(int(time.time() * 1000))
        action = self._class("org.apache.spark.sql.delta.actions.SetTransaction")
        return action(application, version, self._class("scala.Option").apply(now_ms))

    def _appending(self) -> Any:
        append = self._class("org.apache.spark.sql.SaveMode").Append
        operation = self._class("org.apache.spark.sql.delta.DeltaOperations$Write")
        return operation(append, *[self._none()] * 8)

    def append_files(
        self,
        table: str,
        rows: Mapping[str, int],
        constant: Mapping[str, str],
        *,
        by: tuple[str, int],
        ranges: Mapping[str, Mapping[str, tuple[int, int]]],
    ) -> None:
        """Put Parquet files that lie in the table's folder into the table, in one commit.

        Who wrote them answers for the schema and its checks: Delta does not look.

        Args:
            table: its name.
            rows: name of a file -> its rows.
            constant: column -> the one value that all rows have in it, by which files are skipped.
            by: application and version, as of every append.
            ranges: column -> file -> least and greatest value, likewise.
        """
        application, version = by
        now_ms = int(time.time() * 1000)
        actions: list[dict[str, Any]] = [
            {"txn": {"appId": application, "version": version, "lastUpdated": now_ms}}
        ]
        for name, count in rows.items():
            path, files = self._file(f"{self.path(table)}/{name}")
            status = files.getFileStatus(path)
            least, greatest = (
                {column: by_file[name][end] for column, by_file in ranges.items()} for end in (0, 1)
            )
            stats = {
                "numRecords": count,
                "minValues": {**constant, **least},
                "maxValues": {**constant, **greatest},
                "nullCount": dict.fromkeys([*constant, *ranges], 0),
            }
            added = {
                "path": name,
                "partitionValues": {},
                "size": status.getLen(),
                "modificationTime": status.getModificationTime(),
                "dataChange": True,
                "stats": json.dumps(stats),
            }
            actions.append({"add": added})
        self._log(table).startTransaction().commit(self._actions(actions), self._appending())

    def rewriting(self, table: str) -> "Rewriting":
        """Begin to write files of the table otherwise than they are now.

        Raises:
            ConfigError: the table has other columns than its contract.
        """
        transaction = self._log(table).startTransaction()
        self._require_contract(table, str(transaction.metadata().schemaString()))
        return Rewriting(self, transaction)

    def _actions(self, actions: Iterable[Mapping[str, Any]]) -> Any:
        """What Delta's protocol writes as JSON, for a commit."""
        parse = self._class("org.apache.spark.sql.delta.actions.Action").fromJson
        parsed = self._class("java.util.ArrayList")()
        for action in actions:
            parsed.add(parse(json.dumps(action)))
        return self._class("scala.jdk.javaapi.CollectionConverters").asScala(parsed).toSeq()

    def _optimizing(self) -> Any:
        none = self._class("scala.jdk.javaapi.CollectionConverters").asScala(
            self._class("java.util.ArrayList")()
        )
        operation = self._class("org.apache.spark.sql.delta.DeltaOperations$Optimize")
        return operation(none.toSeq(), none.toSeq(), False, self._none(), False)

    def _snapshot(self, table: str) -> Any:
        """The table as it is, as Delta has it."""
        return self._log(table).update(False, self._none(), self._none())

    def _log(self, table: str) -> Any:
        log = self._class("org.apache.spark.sql.delta.DeltaLog")
        return log.forTable(self.spark._jsparkSession, self.path(table))

    def register(self, *statements: str) -> None:
        """Make tables queryable by their names in this session.

        Names of another warehouse that the session knew are forgotten; no file is touched.

        Args:
            statements: only tables that they name are looked at; without any, all tables are.
        """
        named = " ".join(statements).lower()
        for layer in sorted({table.split(".")[0] for table in CONTRACTS} | {"gold"}):
            self.spark.sql(f"CREATE DATABASE IF NOT EXISTS `{layer}`")
        of_gold = [row.tableName for row in self.spark.sql("SHOW TABLES IN `gold`").collect()]
        tables = dict.fromkeys((*CONTRACTS, *(f"gold.{name}" for name in of_gold), *self._gold()))
        for table in tables:
            if not statements or table.split(".")[1].lower() in named:
                self._register(table)

    def _register(self, table: str) -> None:
        layer, name = table.split(".")
        view = f"`{layer}`.`{CURRENT}{name}`"
        known, here = self._known_location(layer, name), self._location(table)
        if known == here:
            return
        if known is not None:
            self.spark.sql(f"DROP VIEW IF EXISTS {view}")
            self.spark.sql(f"DROP TABLE `{layer}`.`{name}`")
        if here is not None:
            # Another thread may have been quicker.
            self.spark.sql(
                f"CREATE TABLE IF NOT EXISTS `{layer}`.`{name}` USING delta"
                f" LOCATION '{self.path(table)}'"
            )
            if hasattr(contract(table), "REVISION"):
                self.spark.sql(f"CREATE OR REPLACE VIEW {view} AS {_newest_sql(table, table)}")

    def _known_location(self, layer: str, name: str) -> str | None:
        """Where the session thinks that a table is; null: it knows none of that name."""
        catalog = self.spark._jsparkSession.sessionState().catalog()
        layer_option = self._class("scala.Option").apply(layer)
        named = self._class("org.apache.spark.sql.catalyst.TableIdentifier")(name, layer_option)
        if not catalog.tableExists(named):
            return None
        return str(catalog.getTableMetadata(named).location().toString())

    def _location(self, table: str) -> str | None:
        """Where a table is, as the catalog says it; null: it does not exist."""
        if not self.exists(table):
            return None
        path, files = self._file(self.path(table))
        return str(files.makeQualified(path).toUri().toString())

    def create(self, table: str) -> None:
        """Create a table by its contract, unless it exists."""
        if self.exists(table):
            return
        module = contract(table)
        builder = (
            DeltaTable.create(self.spark)
            .location(self.path(table))
            .addColumns(module.SCHEMA)
            .comment(module.GRAIN)
        )
        if module.CLUSTER_BY:
            builder = builder.clusterBy(*module.CLUSTER_BY)
        if _WRITTEN & set(module.SCHEMA.names):
            builder = builder.property("delta.dataSkippingStatsColumns", _measured(module.SCHEMA))
        for name, condition in module.CHECKS.items():
            # In the same commit; ALTER TABLE … ADD CONSTRAINT would scan and commit once each.
            builder = builder.property(f"delta.constraints.{name}", condition)
        builder.execute()

    def widen(self, table: str) -> None:
        """Add what a table of an earlier version lacks of its contract and may be null; it is."""
        there = set(self._snapshot(table).schema().fieldNames())
        lacking = [f for f in contract(table).SCHEMA if f.nullable and f.name not in there]
        if lacking:
            added = ", ".join(
                f"{f.name} {f.dataType.simpleString()} COMMENT '{_quoted(f.metadata['comment'])}'"
                for f in lacking
            )
            self.spark.sql(f"ALTER TABLE delta.`{self.path(table)}` ADD COLUMNS ({added})")


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A data file of a table.

    Attributes:
        path: as Delta's log writes it.
        size_bytes: as it lies.
        stats: as Delta's log has them: `numRecords`, `minValues`, `maxValues`, `nullCount`.
    """

    path: str
    size_bytes: int
    stats: Mapping[str, Any]


@dataclass(frozen=True)
class Rewriting:
    """Files of a table as they were when this began, and a commit in which the same rows lie anew.

    Appends meanwhile are as if they came after. Whatever else changes meanwhile one of the files,
    or what the table is, makes the commit fail: no row comes back that was deleted.
    """

    warehouse: Warehouse
    transaction: Any

    def files(self) -> list[TableFile]:
        """The files that can be rewritten.

        Without those of which the log does not say how many rows they hold, and those of which
        deletion vectors hide rows.
        """
        entries = DataFrame(self.transaction.snapshot().allFiles().toDF(), self.warehouse.spark)
        whole = entries.where("deletionVector IS NULL AND stats IS NOT NULL")
        found = [
            TableFile(path=row.path, size_bytes=row.size, stats=json.loads(row.stats))
            for row in whole.select("path", "size", "stats").collect()
        ]
        return [file for file in found if "numRecords" in file.stats]

    def commit(self, instead: Sequence[tuple[Sequence[TableFile], TableFile]]) -> bool:
        """Have files take the place of others.

        To streams that follow the table nothing has changed.

        Args:
            instead: files, and the one that holds their rows.

        Returns:
            Whether they do; false where somebody else was quicker, who changed them or the table.
        """
        now_ms = int(time.time() * 1000)
        actions: list[dict[str, Any]] = []
        for former, file in instead:
            for old in former:
                removed = {
                    "path": old.path,
                    "deletionTimestamp": now_ms,
                    "dataChange": False,
                    "extendedFileMetadata": True,
                    "partitionValues": {},
                    "size": old.size_bytes,
                    "stats": json.dumps(old.stats),
                }
                actions.append({"remove": removed})
            added = {
                "path": file.path,
                "partitionValues": {},
                "size": file.size_bytes,
                "modificationTime": now_ms,
                "dataChange": False,
                "stats": json.dumps(file.stats),
            }
            actions.append({"add": added})
        operation = self.warehouse._optimizing()
        try:
            self.transaction.commit(self.warehouse._actions(actions), operation)
        except _CONFLICTS:
            return False
        return True


def _measured(schema: T.StructType) -> str:
    """The columns of which the log is to keep the least and greatest value in each file."""
    ordered = (T.NumericType, T.StringType, T.TimestampType)
    leading = [field for field in schema if isinstance(field.dataType, ordered)][:_SKIPPED_BY]
    return ",".join(field.name for field in leading if field.name not in _WRITTEN)


def create_all(warehouse: Warehouse, recipe: str) -> None:
    """Create every table that each cycle with this recipe writes."""
    tables = [table for table in (*CONTRACTS, gold.table(recipe)) if table not in ON_DEMAND]
    with ThreadPoolExecutor(CREATED_AT_A_TIME) as pool:
        list(pool.map(warehouse.create, tables))


def belonging(rows: DataFrame, keys: DataFrame, key: str) -> DataFrame:
    """The rows of a table that belong to the keys of a batch; the keys travel, the rows stay."""
    return rows.join(F.broadcast(keys.select(key).distinct()), key, "left_semi")


def within(keys: DataFrame, key: str) -> Column:
    """A condition: the key is between the least and the greatest of a batch; of none, never.

    By it Delta passes over the files of a table that was written in the key's order.
    """
    (span,) = keys.agg(F.min(key).alias("least"), F.max(key).alias("greatest")).collect()
    return F.col(key).between(span.least, span.greatest)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def newest(rows: DataFrame, table: str) -> DataFrame:
    """Of the rows of each key the one of the greatest revision.

    They are shuffled: it is for the rows of a batch. `Warehouse.current` has those of a table.

    Args:
        rows: of a table whose contract has a REVISION.
        table: its name.
    """
    module = contract(table)
    others = [F.col(name) for name in rows.columns if name not in module.KEY]
    held = rows.groupBy(*module.KEY).agg(F.max_by(F.struct(*others), module.REVISION).alias("held"))
    return held.select(*module.KEY, "held.*").select(*rows.columns)


def _newest_sql(table: str, source: str) -> str:
    """What `newest` says, of all rows of a source."""
    module = contract(table)
    keys = ", ".join(module.KEY)
    same = " AND ".join(f"held.{key} = revised.{key}" for key in module.KEY)
    # Few rows are ever revised: those travel, and the table is not shuffled.
    return (
        f"SELECT /*+ BROADCAST(revised) */ held.* FROM {source} held LEFT JOIN (SELECT {keys},"
        f" max({module.REVISION}) AS newest FROM {source} WHERE {module.REVISION} > 0"
        f" GROUP BY {keys}) revised ON {same}"
        f" WHERE held.{module.REVISION} = coalesce(revised.newest, 0)"
    )


def counted(rows: DataFrame, **conditions: Column) -> dict[str, int]:
    """How many rows meet each condition, in one pass; a null condition is not met."""
    (row,) = rows.agg(*(F.count_if(is_met).alias(n) for n, is_met in conditions.items())).collect()
    counts: dict[str, int] = row.asDict()
    return counts


def conform(frame: DataFrame, table: str) -> DataFrame:
    """Exactly the columns of the table's contract, in its order and types.

    Delta checks NOT NULL when it writes, so that a frame may say less than it keeps.
    """
    return frame.select(*(F.col(f.name).cast(f.dataType) for f in contract(table).SCHEMA))
