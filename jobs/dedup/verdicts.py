"""The search for duplicates of what is new among all history: verdicts, and the links behind them.

What is judged, samples or clips as delivered, is said by a `Judged`. Every one gets one verdict a
kind, "unique" included; nothing is removed. A verdict that later ones change is superseded by a row
of a greater revision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.dedup import (
    boilerplate,
    crop,
    exact,
    forest,
    minhash,
    near,
    phash,
    schemes,
    semantic,
    video,
)
from jobs.dedup.near import VERDICT, NearKind
from jobs.dedup.schemes import Rules
from jobs.dedup.scores import FIRST, scored
from jobs.runtime.config import Dedup
from jobs.runtime.held import Held, held, span
from jobs.runtime.lookup import lookup
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import counted, newest
from jobs.sources.entry import PAGE_URL
from schemas import duplicate_edges, duplicates, exact_index, page_index
from schemas.duplicate_kinds import BOILERPLATE, CONTENT, EXACT_KINDS
from udfs.identity import digest

NEAR: Final[Mapping[str, NearKind]] = {
    kind.name: kind for kind in (phash.KIND, crop.KIND, minhash.KIND, semantic.KIND, video.KIND)
}
# Kinds that judge contents -> the tables that their search writes.
INDEXES: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: kind.tables for name, kind in NEAR.items()},
    BOILERPLATE: (page_index.TABLE,),
}

# A verdict whose samples have their names already.
_NAMED: Final = (*VERDICT, "representative_id", "cluster_id")
_NAMED_BY_ORDINAL: Final = ("representative", "cluster")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a stage gives verdicts on; below it is called a sample, whatever it is.

    Attributes:
        stage: name of the stage.
        version: of the stage.
        source: table that it follows.
        columns: of the source: `sample_id`, `ingest_ordinal`, and what searches ask for.
        named: table that has `sample_id` by `ingest_ordinal`, in order of arrival.
        details: columns of that table that exact kinds compare beside those of the source.
        kinds: of search.
        keep: which of a cluster stands for it, as `dedup.keep` says it.
        rules: to which the indexes are held.
        settings: of the searches.
    """

    stage: str
    version: int
    source: str
    columns: tuple[str, ...]
    named: str
    details: tuple[str, ...] = ()
    kinds: tuple[str, ...]
    keep: str
    rules: Rules
    settings: Dedup

    @property
    def outputs(self) -> tuple[str, ...]:
        """Tables that are written."""
        of_kinds = [table for kind in self.kinds for table in INDEXES.get(kind, ())]
        return (duplicates.TABLE, duplicate_edges.TABLE, exact_index.TABLE, *of_kinds)


def stage(judged: Judged) -> Stage:
    """The stage; other kinds or other rules have their own checkpoint, and see every row."""
    rules = digest(*judged.kinds, schemes.label(judged.rules))[:12]
    return Stage(
        name=judged.stage,
        checkpoint=f"v{judged.version}-{rules}",
        source=judged.source,
        columns=judged.columns,
        process=lambda batch: _process(batch, judged),
        outputs=judged.outputs,
    )


def judge_again(batch: Batch, judged: Judged, asked: DataFrame) -> None:
    """Give samples the verdicts that are asked for, as if they came now.

    What comes out otherwise than it was supersedes it. Their contents are in no index, and no link
    leads to them: see `jobs.dedup.departed`.

    Args:
        batch: its frame has the samples, columns of the source.
        judged: what they are, and all kinds that are asked for.
        asked: `kind`, `sample_id`.
    """
    _Search.of(batch, judged, asked).judge(judged.kinds)


