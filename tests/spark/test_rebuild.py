"""A search that is begun anew finds what it finds in a warehouse that never had another."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.dedup import rebuild, stage
from jobs.runtime import streams
from jobs.runtime.config import Dedup, PHashSearch
from jobs.runtime.errors import CheckpointBusy, ConfigError
from jobs.runtime.tables import Warehouse
from schemas import batches, centroids, duplicates
from schemas.duplicate_kinds import KINDS
from tests.dedup_warehouse import DedupWarehouse, Item, held, of_all_kinds

SEARCHED = ("exact_media", "phash")
BEFORE = Dedup(kinds=SEARCHED)
AFTER = Dedup(
    kinds=SEARCHED,
    keep="clip_score",
    phash=PHashSearch(radius=6),
)
ITEMS = [replace(item, clip_score=(item.ordinal * 7 % 11) / 11) for item in of_all_kinds(seed=3)]
# What comes last stands for all three, so that verdicts on the first two change once more: on one
# that the index has by then, and on one that is judged again beside it.
LOW, LATE, BEST = (
    Item(ordinal=100 + n, media=media, phash=hash_, clip_score=score)
    for n, (media, hash_, score) in enumerate([("x", 5, 0.1), ("x", 5, 0.1), ("y", 4, 0.9)])
)
PARTS = [*ITEMS[:25], LOW], [*ITEMS[25:], LATE, BEST]


def test_other_rules_find_what_they_find_where_there_were_none_before(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = DedupWarehouse(spark, tmp_path / "w", BEFORE)
    never = DedupWarehouse(spark, tmp_path / "never", AFTER)
    tables.arrive(*PARTS[0], *PARTS[1])
    for part in PARTS:
        never.arrive(*part)
    warehouse, former = tables.warehouse, {kind: tables.verdicts(kind) for kind in SEARCHED}
    tables.settings = AFTER
    with pytest.raises(ConfigError, match="`sluice duplicates rebuild`"):
        tables.search(PARTS[0], label="other rules")
    of_phash = {one.table for one in rebuild.look(warehouse, rebuild.chosen(["phash"]))}
    assert of_phash == {"silver.duplicate_edges", "silver.phash_index"}

    _cut_short(warehouse, monkeypatch)
    with pytest.raises(CheckpointBusy, match="a rebuild that was cut short"):
        streams.run(warehouse, stage.stage(AFTER), run_id="r")
    # What was begun is finished, whatever is asked for now.
    emptied = {one.table: one.rows for one in rebuild.begin(warehouse, ("phash",), run_id="r")}
    assert {"silver.exact_index", "silver.phash_index"} <= set(emptied)
    assert tables.verdicts("phash") == former["phash"]
    for part in PARTS:
        tables.search(part, label="anew")

    after, expected = held(tables), held(never)
    for table, rows in expected.items():
        assert after[table] == rows, table
    ledger = warehouse.read(batches.TABLE).orderBy("batch_id").collect()
    assert [row.rows_in for row in ledger] == [43, 26, 17]
    assert all(row.rows_kept == row.rows_in for row in ledger)
    written = warehouse.read(duplicates.TABLE).select("kind", "sample_id").collect()
    times = Counter((row.kind, row.sample_id) for row in written)
    said = ("is_duplicate", "representative_id", "similarity", "cluster_id")
    for kind in SEARCHED:
        for name, row in tables.verdicts(kind).items():
            if all(row[what] == former[kind][name][what] for what in said):
                continue
            assert times[kind, name] > 1, (kind, name)
            times[kind, name] = 1
    # Of two batches a verdict may change and change back; most that stand were written once.
    assert sum(count > 1 for count in times.values()) < len(times) / 10


def _cut_short(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin anew, and be killed when two tables are empty."""
    emptied: list[str] = []
    delete = Warehouse.delete

    def killed(self: Warehouse, table: str, condition: str) -> None:
        if len(emptied) == 2:
            raise KeyboardInterrupt
        emptied.append(table)
        delete(self, table, condition)

    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            rebuild.begin(warehouse, KINDS, run_id="r")


def test_another_network_finds_its_own_centroids(spark: SparkSession, tmp_path: Path) -> None:
    tables = DedupWarehouse(spark, tmp_path / "w", Dedup(kinds=("exact_media", "semantic")))
    first, *others = (replace(item, ordinal=2 * item.ordinal) for item in ITEMS[:9])
    tables.arrive(first, *others)
    again = [replace(item, clip_model="other") for item in (first, *others)]
    late = replace(first, ordinal=1, media="late", clip_model="other")
    tables.put([*again, late])
    with pytest.raises(ConfigError, match=r"clip_model other; .* `sluice duplicates rebuild`"):
        tables.search([late], label="test")
    exact = tables.verdicts("exact_media")

    rebuild.begin(tables.warehouse, rebuild.chosen(["semantic"]), run_id="r")
    tables.search([late], label="anew")

    # By all that the network has scored, not only by the one that came.
    (found,) = tables.warehouse.read(centroids.TABLE).collect()
    assert (found.clip_model, found.mean_cosine < 0.9) == ("other", True)
    assert exact.items() <= tables.verdicts("exact_media").items()


@pytest.mark.parametrize("kind", ["exact_url", "phsh"])
def test_a_kind_that_cannot_be_begun_anew_alone_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"got kind {kind}; allowed phash, .*, or none"):
        rebuild.chosen(["phash", kind])
