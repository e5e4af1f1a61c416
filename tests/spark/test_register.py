"""Tables are known by name in a session, those of one warehouse at a time."""

from pathlib import Path

from pyspark.sql import SparkSession

from jobs.runtime.tables import Warehouse
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
