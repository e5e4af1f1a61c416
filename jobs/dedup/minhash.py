"""Near copies among texts: MinHash-LSH over shingles, every candidate verified by its Jaccard.

A worker signs texts and writes their shingles down itself; only the bands' keys reach the JVM. A
key that two texts share makes them a candidate; the index of keys is read by a broadcast join, and
of old texts nothing else but the shingles of candidates.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.dedup import forest, schemes, text_scopes
from jobs.dedup.near import NearKind
from jobs.runtime import worker_files
from jobs.runtime.config import Dedup
from jobs.runtime.held import Held, computed
from jobs.runtime.lookup import lookup
from jobs.runtime.session import arrow_rows
from jobs.runtime.streams import Batch
from jobs.runtime.worker_files import WorkerFile, answer
from schemas import minhash_index, samples, shingles
from schemas.duplicate_kinds import CONTENT, MINHASH
from udfs.key_parts import KEY_BYTES, dealt, gathered, opened
from udfs.minhash import Scheme, jaccard, keys_by, keys_within, pack, unpack
from udfs.normalised_text import normalised_words
from udfs.same_key import in_order, pairs_of_keys
from udfs.shingles import ShingleSets, shingle_sets

# Rows of a row group of `silver.shingles`: what is read to have one of them. Chosen: 256 texts of
# 300 words are 300 kB, so that a look-up reads about what a disk gives in a seek's time.
ROW_GROUP_ROWS: Final = 256
# Keys, and places of texts, that are sent to all tasks; more are joined by a shuffle. Chosen:
# Spark's hashed relation of longs takes 16 to 32 bytes a key, so these take up to 128 MB of a heap.
BROADCAST_KEYS: Final = 4_000_000
# Rows of keys that a task pairs at a time: 17 bytes each.
_KEYS_PER_TASK: Final = 4_000_000
# Keys that a task deals out at a time, 4 MB with their nodes.
_DEALT_KEYS: Final = 1 << 18
# Rows of a row group of the index, 16 MB as they are in memory.
_INDEX_ROWS: Final = 1 << 20

# Rows of the index that go to Python at a time: 1.6 MB.
_KNOWN_ROWS: Final = 100_000

_PART: Final = pa.schema(
    [
        ("part", pa.int32()),
        ("keys", pa.binary()),
        ("nodes", pa.binary()),
        ("is_fresh", pa.bool_()),
    ]
)
# Either keys of a part, or what a file of shingles holds.
_DEALT: Final = worker_files.answers(_PART)
# Either a pair, or what a file of the index holds.
_PAIRED: Final = worker_files.answers(pa.schema([("a", pa.int64()), ("b", pa.int64())]))
_Batches = Iterable[pa.RecordBatch]
_Keys = tuple[np.ndarray, np.ndarray]  # with their nodes


def links(batch: Batch, fresh: Held, settings: Dedup) -> DataFrame:
    """Pairs of texts, at least one of them fresh, whose shingles are alike; the fresh are indexed.

    Args:
        batch: that brings the fresh texts.
        fresh: `node`, `ingest_ordinal`, with the span of the latter.
        settings: unit and length of shingles, threshold, scope.

    Returns:
        `a`, `b`, `similarity`: the Jaccard of their sets of shingles, at least the threshold.
    """
    scheme = schemes.minhash(settings)
    count = fresh.rows * scheme.bands * text_scopes.EACH[settings.text_scope]
    spark = batch.warehouse.spark
    parts = max(spark.sparkContext.defaultParallelism, -(-count // _KEYS_PER_TASK))
    # The worker writes the texts of a batch as one row group.
    with arrow_rows(spark, ROW_GROUP_ROWS):
        signed = computed(_signed(batch, fresh, settings, scheme, parts))
    worker_files.append(batch, signed, shingles.TABLE)
    keys = signed.where("part IS NOT NULL").select(*_PART.names)
    known = _known(keys, batch.history(minhash_index.TABLE), count, parts)
    pairing = _pairing(batch.warehouse.path(minhash_index.TABLE), batch.name)
    of_part = keys.unionByName(known).repartitionById(parts, "part")
    with arrow_rows(spark, _KNOWN_ROWS):
        paired = computed(of_part.mapInArrow(pairing, from_arrow_schema(_PAIRED)))
    worker_files.append(batch, paired, minhash_index.TABLE)
    candidates = computed(paired.where("a IS NOT NULL").select("a", "b").distinct())
    return _verified(batch, candidates, scheme.threshold)


KIND: Final = NearKind(
    name=MINHASH,
    content=CONTENT[MINHASH],
    tables=(minhash_index.TABLE, shingles.TABLE),
    store=shingles.TABLE,
    links=links,
)


def _signed(batch: Batch, fresh: Held, settings: Dedup, scheme: Scheme, parts: int) -> DataFrame:
    asked = fresh.frame.select("node", "ingest_ordinal")
    if fresh.rows <= BROADCAST_KEYS:
        asked = F.broadcast(asked)
    # Samples lie in order of arrival, and so of nodes: a row group of shingles holds neighbours,
    # and a look-up reads one of them.
    texts = batch.warehouse.read(samples.TABLE).where(fresh.within("ingest_ordinal"))
    texts = texts.select("ingest_ordinal", "caption", "dump").join(asked, "ingest_ordinal")
    texts = text_scopes.scoped(batch.warehouse, texts, settings).drop("ingest_ordinal", "dump")
    signing = _signing(scheme, batch.warehouse.path(shingles.TABLE), batch.name, parts)
    return texts.mapInArrow(signing, from_arrow_schema(_DEALT))


def _signing(
    scheme: Scheme, folder: str, batch: str, parts: int
) -> Callable[[_Batches], Iterator[pa.RecordBatch]]:
    def sign(batches: _Batches) -> Iterator[pa.RecordBatch]:
        file = WorkerFile(folder, **shingles.LAYOUT.for_arrow())
        keys = (_keys(_written(rows, scheme, file, batch), rows, scheme) for rows in batches)
        yield from _dealt(keys, parts, is_fresh=True)
        yield from file.closed(_DEALT)

    return sign


def _written(rows: pa.RecordBatch, scheme: Scheme, file: WorkerFile, batch: str) -> ShingleSets:
    sets = shingle_sets(normalised_words(rows["caption"]), scheme.shingling)
    name = pa.repeat(pa.scalar(batch), rows.num_rows)
    file.write({"node": rows["node"], "shingles": pack(sets), "batch": name}, ROW_GROUP_ROWS)
    return sets


def _keys(sets: ShingleSets, rows: pa.RecordBatch, scheme: Scheme) -> _Keys:
    """Keys of all bands with their nodes; a blank text has none, so that it is like no other."""
    keys = keys_by(scheme, sets)
    if "scopes" in rows.schema.names:
        keys = keys_within(keys, rows["scopes"])
    has_keys = sets.sizes > 0
    node = np.repeat(rows["node"].to_numpy()[has_keys], keys.shape[1])
    return keys[has_keys].reshape(-1), node


def _dealt(keys: Iterable[_Keys], parts: int, *, is_fresh: bool) -> Iterator[pa.RecordBatch]:
    for key, node in gathered(keys, _DEALT_KEYS):
        mark = pa.repeat(pa.scalar(is_fresh), parts)
        yield answer(dealt(key, node, parts) | {"is_fresh": mark}, _DEALT)


def _known(keys: DataFrame, index: DataFrame, count: int, parts: int) -> DataFrame:
    """What the index has under the keys, dealt out as they are."""
    asked = keys.select("keys").mapInArrow(_opened, "key long")
    if count <= BROADCAST_KEYS:
        asked = F.broadcast(asked)
    found = index.join(asked, "key", "left_semi").select("key", "node")

    def deal(batches: _Batches) -> Iterator[pa.RecordBatch]:
        known = ((rows["key"].to_numpy(), rows["node"].to_numpy()) for rows in batches)
        return _dealt(known, parts, is_fresh=False)

    return found.mapInArrow(deal, from_arrow_schema(_DEALT)).select(*_PART.names)


def _opened(batches: _Batches) -> Iterator[pa.RecordBatch]:
    for rows in batches:
        yield pa.RecordBatch.from_pydict({"key": opened(rows["keys"])})


def _pairing(folder: str, batch: str) -> Callable[[_Batches], Iterator[pa.RecordBatch]]:
    """Pairs under the keys of a part, whose fresh rows become a file of the index."""

    def pair(batches: _Batches) -> Iterator[pa.RecordBatch]:
        parts = list(batches)
        if not parts:
            return
        rows = pa.Table.from_batches(parts)
        sizes = pc.divide(pc.binary_length(rows["keys"]), KEY_BYTES).to_numpy()
        key, node, is_fresh = in_order(
            opened(rows["keys"]), opened(rows["nodes"]), np.repeat(rows["is_fresh"], sizes)
        )
        for a, b in pairs_of_keys(key, node, is_fresh):
            yield answer({"a": a, "b": b}, _PAIRED)
        file = WorkerFile(folder, **minhash_index.LAYOUT.for_arrow())
        if is_fresh.any():
            name = pa.repeat(pa.scalar(batch), int(is_fresh.sum()))
            file.write({"key": key[is_fresh], "node": node[is_fresh], "batch": name}, _INDEX_ROWS)
        yield from file.closed(_PAIRED)

    return pair


def _verified(batch: Batch, candidates: DataFrame, threshold: float) -> DataFrame:
    nodes = forest.ends(candidates)
    sets = lookup(batch.warehouse, shingles.TABLE, "node", nodes, ("shingles",)).localCheckpoint()
    sides = candidates
    for side in ("a", "b"):
        of_side = sets.select(F.col("node").alias(side), F.col("shingles").alias(f"of_{side}"))
        sides = sides.join(of_side, side)
    compared = sides.select("a", "b", "of_a", "of_b").mapInArrow(
        _compared, "a long, b long, similarity float"
    )
    # As the table stores it: what is 0.7 there was at least 0.7.
    return compared.where(F.col("similarity") >= F.lit(threshold).cast("float"))


def _compared(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for rows in batches:
        similarity = jaccard(unpack(rows["of_a"]), unpack(rows["of_b"])).astype(np.float32)
        yield pa.RecordBatch.from_pydict(
            {"a": rows["a"], "b": rows["b"], "similarity": pa.array(similarity)}
        )
