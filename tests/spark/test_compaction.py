"""Many small files become few, and nobody can tell but by the time it takes."""

import json
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from typer.testing import CliRunner

from jobs import duplicates_cli
from jobs.runtime import compaction
from jobs.runtime import tables as tables_module
from jobs.runtime.config import Dedup
from jobs.runtime.errors import CheckpointBusy, SluiceError
from jobs.runtime.lookup import lookup
from jobs.runtime.session import setting
from jobs.runtime.streams import TAKEDOWN, alone
from jobs.runtime.tables import Warehouse, conform, contract
from schemas import clip_runs, duplicate_edges, exact_index, minhash_index, phash_index, shingles
from schemas.layout import LOOKED_UP
from tests.dedup_warehouse import DedupWarehouse, of_all_kinds
from udfs import size_tiers

# Of each way in which tables differ: sorted by a text, keys that ascend, small row groups without
# compression, lists, times; and a plain one.
SHAPES = (
    duplicate_edges.TABLE,
    exact_index.TABLE,
    phash_index.TABLE,
    minhash_index.TABLE,
    shingles.TABLE,
    clip_runs.TABLE,
)
FILES = 10
ROWS = 30  # of a file


def value(dtype: T.DataType, rng: np.random.Generator, *, long: bool) -> Any:
    match dtype:
        case T.LongType():
            return int(rng.integers(-(2**63), 2**63))
        case T.IntegerType():
            return int(rng.integers(0, 5))
        case T.StringType():
            return f"{rng.integers(0, 3)} é"
        case T.BinaryType():
            return rng.bytes(4096 if long else 32)
        case T.BooleanType():
            return bool(rng.integers(0, 2))
        case T.TimestampType():
            return datetime(2026, 1, 1, 2, 3, 4, int(rng.integers(0, 10**6)), tzinfo=UTC)
        case T.ArrayType():
            element = dtype.elementType
            return [value(element, rng, long=long) for _ in range(int(rng.integers(0, 300)))]
        case T.StructType():
            return {f.name: value(f.dataType, rng, long=long) for f in dtype}
        case _:
            return float(rng.choice([-1.5, 0.25, np.nan]))


def appended(warehouse: Warehouse, table: str, seed: int, files: int = FILES) -> None:
    """So many small files, their nodes in order of arrival."""
    warehouse.create(table)
    rng = np.random.default_rng(seed)
    module = contract(table)
    is_long = module.LAYOUT.row_group_bytes == LOOKED_UP
    rows = []
    for node in range(ROWS * files):
        row = {
            f.name: None
            if f.nullable and rng.integers(0, 10) == 0
            else value(f.dataType, rng, long=is_long)
            for f in module.SCHEMA
        }
        rows.append(row | {"node": 1000 * seed + node, "a": node, "b": node + 1})
    frame = conform(warehouse.local(rows, module.SCHEMA).coalesce(1), table)
    warehouse.append(frame, table, by=(uuid.uuid4().hex, 0), max_rows_per_file=ROWS)


def all_rows(warehouse: Warehouse, table: str) -> Counter[str]:
    return Counter(map(repr, warehouse.read(table).collect()))


def files_of(warehouse: Warehouse, table: str) -> list[Path]:
    named = warehouse.files(table).collect()
    return [Path(warehouse.path(table), row.path) for row in named]


