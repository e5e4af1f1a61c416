"""Publish: what a recipe keeps, through the gate, into `gold.<recipe>` in one commit."""

import logging
from pathlib import Path
from typing import Any, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.recipe import Recipe
from jobs.runtime import quality, streams
from jobs.runtime.config import Config
from jobs.runtime.errors import GateFailed
from jobs.runtime.models import Scoring
from jobs.runtime.quality import Verdict
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import Warehouse
from schemas import (
    batches,
    decisions,
    gold,
    image_signals,
    pairs,
    samples,
    text_signals,
)
from udfs.identity import digest

NAME: Final = "publish"
log: Final = logging.getLogger("sluice")


def transform(
    kept: DataFrame, paired: DataFrame, items: DataFrame, images: DataFrame, texts: DataFrame
) -> DataFrame:
    """Gold rows of kept samples, without the columns that say when and by which run.

    Args:
        kept: `sample_id`, `recipe_version`.
        paired: rows of `silver.pairs` of one signal set.
        items: rows of `bronze.samples`.
        images: rows of `silver.image_signals`.
        texts: rows of `silver.text_signals`.
    """
    image = images.select(
        "media_sha256",
        F.col("signal_set").alias("image_signal_set"),
        "width_px",
        "height_px",
        "phash",
        "sharpness",
        "nsfw_score",
    )
    text = texts.select("text_sha256", F.col("signal_set").alias("text_signal_set"), "language")
    pair = paired.select(
        "sample_id",
        "text_sha256",
        "clip_score",
        "signal_set",
        "image_signal_set",
        "text_signal_set",
    )
    item = items.select(
        "sample_id",
        "ingest_ordinal",
        "dump",
        "shard",
        "sample_key",
        "url",
        "caption",
        "media_sha256",
        "mime",
    )
    joined = (
        kept.join(pair, "sample_id")
        .join(item, "sample_id")
        .join(image, ["media_sha256", "image_signal_set"])
        .join(text, ["text_sha256", "text_signal_set"])
    )
    return joined.select(*(n for n in gold.SCHEMA.names if n not in gold.VOLATILE))


def run(
    warehouse: Warehouse,
    config: Config,
    recipe: Recipe,
    scoring: Scoring,
    *,
    run_id: str,
    docs: Path,
) -> bool:
    """Bring gold to what the recipe version keeps; return whether anything was published.

    Raises:
        GateFailed: a critical expectation is not met; gold stays as it was.
    """
    table = gold.table(recipe.name)
    label = f"{recipe.name}-{recipe.version}-{scoring.signal_set}"
    with streams.exclusive(f"{warehouse.root}/_checkpoints/{NAME}/{recipe.name}"):
        published = _published(warehouse, recipe.name)
        decided = warehouse.version(decisions.TABLE)
        last = published[-1] if published else None
        if (
            last
            and last["checkpoint"] == label
            and last["input_versions"][decisions.TABLE] == decided
        ):
            return False
        batch = Batch(
            warehouse=warehouse,
            stage=NAME,
            checkpoint=label,
            generation=digest(recipe.name),
            batch_id=len(published),
            run_id=run_id,
            frame=_kept(warehouse, recipe),
        )
        streams.process(
            batch,
            lambda batch: _publish(batch, config, recipe, scoring, docs),
            inputs=(decisions.TABLE,),
            outputs=(table,),
        )
    return True


def _published(warehouse: Warehouse, recipe: str) -> list[dict[str, Any]]:
    rows = (
        warehouse.read(batches.TABLE)
        .where((F.col("stage") == NAME) & F.contains("batch", F.lit(f".{digest(recipe)[:8]}.")))
        .orderBy("batch_id")
        .select("checkpoint", "input_versions")
        .collect()
    )
    return [row.asDict() for row in rows]


def _kept(warehouse: Warehouse, recipe: Recipe) -> DataFrame:
    return (
        warehouse.current(decisions.TABLE)
        .where((F.col("recipe") == recipe.name) & (F.col("recipe_version") == recipe.version))
        .where("is_kept")
        .select("sample_id", "recipe_version")
    )


def _publish(batch: Batch, config: Config, recipe: Recipe, scoring: Scoring, docs: Path) -> Outcome:
    table = gold.table(recipe.name)
    read = batch.warehouse.read
    current = read(table)
    staying = current.where(
        (F.col("recipe_version") == recipe.version) & (F.col("signal_set") == scoring.signal_set)
    ).join(batch.frame.select("sample_id"), "sample_id", "left_semi")
    joining = transform(
        batch.frame.join(staying.select("sample_id"), "sample_id", "left_anti"),
        read(pairs.TABLE).where(F.col("signal_set") == scoring.signal_set),
        read(samples.TABLE),
        read(image_signals.TABLE),
        read(text_signals.TABLE),
    ).localCheckpoint()
    after = staying.select(*joining.columns).unionByName(joining)
    verdict = quality.validate_gold(
        after,
        table,
        share_quarantined=quality.quarantined_share(
            read(samples.TABLE), batch.warehouse.standing()
        ),
        quality=config.quality,
        docs=docs,
    )
    require(verdict)
    stamped = batch.stamped(joining, at="published_at")
    joined, left = joining.count(), current.count() - staying.count()
    if left:
        kept = staying.unionByName(stamped.select(*staying.columns))
        batch.replace(kept, table, key="sample_id", changed=("recipe_version", "signal_set"))
    elif joined:
        batch.append(stamped, table)
    log.info("publish: %s, %d rows written, %d left or replaced", table, joined, left)
    return Outcome(rows_in=batch.frame.count(), rows_kept=read(table).count())


def require(verdict: Verdict) -> None:
    """Stop at a critical expectation that is not met.

    Raises:
        GateFailed: naming each, what was observed and what it must be.
    """
    if verdict.is_passed:
        return
    said = "; ".join(
        f"{failure.expectation}: observed {failure.observed}, must be {failure.bound}"
        for failure in verdict.failures
    )
    raise GateFailed(f"gate {verdict.suite}: {said}; nothing was published, gold is as it was")
