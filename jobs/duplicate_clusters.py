"""Clusters of duplicates as they stand: who is in them, and which are the largest.

`silver.duplicates` is only ever appended to; of a sample and kind the newest revision counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.runtime.errors import NotFound
from jobs.runtime.tables import Warehouse, newest
from schemas import clip_pairs, duplicates, samples

MOST_CHARS: Final = 20_000  # chosen: ten pages; what is longer than that is compared by its start
_VERDICT: Final = (
    "kind",
    "sample_id",
    "ingest_ordinal",
    "node",
    "is_duplicate",
    "representative_id",
    "similarity",
    "cluster_id",
    "revision",
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One sample of a cluster.

    Attributes:
        sample_id: its name.
        is_duplicate: whether the kind takes it for a copy of another.
        representative_id: the sample it gave way to; itself, if it did not.
        similarity: to what it gave way to, in [0, 1]; null of a survivor, if the kind says so.
        text: its caption, at most `MOST_CHARS`; null: the sample is no longer stored.
        is_cut: the caption is longer.
        url: where it was found, if its dump says so.
        media_sha256: its media; null: the sample is no longer stored.
        media_bytes: size of its media.
        modality: as in `bronze.samples`.
    """

    sample_id: str
    is_duplicate: bool
    representative_id: str
    similarity: float | None
    text: str | None = None
    is_cut: bool = False
    url: str | None = None
    media_sha256: str | None = None
    media_bytes: int = 0
    modality: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What a kind takes for one content: `samples` in all, of which `members`, survivor first."""

    kind: str
    cluster_id: str
    samples: int
    members: tuple[Member, ...]


def clusters_of(
    warehouse: Warehouse, sample_id: str, *, kind: str | None = None, limit: int
) -> list[Cluster]:
    """The cluster that each kind puts a sample in, by the kind's name.

    Args:
        warehouse: where to look.
        sample_id: the sample.
        kind: only this one.
        limit: most members of each cluster, at least 2. The survivor and the sample itself are
            always among them, then the most similar ones.

    Raises:
        NotFound: the sample has no verdict, or none of this kind.
    """
    _require(warehouse)
    verdicts = warehouse.read(duplicates.TABLE).select(*_VERDICT)
    own = newest(verdicts.where(F.col("sample_id") == sample_id), duplicates.TABLE).collect()
    if not own:
        raise NotFound(
            f"sample {sample_id!r} has no verdict on duplicates in {warehouse.root}; "
            "`sluice why` tells what became of it, `sluice duplicates list` names clusters"
        )
    chosen = {row["kind"]: row["cluster_id"] for row in own if kind in (None, row["kind"])}
    if not chosen:
        known = ", ".join(sorted(row["kind"] for row in own))
        raise NotFound(f"sample {sample_id!r} has no verdict of kind {kind}; it has {known}")
    standing = _standing(warehouse, verdicts, chosen)
    counts = {row["kind"]: row["count"] for row in standing.groupBy("kind").count().collect()}
    order = Window.partitionBy("kind").orderBy(
        F.col("sample_id") != sample_id,
        "is_duplicate",
        F.desc_nulls_last("similarity"),
        "ingest_ordinal",
    )
    placed = standing.withColumn("place", F.row_number().over(order))
    rows = placed.where(F.col("place") <= limit).collect()
    rows.sort(key=lambda row: (row["is_duplicate"], -(row["similarity"] or 0.0), row["place"]))
    facts = _facts(warehouse, sorted({row["sample_id"] for row in rows}))
    return [
        Cluster(
            kind=each,
            cluster_id=chosen[each],
            samples=counts[each],
            members=tuple(
                Member(
                    sample_id=row["sample_id"],
                    is_duplicate=row["is_duplicate"],
                    representative_id=row["representative_id"],
                    similarity=row["similarity"],
                    **facts.get(row["sample_id"], {}),
                )
                for row in rows
                if row["kind"] == each
            ),
        )
        for each in sorted(chosen)
    ]


def largest(
    warehouse: Warehouse, *, kind: str | None = None, min_size: int, limit: int
) -> list[dict[str, Any]]:
    """The largest clusters: kind, sample_id, samples, contents, duplicates, least_similarity.

    `sample_id` is the survivor; `contents` are distinct ones; `least_similarity` is that of the
    duplicate that is least like what it gave way to.

    Args:
        warehouse: where to look.
        kind: only this one.
        min_size: samples that a cluster has at least.
        limit: most clusters.

    Raises:
        NotFound: there is no verdict of this kind.
    """
    _require(warehouse)
    verdicts = warehouse.current(duplicates.TABLE).select(*_VERDICT)
    of_kind = verdicts if kind is None else verdicts.where(F.col("kind") == kind)
    rows = (
        of_kind.groupBy("kind", "cluster_id")
        .agg(
            F.min_by("sample_id", F.struct("is_duplicate", "ingest_ordinal")).alias("sample_id"),
            F.count("*").alias("samples"),
            F.countDistinct("node").alias("contents"),
            F.count_if("is_duplicate").alias("duplicates"),
            F.min(F.when(F.col("is_duplicate"), F.col("similarity"))).alias("least_similarity"),
        )
        .where(F.col("samples") >= min_size)
        .orderBy(F.desc("samples"), "kind", "cluster_id")
        .limit(limit)
        .drop("cluster_id")
        .collect()
    )
    if not rows and kind is not None and of_kind.isEmpty():
        kinds = sorted(row["kind"] for row in verdicts.select("kind").distinct().collect())
        raise NotFound(
            f"no verdict of kind {kind} in {warehouse.root}; "
            f"there are {', '.join(kinds) or 'none of any kind: run the pipeline first'}"
        )
    return [row.asDict() for row in rows]


def _require(warehouse: Warehouse) -> None:
    if not warehouse.exists(duplicates.TABLE):
        raise NotFound(f"table {duplicates.TABLE} is not in {warehouse.root}; run the pipeline")


def _standing(warehouse: Warehouse, verdicts: DataFrame, clusters: Mapping[str, str]) -> DataFrame:
    """The newest verdicts that put samples into clusters, given as kind -> cluster."""
    of_kinds = verdicts.where(F.col("kind").isin(*clusters))
    named = warehouse.spark.createDataFrame([*clusters.items()], "kind string, cluster_id string")
    named = F.broadcast(named)
    # Whoever was in them at some time; those that have left since drop out by their newest verdict.
    ever = of_kinds.join(named, ["kind", "cluster_id"], "left_semi").select(*duplicates.KEY)
    whole = of_kinds.join(ever, [*duplicates.KEY], "left_semi")
    return (
        newest(whole, duplicates.TABLE)
        .join(named, ["kind", "cluster_id"], "left_semi")
        .localCheckpoint()
    )


def _facts(warehouse: Warehouse, sample_ids: list[str]) -> dict[str, Mapping[str, Any]]:
    """What is stored of samples, of a clip that of its video; nothing of those taken down."""
    videos = _videos(warehouse, sample_ids)
    holders = {name: videos.get(name, name) for name in sample_ids}
    rows = (
        warehouse.read(samples.TABLE)
        .where(F.col("sample_id").isin(sorted({*holders.values()})))
        .select(
            "sample_id",
            F.substring("caption", 1, MOST_CHARS).alias("text"),
            (F.length("caption") > MOST_CHARS).alias("is_cut"),
            "url",
            "media_sha256",
            F.col("size_bytes").alias("media_bytes"),
            "modality",
        )
        .collect()
    )
    facts = (row.asDict() for row in rows)
    stored = {row.pop("sample_id"): row for row in facts}
    return {name: stored[holder] for name, holder in holders.items() if holder in stored}


def _videos(warehouse: Warehouse, sample_ids: list[str]) -> dict[str, str]:
    """Clip -> the sample that brought its video."""
    if not warehouse.exists(clip_pairs.TABLE):
        return {}
    clips = warehouse.read(clip_pairs.TABLE).where(F.col("sample_id").isin(sample_ids))
    rows = clips.select("sample_id", "video_sample_id").distinct().collect()
    return {row["sample_id"]: row["video_sample_id"] for row in rows}