def _process(batch: Batch, judged: Judged) -> Outcome:
    for table in judged.outputs:
        batch.warehouse.create(table)
    schemes.hold(batch.warehouse, judged.rules)
    search = _Search.of(batch, judged)
    kinds = [kind for kind in judged.kinds if search.lacks(kind)]
    if kinds:
        search.judge(kinds)
    written = counted(
        batch.written(duplicates.TABLE).where(F.col("revision") == 0),
        **{kind: F.col("kind") == kind for kind in judged.kinds},
    )
    known = search.known.said
    former = search.former.said if search.former else dict.fromkeys(judged.kinds, 0)
    return Outcome(
        rows_in=search.arrived.rows,
        # The kind that lost a verdict shows in the sum.
        rows_kept=min(written[kind] + known[kind] + former[kind] for kind in judged.kinds),
        rows_reused=min(known[kind] for kind in judged.kinds),
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """The samples of a batch among all that came before.

    Attributes:
        batch: that brings them.
        judged: what they are, and by which kinds they are judged.
        arrived: columns of the source, one row a sample.
        is_near: whether a row of history is, by its ordinal, one of theirs or between them.
        known: verdicts of earlier batches on them that hold, and how many of each kind.
        former: of samples that are judged again, the verdicts until now, likewise.
    """

    batch: Batch
    judged: Judged
    arrived: Held
    is_near: Column
    known: Held
    former: Held | None = None

    @classmethod
    def of(cls, batch: Batch, judged: Judged, asked: DataFrame | None = None) -> "_Search":
        # A sample that came back under another signal set is the same sample.
        arrived = held(batch.frame.dropDuplicates(["sample_id"]), **span("ingest_ordinal"))
        is_near = arrived.within("ingest_ordinal")
        verdicts = batch.history(duplicates.TABLE).where(is_near)
        verdicts = verdicts.join(arrived.frame.select("sample_id"), "sample_id", "left_semi")
        holding = newest(verdicts, duplicates.TABLE)
        of_kind = {kind: F.count_if(F.col("kind") == kind) for kind in judged.kinds}
        former, is_again = None, schemes.is_of_before(batch.warehouse)
        if asked is not None:
            is_again = F.lit(False) if is_again is None else is_again
            named = F.broadcast(asked.select("kind", "sample_id", F.lit(True).alias("is_asked")))
            holding = holding.join(named, ["kind", "sample_id"], "left")
            is_again |= F.col("is_asked").isNotNull()
        if is_again is not None:
            holding = holding.withColumn("is_again", is_again).localCheckpoint()
            former = held(holding.where("is_again"), **of_kind)
            holding = holding.where("NOT is_again")
        known = held(holding, **of_kind)
        return cls(
            batch=batch,
            judged=judged,
            arrived=arrived,
            is_near=is_near,
            known=known,
            former=former,
        )

    def lacks(self, kind: str) -> bool:
        """Whether a sample of the batch has no verdict of a kind yet."""
        return int(self.known.said[kind]) < self.arrived.rows

    def judge(self, kinds: Sequence[str]) -> None:
        """Write the verdicts of each kind on the samples that lack one."""
        exact_kinds = [kind for kind in kinds if kind in EXACT_KINDS]
        exactly = [self._exact(exact_kinds)] if exact_kinds else []
        judged, edges = list(exactly), list[DataFrame]()
        for kind in kinds:
            if kind in NEAR:
                rows, linked = self._near(NEAR[kind], self._nodes(CONTENT[kind], *exactly))
                judged.append(rows)
                edges += linked
            elif kind == BOILERPLATE:
                judged.append(self._boilerplate(exactly))
        if edges:
            rows = self.batch.stamped(self._united(edges), at="linked_at")
            self.batch.append(rows, duplicate_edges.TABLE)
        verdicts = self._named(self._united(judged))
        if self.former is not None:
            changed = held(_superseding(verdicts, self.former.frame))
            if not changed.rows:
                return
            verdicts = changed.frame
        self.batch.append(
            self.batch.stamped(verdicts, at="decided_at"), duplicates.TABLE, sort_by=("kind",)
        )

    def _united(self, frames: Sequence[DataFrame]) -> DataFrame:
        """The rows of all, in no more parts than one has: each part becomes a file."""
        parts = int(str(self.batch.warehouse.spark.conf.get("spark.sql.shuffle.partitions")))
        return reduce(DataFrame.unionByName, frames).coalesce(parts)

    def _lacking(self, kinds: Sequence[str]) -> DataFrame:
        """The samples without a verdict: columns of the source, and `kind`."""
        every = F.explode(F.array(*map(F.lit, kinds))).alias("kind")
        asked = self.arrived.frame.select(*self.judged.columns, every)
        if not self.known.rows:
            return asked
        judged = self.known.frame.select("kind", "sample_id")
        return asked.join(judged, ["kind", "sample_id"], "left_anti")

    def _nodes(self, content: str, *judged: DataFrame) -> DataFrame:
        """The content of each sample: `sample_id`, `node`."""
        verdicts = [rows.where(F.col("revision") == 0) for rows in judged]
        if self.known.rows:
            verdicts.append(self.known.frame)
        of_content = [
            rows.where(F.col("kind") == content).select("sample_id", "node") for rows in verdicts
        ]
        return reduce(DataFrame.unionByName, of_content)

    def _exact(self, kinds: Sequence[str]) -> DataFrame:
        judged, full = self.judged, self.arrived.frame
        if judged.details:
            delivered = self.batch.warehouse.read(judged.named).where(self.is_near)
            full = full.join(delivered.select("sample_id", *judged.details), "sample_id")
        full = scored(full, self.batch.warehouse, judged.keep, {"ingest_ordinal": "score"})
        prints = exact.fingerprints(full, kinds, is_by_dump=judged.settings.is_by_dump)
        if self.known.rows:
            prints = prints.join(self._lacking(kinds), ["kind", "sample_id"], "left_semi")
        prints = prints.localCheckpoint()
        is_new = F.expr("former IS NULL OR former <> survivor")
        index = self.batch.history(exact_index.TABLE).where(F.col("kind").isin(*kinds))
        found = held(
            exact.contents(prints, index),
            news=F.count_if(is_new),
        )
        if found.said["news"]:
            news = found.frame.where(is_new).withColumn("batch", F.lit(self.batch.name))
            self.batch.append(news, exact_index.TABLE)
        rows = _unnamed(exact.verdicts(prints, found.frame))
        if judged.keep != FIRST:
            rows = rows.unionByName(self._deposed(exact.deposed(found.frame)))
        return rows.localCheckpoint()

    def _deposed(self, deposed: DataFrame) -> DataFrame:
        """Verdicts on earlier samples that stood for a content until a better one came."""
        stood = self._stood(deposed.select("ingest_ordinal"))
        return (
            stood.join(deposed, ["kind", "ingest_ordinal"])
            .withColumns(
                {
                    "is_duplicate": F.lit(True),
                    "revision": F.col("revision") + 1,
                    "representative_id": F.lit(None).cast("string"),
                    "cluster": F.lit(None).cast("long"),
                }
            )
            .select(*_NAMED)
        )

    def _near(self, kind: NearKind, nodes: DataFrame) -> tuple[DataFrame, list[DataFrame]]:
        """Verdicts of one kind on samples, whose `node` is given, and rows for the edges."""
        missing = self._lacking([kind.name]).join(nodes, "sample_id")
        missing = missing.withColumn("revision", F.lit(0)).localCheckpoint()
        first = F.min_by(F.struct(*self.judged.columns), "ingest_ordinal")
        contents = held(missing.groupBy("node").agg(first.alias("first")).select("node", "first.*"))
        fresh = held(self._fresh(kind, contents.frame), **span("ingest_ordinal"))
        # Copies alone bring nothing to compare, and no version of the index.
        links = held(kind.links(self.batch, fresh, self.judged.settings)) if fresh.rows else None
        if links is None or not links.rows:
            rows = _unnamed(near.verdicts(missing, None, kind.name))
            if fresh.rows < contents.rows:
                rows = self._inherited(rows, kind.name, fresh.frame.select("node"))
            return rows, []
        ends = {"a": "a_score", "b": "b_score"}
        weighed = scored(links.frame, self.batch.warehouse, self.judged.keep, ends)
        change = forest.grown(weighed, self.batch.history(duplicate_edges.TABLE), kind.name)
        rows = _unnamed(near.verdicts(missing, change.nodes, kind.name))
        if fresh.rows < contents.rows:
            linked = change.nodes.select("node").union(fresh.frame.select("node")).distinct()
            rows = self._inherited(rows, kind.name, linked)
        revised = self._revised(kind.name, change, fresh.frame)
        return rows.unionByName(revised) if revised else rows, [change.edges]

    def _boilerplate(self, exactly: Sequence[DataFrame]) -> DataFrame:
        """Verdicts on samples by the pages on which their images stand.

        Args:
            exactly: verdicts of the exact kinds that this batch gives; or none.
        """
        content, max_pages = CONTENT[BOILERPLATE], self.judged.settings.boilerplate.max_pages
        delivered = self.batch.warehouse.read(self.judged.named).where(self.is_near)
        page = F.col("extra")[PAGE_URL].alias("page_url")
        missing = (
            self._lacking([BOILERPLATE])
            .select("sample_id", "ingest_ordinal")
            .join(self._nodes(content, *exactly), "sample_id")
            .join(delivered.select("sample_id", page), "sample_id")
            .withColumn("revision", F.lit(0))
            .localCheckpoint()
        )
        columns = ("high", "low", "ordinal", "batch")
        known = lookup(self.batch.warehouse, page_index.TABLE, "node", missing, columns)
        known = known.where(F.col("batch") != self.batch.name).localCheckpoint()
        found = boilerplate.standing(boilerplate.pages(missing), known, max_pages)
        pages = held(found, news=F.count_if("is_new"))
        if pages.said["news"]:
            news = pages.frame.where("is_new").withColumn("batch", F.lit(self.batch.name))
            self.batch.append(news, page_index.TABLE)
        nodes = boilerplate.boilerplate(pages.frame, max_pages).localCheckpoint()
        rows = _unnamed(near.verdicts(missing, nodes, BOILERPLATE))
        late = nodes.where("is_late").select("node")
        for judged in exactly:
            # An image that comes with this batch has no samples of earlier ones.
            begun = judged.where("revision = 0 AND node = ingest_ordinal")
            begun = begun.where(F.col("kind") == content).select("node")
            late = late.join(begun, "node", "left_anti")
        earlier = self._earlier(BOILERPLATE, held(late))
        if earlier is None:
            return rows
        changed = near.verdicts(earlier.where("NOT is_duplicate"), nodes, BOILERPLATE)
        return rows.unionByName(_unnamed(changed))

    def _fresh(self, kind: NearKind, contents: DataFrame) -> DataFrame:
        """The contents that the kind has not compared yet."""
        compared = lookup(self.batch.warehouse, kind.store, "node", contents, ("batch",))
        compared = compared.where(F.col("batch") != self.batch.name).select("node")
        return contents.join(compared, "node", "left_anti")

    def _inherited(self, rows: DataFrame, kind: str, judged: DataFrame) -> DataFrame:
        """Give new samples of contents that the batch did not judge the verdict of their content.

        Args:
            rows: verdicts, in which such a sample is like no other.
            kind: of the search.
            judged: `node` of contents that the batch judged, distinct.
        """
        others = held(rows.join(judged, "node", "left_anti"))
        if not others.rows:
            return rows
        asked = others.frame.select(F.col("node").alias("ingest_ordinal"))
        of_node = (
            self._held(asked)
            .where(F.col("kind") == kind)
            .select(
                "node",
                F.when(F.col("is_duplicate"), F.col("representative_id")).alias("held_id"),
                F.col("similarity").alias("held_similarity"),
                F.col("cluster_id").alias("held_cluster_id"),
            )
        )
        taken = others.frame.join(of_node, "node", "left").withColumns(
            {
                "is_duplicate": F.col("held_id").isNotNull(),
                "representative_id": F.col("held_id"),
                "similarity": F.coalesce("held_similarity", "similarity"),
                "cluster_id": F.col("held_cluster_id"),
            }
        )
        return rows.join(judged, "node", "left_semi").unionByName(taken.select(*_NAMED))

    def _revised(self, kind: str, change: forest.Change, fresh: DataFrame) -> DataFrame | None:
        """Verdicts on samples of earlier batches that the new links change."""
        nodes = held(near.changed(change.nodes).join(fresh.select("node"), "node", "left_anti"))
        standing = self._earlier(kind, nodes)
        return _unnamed(near.verdicts(standing, change.nodes, kind)) if standing else None

    def _earlier(self, kind: str, nodes: Held) -> DataFrame | None:
        """The verdicts on samples of earlier batches that contents had, to be superseded.

        Args:
            kind: of the search.
            nodes: `node` of contents whose verdict changes, distinct.

        Returns:
            columns of `silver.duplicates`, of the next revision; none of no content.
        """
        if not nodes.rows:
            return None
        earlier = self.batch.history(duplicates.TABLE).where(F.col("kind") == kind)
        holders = earlier.join(F.broadcast(nodes.frame), "node", "left_semi")
        standing = self._stood(holders.select("ingest_ordinal")).where(F.col("kind") == kind)
        return standing.withColumn("revision", F.col("revision") + 1)

    def _held(self, ordinals: DataFrame) -> DataFrame:
        """The verdicts, of every kind, that hold on samples of earlier batches."""
        names = [name for name in duplicates.SCHEMA.names if name != "ingest_ordinal"]
        table = duplicates.TABLE
        found = lookup(self.batch.warehouse, table, "ingest_ordinal", ordinals, names)
        return newest(found.where(F.col("batch") != self.batch.name), table)

    def _stood(self, ordinals: DataFrame) -> DataFrame:
        """The same, but those on samples that this batch judges again by itself."""
        found = self._held(ordinals)
        if self.former is None:
            return found
        return found.join(self.former.frame, ["kind", "sample_id"], "left_anti")

    def _named(self, verdicts: DataFrame) -> DataFrame:
        """Name the samples that verdicts speak of by their ordinals."""
        verdicts = verdicts.localCheckpoint()
        own = self.arrived.frame.select("ingest_ordinal", F.col("sample_id").alias("name"))
        asked = F.array(
            *(F.when(F.col(f"{what}_id").isNull(), F.col(what)) for what in _NAMED_BY_ORDINAL)
        )
        named = verdicts.select(F.explode(F.array_compact(asked)).alias("ingest_ordinal"))
        others = held(named.distinct().join(own, "ingest_ordinal", "left_anti"))
        if others.rows:
            warehouse, table = self.batch.warehouse, self.judged.named
            found = lookup(warehouse, table, "ingest_ordinal", others.frame, ("sample_id",))
            # A clip has a row for each of its signal sets.
            own = own.union(found.distinct().localCheckpoint())
        for what in _NAMED_BY_ORDINAL:
            of_what = own.select(F.col("ingest_ordinal").alias(what), "name")
            verdicts = (
                verdicts.join(of_what, what, "left")
                .withColumn(f"{what}_id", F.coalesce(f"{what}_id", "name"))
                .drop("name")
            )
        return verdicts


def _superseding(verdicts: DataFrame, former: DataFrame) -> DataFrame:
    """Of verdicts on samples that are judged again, those that are others than the former."""
    said = F.struct(
        *(n for n in _NAMED if n not in ("kind", "sample_id", "revision", *_NAMED_BY_ORDINAL))
    )
    was = former.select(
        "kind", "sample_id", (F.col("revision") + 1).alias("next"), said.alias("was")
    )
    return (
        verdicts.join(was, ["kind", "sample_id"], "left")
        .where(F.col("was").isNull() | (said != F.col("was")))
        # Of others that new links change the next one is there already.
        .withColumn("revision", F.greatest("revision", F.coalesce("next", F.lit(0))))
    )


def _unnamed(verdicts: DataFrame) -> DataFrame:
    nameless = {f"{what}_id": F.lit(None).cast("string") for what in _NAMED_BY_ORDINAL}
    return verdicts.withColumns(nameless).select(*_NAMED)
