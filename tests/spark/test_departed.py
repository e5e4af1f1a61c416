"""What remains of duplicates once samples are gone is what there is where they never came."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
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
from tests.dedup_warehouse import DedupWarehouse, Item
from udfs.embedding import pack, unit

WORDS = [f"word{number}" for number in range(400)]
SETTINGS = Dedup(kinds=SAMPLE_KINDS)
SIZE = 40


def items(seed: int) -> list[Item]:
    """Copies, and chains of near copies: hashes three bits apart, texts and embeddings alike."""
    rng = np.random.default_rng(seed)
    bases = [int(base) for base in rng.integers(-(2**62), 2**62, 6)]
    topics = unit(rng.standard_normal((6, 64)))
    made = []
    for ordinal in range(SIZE):
        if ordinal % 10 == 9:  # a copy of all that the sample has
            made.append(replace(made[ordinal - 9], ordinal=ordinal))
            continue
        media, text, url = (int(drawn) for drawn in rng.integers(0, (24, 18, 30)))
        family, step = media % 6, media // 6
        words = WORDS[40 * (text % 6) : 40 * (text % 6) + 40]
        words[(text // 6) * 3] = "other"
        noise = unit(np.random.default_rng(media).standard_normal((1, 64)))
        vector = unit(topics[[family]] + 0.1 * noise)
        made.append(
            Item(
                ordinal=ordinal,
                media=f"media {media}",
                caption=" ".join(words),
                url=f"https://example.org/{url}",
                phash=bases[family] ^ ((1 << 3 * step) - 1),
                embedding=pack(vector)[0],
            )
        )
    return made


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
    made = items(seed=0)
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
