"""Rows are had by where they lie, whatever else lies there."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs.runtime.lookup import rows_in
from jobs.runtime.session import setting
from jobs.runtime.table_scan import having
from jobs.runtime.tables import Warehouse
from schemas import image_signals
from tests.told_rows import append

TABLE = image_signals.TABLE


def test_rows_are_had_from_the_row_groups_that_hold_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    warehouse = Warehouse(spark, str(tmp_path / "a warehouse"))
    warehouse.create(TABLE)
    nothing = having(warehouse, TABLE, "media_sha256", warehouse.read(TABLE), ("signal_set",))
    assert nothing.collect() == []
    rng = np.random.default_rng(0)
    names = [f"{number:064x}" for number in rng.permutation(3000)]
    made = {name: rng.bytes(256) for name in names}
    with setting(spark, "parquet.block.size", 64 * 1024):
        for part, signal_set in ((names[:100], "a"), (names[:1500], "b"), (names[1500:], "a")):
            append(warehouse, TABLE, *(_row(name, signal_set, made[name]) for name in part))
    files = sorted((tmp_path / "a warehouse/silver/image_signals").glob("*.parquet"))
    assert max(pq.read_metadata(file).num_row_groups for file in files) > 2

    asked = {*rng.choice(names, 400, replace=False).tolist(), names[0], names[99]}
    keys = spark.createDataFrame([(name,) for name in (*asked, "f" * 64)], "media_sha256 string")
    said = having(warehouse, TABLE, "media_sha256", keys, ("signal_set", "scored_at"))
    every = warehouse.read(TABLE).select(*said.columns[:-1]).collect()
    got = sorted(row[:-1] for row in said.collect())
    assert got == sorted(tuple(row) for row in every if row.media_sha256 in asked)
    wanted = said.where("signal_set = 'a'").select("media_sha256", "signal_set", "file")
    found = rows_in(warehouse, TABLE, wanted, ("clip_embedding", "status")).collect()

    got = {row.media_sha256: bytes(row.clip_embedding) for row in found}
    assert got == {n: made[n] + b"a" for n in asked & {*names[:100], *names[1500:]}}
    assert len(found) == len(got)


def _row(name: str, signal_set: str, content: bytes) -> dict[str, object]:
    embedding = content + signal_set.encode()
    return {"media_sha256": name, "signal_set": signal_set, "clip_embedding": embedding}
