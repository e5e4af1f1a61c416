"""Decide: `silver.pairs` -> `ops.decisions`, by a recipe over the signals, without any network.

The checkpoint is the recipe version's own, so a new version sees every pair. Samples whose verdict
on duplicates has changed since are decided again; what comes out otherwise is appended, and
supersedes the decision of before.
"""

from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import decontaminate
from jobs import recipe as recipes
from jobs.recipe import Recipe
from jobs.runtime.errors import SluiceError
from jobs.runtime.held import held
from jobs.runtime.models import Scoring
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import Warehouse, belonging, counted, newest, within
from schemas import (
    decisions,
    duplicate_kinds,
    duplicates,
    image_signals,
    pairs,
    text_signals,
)

NAME: Final = "curate"

_PAIR: Final = (
    "sample_id",
    "ingest_ordinal",
    "media_sha256",
    "text_sha256",
    "clip_score",
    "image_signal_set",
    "text_signal_set",
)
# What recipes may ask for, and what the rest is made from.
_TEXT: Final = (*recipes.OF_TEXTS, recipes.LANGUAGE)
_IMAGE: Final = ("phash", *(f for f in image_signals.SIGNALS.names if f in recipes.NUMBERS))


def candidates(
    paired: DataFrame, images: DataFrame, texts: DataFrame, verdicts: DataFrame
) -> DataFrame:
    """Everything a recipe may ask about a sample, one row each.

    Args:
        paired: rows of `silver.pairs`.
        images: rows of `silver.image_signals`, other signal sets included.
        texts: rows of `silver.text_signals`, likewise.
        verdicts: rows of `silver.duplicates` that hold.
    """
    image = images.select("media_sha256", F.col("signal_set").alias("image_signal_set"), *_IMAGE)
    text = texts.select("text_sha256", F.col("signal_set").alias("text_signal_set"), *_TEXT)
    by_kind = verdicts.groupBy("sample_id").agg(
        *(
            F.any_value(
                F.when(
                    F.col("kind") == kind,
                    F.struct("is_duplicate", "representative_id", "similarity"),
                ),
                True,
            ).alias(f"duplicate_{kind}")
            for kind in duplicate_kinds.SAMPLE_KINDS
        )
    )
    return (
        paired.select(*_PAIR)
        .join(image, ["media_sha256", "image_signal_set"], "left")
        .join(text, ["text_sha256", "text_signal_set"], "left")
        .join(by_kind, "sample_id", "left")
        .withColumns(
            {
                "shorter_side_px": F.least("width_px", "height_px"),
                "aspect_ratio": F.greatest("width_px", "height_px")
                / F.least("width_px", "height_px"),
            }
        )
    )


def all_candidates(
    warehouse: Warehouse, scoring: Scoring, registry: str | None = None
) -> DataFrame:
    """The candidates of every pair of a scoring's signal sets.

    Args:
        warehouse: has the tables.
        scoring: whose pairs.
        registry: digest of the benchmarks by which `contaminated` counts; null: it is null.
    """
    found = candidates(
        warehouse.read(pairs.TABLE).where(F.col("signal_set") == scoring.signal_set),
        warehouse.read(image_signals.TABLE),
        warehouse.read(text_signals.TABLE),
        warehouse.current(duplicates.TABLE),
    )
    hits = None if registry is None else decontaminate.counting(warehouse, scoring, registry)
    return decontaminate.with_contaminated(found, hits)


def transform(judged: DataFrame, recipe: Recipe) -> DataFrame:
    """A decision for each candidate, with every reason against it."""
    return judged.withColumn("reasons", recipes.reasons(recipe)).select(
        F.lit(recipe.name).alias("recipe"),
        F.lit(recipe.version).alias("recipe_version"),
        "sample_id",
        "ingest_ordinal",
        (F.size("reasons") == 0).alias("is_kept"),
        F.get("reasons", F.lit(0))["reason"].alias("first_reason"),
        "reasons",
    )


def stage(recipe: Recipe, scoring: Scoring) -> Stage:
    """The stage for one recipe version over the pairs of one scoring."""

    def process(batch: Batch) -> Outcome:
        paired = held(batch.frame)
        _decide(batch, recipe, scoring, paired.frame)
        return Outcome(rows_in=paired.rows, **_standing(batch, recipe, paired.frame))

    return Stage(
        name=NAME,
        checkpoint=f"{recipe.name}-{recipe.version}-{scoring.signal_set}",
        source=pairs.TABLE,
        columns=_PAIR,
        where=F.col("signal_set") == scoring.signal_set,
        process=process,
        outputs=(decisions.TABLE,),
    )


