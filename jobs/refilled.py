"""Tables of gold that a command fills anew: the same rows again write nothing."""

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime import streams
from jobs.runtime.held import held
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import Warehouse, contract
from schemas import batches, pairs
from udfs.identity import digest


def refill(
    warehouse: Warehouse,
    table: str,
    made: Callable[[], DataFrame],
    *,
    stage: str,
    name: str,
    run_id: str,
) -> bool:
    """Bring a table to what its rows are now, in one commit and with one row of the ledger.

    Args:
        warehouse: where the table is; it is created, once its rows could be made.
        table: its name; its key is `sample_id`.
        made: makes its rows of `silver.pairs`, but for when and by which run they were published.
        stage: the command's name.
        name: of the table, as the user gave it.
        run_id: of this run.

    Returns:
        Whether anything changed.
    """
    with streams.exclusive(f"{warehouse.root}/_checkpoints/{stage}/{name}"):
        rows = held(made())
        warehouse.create(table)
        before = warehouse.read(table)
        module = contract(table)
        same = [n for n in module.SCHEMA.names if n not in module.VOLATILE]
        is_equal = (
            before.count() == rows.rows
            and rows.frame.select(*same).exceptAll(before.select(*same)).isEmpty()
        )
        done = _published(warehouse, stage, name)
        if is_equal and done and done[-1].get(table) == warehouse.version(table):
            return False
        # What is equal and not in the ledger is of a run that was killed between the two.
        batch = Batch(
            warehouse=warehouse,
            stage=stage,
            checkpoint=name,
            generation=digest(stage, name),
            batch_id=len(done),
            run_id=run_id,
            frame=rows.frame,
        )

        def publish(batch: Batch) -> Outcome:
            if not is_equal:
                _write(batch, table, changed=[n for n in same if n not in module.KEY])
            return Outcome(rows_in=rows.rows, rows_kept=batch.warehouse.read(table).count())

        streams.process(batch, publish, inputs=(pairs.TABLE,), outputs=(table,))
    return not is_equal


def _write(batch: Batch, table: str, *, changed: list[str]) -> None:
    stamped = batch.stamped(batch.frame, at="published_at")
    if batch.warehouse.read(table).isEmpty():
        batch.append(stamped, table)
    else:
        batch.replace(stamped, table, key="sample_id", changed=changed)


def _published(warehouse: Warehouse, stage: str, name: str) -> list[dict[str, int]]:
    """Table versions that each earlier run left, in their order."""
    ledger = warehouse.read(batches.TABLE)
    theirs = ledger.where((F.col("stage") == stage) & (F.col("checkpoint") == name))
    rows = theirs.orderBy("batch_id").select("output_versions").collect()
    return [row["output_versions"] for row in rows]
