from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.runtime import streams
from jobs.runtime.errors import BreakerOpen, CheckpointBusy, LedgerMismatch
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import Warehouse
from schemas import batches, pairs, quarantine


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    made = Warehouse(spark, str(tmp_path))
    spark.range(5).write.format("delta").save(made.path("bronze.numbers"))
    made.create(batches.TABLE)
    return made


def counting(batch: Batch) -> Outcome:
    return Outcome(rows_in=batch.frame.count(), rows_kept=batch.frame.count())


def stage(process: streams.Callable[[Batch], Outcome] = counting) -> Stage:
    return Stage(
        name="count",
        checkpoint="v1",
        source="bronze.numbers",
        columns=("id",),
        process=process,
        outputs=(),
    )


def test_a_batch_is_processed_once_and_entered_in_the_ledger(warehouse: Warehouse) -> None:
    assert streams.run(warehouse, stage(), run_id="r1") == 1
    assert streams.run(warehouse, stage(), run_id="r2") == 0

    (row,) = warehouse.read(batches.TABLE).collect()
    assert (row.stage, row.rows_in, row.rows_kept, row.run_id) == ("count", 5, 5, "r1")
    assert row.input_versions == {"bronze.numbers": 0}


def test_a_stage_that_loses_a_row_is_refused_and_its_batch_comes_again(
    warehouse: Warehouse,
) -> None:
    def losing(batch: Batch) -> Outcome:
        rows = batch.frame.count()
        return Outcome(rows_in=rows, rows_kept=rows - 1)

    with pytest.raises(LedgerMismatch, match="5 rows came in, 4 are accounted for"):
        streams.run(warehouse, stage(losing), run_id="r1")
    assert warehouse.read(batches.TABLE).count() == 0

    streams.run(warehouse, stage(), run_id="r2")
    assert warehouse.read(batches.TABLE).count() == 1


def test_a_second_driver_on_a_checkpoint_is_refused(warehouse: Warehouse) -> None:
    folder = f"{warehouse.root}/_checkpoints/count/v1"
    with streams.exclusive(folder), pytest.raises(CheckpointBusy, match="another live driver"):
        streams.run(warehouse, stage(), run_id="r1")

    assert streams.run(warehouse, stage(), run_id="r1") == 1


def batch_of(warehouse: Warehouse, generation: str) -> Batch:
    return Batch(
        warehouse=warehouse,
        stage="pair",
        checkpoint="v1",
        generation=generation,
        batch_id=0,
        run_id="r",
        frame=warehouse.spark.range(0),
    )


def append_three(batch: Batch) -> None:
    row = batch.warehouse.spark.range(3).select(
        F.col("id").cast("string").alias("sample_id"),
        F.col("id").alias("ingest_ordinal"),
        F.lit(0.5).alias("clip_score"),
        *(
            F.lit("x").alias(name)
            for name in pairs.SCHEMA.names
            if name.endswith(("sha256", "set"))
        ),
    )
    batch.append(batch.stamped(row, at="paired_at"), pairs.TABLE)


def test_a_replayed_append_is_skipped(warehouse: Warehouse) -> None:
    warehouse.create(pairs.TABLE)
    batch = batch_of(warehouse, "g")

    for attempt in (batch, replace(batch)):
        append_three(attempt)
        assert attempt.count_written(pairs.TABLE) == 3

    assert warehouse.read(pairs.TABLE).count() == 3
    assert warehouse.version(pairs.TABLE) == 1
    assert batch.written(pairs.TABLE).count() == 3


def test_history_has_no_row_of_the_batch_whenever_it_is_computed(warehouse: Warehouse) -> None:
    warehouse.create(pairs.TABLE)
    append_three(batch_of(warehouse, "earlier"))
    batch = batch_of(warehouse, "g")
    asked_before = batch.history(pairs.TABLE)

    append_three(batch)

    assert asked_before.count() == 3
    assert batch.history(pairs.TABLE).count() == 3
    assert replace(batch).history(pairs.TABLE).count() == 3


def test_the_ledger_itself_refuses_a_row_that_does_not_add_up(warehouse: Warehouse) -> None:
    constraints = warehouse.spark.sql(
        f"SHOW TBLPROPERTIES delta.`{warehouse.path(batches.TABLE)}`"
    ).collect()

    assert "delta.constraints.adds_up" in {row.key for row in constraints}


def test_a_breaker_stops_a_stage_whose_batch_is_in_the_ledger(warehouse: Warehouse) -> None:
    warehouse.create(quarantine.TABLE)

    def failing(batch: Batch) -> Outcome:
        known = {f.name: F.lit(None) for f in quarantine.SCHEMA}
        told = {"stage": "count", "error_class": "empty_media", "dump": "d", "shard": "s"}
        refused = batch.frame.where("id < 3").withColumns(
            {**known, **{name: F.lit(value) for name, value in told.items()}}
            | {"quarantine_id": F.col("id").cast("string"), "attempt": F.lit(0)}
        )
        batch.append(batch.stamped(refused, at="quarantined_at"), quarantine.TABLE)
        return Outcome(rows_in=5, rows_kept=2, rows_quarantined=3)

    breaker = streams.Breaker(max_shares={"empty_media": 0.5})
    stopped = replace(stage(failing), outputs=(quarantine.TABLE,), breaker=breaker)
    with pytest.raises(BreakerOpen, match="3 of 5 rows of a batch are empty_media"):
        streams.run(warehouse, stopped, run_id="r1")
    assert warehouse.read(batches.TABLE).count() == 1

    streams.run(warehouse, stopped, run_id="r2")  # the batch is done, what comes after it goes on
    assert warehouse.read(batches.TABLE).count() == 1
