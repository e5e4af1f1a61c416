"""Find duplicates of new pairs among all history: `silver.pairs` -> `silver.duplicates`.

Every sample gets one verdict a kind, "unique" included; nothing is removed. A verdict that later
samples change is superseded by a row of a greater revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.dedup import exact, forest, minhash, near, phash, schemes, semantic
from jobs.dedup.near import VERDICT, NearKind
from jobs.dedup.scores import FIRST, scores
from jobs.runtime.config import Dedup
from jobs.runtime.lookup import lookup
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import counted, newest
from schemas import (
    duplicate_edges,
    duplicates,
    exact_index,
    pairs,
    samples,
)
from schemas.duplicate_kinds import CONTENT, EXACT_KINDS
from udfs.identity import digest

NAME: Final = "dedup"
VERSION: Final = 2
NEAR: Final[Mapping[str, NearKind]] = {
    kind.name: kind for kind in (phash.KIND, minhash.KIND, semantic.KIND)
}

_SAMPLE: Final = ("sample_id", "ingest_ordinal", "media_sha256", "text_sha256")
# A verdict whose samples have their names already.
_NAMED: Final = (*VERDICT, "representative_id", "cluster_id")


def stage(settings: Dedup) -> Stage:
    """The stage; other kinds or other rules have their own checkpoint, and see every pair."""
    return Stage(
        name=NAME,
        checkpoint=f"v{VERSION}-{digest(*settings.kinds, schemes.label(settings))[:12]}",
        source=pairs.TABLE,
        columns=_SAMPLE,
        process=lambda batch: _process(batch, settings),
        outputs=_outputs(settings),
    )


def _outputs(settings: Dedup) -> tuple[str, ...]:
    of_kinds = [table for kind in settings.kinds if kind in NEAR for table in NEAR[kind].tables]
    return (duplicates.TABLE, duplicate_edges.TABLE, exact_index.TABLE, *of_kinds)


def _process(batch: Batch, settings: Dedup) -> Outcome:
    for table in _outputs(settings):
        batch.warehouse.create(table)
    schemes.hold(batch.warehouse, settings)
    search = _Search.of(batch, settings)
    rows_in = search.arrived.count()
    known = {row[0]: row[1] for row in search.known.groupBy("kind").count().collect()}
    missing = [kind for kind in settings.kinds if known.get(kind, 0) < rows_in]
    if missing:
        search.judge({kind: search.lacking(kind, known.get(kind, 0)) for kind in missing})
    written = counted(
        batch.written(duplicates.TABLE).where(F.col("revision") == 0),
        **{kind: F.col("kind") == kind for kind in settings.kinds},
    )
    return Outcome(
        rows_in=rows_in,
        # The kind that lost a verdict shows in the sum.
        rows_kept=min(written[kind] + known.get(kind, 0) for kind in settings.kinds),
        rows_reused=min(known.get(kind, 0) for kind in settings.kinds),
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The samples of a batch among all that came before.

    Attributes:
        batch: that brings them.
        settings: which kinds, by which rules.
        arrived: `_SAMPLE`, one row a sample.
        known: verdicts of earlier batches on them that hold, of any kind.
        first: least ordinal of the batch; what is asked of history by order of arrival lies there.
        last: the greatest.
    """

    batch: Batch
    settings: Dedup
    arrived: DataFrame
    known: DataFrame
    first: int
    last: int

    @classmethod
    def of(cls, batch: Batch, settings: Dedup) -> "_Search":
        # A sample that came back under another signal set is the same sample.
        arrived = batch.frame.dropDuplicates(["sample_id"]).localCheckpoint()
        low, high = F.min("ingest_ordinal").alias("low"), F.max("ingest_ordinal").alias("high")
        (span,) = arrived.agg(low, high).collect()
        first, last = (0, -1) if span.low is None else (span.low, span.high)
        verdicts = batch.warehouse.read(duplicates.TABLE).where(F.col("batch") != batch.name)
        known = verdicts.where(F.col("ingest_ordinal").between(first, last))
        known = known.join(arrived.select("sample_id"), "sample_id", "left_semi")
        return cls(
            batch=batch,
            settings=settings,
            arrived=arrived,
            known=newest(known, duplicates.TABLE).localCheckpoint(),
            first=first,
            last=last,
        )

    def history(self, table: str) -> DataFrame:
        """A table's rows as they were before the batch, a killed attempt at it aside."""
        return self.batch.warehouse.read(table).where(F.col("batch") != self.batch.name)

    def lacking(self, kind: str, known: int) -> DataFrame:
        """Samples of the batch without a verdict of a kind, of which so many have one."""
        if not known:
            return self.arrived
        judged = self.known.where(F.col("kind") == kind).select("sample_id")
        return self.arrived.join(judged, "sample_id", "left_anti").localCheckpoint()

    def judge(self, missing: Mapping[str, DataFrame]) -> None:
        """Write the verdicts of each kind on the samples that lack one."""
        of_exact = {kind: missing[kind] for kind in missing if kind in EXACT_KINDS}
        judged = [self._exact(of_exact)] if of_exact else []
        edges: list[DataFrame] = []
        for kind in missing:
            if kind in NEAR:
                nodes = self._nodes(CONTENT[kind], *judged[:1])
                rows, linked = self._near(NEAR[kind], missing[kind].join(nodes, "sample_id"))
                judged.append(rows)
                edges += linked
        if edges:
            rows = self.batch.stamped(reduce(DataFrame.unionByName, edges), at="linked_at")
            self.batch.append(rows, duplicate_edges.TABLE)
        verdicts = self._named(reduce(DataFrame.unionByName, judged))
        self.batch.append(
            self.batch.stamped(verdicts, at="decided_at"), duplicates.TABLE, sort_by=("kind",)
        )

    def _nodes(self, content: str, *judged: DataFrame) -> DataFrame:
        """The content of each sample: `sample_id`, `node`."""
        verdicts = [rows.where(F.col("revision") == 0) for rows in judged]
        of_content = [
            rows.where(F.col("kind") == content).select("sample_id", "node")
            for rows in (*verdicts, self.known)
        ]
        return reduce(DataFrame.unionByName, of_content)

    def _exact(self, missing: Mapping[str, DataFrame]) -> DataFrame:
        warehouse = self.batch.warehouse
        is_here = F.col("ingest_ordinal").between(self.first, self.last)
        delivered = warehouse.read(samples.TABLE).where(is_here)
        delivered = delivered.select("sample_id", "url", "caption")
        score = scores(warehouse, self.settings.keep, self.arrived.select("ingest_ordinal"))
        full = self.arrived.join(delivered, "sample_id").join(score, "ingest_ordinal")
        wanted = [
            rows.select("sample_id", F.lit(kind).alias("kind")) for kind, rows in missing.items()
        ]
        prints = (
            exact.fingerprints(full, tuple(missing))
            .join(reduce(DataFrame.unionByName, wanted), ["sample_id", "kind"], "left_semi")
            .localCheckpoint()
        )
        found = exact.contents(prints, self.history(exact_index.TABLE)).localCheckpoint()
        index = found.where("former IS NULL OR former <> survivor")
        if not index.isEmpty():
            index = index.withColumn("batch", F.lit(self.batch.name))
            self.batch.append(index, exact_index.TABLE, sort_by=("kind", "high"))
        rows = [exact.verdicts(missing[kind], prints, found, kind) for kind in missing]
        judged = _unnamed(reduce(DataFrame.unionByName, rows))
        if self.settings.keep != FIRST:
            judged = judged.unionByName(self._deposed(exact.deposed(found)))
        return judged.localCheckpoint()

    def _deposed(self, deposed: DataFrame) -> DataFrame:
        """Verdicts on earlier samples that stood for a content until a better one came."""
        held = self._held(deposed.select("ingest_ordinal")).join(
            deposed, ["kind", "ingest_ordinal"]
        )
        return held.withColumns(
            {
                "is_duplicate": F.lit(True),
                "revision": F.col("revision") + 1,
                "representative_id": F.lit(None).cast("string"),
                "cluster": F.lit(None).cast("long"),
            }
        ).select(*_NAMED)

    def _near(self, kind: NearKind, missing: DataFrame) -> tuple[DataFrame, list[DataFrame]]:
        """Verdicts of one kind, on samples with their `node`, and rows for the edges."""
        missing = missing.localCheckpoint()
        fresh = self._fresh(kind, missing)
        # Copies alone bring nothing to compare, and no version of the index.
        links = None
        if not fresh.isEmpty():
            links = kind.links(self.batch, fresh, self.settings).localCheckpoint()
        if links is None or links.isEmpty():
            rows = _unnamed(near.verdicts(missing, None, kind.name))
            return self._inherited(rows, kind.name, fresh).localCheckpoint(), []
        change = forest.grown(self._scored(links), self.history(duplicate_edges.TABLE), kind.name)
        rows = _unnamed(near.verdicts(missing, change.nodes, kind.name))
        linked = change.nodes.select("node").unionByName(fresh.select("node"))
        rows = self._inherited(rows, kind.name, linked)
        revised = self._revised(kind.name, change, fresh)
        return rows.unionByName(revised).localCheckpoint(), [change.edges]

    def _fresh(self, kind: NearKind, missing: DataFrame) -> DataFrame:
        """One sample of each content that the kind has not compared yet."""
        first = F.min_by(F.struct("sample_id", "ingest_ordinal", "media_sha256"), "ingest_ordinal")
        contents = missing.groupBy("node").agg(first.alias("first")).select("node", "first.*")
        contents = contents.localCheckpoint()
        compared = lookup(self.batch.warehouse, kind.store, "node", contents, ("batch",))
        compared = compared.where(F.col("batch") != self.batch.name).select("node")
        return contents.join(compared, "node", "left_anti").localCheckpoint()

    def _scored(self, links: DataFrame) -> DataFrame:
        """Links with what the keep rule compares."""
        ends = links.select(F.col("a").alias("ingest_ordinal")).union(links.select("b")).distinct()
        score = scores(self.batch.warehouse, self.settings.keep, ends).localCheckpoint()
        for end in ("a", "b"):
            of_end = score.select(
                F.col("ingest_ordinal").alias(end), F.col("score").alias(f"{end}_score")
            )
            links = links.join(of_end, end)
        return links

    def _inherited(self, rows: DataFrame, kind: str, judged: DataFrame) -> DataFrame:
        """Give new samples of contents that the batch did not judge the verdict of their content.

        Args:
            rows: verdicts, in which such a sample is like no other.
            kind: of the search.
            judged: `node` of contents that the batch judged.
        """
        known = judged.select("node").distinct()
        others = rows.join(known, "node", "left_anti").localCheckpoint()
        if others.isEmpty():
            return rows
        asked = others.select(F.col("node").alias("ingest_ordinal"))
        held = self._held(asked).where(F.col("kind") == kind)
        of_node = held.select(
            "node",
            F.when(F.col("is_duplicate"), F.col("representative_id")).alias("held_id"),
            F.col("similarity").alias("held_similarity"),
            F.col("cluster_id").alias("held_cluster_id"),
        )
        taken = others.join(of_node, "node", "left").withColumns(
            {
                "is_duplicate": F.col("held_id").isNotNull(),
                "representative_id": F.col("held_id"),
                "similarity": F.coalesce("held_similarity", "similarity"),
                "cluster_id": F.col("held_cluster_id"),
            }
        )
        return rows.join(known, "node", "left_semi").unionByName(taken.select(*_NAMED))

    def _revised(self, kind: str, change: forest.Change, fresh: DataFrame) -> DataFrame:
        """Verdicts on samples of earlier batches that the new links change."""
        nodes = near.changed(change).join(fresh.select("node"), "node", "left_anti")
        earlier = self.history(duplicates.TABLE).where(F.col("kind") == kind)
        holders = earlier.join(F.broadcast(nodes), "node", "left_semi").select("ingest_ordinal")
        held = self._held(holders).where(F.col("kind") == kind).localCheckpoint()
        rows = near.verdicts(held, change.nodes, kind).drop("revision")
        next_one = held.select("sample_id", (F.col("revision") + 1).alias("revision"))
        return _unnamed(rows.join(next_one, "sample_id"))

    def _held(self, ordinals: DataFrame) -> DataFrame:
        """The verdicts, of every kind, that hold on samples of earlier batches."""
        names = [name for name in duplicates.SCHEMA.names if name != "ingest_ordinal"]
        table = duplicates.TABLE
        held = lookup(self.batch.warehouse, table, "ingest_ordinal", ordinals, names)
        return newest(held.where(F.col("batch") != self.batch.name), table)

    def _named(self, verdicts: DataFrame) -> DataFrame:
        """Name the samples that verdicts speak of by their ordinals."""
        verdicts = verdicts.localCheckpoint()
        own = self.arrived.select("ingest_ordinal", F.col("sample_id").alias("name"))
        asked = [
            verdicts.where(F.col(f"{what}_id").isNull()).select(F.col(what).alias("ingest_ordinal"))
            for what in ("representative", "cluster")
        ]
        others = reduce(DataFrame.union, asked).where("ingest_ordinal IS NOT NULL").distinct()
        others = others.join(own, "ingest_ordinal", "left_anti").localCheckpoint()
        if not others.isEmpty():
            found = lookup(
                self.batch.warehouse, samples.TABLE, "ingest_ordinal", others, ("sample_id",)
            )
            own = own.union(found)
        for what in ("representative", "cluster"):
            of_what = own.select(F.col("ingest_ordinal").alias(what), "name")
            verdicts = (
                verdicts.join(of_what, what, "left")
                .withColumn(f"{what}_id", F.coalesce(f"{what}_id", "name"))
                .drop("name")
            )
        return verdicts


def _unnamed(verdicts: DataFrame) -> DataFrame:
    nameless = {f"{what}_id": F.lit(None).cast("string") for what in ("representative", "cluster")}
    return verdicts.withColumns(nameless).select(*_NAMED)
