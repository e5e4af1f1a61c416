"""What workers read of a table is what Spark would read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.runtime import table_scan
from jobs.runtime.streams import Batch
from jobs.runtime.table_scan import Streamed
from jobs.runtime.tables import Warehouse
from schemas import phash_index
from tests.told_rows import append

TABLE = phash_index.TABLE
Rows = list[tuple[int | None, ...]]


def read(streamed: Streamed, asked: np.ndarray | None = None) -> Rows:
    """What each task was given, and how many rows at once."""

    def same(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            assert batch.schema.names == ["node", "phash", "mirrored_phash", "is_old"]
            yield batch

    schema = "node long, phash long, mirrored_phash long, is_old boolean"
    return sorted(tuple(row) for row in streamed.map_in_arrow(same, schema, asked=asked).collect())


def test_history_is_all_but_the_batchs_own_rows_each_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = Warehouse(spark, str(tmp_path / "a warehouse"))
    warehouse.create(TABLE)
    batch = Batch(
        warehouse=warehouse,
        stage="dedup",
        checkpoint="-",
        generation="g",
        batch_id=1,
        run_id="run",
        frame=spark.range(0),
    )
    columns = ("node", "phash", "mirrored_phash")
    fresh = spark.createDataFrame([(7, 8, None)], "node long, phash long, mirrored_phash long")
    assert read(Streamed.history(batch, TABLE, columns)) == []
    assert read(Streamed.history(batch, TABLE, columns).with_fresh(fresh)) == [(7, 8, None, False)]

    rng = np.random.default_rng(0)
    hashes = np.sort(rng.integers(-(2**63), 2**63, 6000)).tolist()
    rows = [
        {
            "node": node,
            "phash": value,
            "mirrored_phash": None if node % 3 else -node,
            # As compaction leaves it, rows of several batches are in one file.
            "batch": batch.name if node % 7 == 0 else f"before{node % 2}",
        }
        for node, value in enumerate(hashes)
    ]
    monkeypatch.setattr(phash_index, "LAYOUT", phash_index.LAYOUT._replace(row_group_bytes=8192))
    append(warehouse, TABLE, *rows[:4000])
    append(warehouse, TABLE, *rows[4000:])
    append(warehouse, TABLE, {"node": 9999, "phash": 1, "batch": batch.name})
    files = (tmp_path / "a warehouse/silver/phash_index").glob("*.parquet")
    assert max(pq.read_metadata(file).num_row_groups for file in files) > 3
    monkeypatch.setattr(table_scan, "ROW_GROUP_BYTES", 20_000)  # several parts of several groups
    monkeypatch.setattr(table_scan, "_ROWS", 300)

    expected = [
        (row["node"], row["phash"], row["mirrored_phash"], True)
        for row in rows
        if row["batch"] != batch.name
    ]
    history = Streamed.history(batch, TABLE, columns)
    assert read(history) == expected
    assert read(history.with_fresh(fresh)) == sorted([*expected, (7, 8, None, False)])
    of_spark: DataFrame = batch.history(TABLE).select(*columns)
    assert read(Streamed.of(of_spark)) == expected

    asked = np.array([hashes[10], hashes[11], hashes[5000]])
    found = read(history, asked)
    assert {row[:2] for row in found} >= {(n, hashes[n]) for n in (10, 11, 5000) if n % 7}
    assert len(found) < len(expected) / 2
