"""Find samples that share content with benchmarks: `silver.pairs` -> `silver.contamination`.

Hits are written, nothing is removed: a recipe decides by `contaminated`. The checkpoint is the
registry's own, so that a changed registry sees every pair; the pairs of before cost one reading
of their captions, hashes and embeddings, and no model runs.
"""

from functools import cache
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import benchmark_registry
from jobs.benchmark_registry import Version
from jobs.runtime import streams
from jobs.runtime.errors import SluiceError
from jobs.runtime.held import held
from jobs.runtime.models import CLIP, Scoring
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import Warehouse, belonging
from jobs.vocabulary import CONTAMINATED
from schemas import benchmark_items, contamination, image_signals, pairs, samples
from udfs.contamination import COLUMNS, EXAMINED, Registry, contamination_udf

NAME: Final = "decontaminate"

_PAIR: Final = ("sample_id", "ingest_ordinal", "media_sha256", "image_signal_set")
_HIT: Final = ("sample_id", "benchmark", "item_id", "method")


def told(
    arrived: DataFrame, captions: DataFrame, images: DataFrame, model: str | None
) -> DataFrame:
    """What each sample is compared by: `udfs.contamination.COLUMNS`.

    Args:
        arrived: columns of a pair, each sample once.
        captions: rows of `bronze.samples`; a sample that was taken down has none.
        images: rows of `silver.image_signals`, other signal sets included.
        model: sha256 of the network whose embeddings are compared; those of others are left out.
    """
    is_ours = F.col("clip_model") == F.lit(model)
    image = images.select(
        "media_sha256",
        F.col("signal_set").alias("image_signal_set"),
        "phash",
        F.when(is_ours, F.col("clip_embedding")).alias("embedding"),
    )
    return (
        arrived.join(captions.select("sample_id", "caption"), "sample_id", "left")
        .join(image, ["media_sha256", "image_signal_set"], "left")
        .select(*COLUMNS)
    )


def transform(compared: DataFrame, registry: Registry) -> DataFrame:
    """Each sample with the items that it met: rows of `udfs.contamination.EXAMINED`.

    Args:
        compared: `udfs.contamination.COLUMNS`.
        registry: what is met.
    """
    return compared.mapInArrow(contamination_udf(registry), EXAMINED)


def run(warehouse: Warehouse, scoring: Scoring, *, run_id: str) -> int:
    """Examine what was not yet, by the registry as it is now; return the number of batches."""
    examining = stage(warehouse, scoring)
    if examining is None:
        return 0
    warehouse.create(contamination.TABLE)
    return streams.run(warehouse, examining, run_id=run_id)


def stage(warehouse: Warehouse, scoring: Scoring) -> Stage | None:
    """The stage for the registry as it is now; null where nothing is registered."""
    version = benchmark_registry.version(warehouse)
    if version is None:
        return None
    model = scoring.images.models.get("clip_model")

    @cache
    def registry() -> Registry:
        return benchmark_registry.load(warehouse, version.table_version, model)

    def process(batch: Batch) -> Outcome:
        return _process(batch, version, registry(), model)

    return Stage(
        name=NAME,
        checkpoint=_checkpoint(version.digest, scoring),
        source=pairs.TABLE,
        columns=_PAIR,
        where=F.col("signal_set") == scoring.signal_set,
        process=process,
        outputs=(contamination.TABLE,),
    )


def _checkpoint(registry: str, scoring: Scoring) -> str:
    return f"{registry}-{scoring.signal_set}"


def _process(batch: Batch, version: Version, registry: Registry, model: str | None) -> Outcome:
    read = batch.warehouse.read
    samples_in = held(batch.frame.dropDuplicates(["sample_id"]))
    arrived = samples_in.frame
    compared = told(
        arrived,
        belonging(read(samples.TABLE), arrived, "sample_id"),
        belonging(read(image_signals.TABLE), arrived, "media_sha256"),
        model,
    )
    # An explicit number of partitions: adaptive execution would merge the few bytes of text
    # into one, and one core would do all the work.
    tasks = batch.warehouse.spark.sparkContext.defaultParallelism
    examined = held(transform(compared.repartition(tasks), registry))
    # Under another signal set a sample comes again, and its text meets the same items.
    known = batch.history(contamination.TABLE).where(F.col("registry") == version.digest)
    hits = held(
        examined.frame.select("sample_id", F.explode("hits").alias("hit"))
        .select("sample_id", "hit.*")
        .join(belonging(known, arrived, "sample_id").select(*_HIT), list(_HIT), "left_anti")
        .join(arrived.select("sample_id", "ingest_ordinal"), "sample_id")
        .withColumn("registry", F.lit(version.digest))
    )
    if hits.rows:
        batch.append(batch.stamped(hits.frame, at="found_at"), contamination.TABLE)
    return Outcome(rows_in=samples_in.rows, rows_kept=examined.rows)


def counting(warehouse: Warehouse, scoring: Scoring, registry: str) -> DataFrame:
    """The hits that count: rows of `silver.contamination`, of one registry.

    A cosine counts by the scoring's own CLIP alone, and not while that is a demonstration: one that
    knows nothing of photographs holds them all for alike. The hit is stored all the same.

    Args:
        warehouse: has the tables.
        scoring: whose pairs are decided.
        registry: digest of what is registered.

    Raises:
        SluiceError: not all of `silver.pairs` was compared with it: no hit yet is not no hit.
    """
    progress = f"{warehouse.root}/_checkpoints/{NAME}/{_checkpoint(registry, scoring)}/progress"
    if warehouse.read_text(f"{progress}/seen") != str(warehouse.version(pairs.TABLE)):
        raise SluiceError(
            f"{pairs.TABLE} has rows that were not compared with the benchmarks yet, all need to"
            f" be before a recipe can decide by {CONTAMINATED}; run the stage {NAME} first"
        )
    is_trial = any(card.task == CLIP and card.is_demonstration for card in scoring.cards)
    judge = None if is_trial else scoring.images.models.get("clip_model")
    item = ("benchmark", "item_id")
    # The registry's digest covers the network of each item, so that it is the hit's as well.
    measured = warehouse.read(benchmark_items.TABLE).select(*item, "embedding_model")
    is_of_judge = F.col("embedding_model") == F.lit(judge)
    hits = warehouse.read(contamination.TABLE).where(F.col("registry") == registry)
    return (
        hits.join(F.broadcast(measured), list(item), "left")
        .where((F.col("method") != contamination.COSINE) | is_of_judge)
        .select(*hits.columns)
    )


def with_contaminated(candidates: DataFrame, hits: DataFrame | None) -> DataFrame:
    """Candidates with `contaminated`: how many items each met; null: nothing is registered.

    Args:
        candidates: anything with `sample_id`.
        hits: those that count; null: nothing is registered.
    """
    if hits is None:
        return candidates.withColumn(CONTAMINATED, F.lit(None).cast("int"))
    met = hits.groupBy("sample_id").agg(
        F.count_distinct("benchmark", "item_id").cast("int").alias(CONTAMINATED)
    )
    met_by = candidates.join(met, "sample_id", "left")
    return met_by.withColumn(CONTAMINATED, F.coalesce(CONTAMINATED, F.lit(0)))
