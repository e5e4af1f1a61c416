"""Semantic duplicates: embeddings by cell, and the pairs of them that are near.

An embedding is assigned to its two nearest centroids and has a code of 64 bytes. A batch's codes
meet the codes of history cell by cell; only of those nodes whose codes are near is the embedding
fetched, and only the exact cosine makes a link.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from statistics import mode
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.dedup import stored_centroids
from jobs.dedup.near import NearKind, store
from jobs.runtime.config import Dedup
from jobs.runtime.held import Held, held
from jobs.runtime.lookup import lookup, rows_in
from jobs.runtime.session import arrow_rows
from jobs.runtime.streams import Batch
from jobs.runtime.table_scan import Streamed, having
from jobs.runtime.tables import Warehouse
from schemas import centroids as centroids_table
from schemas import image_signals, semantic_index, semantic_vectors
from schemas import pairs as pairs_table
from schemas.duplicate_kinds import CONTENT, SEMANTIC
from udfs import centroids as cells
from udfs import sign_codes
from udfs.centroids import Centroids
from udfs.embedding import cosine
from udfs.onnx_session import AUTO, Placement

log: Final = logging.getLogger("sluice")

# Distinct nodes -> their embeddings; nodes without one have no row.
VectorsOf = Callable[[DataFrame], DataFrame]

ASSIGNED: Final = "node long, cell int, code binary, centroid_cosine float"
LINKS: Final = "a long, b long, similarity float"
# chosen: 131,072 x 512 are 128 MB as they come and 512 MB while they are fitted, on the driver;
# enough for 3,360 centroids, the square root of 11 million.
SAMPLE: Final = 1 << 17
# Codes of a batch that travel to every task at once: 131,072 x 76 bytes = 10 MB, and the driver
# sees no more at a time; what a task finds for them is 84 MB at the very most. A batch of 65,536
# nodes is one slice (chosen).
SLICE: Final = 1 << 17
# Pairs that are verified together; at most twice as many embeddings: 32,768 x 512 float32 are
# 64 MB in a worker (chosen).
BLOCK: Final = 1 << 14
# Pairs whose cosines are computed at a time: 4,096 x 2 x 512 float32 are 16 MB beside the block
# (chosen).
_PAIRS: Final = 1 << 12

# Rows of a batch's codes that go to Python at a time: 8 MB. The session's own is made for media.
_ARROW_ROWS: Final = 100_000

_MET: Final = ("node", "cell", "code")
_CANDIDATES: Final = "cell int, node long, other long, distance short"
_Batches = Iterable[pa.RecordBatch]


def search(batch: Batch, fresh: Held, settings: Dedup) -> DataFrame:
    """Links of a batch's fresh images, which are put into the index.

    An image without an embedding by the model of the index, or with one that has no direction, is
    like no other, and stays so: it counts as compared.

    Args:
        batch: that brings them.
        fresh: `node`, `media_sha256`.
        settings: the threshold.

    Returns:
        as `links`.

    Raises:
        ConfigError: the batch's embeddings are of another model than the index.
    """
    warehouse = batch.warehouse
    vectors, model = _embeddings(batch, fresh.frame)
    centroids = stored_centroids.read(warehouse)
    if centroids is None and model is not None:
        found = train(_scored(warehouse, model))
        if found is not None:
            stored_centroids.store(batch, found, model)
            centroids = stored_centroids.read(warehouse)
    if centroids is None or model is None:
        store(batch, vectors, semantic_vectors.TABLE)
        return warehouse.spark.createDataFrame([], LINKS)
    stored_centroids.hold(warehouse, centroids, model)
    placed = assigned(vectors, centroids).localCheckpoint()
    mine = placed.where(F.col("cell").isNotNull()).withColumn("batch", F.lit(batch.name))
    batch.append(mine, semantic_index.TABLE)
    store(batch, vectors, semantic_vectors.TABLE)
    stored_centroids.report(placed, centroids, warehouse.read(semantic_vectors.TABLE).count())
    index = Streamed.history(batch, semantic_index.TABLE, _MET)

    def vectors_of(nodes: DataFrame) -> DataFrame:
        return lookup(warehouse, semantic_vectors.TABLE, "node", nodes, ("embedding",))

    return links(placed, index, settings.semantic.threshold, vectors_of)


KIND: Final = NearKind(
    name=SEMANTIC,
    content=CONTENT[SEMANTIC],
    tables=(semantic_index.TABLE, semantic_vectors.TABLE, centroids_table.TABLE),
    store=semantic_vectors.TABLE,
    links=search,
)


def _embeddings(batch: Batch, fresh: DataFrame) -> tuple[DataFrame, str | None]:
    """`node`, `embedding` of all fresh images, null where there is none; and by which model.

    The model is the one that scored the batch's images last.
    """
    scored = F.struct("scored_at", "signal_set")
    warehouse, table = batch.warehouse, image_signals.TABLE
    said = ("clip_dimension", "clip_model", "scored_at", "signal_set")
    signals = held(
        having(warehouse, table, "media_sha256", fresh, said)
        .where("clip_dimension IS NOT NULL AND clip_model IS NOT NULL")
        .groupBy("media_sha256", "clip_model")
        # An image may have been scored by the same model in several signal sets.
        .agg(F.max(scored).alias("scored"), F.max_by("file", scored).alias("file")),
        last=F.max_by("clip_model", F.struct("scored", "clip_model")),
    )
    model: str | None = signals.said["last"]
    of_model = signals.frame.where(F.col("clip_model") == F.lit(model))
    wanted = of_model.select("media_sha256", "scored.signal_set", "file")
    embeddings = rows_in(warehouse, table, wanted, ("clip_embedding",))
    vectors = fresh.select("node", "media_sha256").join(
        embeddings.select("media_sha256", F.col("clip_embedding").alias("embedding")),
        "media_sha256",
        "left",
    )
    lacking = F.count_if(F.col("embedding").isNull())
    found = held(vectors.select("node", "embedding"), lacking=lacking)
    if found.said["lacking"]:
        log.warning(
            "semantic: images without an embedding%s, which count as like no other: %d",
            "" if model is None else f" by the model {model[:12]}",
            found.said["lacking"],
        )
    return found.frame, model


def _scored(warehouse: Warehouse, model: str) -> DataFrame:
    """`node`, `embedding` of all images that the model has scored for a sample: the node a hash.

    The first batch is a small part of them, and of an index that is begun anew the oldest.
    """
    theirs = (F.length("clip_embedding") > 0) & (F.col("clip_model") == F.lit(model))
    return (
        warehouse.read(image_signals.TABLE)
        .where(theirs)
        .join(warehouse.read(pairs_table.TABLE).select("media_sha256"), "media_sha256", "left_semi")
        .groupBy(F.xxhash64("media_sha256").alias("node"))
        .agg(F.max("clip_embedding").alias("embedding"))
    )


def train(
    vectors: DataFrame, k: int | None = None, seed: int = cells.SEED, most: int = SAMPLE
) -> Centroids | None:
    """Centroids of stored embeddings, found on a sample on the driver.

    The same rows give the same centroids, whatever their order and partitions.

    Args:
        vectors: `node` long, distinct; `embedding` binary, of one model.
        k: how many; without it, `centroids_for` all the vectors. No more than the sample
            supports.
        seed: of the sample and of k-means.
        most: about how many vectors are sampled.

    Returns:
        the centroids, or none where no embedding has a direction.
    """
    rows = vectors.where(F.col("embedding").isNotNull())
    count = rows.count()
    # By hash, not by the random functions: those follow the partitions.
    drawn = F.pmod(F.xxhash64("node", F.lit(seed)), F.lit(1 << 30)) < int(
        min(1.0, most / max(count, 1)) * (1 << 30)
    )
    sample = rows.where(drawn).select("node", "embedding").toArrow().sort_by("node")
    packed = sample["embedding"].to_pylist()
    # The length that most have: a broken one costs itself.
    unit, _ = cells.readable(packed, mode(map(len, packed)) // 2 if packed else 1)
    if not len(unit):
        return None
    return cells.train(unit, cells.centroids_for(count) if k is None else k, seed)


def assigned(
    vectors: DataFrame,
    centroids: Centroids,
    placement: Placement = AUTO,
    count: int = cells.ASSIGNMENTS,
) -> DataFrame:
    """The cells and the code of each embedding.

    Args:
        vectors: `node` long, `embedding` binary.
        centroids: of the same model.
        placement: where the products are made.
        count: cells of a node.

    Returns:
        `node`, `cell` int, `code` binary (64 bytes), `centroid_cosine` float: a row a cell, the
        nearest first. An embedding without a direction (null, of another length, with NaN or
        infinity, all zeros) has one row, in which all but the node is null.
    """

    def assign(batches: _Batches) -> _Batches:
        for batch in batches:
            node = batch["node"].to_numpy(zero_copy_only=False)
            unit, is_good = cells.readable(batch["embedding"].to_pylist(), centroids.dimension)
            cell, near = cells.nearest(unit, centroids, count, placement)
            each = cell.shape[1]
            code = np.repeat(sign_codes.codes(unit), each, axis=0)
            found = pa.table(
                {
                    "node": pa.array(np.repeat(node[is_good], each), pa.int64()),
                    "cell": pa.array(cell.ravel()),
                    "code": pa.array([row.tobytes() for row in code], pa.binary()),
                    "centroid_cosine": pa.array(near.ravel()),
                }
            )
            lost = pa.table({"node": pa.array(node[~is_good], pa.int64())})
            yield from pa.concat_tables([found, lost], promote_options="default").to_batches()

    return vectors.select("node", "embedding").mapInArrow(assign, ASSIGNED)


def links(
    fresh: DataFrame,
    index: Streamed,
    threshold: float,
    vectors_of: VectorsOf,
    most: int = sign_codes.MOST,
) -> DataFrame:
    """The pairs of a batch with history and with itself whose cosine is at least the threshold.

    A pair is missed when its nodes share no cell, when their codes differ by more than
    `sign_codes.radius` (p <= 0.001) or the first bits of them by more than `early_radius` (p <=
    0.0001), or when `most` others of the cell have nearer codes.

    Args:
        fresh: `node`, `cell`, `code` of the batch's nodes.
        index: the same of history, all with a cell; rows of fresh nodes do no harm.
        threshold: least cosine, (0, 1].
        vectors_of: gives `node`, `embedding` of nodes of both.
        most: candidates of a node in a cell.

    Returns:
        `a`, `b` long (a < b), `similarity` float; each pair once.
    """
    fresh = fresh.select(*_MET).where(F.col("cell").isNotNull()).localCheckpoint()
    others = index.with_fresh(fresh)
    with arrow_rows(fresh.sparkSession, _ARROW_ROWS):
        found = [_met(fresh.where(part), others, threshold, most) for part in _slices(fresh)]
    spark = fresh.sparkSession
    if not found:
        return spark.createDataFrame([], LINKS)
    nearest = Window.partitionBy("cell", "node").orderBy("distance", "other")
    pairs = held(
        reduce(DataFrame.unionByName, found)
        .withColumn("rank", F.row_number().over(nearest))
        .where(F.col("rank") <= most)
        .select(F.least("node", "other").alias("a"), F.greatest("node", "other").alias("b"))
        .distinct()
    )
    return _verified(pairs, threshold, vectors_of)


def _slices(fresh: DataFrame) -> Iterator[Column]:
    """Bounded parts of a batch.

    Cells stay together, so that all slices read a history that is sorted by cell once; a cell
    that is a slice too many by itself is cut by node.
    """
    counts = fresh.groupBy("cell").count().orderBy("cell").collect()  # no more than there are cells
    first, filled = None, 0
    for number, (cell, count) in enumerate(counts):
        first = cell if first is None else first
        filled += count
        following = counts[number + 1][1] if number + 1 < len(counts) else SLICE
        if filled + following > SLICE:
            parts = -(-filled // SLICE)
            for part in range(parts):
                is_part = F.pmod(F.xxhash64("node"), F.lit(parts)) == part
                yield F.col("cell").between(first, cell) & is_part
            first, filled = None, 0


def _met(fresh: DataFrame, others: Streamed, threshold: float, most: int) -> DataFrame:
    """Candidates of one slice: the nearest codes that each task has seen."""
    radius, early = sign_codes.radius(threshold), sign_codes.early_radius(threshold)
    mine = _read(fresh.toArrow())

    def search(batches: _Batches) -> _Batches:
        cell, node, code = mine
        searcher = sign_codes.Searcher(cell, node, code, radius, most, early)

        for batch in batches:
            searcher.meet(*_read(pa.Table.from_batches([batch])))
        for found in searcher.found():
            yield pa.record_batch(
                {
                    "cell": cell[found.row],
                    "node": node[found.row],
                    "other": found.other,
                    "distance": found.distance,
                }
            )

    # Checkpointed slice by slice: one slice at a time is held on the driver.
    cells_asked = np.unique(mine[0])
    return others.map_in_arrow(search, _CANDIDATES, asked=cells_asked).localCheckpoint()


def _read(rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells, nodes and codes of rows."""
    width = sign_codes.BITS // 8
    code = rows["code"].combine_chunks()
    is_whole = np.asarray(pc.equal(pc.binary_length(code), width).fill_null(False))
    if not is_whole.all():
        raise ValueError(
            f"codes of {np.count_nonzero(~is_whole)} rows differ from {width} bytes; "
            "rebuild the index with this version's codes"
        )
    # Of one width, their bytes are a matrix as they lie.
    fixed = code.cast(pa.binary(width))
    return (
        np.asarray(rows["cell"], np.int32),
        np.asarray(rows["node"], np.int64),
        np.frombuffer(fixed.buffers()[1], "<u8", len(fixed) * width // 8).reshape(-1, width // 8),
    )


def _verified(candidates: Held, threshold: float, vectors_of: VectorsOf) -> DataFrame:
    """Of candidate pairs, those whose exact cosine is at least the threshold."""
    blocks = max(1, -(-candidates.rows // BLOCK))
    # By pair, so that no block is larger for a node that is in many.
    pairs = candidates.frame.withColumn(
        "block", F.pmod(F.xxhash64("a", "b"), F.lit(blocks)).cast("int")
    )
    ends = pairs.select("block", F.explode(F.array("a", "b")).alias("node")).distinct()
    vectors = vectors_of(ends.select("node").distinct()).select("node", "embedding")
    # Another name, or Spark takes the two for one column.
    vectors = ends.join(vectors, "node").select(F.col("block").alias("of"), "node", "embedding")

    def verify(left: pa.Table, right: pa.Table) -> pa.Table:
        return linked(left, right, threshold)

    return pairs.groupBy("block").cogroup(vectors.groupBy("of")).applyInArrow(verify, LINKS)


def linked(pairs: pa.Table, vectors: pa.Table, threshold: float) -> pa.Table:
    """The pairs of one block that are near.

    Args:
        pairs: `a`, `b`.
        vectors: `node`, `embedding`; a pair with a node that is missing here, or has no
            direction, is no link.
        threshold: least cosine.

    Returns:
        `a`, `b`, `similarity`.
    """
    packed = vectors["embedding"].to_pylist()
    dimension = max((len(p) for p in packed if p), default=2) // 2
    unit, is_good = cells.readable(packed, dimension)
    node = np.asarray(vectors["node"], np.int64)[is_good]
    order = np.argsort(node)
    node, unit = node[order], unit[order]
    a, b = np.asarray(pairs["a"], np.int64), np.asarray(pairs["b"], np.int64)
    has_both = np.isin(a, node) & np.isin(b, node)
    a, b = a[has_both], b[has_both]
    similarity = np.empty(len(a), np.float32)
    for start in range(0, len(a), _PAIRS):
        part = slice(start, start + _PAIRS)
        similarity[part] = cosine(
            unit[np.searchsorted(node, a[part])], unit[np.searchsorted(node, b[part])]
        )
    is_near = similarity >= np.float32(threshold)
    return pa.table({"a": a[is_near], "b": b[is_near], "similarity": similarity[is_near]})
