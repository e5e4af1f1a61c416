"""Tables are known by name in a session, those of one warehouse at a time."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.runtime.errors import ConfigError
from jobs.runtime.tables import Warehouse, contract
from tests.told_rows import append


def test_only_what_a_statement_names_is_looked_at(spark: SparkSession, tmp_path: Path) -> None:
    for layer in ("bronze", "silver", "gold", "ops"):
        spark.sql(f"DROP DATABASE IF EXISTS {layer} CASCADE")
    first, second = (Warehouse(spark, str(tmp_path / name)) for name in ("first", "second"))
    append(first, "ops.retries", {"quarantine_id": "of the first"})
    append(first, "gold.default", {"sample_id": "a"})
    append(first, "bronze.urls", {"sample_id": "u"})
    append(second, "ops.retries", {"quarantine_id": "of the second"})

    def known(layer: str) -> set[str]:
        return {row.tableName for row in spark.sql(f"SHOW TABLES IN {layer}").collect()}

    first.register("SELECT * FROM Ops.Retries JOIN gold.default")
    assert (known("ops"), known("gold"), known("bronze")) == ({"retries"}, {"default"}, set())
    second.register("SELECT * FROM ops.retries")
    (row,) = spark.sql("SELECT quarantine_id FROM ops.retries").collect()
    assert row.quarantine_id == "of the second"
    # The first's gold was not named; asked for all, the second has none.
    assert known("gold") == {"default"}
    second.register()
    assert (known("ops"), known("gold"), known("bronze")) == ({"retries"}, set(), set())
    assert first.read("gold.default").count() == 1


def test_a_table_of_an_earlier_version_gets_what_may_be_null(
    spark: SparkSession, tmp_path: Path
) -> None:
    table = "gold.default"
    newer, older = (Warehouse(spark, str(tmp_path / name)) for name in ("newer", "older"))
    append(newer, table, {"sample_id": "a"})
    newer.read(table).drop("align_level").write.format("delta").save(older.path(table))
    with pytest.raises(ConfigError, match="its align_level differ"):
        append(older, table, {"sample_id": "b"})

    older.widen(table)
    append(older, table, {"sample_id": "b", "align_level": 2})
    version = older.version(table)
    older.widen(table)

    rows = {row.sample_id: row.align_level for row in older.read(table).collect()}
    assert rows == {"a": None, "b": 2}
    assert older.version(table) == version
    of_contract = contract(table).SCHEMA["align_level"].metadata
    assert older.read(table).schema["align_level"].metadata == of_contract
