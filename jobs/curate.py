"""Decide: `silver.pairs` -> `ops.decisions`, by a recipe over the signals, without any network.

Of clips likewise, from `silver.clip_pairs`: what is particular to them is `jobs/judged_clips.py`.
The checkpoint is the recipe version's own, so a new version sees every row. Samples whose verdict
on duplicates has changed since are decided again; what comes out otherwise is appended, and
supersedes the decision of before.
"""

from collections.abc import Callable
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import recipe as recipes
from jobs.judged import Judged
from jobs.recipe import Recipe
from jobs.runtime.errors import SluiceError
from jobs.runtime.held import held
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import Warehouse, belonging, counted, newest, within
from schemas import decisions, duplicates

NAME: Final = "curate"
REVISIONS: Final = "-revisions"  # how the checkpoint of a stage that decides again ends
Narrow = Callable[[DataFrame], DataFrame]  # rows of a table -> those of the batch's samples


def all_candidates(warehouse: Warehouse, judged: Judged, registry: str | None = None) -> DataFrame:
    """Everything that a recipe may ask of all rows that are judged, one row each.

    Args:
        warehouse: has the tables.
        judged: whose.
        registry: digest of the benchmarks by which `contaminated` counts; null: it is null.
    """
    rows = warehouse.read(judged.table).where(_is_judged(judged)).select(*judged.columns)
    found = judged.candidates(warehouse, rows, lambda others, _: others, registry)
    return judged.with_verdicts(found, warehouse.current(duplicates.TABLE))


def _is_judged(judged: Judged) -> Column:
    return F.col("signal_set") == judged.signal_set


def transform(candidates: DataFrame, recipe: Recipe) -> DataFrame:
    """A decision for each candidate, with every reason against it."""
    return candidates.withColumn("reasons", recipes.reasons(recipe)).select(
        F.lit(recipe.name).alias("recipe"),
        F.lit(recipe.version).alias("recipe_version"),
        "sample_id",
        "ingest_ordinal",
        (F.size("reasons") == 0).alias("is_kept"),
        F.get("reasons", F.lit(0))["reason"].alias("first_reason"),
        "reasons",
    )


def stage(recipe: Recipe, judged: Judged) -> Stage:
    """The stage for one recipe version over the rows of one signal set."""

    def process(batch: Batch) -> Outcome:
        rows = held(batch.frame)
        here = _among(rows.frame)
        _decide(batch, recipe, judged, rows.frame, here)
        return Outcome(rows_in=rows.rows, **_standing(batch, recipe, here))

    return Stage(
        name=NAME + judged.suffix,
        checkpoint=f"{recipe.name}-{recipe.version}-{judged.signal_set}",
        source=judged.table,
        columns=judged.columns,
        where=_is_judged(judged),
        process=process,
        outputs=(decisions.TABLE,),
    )


def revisions(recipe: Recipe, judged: Judged) -> Stage:
    """The stage that decides again where a verdict on duplicates has changed since."""

    def process(batch: Batch) -> Outcome:
        revised = batch.frame.distinct().localCheckpoint()
        here = _among(revised)
        decided = held(_decided(batch, recipe, here))
        rows = here(batch.warehouse.read(judged.table)).where(_is_judged(judged))
        rows = rows.join(decided.frame, "sample_id", "left_semi").select(*judged.columns)
        _decide(batch, recipe, judged, rows.localCheckpoint(), here)
        return Outcome(rows_in=decided.rows, **_standing(batch, recipe, here))

    return Stage(
        name=NAME + judged.suffix,
        checkpoint=f"{recipe.name}-{recipe.version}-{judged.signal_set}{REVISIONS}",
        source=duplicates.TABLE,
        columns=("sample_id", "ingest_ordinal"),
        where=is_revised(judged),
        process=process,
        outputs=(decisions.TABLE,),
    )


def is_revised(judged: Judged) -> Column:
    """A condition on rows of `silver.duplicates`: a verdict on these that has changed since."""
    kinds = judged.vocabulary.duplicates.values()
    return (F.col(duplicates.REVISION) > 0) & F.col("kind").isin(*kinds)


def _decide(batch: Batch, recipe: Recipe, judged: Judged, rows: DataFrame, here: Narrow) -> None:
    warehouse = batch.warehouse
    found = judged.with_verdicts(
        judged.candidates(
            warehouse, rows, lambda others, key: belonging(others, rows, key), recipe.registry
        ),
        newest(here(warehouse.read(duplicates.TABLE)), duplicates.TABLE),
    )
    # A recipe that asks for no kind waits for none.
    lacks_verdict = " OR ".join(
        ["FALSE", *(f"duplicate_{kind} IS NULL" for kind in recipes.duplicate_kinds(recipe))]
    )
    candidates = held(found, waiting=F.count_if(F.expr(lacks_verdict)))
    waiting = candidates.said["waiting"]
    if waiting:
        raise SluiceError(
            f"{waiting} of {candidates.rows} samples have no verdict on duplicates yet, all need"
            f" one before a recipe can decide; run the stage dedup{judged.suffix} first"
        )
    if not candidates.rows:
        return
    former = _decided(batch, recipe, here).select(
        "sample_id",
        (F.col(decisions.REVISION) + 1).alias(decisions.REVISION),
        F.col("reasons").alias("held_reasons"),
    )
    decided = held(
        transform(candidates.frame, recipe)
        .join(former, "sample_id", "left")
        .where(~F.col("reasons").eqNullSafe(F.col("held_reasons")))
        .withColumn(decisions.REVISION, F.coalesce(decisions.REVISION, F.lit(0)))
    )
    if decided.rows:
        batch.append(batch.stamped(decided.frame, at="decided_at"), decisions.TABLE)


def _standing(batch: Batch, recipe: Recipe, here: Narrow) -> dict[str, int]:
    """Outcomes by what stands after the batch: what came out as before is not written again."""
    stands = newest(_decisions(batch, recipe, here), decisions.TABLE)
    is_kept, is_new = F.col("is_kept"), F.col("batch") == batch.name
    return counted(stands, rows_kept=is_kept, rows_rejected=~is_kept, rows_reused=is_kept & ~is_new)


def _decided(batch: Batch, recipe: Recipe, here: Narrow) -> DataFrame:
    """Decisions of earlier batches that hold on the samples."""
    earlier = _decisions(batch, recipe, here).where(F.col("batch") != batch.name)
    return newest(earlier, decisions.TABLE)


def _decisions(batch: Batch, recipe: Recipe, here: Narrow) -> DataFrame:
    is_of_version = (F.col("recipe") == recipe.name) & (F.col("recipe_version") == recipe.version)
    return here(batch.warehouse.read(decisions.TABLE).where(is_of_version))


def _among(keys: DataFrame) -> Narrow:
    """What leaves the rows of these samples; files of none from first to last are passed over."""
    is_near = within(keys, "ingest_ordinal")
    return lambda rows: belonging(rows.where(is_near), keys, "sample_id")
