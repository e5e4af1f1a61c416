"""Exactly-once stages: checkpoints, transactions, locks and the ledger live here alone.

A stage hands over a function that processes one batch. Whatever kills the driver, running the
stage again gives each row exactly once:

1. Spark writes the batch's offsets before it starts, so the same batch comes again.
2. Every append carries (application, version) = (stage, checkpoint generation, table; batch id):
   Delta skips the one that is already there.
3. Outcomes are counted from what lies in the tables, so a replay counts the same.
4. The ledger row comes last. A batch that has one is not processed again.
"""

import contextlib
import fcntl
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from delta.tables import DeltaTable
from pyspark.errors import StreamingQueryException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime.errors import BreakerOpen, CheckpointBusy, LedgerMismatch
from jobs.runtime.session import setting
from jobs.runtime.tables import ON_DEMAND, Warehouse, conform, contract
from schemas import batches, quarantine
from schemas.layout import Layout

log: Final = logging.getLogger("sluice")

# Delta's own default of files per micro-batch.
MAX_FILES: Final = 1000
_CHECKPOINTS: Final = "/_checkpoints/"
# Acts on a whole warehouse, during which nothing else may be written -> what finishes one.
TAKEDOWN: Final = "takedown"
REBUILD: Final = "rebuild"
_FINISHED_BY: Final = {
    TAKEDOWN: "the same `sluice takedown` again, or one without a key,",
    REBUILD: "the same `sluice duplicates rebuild` again",
}
USER_METADATA: Final = "spark.databricks.delta.commitInfo.userMetadata"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the rows of a batch; each figure counted on its own."""

    rows_in: int
    rows_kept: int
    rows_rejected: int = 0
    rows_quarantined: int = 0
    rows_reused: int = 0

    def check(self, batch: str) -> None:
        """Refuse a batch that lost or invented a row.

        Raises:
            LedgerMismatch: rows in are not kept + rejected + quarantined.
        """
        accounted = self.rows_kept + self.rows_rejected + self.rows_quarantined
        if self.rows_in != accounted:
            raise LedgerMismatch(
                f"batch {batch}: {self.rows_in} rows came in, {accounted} are accounted for "
                f"({self.rows_kept} kept, {self.rows_rejected} rejected, "
                f"{self.rows_quarantined} quarantined); it has no ledger row, "
                "please report this with the stage's log"
            )


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """How much of a batch may go wrong in one way before the stage stops.

    Attributes:
        max_shares: error class -> largest share of a batch's rows.
        default_max_share: of every other class.
        min_rows: batches of fewer rows say too little.
    """

    max_shares: Mapping[str, float] = field(default_factory=dict)
    default_max_share: float = 1.0
    min_rows: int = 1

    def check(self, stage: str, rows_in: int, classes: Mapping[str, int]) -> None:
        """Stop where a class has passed its share.

        Args:
            stage: name of the stage.
            rows_in: rows of the batch.
            classes: error class -> rows of the batch that it sent to quarantine.

        Raises:
            BreakerOpen: which class, its share and limit, and what to do.
        """
        if rows_in < self.min_rows:
            return
        for error_class, rows in sorted(classes.items(), key=lambda met: -met[1]):
            limit = self.max_shares.get(error_class, self.default_max_share)
            if rows / rows_in > limit:
                raise BreakerOpen(
                    f"stage {stage} stopped: {rows:,} of {rows_in:,} rows of a batch are"
                    f" {error_class}, {rows / rows_in:.1%}, limit {limit:.1%}; they are in"
                    f" quarantine. `sluice quarantine --class {error_class}` shows them. Mend the"
                    f" cause and `sluice retry --class {error_class}`, or raise"
                    f" breaker.max_shares.{error_class}; then run again"
                )


NEVER: Final = Breaker()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of one stage, and the only way a stage writes."""

    warehouse: Warehouse
    stage: str
    checkpoint: str
    generation: str
    batch_id: int
    run_id: str
    frame: DataFrame
    _appended: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What the batch's rows carry; short: Delta's statistics keep 32 characters of it."""
        return f"{self.batch_id:08d}.{self.generation[:8]}.{self.stage}"

    def stamped(self, frame: DataFrame, *, at: str) -> DataFrame:
        """Add the columns that say when and by whom a row was written."""
        return frame.withColumns(
            {
                at: F.current_timestamp(),
                "batch": F.lit(self.name),
                "run_id": F.lit(self.run_id),
            }
        )

    def append(
        self,
        frame: DataFrame,
        table: str,
        *,
        max_rows_per_file: int = 0,
        sort_by: Sequence[str] = (),
    ) -> None:
        """Append once, however often the batch is replayed. At most one append a table.

        Args:
            frame: columns of the table, and any others.
            table: its name.
            max_rows_per_file: 0: whatever a task has goes into one file.
            sort_by: order of the rows in a file; that of the table's layout, where it has one.
        """
        rows = conform(frame, table)
        layout: Layout | None = getattr(contract(table), "LAYOUT", None)
        if order := layout.sorted_by if layout else sort_by:
            rows = rows.sortWithinPartitions(*order)
        with self._signed():
            appended = self.warehouse.append(
                rows,
                table,
                by=(self._application(table), self.batch_id),
                max_rows_per_file=max_rows_per_file,
            )
        if appended is not None:
            self._appended[table] = appended

    def has_appended(self, table: str) -> bool:
        """Whether an attempt at this batch, killed since, has appended to the table."""
        return self.warehouse.last_append(table, self._application(table)) >= self.batch_id

    def append_files(
        self,
        rows: Mapping[str, int],
        table: str,
        *,
        ranges: Mapping[str, Mapping[str, tuple[int, int]]] | None = None,
    ) -> None:
        """Put files that lie in the table's folder into it, for a batch that has not appended yet.

        Args:
            rows: name of a file -> its rows, which carry this batch's name.
            table: its name.
            ranges: column -> file -> least and greatest value, by which files are passed over.
        """
        with self._signed():
            self.warehouse.append_files(
                table,
                rows,
                {"batch": self.name},
                by=(self._application(table), self.batch_id),
                ranges=ranges or {},
            )

    def _application(self, table: str) -> str:
        return f"{self.stage}:{self.generation}:{table}"

    def _signed(self) -> contextlib.AbstractContextManager[None]:
        """Commits made meanwhile say where they come from."""
        return setting(self.warehouse.spark, USER_METADATA, self.metadata())

    def replace(self, frame: DataFrame, table: str, *, key: str, changed: Sequence[str]) -> None:
        """Make a table hold exactly these rows, in one commit that leaves equal ones alone.

        Idempotent by its data: a replay finds nothing to change.

        Args:
            frame: what the table is to hold.
            table: its name.
            key: what a row is known by.
            changed: columns of which one differs when a row is to be rewritten.
        """
        differs = " OR ".join(f"NOT new.{column} <=> old.{column}" for column in changed)
        with self._signed():
            (
                DeltaTable.forPath(self.warehouse.spark, self.warehouse.path(table))
                .alias("old")
                .merge(conform(frame, table).alias("new"), f"new.{key} = old.{key}")
                .whenMatchedUpdateAll(differs)
                .whenNotMatchedInsertAll()
                .whenNotMatchedBySourceDelete()
                .execute()
            )

    def delete(self, table: str, condition: str) -> None:
        """Delete rows, in a commit that holds nothing else; of none, no commit."""
        with self._signed():
            self.warehouse.delete(table, condition)

    def metadata(self) -> str:
        """What a commit says of its origin; DESCRIBE HISTORY shows it."""
        said = {"run_id": self.run_id, "stage": self.stage, "batch": self.name}
        return json.dumps(said, sort_keys=True)

    def staging(self) -> str:
        """A folder of the batch's own, for what must be read more than once."""
        return f"{self.warehouse.root}/_staging/{self.name}"

    def history(self, table: str) -> DataFrame:
        """Rows of the table as they were before this batch, a killed attempt at it aside."""
        # Always by name: a frame is of the table as it is when it is computed, which may be after
        # this batch has appended to it.
        return self.warehouse.read(table).where(F.col("batch") != self.name)

    def written(self, table: str) -> DataFrame:
        """Rows of the table that carry this batch's name, those of a killed attempt included."""
        return self.warehouse.read(table).where(F.col("batch") == self.name)

    def count_written(self, table: str) -> int:
        """How many rows `written` has: the files of this attempt's append say so by themselves."""
        appended = self._appended.get(table)
        return self.written(table).count() if appended is None else appended


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A streaming query: which table it follows and what it does with a batch.

    Nothing is to be done while its source, or a table that it needs, has not been created.
    """

    name: str
    checkpoint: str
    source: str
    columns: Sequence[str | Column]
    process: Callable[[Batch], Outcome]
    outputs: Sequence[str]
    where: Column | None = None
    max_files: int = MAX_FILES
    breaker: Breaker = NEVER
    needs: Sequence[str] = ()

    def is_fed(self, warehouse: Warehouse) -> bool:
        """Whether its source and what it needs have been created."""
        tables = (self.source, *self.needs)
        return all(warehouse.exists(table) for table in tables if table in ON_DEMAND)


def run(warehouse: Warehouse, stage: Stage, *, run_id: str) -> int:
    """Process everything the stage has not seen, then return the number of batches.

    Raises:
        CheckpointBusy: another live driver runs this stage on this checkpoint.
        BreakerOpen: too much of a batch, now in the ledger, went wrong in one way.
        SluiceError: what the stage's own code raised.
    """
    if not stage.is_fed(warehouse):
        return 0
    folder = f"{warehouse.root}/_checkpoints/{stage.name}/{stage.checkpoint}"
    with exclusive(folder):
        # All that lay in the source up to here will have been seen once the query ends.
        version = warehouse.version(stage.source)
        seen = f"{folder}/progress/seen"
        if warehouse.read_text(seen) == str(version):
            return 0
        generation = _generation(warehouse, folder)
        failures: list[Exception] = []
        done: list[int] = []

        def handle(frame: DataFrame, batch_id: int) -> None:
            batch = Batch(
                warehouse=Warehouse(frame.sparkSession, warehouse.root),
                stage=stage.name,
                checkpoint=stage.checkpoint,
                generation=generation,
                batch_id=batch_id,
                run_id=run_id,
                frame=frame,
            )
            try:
                process(
                    batch,
                    stage.process,
                    inputs=(stage.source,),
                    outputs=stage.outputs,
                    breaker=stage.breaker,
                )
            except Exception as error:
                failures.append(error)
                raise
            done.append(batch_id)

        followed = (
            warehouse.spark.readStream.format("delta")
            # Takedown commits hold only DELETEs; a stream must survive them.
            .option("skipChangeCommits", "true")
            .option("maxFilesPerTrigger", stage.max_files)
            .load(warehouse.path(stage.source))
        )
        if stage.where is not None:
            followed = followed.where(stage.where)
        query = (
            # Narrow before foreachBatch: past it, every action reads all that was selected here.
            followed.select(*stage.columns)
            .writeStream.foreachBatch(handle)
            .option("checkpointLocation", f"{folder}/progress")
            .queryName(f"{stage.name}/{stage.checkpoint}")
            .trigger(availableNow=True)
            .start()
        )
        try:
            query.awaitTermination()
        except StreamingQueryException:
            if failures:
                raise failures[0] from None
            raise
        finally:
            query.stop()
        warehouse.write_text(seen, str(version))
        return len(done)


def process(
    batch: Batch,
    work: Callable[[Batch], Outcome],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    breaker: Breaker = NEVER,
) -> None:
    """Do a batch once and enter it in the ledger, the last thing a batch does.

    Raises:
        LedgerMismatch: its rows do not add up.
        BreakerOpen: too much of it went wrong in one way; it is in the ledger all the same.
    """
    if batch.has_appended(batches.TABLE):
        return
    started_at, clock = datetime.now(UTC), time.monotonic()
    log.info("%s: batch %d …", batch.stage, batch.batch_id)
    input_versions = {table: batch.warehouse.version(table) for table in inputs}
    outcome = work(batch)
    outcome.check(batch.name)
    batch.warehouse.remove(batch.staging())
    duration_s = time.monotonic() - clock
    row = {
        "stage": batch.stage,
        "checkpoint": batch.checkpoint,
        "batch_id": batch.batch_id,
        **asdict(outcome),
        "input_versions": input_versions,
        "output_versions": {
            table: batch.warehouse.version(table)
            for table in outputs
            if table not in ON_DEMAND or batch.warehouse.exists(table)
        },
        "started_at": started_at,
        "duration_s": duration_s,
        "batch": batch.name,
        "run_id": batch.run_id,
    }
    batch.append(batch.warehouse.local([row], batches.SCHEMA), batches.TABLE)
    log.info(
        "%s: batch %d, %s in %.1f s", batch.stage, batch.batch_id, describe(outcome), duration_s
    )
    if breaker != NEVER and quarantine.TABLE in outputs and outcome.rows_quarantined:
        refused = batch.written(quarantine.TABLE).groupBy("error_class").count().collect()
        breaker.check(batch.stage, outcome.rows_in, {row[0]: row[1] for row in refused})


def describe(outcome: Outcome) -> str:
    """An outcome in words.

    >>> describe(Outcome(rows_in=3, rows_kept=2, rows_quarantined=1))
    '3 rows: 2 kept, 1 quarantined'
    """
    parts = [f"{outcome.rows_kept:,} kept"]
    if outcome.rows_reused:
        parts[0] += f" ({outcome.rows_reused:,} reused)"
    if outcome.rows_rejected:
        parts.append(f"{outcome.rows_rejected:,} rejected")
    if outcome.rows_quarantined:
        parts.append(f"{outcome.rows_quarantined:,} quarantined")
    return f"{outcome.rows_in:,} rows: {', '.join(parts)}"


@contextlib.contextmanager
def exclusive(folder: str) -> Iterator[None]:
    """Hold a checkpoint for this process; a kill frees it at once.

    The lock is the operating system's, so it guards one machine: on an object store the
    scheduler must see to it that a checkpoint has one driver.
    """
    root, _, _ = folder.partition(_CHECKPOINTS)
    with _locked(root + _CHECKPOINTS, fcntl.LOCK_SH), _locked(folder, fcntl.LOCK_EX):
        _refuse_cut_short(root, _FINISHED_BY)
        yield


def note(root: str, act: str) -> str:
    """The file of a warehouse that is there from the beginning of an act to its end."""
    return f"{root}{_CHECKPOINTS}{act}.json"


@contextlib.contextmanager
def alone(root: str, act: str) -> Iterator[None]:
    """Hold every checkpoint of a warehouse, those to come as well: nothing else is written.

    Args:
        root: of the warehouse.
        act: TAKEDOWN or REBUILD, which keeps a `note` and finishes what was cut short of it.

    Raises:
        CheckpointBusy: a live driver holds a checkpoint, or another act was cut short.
    """
    with _locked(root + _CHECKPOINTS, fcntl.LOCK_EX):
        _refuse_cut_short(root, [other for other in _FINISHED_BY if other != act])
        yield


def _refuse_cut_short(root: str, acts: Iterable[str]) -> None:
    for act in acts:
        if Path(note(root, act)).exists():
            raise CheckpointBusy(
                f"{root} is in the middle of a {act} that was cut short; {_FINISHED_BY[act]}"
                " finishes it"
            )


@contextlib.contextmanager
def _locked(folder: str, how: int) -> Iterator[None]:
    if "://" in folder:
        yield
        return
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("a") as held:
        try:
            fcntl.flock(held, how | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointBusy(
                f"checkpoint {folder} is held by another live driver; "
                "wait for it to end, or stop it, then run again"
            ) from None
        yield


def _generation(warehouse: Warehouse, folder: str) -> str:
    """A name for this life of the checkpoint.

    Transaction ids must differ once a checkpoint is made anew, for its batch ids start at 0
    again and Delta would silently skip their writes.
    """
    path = f"{folder}/progress/generation"
    known = warehouse.read_text(path)
    if known is None:
        known = uuid.uuid4().hex
        warehouse.write_text(path, known)
    return known
