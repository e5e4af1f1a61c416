"""Find duplicates of new pairs among all history: `silver.pairs` -> `silver.duplicates`.

Every sample gets one verdict a kind, "unique" included; nothing is removed. What came in an
earlier batch is earlier; within a batch the lesser ingest ordinal is.
"""

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import belonging, counted
from schemas import duplicates, image_signals, pairs

NAME: Final = "dedup"
VERSION: Final = 1
# Copies that were resized, re-encoded or brightened mostly stay within 3 of 64 bits
# (measured by the demo dump's own truth); the published default of image tools is 10.
RADIUS: Final = 3
# Four bands of 16 bits: three flipped bits leave at least one band whole, so a join on equal
# bands misses nothing within the radius (pigeonhole).
BANDS: Final = RADIUS + 1
BAND_BITS: Final = 64 // BANDS

_SAMPLE: Final = ("sample_id", "ingest_ordinal", "media_sha256")


def stage() -> Stage:
    """The stage; another version of its rules would have its own checkpoint."""
    return Stage(
        name=NAME,
        checkpoint=f"v{VERSION}",
        source=pairs.TABLE,
        columns=(*_SAMPLE, "text_sha256"),
        process=_process,
        outputs=(duplicates.TABLE,),
    )


def exact(kind: str, arrived: DataFrame, history: DataFrame) -> DataFrame:
    """Verdicts by equal fingerprints.

    Args:
        kind: `exact_pair` or `exact_media`.
        arrived: sample columns and `fingerprint`.
        history: rows of `silver.duplicates`, of any kind.
    """
    unique = history.where((F.col("kind") == kind) & ~F.col("is_duplicate"))
    known = belonging(unique, arrived, "fingerprint").select(
        "fingerprint", F.col("sample_id").alias("known_id")
    )
    firsts = arrived.groupBy("fingerprint").agg(
        F.min_by("sample_id", "ingest_ordinal").alias("first_id")
    )
    return (
        arrived.join(known, "fingerprint", "left")
        .join(firsts, "fingerprint")
        .withColumn("representative_id", F.coalesce("known_id", "first_id"))
        .withColumns(
            {
                "kind": F.lit(kind),
                "is_duplicate": F.col("representative_id") != F.col("sample_id"),
                "similarity": F.lit(1.0),
                "cluster_id": F.col("representative_id"),
            }
        )
        .drop("known_id", "first_id")
    )


def perceptual(arrived: DataFrame, history: DataFrame) -> DataFrame:
    """Verdicts by 64-bit hashes within `RADIUS` of each other, full recall.

    Images are compared, not samples: equal bytes are the business of `exact_media`, and every
    sample of an image shares its verdict.

    Args:
        arrived: sample columns, `phash` (signed 64-bit) and `fingerprint` (16 hex digits).
        history: rows of `silver.duplicates`, of any kind.
    """
    known = _firsts(
        history.where(F.col("kind") == "phash").withColumn("phash", _signed("fingerprint"))
    ).withColumn("is_history", F.lit(True))
    fresh = _firsts(arrived).withColumn("is_history", F.lit(False))
    fresh = fresh.join(known.select("media_sha256"), "media_sha256", "left_anti")
    fresh = fresh.localCheckpoint()
    others = known.unionByName(fresh)
    left, right = _banded(fresh).alias("l"), _banded(others).alias("r")
    is_earlier = F.col("r.is_history") | (F.col("r.ingest_ordinal") < F.col("l.ingest_ordinal"))
    distance = F.bit_count(F.col("l.phash").bitwiseXOR(F.col("r.phash")))
    links = (
        F.broadcast(left)
        .join(right, (F.col("l.band") == F.col("r.band")) & (F.col("l.bits") == F.col("r.bits")))
        .where((F.col("l.media_sha256") != F.col("r.media_sha256")) & is_earlier)
        .where(distance <= RADIUS)
        .groupBy(F.col("l.media_sha256").alias("media_sha256"))
        .agg(
            F.min_by(
                F.struct(
                    F.col("r.sample_id").alias("representative_id"),
                    distance.alias("distance"),
                    F.col("r.is_history").alias("is_history"),
                ),
                F.struct(~F.col("r.is_history"), F.col("r.ingest_ordinal")),
            ).alias("link")
        )
        .select("media_sha256", "link.*")
        .localCheckpoint()
    )
    return _verdicts(arrived, _with_clusters(fresh, links, history), history)


def _signed(fingerprint: str) -> Column:
    # In halves: conv() is unsigned, the hash is not.
    high = F.conv(F.substring(fingerprint, 1, 8), 16, 10).cast("long")
    low = F.conv(F.substring(fingerprint, 9, 8), 16, 10).cast("long")
    return F.shiftleft(high, 32).bitwiseOR(low)


def _firsts(samples: DataFrame) -> DataFrame:
    """The first sample of each image, with its hash."""
    return samples.groupBy("media_sha256").agg(
        F.min("ingest_ordinal").alias("ingest_ordinal"),
        F.min_by("sample_id", "ingest_ordinal").alias("sample_id"),
        F.first("phash").alias("phash"),
    )


def _banded(images: DataFrame) -> DataFrame:
    bands = [
        F.struct(
            F.lit(band).alias("band"),
            F.shiftrightunsigned("phash", band * BAND_BITS)
            .bitwiseAND(F.lit((1 << BAND_BITS) - 1).cast("long"))
            .alias("bits"),
        )
        for band in range(BANDS)
    ]
    return images.withColumn("b", F.explode(F.array(*bands))).select("*", "b.*").drop("b")