@pytest.fixture(scope="module")
def small(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables in many small files."""
    root = tmp_path_factory.mktemp("small")
    warehouse = Warehouse(spark, str(root))
    for table in SHAPES:
        appended(warehouse, table, seed=1)
    return root


@pytest.fixture
def copied(small: Path, spark: SparkSession, tmp_path: Path) -> Callable[..., Warehouse]:
    def copy(*tables: str) -> Warehouse:
        made = Warehouse(spark, str(tmp_path / "copy"))
        for table in tables:
            shutil.copytree(Warehouse(spark, str(small)).path(table), made.path(table))
        return made

    return copy


def test_a_table_has_the_same_rows_in_order_and_in_one_file(
    copied: Callable[..., Warehouse], caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = copied(*SHAPES)
    caplog.set_level("INFO", logger="sluice")
    before = {table: all_rows(warehouse, table) for table in SHAPES}
    said = compaction.due(warehouse)
    versions = {table: warehouse.version(table) for table in SHAPES}

    done = compaction.compact(warehouse)

    assert [(of.table, of.files, of.merged, of.into, of.rows) for of in said] == [
        (of.table, of.files, of.merged, of.into, of.rows) for of in done
    ]
    assert [of.table for of in done] == list(SHAPES)
    for of in done:
        table, layout = of.table, contract(of.table).LAYOUT
        assert (of.files, of.merged, of.into, of.rows) == (FILES, FILES, 1, FILES * ROWS)
        assert all_rows(warehouse, table) == before[table], table
        (file,) = files_of(warehouse, table)
        assert of.bytes_after == file.stat().st_size
        rows = pq.read_table(file, columns=list(layout.sorted_by))
        order = [tuple(row.values()) for row in rows.to_pylist()]
        assert order == sorted(order)
        footer = pq.ParquetFile(file).metadata
        if layout.row_group_bytes == LOOKED_UP:
            assert footer.num_row_groups > 1, table
        names = [footer.row_group(0).column(i) for i in range(footer.num_columns)]
        written = {column.path_in_schema: column for column in names}
        assert all("DELTA_BINARY_PACKED" in written[name].encodings for name in layout.delta)
        assert all("RLE_DICTIONARY" in written[name].encodings for name in layout.repeating)
        assert (names[0].compression == "UNCOMPRESSED") == (layout.compression == "none")
        assert warehouse.version(table) == versions[table] + 1
        assert f"{table}, {FILES} of {FILES} files merged into 1, 300 rows" in caplog.text

    # Once more finds nothing, and makes no version.
    assert compaction.due(warehouse) == compaction.compact(warehouse) == []
    assert all(warehouse.version(table) == versions[table] + 1 for table in versions)


def test_the_log_says_of_a_merged_file_what_it_said_of_all(
    copied: Callable[..., Warehouse],
) -> None:
    warehouse = copied(exact_index.TABLE)
    compaction.compact(warehouse, [exact_index.TABLE])

    (file,) = warehouse.rewriting(exact_index.TABLE).files()
    rows = warehouse.read(exact_index.TABLE).toPandas()
    assert file.stats["numRecords"] == FILES * ROWS
    for column in ("kind", "high", "low", "node", "survivor", "batch"):
        assert file.stats["minValues"][column] == rows[column].min()
        assert file.stats["maxValues"][column] == rows[column].max()
        assert file.stats["nullCount"][column] == 0
    scores = [row.score for row in warehouse.read(exact_index.TABLE).select("score").collect()]
    assert file.stats["nullCount"]["score"] == scores.count(None) > 0


def test_rows_are_still_found_by_their_nodes(copied: Callable[..., Warehouse]) -> None:
    warehouse = copied(shingles.TABLE)
    asked = warehouse.spark.range(990, 1400, 7).withColumnRenamed("id", "node")

    def found() -> Counter[str]:
        rows = lookup(warehouse, shingles.TABLE, "node", asked, ("shingles", "batch"))
        return Counter(map(repr, rows.collect()))

    before = found()
    compaction.compact(warehouse, [shingles.TABLE])

    assert found() == before
    assert before.total() == len(range(1004, 1300, 7))
    assert warehouse.file_count(shingles.TABLE) == 1


def test_a_stream_sees_no_row_again(copied: Callable[..., Warehouse], tmp_path: Path) -> None:
    warehouse, table = copied(phash_index.TABLE), phash_index.TABLE
    seen: Counter[int] = Counter()

    def follow() -> None:
        def note(frame: DataFrame, _: int) -> None:
            seen.update(row.node for row in frame.select("node").collect())

        query = (
            warehouse.spark.readStream.format("delta")
            .load(warehouse.path(table))
            .writeStream.foreachBatch(note)
            .option("checkpointLocation", str(tmp_path / "progress"))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()

    follow()
    compaction.compact(warehouse, [table])
    appended(warehouse, table, seed=2, files=1)
    follow()

    assert seen == Counter([*range(1000, 1300), *range(2000, 2030)])


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something done once files are merged, before that is committed."""
    merge = compaction._merged

    def put(act: Callable[[], None]) -> None:
        def merged_then_acted(*args: Any) -> Any:
            monkeypatch.undo()
            instead = merge(*args)
            act()
            return instead

        monkeypatch.setattr(compaction, "_merged", merged_then_acted)

    return put


def test_rows_that_are_deleted_meanwhile_do_not_come_back(
    copied: Callable[..., Warehouse],
    meanwhile: Callable[[Callable[[], None]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    warehouse, table = copied(phash_index.TABLE), phash_index.TABLE
    meanwhile(lambda: warehouse.delete(table, "node IN (1001, 1299)"))
    left = set(range(1000, 1300)) - {1001, 1299}

    assert compaction.compact(warehouse, [table]) == []
    assert "was changed meanwhile" in caplog.text
    assert {row.node for row in warehouse.read(table).collect()} == left
    assert warehouse.file_count(table) == FILES

    (of,) = compaction.compact(warehouse, [table])
    assert (of.merged, of.into, of.rows) == (FILES, 1, len(left))
    assert sorted(row.node for row in warehouse.read(table).collect()) == sorted(left)


def test_what_is_appended_meanwhile_stays(
    copied: Callable[..., Warehouse], meanwhile: Callable[[Callable[[], None]], None]
) -> None:
    warehouse, table = copied(phash_index.TABLE), phash_index.TABLE
    meanwhile(lambda: appended(warehouse, table, seed=2, files=1))

    (of,) = compaction.compact(warehouse, [table])

    assert (of.merged, of.into, warehouse.file_count(table)) == (FILES, 1, 2)
    nodes = [row.node for row in warehouse.read(table).collect()]
    assert sorted(nodes) == [*range(1000, 1300), *range(2000, 2030)]


def test_a_file_of_which_rows_are_hidden_is_left_alone(copied: Callable[..., Warehouse]) -> None:
    warehouse, table = copied(phash_index.TABLE), phash_index.TABLE
    warehouse.set_properties(table, {"delta.enableDeletionVectors": "true"})
    warehouse.spark.sql(f"DELETE FROM delta.`{warehouse.path(table)}` WHERE node = 1001")

    (of,) = compaction.compact(warehouse, [table])

    assert (of.files, of.merged, warehouse.file_count(table)) == (FILES - 1, FILES - 1, 2)
    # Without it Delta reads no table whose rows it hides.
    with setting(warehouse.spark, "spark.databricks.delta.stats.skipping", "true"):
        nodes = [row.node for row in warehouse.read(table).collect()]
    assert sorted(nodes) == [1000, *range(1002, 1300)]


def test_a_file_that_holds_other_rows_than_the_log_says_stops_it(
    copied: Callable[..., Warehouse],
) -> None:
    warehouse, table = copied(phash_index.TABLE), phash_index.TABLE
    file = files_of(warehouse, table)[0]
    shutil.copy(file, file.with_name("false.parquet"))
    warehouse.append_files(
        table, {"false.parquet": ROWS + 1}, {"batch": "b"}, by=("x", 0), ranges={}
    )
    version, rows = warehouse.version(table), all_rows(warehouse, table)

    with pytest.raises(SluiceError, match=r"got 330 rows .* hold 331; nothing was changed"):
        compaction.compact(warehouse, [table])
    assert (warehouse.version(table), all_rows(warehouse, table)) == (version, rows)


def test_few_files_are_left_and_a_table_that_is_not_there_too(
    copied: Callable[..., Warehouse], monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = copied(phash_index.TABLE)
    monkeypatch.setattr(size_tiers, "FAN", FILES + 1)
    monkeypatch.setattr(Warehouse, "rewriting", None)  # nothing is asked of the log's files

    assert compaction.compact(warehouse, [phash_index.TABLE, minhash_index.TABLE]) == []


def test_it_waits_for_a_takedown(copied: Callable[..., Warehouse]) -> None:
    warehouse = copied(phash_index.TABLE)
    with alone(warehouse.root, TAKEDOWN), pytest.raises(CheckpointBusy):
        compaction.compact(warehouse, [phash_index.TABLE])


def test_later_verdicts_are_the_same(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Dedup(kinds=("exact_media", "exact_text", "phash", "minhash"))
    items = of_all_kinds(3)
    history = DedupWarehouse(spark, tmp_path / "history", settings)
    for start in (0, 12):
        history.arrive(*items[start : start + 12])
    monkeypatch.setattr(size_tiers, "FAN", 2)  # as if there were more batches
    verdicts = []
    for name in ("as it is", "compacted"):
        shutil.copytree(tmp_path / "history", tmp_path / name)
        tables = DedupWarehouse(spark, tmp_path / name, settings)
        tables._batches = history._batches
        if name == "compacted":
            done = {of.table for of in compaction.compact(tables.warehouse)}
            assert done == {*SHAPES} - {clip_runs.TABLE}
        tables.arrive(*items[24:])
        rows = tables.warehouse.read("silver.duplicates").drop("decided_at")
        verdicts.append(Counter(map(repr, rows.collect())))

    assert verdicts[0] == verdicts[1]
    assert any("is_duplicate=True" in row and "revision=1" in row for row in verdicts[0])


def test_files_that_nobody_reads_any_more_go_after_a_week(
    copied: Callable[..., Warehouse], monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, table = copied(phash_index.TABLE), phash_index.TABLE
    folder = Path(warehouse.path(table))
    killed, new = folder / "killed.parquet", folder / "new.parquet"
    for file in (killed, new):
        shutil.copy(files_of(warehouse, table)[0], file)
    month_ago = time.time() - 30 * 24 * 3600
    for file in folder.glob("*.parquet"):
        if file != new:
            os.utime(file, (month_ago, month_ago))
    compaction.compact(warehouse, [table])

    # Old as they are, readers may have begun a moment ago.
    assert not killed.exists()
    assert new.exists()
    assert len(list(folder.glob("*.parquet"))) == FILES + 2
    rows = all_rows(warehouse, table)

    eight_days = time.time() + 8 * 24 * 3600
    monkeypatch.setattr(tables_module.time, "time", lambda: eight_days)
    warehouse.vacuum(table, kept_s=compaction._KEPT_S)
    assert [*folder.glob("*.parquet")] == files_of(warehouse, table)
    assert all_rows(warehouse, table) == rows


def test_the_command_says_what_it_would_do_and_what_it_did(
    copied: Callable[..., Warehouse],
) -> None:
    warehouse = copied(phash_index.TABLE)
    group = typer.Typer()

    def opened(*_: object, **__: object) -> Warehouse:
        return warehouse

    duplicates_cli.add_to(group, lambda function: function, lambda *_: None, opened, opened)

    def said(*words: str) -> str:
        answered = CliRunner().invoke(group, ["compact", *words], catch_exceptions=False)
        return " ".join(answered.output.split())

    version = warehouse.version(phash_index.TABLE)
    assert "silver.phash_index: 10 of 10 files would become 1, 300 rows" in said("--dry-run")
    assert json.loads(said("--dry-run", "--json"))["bytes_after"] is None
    assert warehouse.version(phash_index.TABLE) == version
    done = json.loads(said("--json"))
    assert (done["merged"], done["into"]) == (10, 1)
    assert 0 < done["bytes_after"] < done["bytes_before"]
    assert said() == "no table has enough small files to merge"