def revisions(recipe: Recipe, scoring: Scoring) -> Stage:
    """The stage that decides again where a verdict on duplicates has changed since."""

    def process(batch: Batch) -> Outcome:
        revised = batch.frame.distinct().localCheckpoint()
        decided = held(_decided(batch, recipe, revised))
        pair = _here(batch.warehouse.read(pairs.TABLE), revised)
        pair = pair.where(F.col("signal_set") == scoring.signal_set)
        pair = pair.join(decided.frame, "sample_id", "left_semi").localCheckpoint()
        _decide(batch, recipe, scoring, pair)
        return Outcome(rows_in=decided.rows, **_standing(batch, recipe, revised))

    return Stage(
        name=NAME,
        checkpoint=f"{recipe.name}-{recipe.version}-{scoring.signal_set}-revisions",
        source=duplicates.TABLE,
        columns=("sample_id", "ingest_ordinal"),
        where=F.col(duplicates.REVISION) > 0,
        process=process,
        outputs=(decisions.TABLE,),
    )


def _decide(batch: Batch, recipe: Recipe, scoring: Scoring, paired: DataFrame) -> None:
    read = batch.warehouse.read
    found = candidates(
        paired,
        belonging(read(image_signals.TABLE), paired, "media_sha256"),
        belonging(read(text_signals.TABLE), paired, "text_sha256"),
        newest(_here(read(duplicates.TABLE), paired), duplicates.TABLE),
    )
    if recipes.asks_for_benchmarks(recipe):
        hits = None
        if recipe.registry is not None:
            hits = decontaminate.counting(batch.warehouse, scoring, recipe.registry)
            hits = belonging(hits, paired, "sample_id")
        found = decontaminate.with_contaminated(found, hits)
    # A recipe that asks for no kind waits for none.
    lacks_verdict = " OR ".join(
        ["FALSE", *(f"duplicate_{kind} IS NULL" for kind in recipes.duplicate_kinds(recipe))]
    )
    judged = held(found, waiting=F.count_if(F.expr(lacks_verdict)))
    if judged.said["waiting"]:
        raise SluiceError(
            f"{judged.said['waiting']} of {judged.rows} samples have no verdict on duplicates yet,"
            " all need one before a recipe can decide; run the stage dedup first"
        )
    if not judged.rows:
        return
    former = _decided(batch, recipe, paired).select(
        "sample_id",
        (F.col(decisions.REVISION) + 1).alias(decisions.REVISION),
        F.col("reasons").alias("held_reasons"),
    )
    decided = held(
        transform(judged.frame, recipe)
        .join(former, "sample_id", "left")
        .where(~F.col("reasons").eqNullSafe(F.col("held_reasons")))
        .withColumn(decisions.REVISION, F.coalesce(decisions.REVISION, F.lit(0)))
    )
    if decided.rows:
        batch.append(batch.stamped(decided.frame, at="decided_at"), decisions.TABLE)


def _standing(batch: Batch, recipe: Recipe, keys: DataFrame) -> dict[str, int]:
    """Outcomes by what stands after the batch: what came out as before is not written again."""
    stands = newest(_decisions(batch, recipe, keys), decisions.TABLE)
    is_kept, is_new = F.col("is_kept"), F.col("batch") == batch.name
    return counted(stands, rows_kept=is_kept, rows_rejected=~is_kept, rows_reused=is_kept & ~is_new)


def _decided(batch: Batch, recipe: Recipe, keys: DataFrame) -> DataFrame:
    """Decisions of earlier batches that hold on the samples."""
    earlier = _decisions(batch, recipe, keys).where(F.col("batch") != batch.name)
    return newest(earlier, decisions.TABLE)


def _decisions(batch: Batch, recipe: Recipe, keys: DataFrame) -> DataFrame:
    is_of_version = (F.col("recipe") == recipe.name) & (F.col("recipe_version") == recipe.version)
    return _here(batch.warehouse.read(decisions.TABLE).where(is_of_version), keys)


def _here(rows: DataFrame, keys: DataFrame) -> DataFrame:
    """The rows of the samples; files of none between the first and the last are passed over."""
    return belonging(rows.where(within(keys, "ingest_ordinal")), keys, "sample_id")
