"""What samples that go leave behind: contents to be compared again, and samples to be judged again.

The first sample of a content names it, in the index and in links. A cluster may have been held
together by what goes, and of its links only the forest is known. So contents that lose their first
sample, or what stands for them, and all others of their clusters, are taken out of the index and
come as if they were new: what the stage then finds is what it would have found without. So do
images that lose the sample by which a page of theirs is known: another may name the same page, or
one that was not stored.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.dedup import clips, schemes, stage, verdicts
from jobs.dedup.verdicts import INDEXES, Judged
from jobs.runtime.config import Config
from jobs.runtime.streams import Batch
from jobs.runtime.tables import ON_DEMAND, Warehouse, contract
from schemas import duplicate_edges, duplicates, exact_index, page_index
from schemas.duplicate_kinds import BOILERPLATE, CLIP_KINDS, EXACT_KINDS, KINDS, SAMPLE_KINDS
from udfs.identity import digest

_KIND: Final = T.StructField("kind", T.StringType())
_INDEXED: Final = T.StructType([_KIND, T.StructField("node", T.LongType())])
_ASKED: Final = T.StructType([_KIND, T.StructField("sample_id", T.StringType())])


@dataclass(frozen=True, kw_only=True)
class Departed:
    """What is no longer right of one kind.

    Attributes:
        kind: of duplicates.
        nodes: contents that leave the index, those among them that come back included.
        samples: to be judged again.
    """

    kind: str
    nodes: Sequence[int]
    samples: Sequence[str]

    def tables(self, warehouse: Warehouse) -> list[str]:
        """Tables that know the contents by `node`."""
        of_kind = INDEXES.get(self.kind, (exact_index.TABLE,))
        return [
            table
            for table in of_kind
            if "node" in contract(table).SCHEMA.names
            and (table not in ON_DEMAND or warehouse.exists(table))
        ]


def departed(warehouse: Warehouse, gone: DataFrame) -> list[Departed]:
    """What is no longer right once samples or clips are gone, a kind each, the exact ones first.

    Args:
        warehouse: as it is before they go.
        gone: `sample_id`, distinct.
    """
    gone = F.broadcast(gone.select("sample_id"))
    held = warehouse.current(duplicates.TABLE)
    theirs = held.join(gone, "sample_id", "left_semi")
    nodes: dict[str, set[int]] = defaultdict(set)
    named = theirs.select("kind", "ingest_ordinal", "node", "is_duplicate").collect()
    for row in named:
        is_first = row.ingest_ordinal == row.node
        if is_first or (row.kind in EXACT_KINDS and not row.is_duplicate):
            nodes[row.kind].add(row.node)
    near = {kind: found for kind, found in nodes.items() if kind not in EXACT_KINDS}
    for kind, node in _clustered(warehouse, near):
        nodes[kind].add(node)
    for node in _named_pages(warehouse, theirs):
        nodes[BOILERPLATE].add(node)
    samples: dict[str, list[str]] = defaultdict(list)
    if nodes:
        left = held.join(gone, "sample_id", "left_anti")
        judged = left.join(F.broadcast(_frame(warehouse, nodes)), ["kind", "node"], "left_semi")
        for row in judged.select("kind", "sample_id").collect():
            samples[row.kind].append(row.sample_id)
    return [
        Departed(kind=kind, nodes=sorted(nodes[kind]), samples=sorted(samples[kind]))
        for kind in sorted(nodes, key=KINDS.index)
    ]


def _named_pages(warehouse: Warehouse, verdicts: DataFrame) -> list[int]:
    """The images of which a sample with one of these verdicts is the first to name a page."""
    if not warehouse.exists(page_index.TABLE):
        return []
    theirs = verdicts.where(F.col("kind") == BOILERPLATE)
    theirs = theirs.select("node", F.col("ingest_ordinal").alias("ordinal"))
    pages = warehouse.read(page_index.TABLE).select("node", "ordinal")
    found = pages.join(F.broadcast(theirs), ["node", "ordinal"], "left_semi")
    return [row.node for row in found.select("node").distinct().collect()]


def _clustered(
    warehouse: Warehouse, nodes: Mapping[str, Iterable[int]]
) -> Iterable[tuple[str, int]]:
    """The contents of the clusters that contents are in."""
    if not nodes:
        return []
    links = warehouse.current(duplicate_edges.TABLE).where("is_forest")
    ends = links.select("kind", "cluster", F.explode(F.array("a", "b")).alias("node")).distinct()
    ends = ends.localCheckpoint()
    hit = ends.join(F.broadcast(_frame(warehouse, nodes)), ["kind", "node"], "left_semi")
    hit = hit.select("kind", "cluster").distinct()
    found = ends.join(F.broadcast(hit), ["kind", "cluster"], "left_semi")
    return [(row.kind, row.node) for row in found.select("kind", "node").collect()]


def _frame(warehouse: Warehouse, nodes: Mapping[str, Iterable[int]]) -> DataFrame:
    rows = [{"kind": kind, "node": node} for kind, found in nodes.items() for node in found]
    return warehouse.local(rows, _INDEXED)


def hold(warehouse: Warehouse, config: Config, found: Iterable[Departed]) -> None:
    """Refuse a configuration by which the samples would be judged otherwise than before.

    Raises:
        ConfigError: which rule, what the index was built with, what the configuration says.
    """
    for judged, _ in _judged(config, found):
        schemes.hold(warehouse, judged.rules)


def judge_again(batch: Batch, config: Config, found: Iterable[Departed]) -> None:
    """Judge what is left, once all that goes is gone."""
    for judged, of_kinds in _judged(config, found):
        pairs = [{"kind": one.kind, "sample_id": name} for one in of_kinds for name in one.samples]
        asked = batch.warehouse.local(pairs, _ASKED)
        rows = batch.warehouse.read(judged.source).select(*judged.columns)
        frame = rows.join(F.broadcast(asked), "sample_id", "left_semi")
        # Samples and clips are appended to the same tables: a batch of its own each.
        own = replace(batch, generation=digest(batch.generation, judged.stage), frame=frame)
        verdicts.judge_again(own, judged, asked)


def _judged(
    config: Config, found: Iterable[Departed]
) -> Iterator[tuple[Judged, Sequence[Departed]]]:
    """Samples, and clips, that are judged again: by these kinds, searched for still or not."""
    left = [one for one in found if one.samples]
    for known in (SAMPLE_KINDS, CLIP_KINDS):
        of_kinds = [one for one in left if one.kind in known]
        kinds = tuple(one.kind for one in of_kinds)
        if not kinds:
            continue
        if known is CLIP_KINDS:
            settings = config.dedup.model_copy(update={"clip_kinds": kinds})
            yield clips.judged(settings, config.video.sample_fps), of_kinds
        else:
            yield stage.judged(config.dedup.model_copy(update={"kinds": kinds})), of_kinds
