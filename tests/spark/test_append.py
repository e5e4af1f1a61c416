from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from delta.exceptions import ConcurrentTransactionException
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from jobs.runtime.errors import ConfigError
from jobs.runtime.session import setting
from jobs.runtime.tables import Warehouse, conform
from schemas import retries


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    made = Warehouse(spark, str(tmp_path))
    made.create(retries.TABLE)
    return made


def rows(warehouse: Warehouse, *names: str | None) -> DataFrame:
    said = [(name, datetime.now(UTC), "r") for name in names]
    return warehouse.spark.createDataFrame(
        said, "quarantine_id: string, retried_at: timestamp, run_id: string"
    ).coalesce(1)


def held(warehouse: Warehouse) -> list[str]:
    return sorted(row.quarantine_id for row in warehouse.read(retries.TABLE).collect())


def test_each_application_counts_its_own_appends(warehouse: Warehouse) -> None:
    for name, by in (
        ("a", ("x", 0)),
        ("b", ("y", 0)),
        ("c", ("x", 0)),
        ("d", ("x", 3)),
        ("e", ("x", 2)),
    ):
        warehouse.append(rows(warehouse, name), retries.TABLE, by=by)

    assert held(warehouse) == ["a", "b", "d"]
    assert warehouse.version(retries.TABLE) == 3
    assert [warehouse.last_append(retries.TABLE, who) for who in ("x", "y", "z")] == [3, 0, -1]


def test_it_says_how_many_rows_the_files_hold(warehouse: Warehouse) -> None:
    spread = rows(warehouse, *"abcde").repartition(3)
    assert warehouse.append(spread, retries.TABLE, by=("x", 0)) == 5
    assert warehouse.append(spread, retries.TABLE, by=("x", 0)) is None
    with setting(warehouse.spark, "spark.databricks.delta.stats.collect", "false"):
        assert warehouse.append(spread, retries.TABLE, by=("x", 1)) is None
    assert len(held(warehouse)) == 10


def test_what_the_driver_has_comes_as_it_is_and_the_table_refuses_what_lacks(
    warehouse: Warehouse,
) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    whole = {"quarantine_id": "é", "retried_at": at, "run_id": "r"}
    frame = warehouse.local([whole], retries.SCHEMA)
    assert frame.columns == retries.SCHEMA.names
    warehouse.append(conform(frame, retries.TABLE), retries.TABLE, by=("x", 0))
    (row,) = warehouse.read(retries.TABLE).collect()
    assert row.asDict() == whole | {"retried_at": at.replace(tzinfo=None)}

    lacking = warehouse.local([whole, {"retried_at": at, "run_id": "r"}], retries.SCHEMA)
    with pytest.raises(Py4JJavaError, match="NOT NULL constraint violated"):
        warehouse.append(conform(lacking, retries.TABLE), retries.TABLE, by=("x", 1))


def test_it_is_the_same_where_checksums_do_not_name_applications(warehouse: Warehouse) -> None:
    warehouse.append(rows(warehouse, "a"), retries.TABLE, by=("x", 7))
    for checksum in Path(warehouse.path(retries.TABLE), "_delta_log").glob("*.crc"):
        checksum.unlink()
    warehouse.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()

    assert warehouse.last_append(retries.TABLE, "x") == 7
    warehouse.append(rows(warehouse, "b"), retries.TABLE, by=("x", 7))
    assert held(warehouse) == ["a"]


def test_a_driver_that_appends_the_same_meanwhile_makes_ours_fail(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    require: Callable[..., None] = Warehouse._require_contract

    def overtaken(self: Warehouse, *args: Any) -> None:
        monkeypatch.undo()
        warehouse.append(rows(warehouse, "first"), retries.TABLE, by=("x", 0))
        require(self, *args)

    monkeypatch.setattr(Warehouse, "_require_contract", overtaken)
    with pytest.raises(ConcurrentTransactionException):
        warehouse.append(rows(warehouse, "second"), retries.TABLE, by=("x", 0))

    assert held(warehouse) == ["first"]


def test_what_the_contract_forbids_is_not_written(warehouse: Warehouse) -> None:
    with pytest.raises(Py4JJavaError, match="NOT NULL constraint violated"):
        warehouse.append(rows(warehouse, "a", None), retries.TABLE, by=("x", 0))

    assert held(warehouse) == []


def test_a_table_of_another_version_is_refused(warehouse: Warehouse) -> None:
    warehouse.spark.sql(
        f"ALTER TABLE delta.`{warehouse.path(retries.TABLE)}` ADD COLUMN why STRING"
    )

    with pytest.raises(
        ConfigError, match=r"ops\.retries .* made by another version, its why differ"
    ):
        warehouse.append(rows(warehouse, "a"), retries.TABLE, by=("x", 0))

    assert held(warehouse) == []


def test_files_hold_no_more_rows_than_asked(warehouse: Warehouse) -> None:
    warehouse.append(rows(warehouse, *"abcde"), retries.TABLE, by=("x", 0), max_rows_per_file=2)

    assert warehouse.file_count(retries.TABLE) == 3
