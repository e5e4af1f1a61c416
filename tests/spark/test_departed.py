"""What remains of duplicates once samples are gone is what there is where they never came."""

from pathlib import Path

from pyspark.sql import SparkSession

from jobs.runtime.config import BoilerplateSearch, Config, Dedup, Dump, Signals
from jobs.runtime.tables import create_all
from jobs.takedown import stage as takedown
from jobs.takedown.keys import Key
from schemas import tombstones
from schemas.duplicate_kinds import SAMPLE_KINDS
from tests.dedup_warehouse import DedupWarehouse, held, of_all_kinds

SETTINGS = Dedup(kinds=SAMPLE_KINDS, boilerplate=BoilerplateSearch(max_pages=1))


def test_clusters_without_their_members_are_those_of_a_warehouse_that_never_saw_them(
    spark: SparkSession, tmp_path: Path
) -> None:
    made = of_all_kinds(seed=0)
    gone = {item.ordinal for item in made[::5]} | {1, 2}
    tables = DedupWarehouse(spark, tmp_path / "w", SETTINGS)
    create_all(tables.warehouse, "default")
    tables.arrive(*made)
    never = DedupWarehouse(spark, tmp_path / "never", SETTINGS)
    never.arrive(*(item for item in made if item.ordinal not in gone))
    keys = [Key(tombstones.SAMPLE, item.sample_id) for item in made if item.ordinal in gone]

    config = Config(
        warehouse=tables.warehouse.root,
        dumps=(Dump(name="none", path=str(tmp_path)),),
        signals=Signals(image=("crop_hash",)),
        dedup=SETTINGS,
    )
    found = takedown.run(tables.warehouse, config, keys, run_id="r")

    assert {one.kind for one in found.departed if one.samples} == set(SAMPLE_KINDS)
    after, expected = held(tables), held(never)
    for table, rows in expected.items():
        assert after[table] == rows, table
    again = {table: tables.warehouse.version(table) for table in tables.warehouse.tables()}
    takedown.run(tables.warehouse, config, keys, run_id="r2")
    assert again == {t: tables.warehouse.version(t) for t in tables.warehouse.tables()}
