"""Kinds that find near copies: what each must say, and how links become verdicts on samples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.config import Dedup
from jobs.runtime.held import Held
from jobs.runtime.streams import Batch

# What a verdict says before its samples are named; ordinals in place of names.
VERDICT: Final = (
    "kind",
    "sample_id",
    "ingest_ordinal",
    "node",
    "is_duplicate",
    "representative",
    "cluster",
    "similarity",
    "revision",
)
_OF_NODE: Final = {
    "cluster": "long",
    "elder": "long",
    "similarity": "float",
    "is_duplicate": "boolean",
}


@dataclass(frozen=True, kw_only=True)
class NearKind:
    """A search for near copies among contents.

    Attributes:
        name: of the kind.
        content: the exact kind whose contents it compares: its nodes.
        tables: that the search writes.
        store: that of them which has a row of every node that was compared, in order of arrival.
        links: finds `a`, `b`, `similarity` between fresh contents, and between them and history,
            and puts the fresh ones into the index. Takes the batch, one sample of each content
            (`node`, `sample_id`, `ingest_ordinal`, `media_sha256`), held with the span of
            `ingest_ordinal`, and the settings.
    """

    name: str
    content: str
    tables: tuple[str, ...]
    store: str
    links: Callable[[Batch, Held, Dedup], DataFrame]


def store(batch: Batch, rows: DataFrame, table: str) -> None:
    """Write what a batch brings to a store in order of nodes, so that a look-up reads little else.

    Args:
        batch: that brings it.
        rows: columns of the table but `batch`.
        table: in order of `node`.
    """
    batch.append(rows.withColumn("batch", F.lit(batch.name)).repartitionByRange("node"), table)


def verdicts(samples: DataFrame, nodes: DataFrame | None, kind: str) -> DataFrame:
    """Verdicts of samples by those of their contents; a content without links is like no other.

    Args:
        samples: `sample_id`, `ingest_ordinal`, `node`, `revision`.
        nodes: verdicts of the contents that links touch, as `forest.Change` has them; or none.
        kind: of the search.

    Returns:
        columns of `VERDICT`.
    """
    samples = samples.select("sample_id", "ingest_ordinal", "node", "revision")
    if nodes is None:
        unknown = {name: F.lit(None).cast(dtype) for name, dtype in _OF_NODE.items()}
        joined = samples.withColumns(unknown)
    else:
        joined = samples.join(nodes.select("node", *_OF_NODE), "node", "left")
    is_duplicate = F.coalesce("is_duplicate", F.lit(False))
    return joined.select(
        F.lit(kind).alias("kind"),
        "sample_id",
        "ingest_ordinal",
        "node",
        is_duplicate.alias("is_duplicate"),
        # Copies of a content that survives are no business of this kind: each stands for itself.
        F.when(is_duplicate, F.col("elder"))
        .otherwise(F.col("ingest_ordinal"))
        .alias("representative"),
        F.coalesce("cluster", "node").alias("cluster"),
        F.when(is_duplicate, F.col("similarity"))
        .otherwise(F.lit(1.0))
        .cast("float")
        .alias("similarity"),
        "revision",
    )


def changed(nodes: DataFrame) -> DataFrame:
    """Contents whose verdict differs from the one by the links of before; fresh ones included.

    Args:
        nodes: as `forest.Change` has them.

    Returns:
        `node`.
    """
    same = (
        (F.col("cluster") == F.coalesce("was_cluster", "node"))
        & (F.col("elder") == F.coalesce("was_elder", "node"))
        & (F.col("is_duplicate") == F.coalesce("was_is_duplicate", F.lit(False)))
        & (~F.col("is_duplicate") | F.col("similarity").eqNullSafe(F.col("was_similarity")))
    )
    return nodes.where(~same).select("node")
