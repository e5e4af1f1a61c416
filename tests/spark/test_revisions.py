from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pyspark.sql import SparkSession

from jobs import curate, publish
from jobs.judged_pairs import Pairs
from jobs.levels import Levels
from jobs.recipe import Recipe, Rule
from jobs.runtime import streams
from jobs.runtime.config import Dedup
from jobs.runtime.models import Scoring
from jobs.runtime.streams import Batch, Stage
from schemas import decisions, duplicates, gold, text_signals
from tests.dedup_warehouse import SIGNAL_SET, DedupWarehouse, Item, sha256
from tests.told_rows import append
from udfs.identity import digest

NEAR = 0x0F0F_3355_1234_5678
RECIPE = Recipe(
    name="test",
    version="v",
    rules=(Rule(name="near", reason="near", signal="duplicate_phash", source="-"),),
)


def decide(tables: DedupWarehouse, stage: Stage, batch_id: int, *names: str) -> Any:
    frame = tables.warehouse.read(stage.source)
    if stage.where is not None:
        frame = frame.where(stage.where)
    frame = frame.select(*stage.columns)
    if names:
        frame = frame.where(frame.sample_id.isin(*names))
    batch = Batch(
        warehouse=tables.warehouse,
        stage=stage.name,
        checkpoint=stage.checkpoint,
        generation=digest(stage.checkpoint),
        batch_id=batch_id,
        run_id="run",
        frame=frame,
    )
    streams.process(batch, stage.process, inputs=(stage.source,), outputs=stage.outputs)
    (row,) = tables.warehouse.read("ops.batches").where(f"batch = '{batch.name}'").collect()
    return row


def kept(tables: DedupWarehouse) -> set[str]:
    return {row.sample_id for row in publish._kept(tables.warehouse, RECIPE).collect()}


def published(tables: DedupWarehouse, judged: Pairs, levels: Levels | None) -> dict[str, Any]:
    """Level by sample, as gold would have it."""
    rows = judged.published(tables.warehouse, publish._kept(tables.warehouse, RECIPE), levels)
    assert rows.columns == [name for name in gold.SCHEMA.names if name not in gold.VOLATILE]
    return {row.sample_id: row.align_level for row in rows.collect()}


def test_a_bridge_changes_decisions_and_what_is_to_be_published(
    spark: SparkSession, tmp_path: Path
) -> None:
    tables = DedupWarehouse(spark, tmp_path / "w", Dedup(kinds=("exact_media", "phash")))
    tables.warehouse.create(decisions.TABLE)
    judged = Pairs(cast("Scoring", SimpleNamespace(signal_set=SIGNAL_SET)))
    first, again = curate.stage(RECIPE, judged), curate.revisions(RECIPE, judged)
    tables.arrive(
        Item(ordinal=0, media="a", phash=NEAR, clip_score=0.3),
        Item(ordinal=1, media="b", phash=NEAR ^ 0b111111),
        Item(ordinal=2, media="far", phash=~NEAR),
    )
    decide(tables, first, 0, "s00000", "s00001", "s00002")
    assert kept(tables) == {"s00000", "s00001", "s00002"}
    # As by other signal sets of which this recipe asks nothing new.
    entered = decide(tables, first, 1, "s00000", "s00001", "s00002")
    assert (entered.rows_in, entered.rows_kept, entered.rows_reused) == (3, 3, 3)

    tables.arrive(Item(ordinal=3, media="bridge", phash=NEAR ^ 0b111))
    decide(tables, first, 2, "s00003")
    assert kept(tables) == {"s00000", "s00001", "s00002"}
    entered = decide(tables, again, 0)

    assert kept(tables) == {"s00000", "s00002"}
    caption = {"text_sha256": sha256(""), "signal_set": SIGNAL_SET}
    append(tables.warehouse, text_signals.TABLE, caption)
    levels = Levels(signal="clip_score", edges=(0.1, 0.2, 0.4))
    assert published(tables, judged, levels) == {"s00000": 2, "s00002": None}
    assert published(tables, judged, None) == {"s00000": None, "s00002": None}
    assert (entered.rows_in, entered.rows_kept, entered.rows_rejected) == (1, 0, 1)
    newest = tables.warehouse.current(decisions.TABLE).where("sample_id = 's00001'").collect()
    assert [(row.revision, row.first_reason) for row in newest] == [(1, "near")]
    assert newest[0].reasons[0].value == "s00000"
    version = tables.warehouse.version(decisions.TABLE)

    # Nothing is written where what comes out is what stands.
    entered = decide(tables, again, 1)
    assert (entered.rows_in, entered.rows_rejected) == (1, 1)
    assert tables.warehouse.version(decisions.TABLE) == version


def test_the_views_show_what_holds(spark: SparkSession, tmp_path: Path) -> None:
    tables = DedupWarehouse(spark, tmp_path / "w", Dedup(kinds=("exact_media", "phash")))
    tables.arrive(
        Item(ordinal=0, media="a", phash=NEAR), Item(ordinal=1, media="b", phash=NEAR ^ 0b111111)
    )
    tables.arrive(Item(ordinal=3, media="bridge", phash=NEAR ^ 0b111))
    tables.warehouse.register()
    tables.warehouse.register()

    held = spark.sql("SELECT * FROM silver.current_duplicates WHERE kind = 'phash'")
    assert held.count() == 3
    assert held.where("is_duplicate").count() == 2
    assert held.columns == duplicates.SCHEMA.names
    assert spark.sql("SELECT * FROM silver.duplicates WHERE kind = 'phash'").count() == 4