def _with_clusters(fresh: DataFrame, links: DataFrame, history: DataFrame) -> DataFrame:
    """Each linked image with the sample that its chain of representatives ends in."""
    of_history = history.where(F.col("kind") == "phash").select(
        F.col("sample_id").alias("representative_id"), F.col("cluster_id").alias("known_cluster")
    )
    chains = (
        links.join(of_history, "representative_id", "left")
        .withColumn("cluster_id", F.coalesce("known_cluster", "representative_id"))
        .drop("known_cluster")
        .localCheckpoint()
    )
    # In-batch chains: follow the representatives until none of them is linked itself.
    steps = fresh.join(links, "media_sha256").select(
        F.col("sample_id").alias("cluster_id"), F.col("representative_id").alias("next")
    )
    while not chains.join(steps, "cluster_id", "left_semi").isEmpty():
        chains = (
            chains.join(steps, "cluster_id", "left")
            .withColumn("cluster_id", F.coalesce("next", "cluster_id"))
            .drop("next")
            .localCheckpoint()
        )
    return chains


def _verdicts(arrived: DataFrame, chains: DataFrame, history: DataFrame) -> DataFrame:
    """Spread an image's verdict to its samples; the image's first sample stands for it."""
    inherited = (
        belonging(history.where(F.col("kind") == "phash"), arrived, "media_sha256")
        .groupBy("media_sha256")
        .agg(
            F.min_by(
                F.struct("is_duplicate", "representative_id", "similarity", "cluster_id"),
                "ingest_ordinal",
            ).alias("old")
        )
    )
    firsts = _firsts(arrived).select("media_sha256", F.col("sample_id").alias("first_id"))
    return (
        arrived.join(firsts, "media_sha256")
        .join(chains, "media_sha256", "left")
        .join(inherited, "media_sha256", "left")
        .withColumns(
            {
                "kind": F.lit("phash"),
                "is_duplicate": F.coalesce(
                    "old.is_duplicate", F.col("representative_id").isNotNull()
                ),
            }
        )
        .withColumns(
            {
                "similarity": F.when(
                    F.col("is_duplicate"),
                    F.coalesce("old.similarity", 1 - F.col("distance") / 64),
                ).otherwise(1.0),
                "cluster_id": F.when(
                    F.col("is_duplicate"), F.coalesce("old.cluster_id", "cluster_id")
                ).otherwise(F.coalesce("old.cluster_id", "first_id")),
                "representative_id": F.when(
                    F.col("is_duplicate"),
                    F.coalesce("old.representative_id", "representative_id"),
                ).otherwise(F.col("sample_id")),
            }
        )
    )


def _process(batch: Batch) -> Outcome:
    history = batch.warehouse.read(duplicates.TABLE).where(F.col("batch") != batch.name)
    # A sample that came back under another signal set has its verdicts already.
    arrived = batch.frame.dropDuplicates(["sample_id"]).localCheckpoint()
    seen = belonging(history.where(F.col("kind") == "exact_pair"), arrived, "sample_id")
    seen = seen.select("sample_id").localCheckpoint()
    fresh = arrived.join(F.broadcast(seen), "sample_id", "left_anti").localCheckpoint()
    if not fresh.isEmpty():
        batch.append(
            batch.stamped(transform(fresh, _hashes(batch, fresh), history), at="decided_at"),
            duplicates.TABLE,
        )
    verdicts = counted(
        batch.written(duplicates.TABLE),
        **{kind: F.col("kind") == kind for kind in duplicates.KINDS},
    )
    reused = seen.count()
    return Outcome(
        rows_in=arrived.count(),
        # The kind that lost a verdict shows in the sum.
        rows_kept=min(verdicts.values()) + reused,
        rows_reused=reused,
    )


def _hashes(batch: Batch, fresh: DataFrame) -> DataFrame:
    """Hash of each image; the hash does not depend on the networks, any signal set's will do."""
    return (
        belonging(batch.warehouse.read(image_signals.TABLE), fresh, "media_sha256")
        .groupBy("media_sha256")
        .agg(F.first("phash", ignorenulls=True).alias("phash"))
    )


def transform(fresh: DataFrame, hashes: DataFrame, history: DataFrame) -> DataFrame:
    """The verdicts of every kind on samples that have none.

    Args:
        fresh: sample columns and `text_sha256`.
        hashes: `media_sha256`, `phash`.
        history: rows of `silver.duplicates`.
    """
    samples = fresh.select(*_SAMPLE, "text_sha256")
    by_pair = samples.withColumn(
        "fingerprint", F.sha2(F.concat("text_sha256", "media_sha256"), 256)
    )
    by_media = samples.withColumn("fingerprint", F.col("media_sha256"))
    by_hash = samples.join(hashes, "media_sha256").withColumn(
        "fingerprint", F.lower(F.lpad(F.hex("phash"), 16, "0"))
    )
    columns = [f.name for f in duplicates.SCHEMA if f.name not in duplicates.VOLATILE]
    verdicts = exact("exact_pair", by_pair, history).select(*columns)
    verdicts = verdicts.unionByName(exact("exact_media", by_media, history).select(*columns))
    return verdicts.unionByName(perceptual(by_hash.localCheckpoint(), history).select(*columns))
