"""The centroids of the semantic index: found when it is begun, then kept."""

import logging
from typing import Final

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.dedup import schemes
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse
from schemas import centroids, semantic_index
from udfs import sign_codes
from udfs.centroids import Centroids, Drift, centroids_for

log: Final = logging.getLogger("sluice")

# A first batch may be a handful. Below this, one cell of all is searched in 0.1 ms a vector;
# a quarter of the centroids that a table should have makes the search of cells four times as
# long as its assignment (both chosen, by the figures at `centroids_for`).
_FEW: Final = 100_000
_MOST_OUTGROWN: Final = 4
_REBUILD: Final = "`sluice duplicates rebuild semantic`"


def read(warehouse: Warehouse) -> Centroids | None:
    """The stored centroids, if any were found yet."""
    row = warehouse.read(centroids.TABLE).first()
    if row is None:
        return None
    vectors = np.frombuffer(row.vectors, "<f4").reshape(row.k, row.dimension)
    return Centroids(vectors, row.mean_cosine, row.low_cosine)


def store(batch: Batch, found: Centroids, clip_model: str) -> None:
    """Keep centroids for good; a batch that was killed after this reads them back.

    Args:
        batch: that found them.
        found: the centroids.
        clip_model: sha256 of the network that made the embeddings.
    """
    row = {
        "digest": found.digest,
        "k": len(found.vectors),
        "dimension": found.dimension,
        "clip_model": clip_model,
        "vectors": found.vectors.tobytes(),
        "mean_cosine": found.mean_cosine,
        "low_cosine": found.low_cosine,
    }
    rows = batch.warehouse.local([row], centroids.SCHEMA)
    batch.append(batch.stamped(rows, at="trained_at"), centroids.TABLE)


def hold(warehouse: Warehouse, held: Centroids, clip_model: str) -> None:
    """Refuse embeddings, or centroids, of another kind than the index was built with.

    Args:
        warehouse: holds the index.
        held: the stored centroids.
        clip_model: sha256 of the network that made a batch's embeddings.

    Raises:
        ConfigError: which differs, what the index was built with.
    """
    said = {
        f"{schemes.LEARNED}semantic.clip_model": clip_model,
        f"{schemes.LEARNED}semantic.centroids": held.digest,
        f"{schemes.LEARNED}semantic.codes": sign_codes.scheme(held.dimension),
    }
    schemes.hold_to(warehouse, semantic_index.TABLE, said, schemes.LEARNED)


def report(assigned: DataFrame, held: Centroids, vectors: int) -> Drift:
    """Say how a batch lies to the centroids, and when it is time to find others.

    Args:
        assigned: `node`, `centroid_cosine` of the batch, a row a cell; null without one.
        held: the stored centroids.
        vectors: how many embeddings the index will hold.
    """
    nearest = assigned.groupBy("node").agg(F.max("centroid_cosine").cast("double").alias("cosine"))
    is_low = F.col("cosine") < held.low_cosine
    (row,) = nearest.agg(
        F.count("cosine").alias("rows"),
        F.avg("cosine").alias("mean"),
        F.avg(is_low.cast("double")).alias("share"),
    ).collect()
    drift = Drift(
        rows=row.rows,
        mean_cosine=row.mean if row.rows else float("nan"),
        mean_cosine_then=held.mean_cosine,
        share_low=row.share if row.rows else 0.0,
    )
    log.info(
        "semantic: %d embeddings lie at a mean cosine of %.3f to their centroids, %.3f when those"
        " were found; %.1f %% lie lower than 1 %% did then",
        drift.rows,
        drift.mean_cosine,
        drift.mean_cosine_then,
        100 * drift.share_low,
    )
    k = len(held.vectors)
    if drift.is_due:
        log.warning(
            "semantic: %.1f %% of a batch lie farther from the centroids than 99 %% did when those"
            " were found; near copies are missed more often. To find centroids anew: %s",
            100 * drift.share_low,
            _REBUILD,
        )
    if vectors > _FEW and centroids_for(vectors) > _MOST_OUTGROWN * k:
        log.warning(
            "semantic: %d embeddings share %d centroids, %d would do; batches take longer than they"
            " need. To find centroids anew: %s",
            vectors,
            k,
            centroids_for(vectors),
            _REBUILD,
        )
    return drift
