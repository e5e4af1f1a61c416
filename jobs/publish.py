"""Publish: what a recipe keeps, through the gate, into `gold.<recipe>` in one commit."""

import logging
from pathlib import Path
from typing import Any, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.judged import Judged
from jobs.recipe import Recipe
from jobs.runtime import quality, streams
from jobs.runtime.config import Config
from jobs.runtime.errors import GateFailed
from jobs.runtime.held import held
from jobs.runtime.quality import Verdict
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import Warehouse
from schemas import batches, decisions, gold, samples
from udfs.identity import digest

NAME: Final = "publish"
log: Final = logging.getLogger("sluice")


def run(
    warehouse: Warehouse,
    config: Config,
    recipe: Recipe,
    judged: Judged,
    *,
    run_id: str,
    docs: Path,
) -> bool:
    """Bring gold to what the recipe version keeps; return whether anything was published.

    Raises:
        GateFailed: a critical expectation is not met; gold stays as it was.
    """
    name, table = NAME + judged.suffix, gold.table(recipe.name)
    label = f"{recipe.name}-{recipe.version}-{judged.signal_set}"
    with streams.exclusive(f"{warehouse.root}/_checkpoints/{name}/{recipe.name}"):
        warehouse.create(table)
        warehouse.widen(table)
        published = _published(warehouse, name, recipe.name)
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
            stage=name,
            checkpoint=label,
            generation=digest(recipe.name),
            batch_id=len(published),
            run_id=run_id,
            frame=_kept(warehouse, recipe),
        )
        streams.process(
            batch,
            lambda batch: _publish(batch, config, recipe, judged, docs),
            inputs=(decisions.TABLE,),
            outputs=(table,),
        )
    return True


def _published(warehouse: Warehouse, stage: str, recipe: str) -> list[dict[str, Any]]:
    rows = (
        warehouse.read(batches.TABLE)
        .where((F.col("stage") == stage) & F.contains("batch", F.lit(f".{digest(recipe)[:8]}.")))
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


def _publish(batch: Batch, config: Config, recipe: Recipe, judged: Judged, docs: Path) -> Outcome:
    table = gold.table(recipe.name)
    read = batch.warehouse.read
    current = read(table)
    kept = held(batch.frame)
    staying = current.where(
        (F.col("recipe_version") == recipe.version) & (F.col("signal_set") == judged.signal_set)
    ).join(kept.frame.select("sample_id"), "sample_id", "left_semi")
    joining = held(
        judged.published(
            batch.warehouse,
            kept.frame.join(staying.select("sample_id"), "sample_id", "left_anti"),
            recipe.levels,
        )
    )
    left = current.count() - staying.count()
    if judged.may_be_empty and not (joining.rows or left):
        log.info("%s: %s keeps nothing new", batch.stage, recipe.name)
        return Outcome(rows_in=kept.rows, rows_kept=current.count())
    verdict = judged.validate(
        staying.select(*joining.frame.columns).unionByName(joining.frame),
        table,
        share_quarantined=quality.quarantined_share(
            read(samples.TABLE), batch.warehouse.standing()
        ),
        quality=config.quality,
        docs=docs,
    )
    require(verdict)
    stamped = batch.stamped(joining.frame, at="published_at")
    if left:
        whole = staying.unionByName(stamped.select(*staying.columns))
        batch.replace(whole, table, key="sample_id", changed=("recipe_version", "signal_set"))
    elif joining.rows:
        batch.append(stamped, table)
    log.info("%s: %s, %d rows written, %d left or replaced", batch.stage, table, joining.rows, left)
    return Outcome(rows_in=kept.rows, rows_kept=read(table).count())


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
