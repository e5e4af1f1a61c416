"""Decide: `silver.pairs` -> `ops.decisions`, by a recipe over the signals, without any network.

The checkpoint is the recipe version's own, so a new version sees every pair.
"""

from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import recipe as recipes
from jobs.recipe import Recipe
from jobs.runtime.errors import SluiceError
from jobs.runtime.models import Scoring
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import Warehouse, belonging, counted
from schemas import decisions, duplicates, image_signals, pairs, text_signals

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
        verdicts: rows of `silver.duplicates`.
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
            for kind in duplicates.KINDS
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


def all_candidates(warehouse: Warehouse, scoring: Scoring) -> DataFrame:
    """The candidates of every pair of a scoring's signal sets."""
    return candidates(
        warehouse.read(pairs.TABLE).where(F.col("signal_set") == scoring.signal_set),
        warehouse.read(image_signals.TABLE),
        warehouse.read(text_signals.TABLE),
        warehouse.read(duplicates.TABLE),
    )


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
        return _process(batch, recipe)

    return Stage(
        name=NAME,
        checkpoint=f"{recipe.name}-{recipe.version}-{scoring.signal_set}",
        source=pairs.TABLE,
        columns=_PAIR,
        where=F.col("signal_set") == scoring.signal_set,
        process=process,
        outputs=(decisions.TABLE,),
    )


def _process(batch: Batch, recipe: Recipe) -> Outcome:
    read = batch.warehouse.read
    paired = batch.frame.localCheckpoint()
    judged = candidates(
        paired,
        belonging(read(image_signals.TABLE), paired, "media_sha256"),
        belonging(read(text_signals.TABLE), paired, "text_sha256"),
        belonging(read(duplicates.TABLE), paired, "sample_id"),
    ).localCheckpoint()
    lacks_verdict = " OR ".join(f"duplicate_{kind} IS NULL" for kind in duplicates.KINDS)
    met = counted(judged, samples=F.lit(True), waiting=F.expr(lacks_verdict))
    if met["waiting"]:
        raise SluiceError(
            f"{met['waiting']} of {met['samples']} samples have no verdict on duplicates yet, all "
            "need one before a recipe can decide; run the stage dedup first"
        )
    if met["samples"]:
        batch.append(batch.stamped(transform(judged, recipe), at="decided_at"), decisions.TABLE)
    is_kept = F.col("is_kept")
    outcomes = counted(batch.written(decisions.TABLE), rows_kept=is_kept, rows_rejected=~is_kept)
    return Outcome(rows_in=paired.count(), **outcomes)
