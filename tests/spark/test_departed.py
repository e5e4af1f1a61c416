"""What remains of duplicates once samples are gone is what there is where they never came."""

import json
from collections import Counter
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.runtime.config import Config, Dedup, Dump
from jobs.runtime.tables import contract, create_all
from jobs.takedown import stage as takedown
from jobs.takedown.keys import Key
from schemas import (
    duplicate_edges,
    duplicates,
    exact_index,
    minhash_index,
    phash_index,
    semantic_vectors,
    shingles,
    tombstones,
)
from schemas.duplicate_kinds import SAMPLE_KINDS
from tests.dedup_warehouse import DedupWarehouse, of_all_kinds

SETTINGS = Dedup(kinds=SAMPLE_KINDS)


def held(tables: DedupWarehouse) -> dict[str, Counter[str]]:
    """What holds: newest rows, whatever their number; links of the forest; the indexes."""
    warehouse, found = tables.warehouse, {}
    for table in (
        duplicates.TABLE,
        duplicate_edges.TABLE,
        exact_index.TABLE,
        phash_index.TABLE,
        minhash_index.TABLE,
        shingles.TABLE,
        semantic_vectors.TABLE,
    ):
        revised = hasattr(contract(table), "REVISION")
        rows = warehouse.current(table).drop("revision") if revised else warehouse.read(table)
        if table == duplicate_edges.TABLE:
            rows = rows.where("is_forest")
        rows = rows.drop(*contract(table).VOLATILE)
        found[table] = Counter(
            json.dumps(row.asDict(), sort_keys=True, default=repr) for row in rows.collect()
        )
    return found


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
