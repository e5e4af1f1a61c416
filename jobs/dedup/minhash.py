"""Near copies among texts: MinHash-LSH over shingles, every candidate verified by its Jaccard.

A worker signs texts and writes their shingles down itself; only the bands' keys reach the JVM. A
key that two texts share makes them a candidate; the index of keys is read by a broadcast join, and
of old texts nothing else but the shingles of candidates.
"""

import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.dedup import forest, schemes
from jobs.dedup.near import NearKind
from jobs.runtime.config import Dedup
from jobs.runtime.lookup import lookup
from jobs.runtime.session import arrow_rows
from jobs.runtime.streams import Batch
from jobs.runtime.tables import within
from jobs.sources.place import filesystem_of
from schemas import minhash_index, samples, shingles
from schemas.duplicate_kinds import CONTENT, MINHASH
from udfs.minhash import Scheme, band_keys, jaccard, pack, signatures, unpack
from udfs.normalised_text import normalised_words
from udfs.same_key import pairs_of_keys
from udfs.shingles import ShingleSets, shingle_sets

# Rows of a row group of `silver.shingles`: what is read to have one of them. Chosen: 256 texts of
# 300 words are 300 kB, so that a look-up reads about what a disk gives in a seek's time.
ROW_GROUP_ROWS: Final = 256
# Keys that are sent to all tasks; more are joined by a shuffle. Chosen: Spark's hashed relation
# of longs takes 16 to 32 bytes a key, so these take up to 128 MB of a heap.
BROADCAST_KEYS: Final = 4_000_000
# Rows of keys that a task pairs at a time: 17 bytes each.
_KEYS_PER_TASK: Final = 4_000_000
_SIGNED: Final = "node long, keys array<long>, file string"
_PAIR: Final = "a long, b long"


def links(batch: Batch, fresh: DataFrame, settings: Dedup) -> DataFrame:
    """Pairs of texts, at least one of them fresh, whose shingles are alike; the fresh are indexed.

    Args:
        batch: that brings the fresh texts.
        fresh: `node`, `sample_id`, `ingest_ordinal`.
        settings: unit and length of shingles, threshold.

    Returns:
        `a`, `b`, `similarity`: the Jaccard of their sets of shingles, at least the threshold.
    """
    scheme = schemes.minhash(settings)
    # The worker writes the texts of a batch as one row group.
    with arrow_rows(batch.warehouse.spark, ROW_GROUP_ROWS):
        signed = _signed(batch, fresh, scheme).localCheckpoint()
    _append_shingles(batch, signed)
    keys = signed.select(F.explode("keys").alias("key"), "node")
    candidates = paired(keys, batch.history(minhash_index.TABLE)).localCheckpoint()
    batch.append(keys.withColumn("batch", F.lit(batch.name)), minhash_index.TABLE, sort_by=("key",))
    return _verified(batch, candidates, scheme.threshold)


KIND: Final = NearKind(
    name=MINHASH,
    content=CONTENT[MINHASH],
    tables=(minhash_index.TABLE, shingles.TABLE),
    store=shingles.TABLE,
    links=links,
)


def _signed(batch: Batch, fresh: DataFrame, scheme: Scheme) -> DataFrame:
    texts = batch.warehouse.read(samples.TABLE).where(within(fresh, "ingest_ordinal"))
    texts = fresh.select("node", "sample_id").join(
        texts.select("sample_id", "caption"), "sample_id"
    )
    # In order of nodes, so that a row group holds neighbours and a look-up reads one of them.
    ordered = (
        texts.select("node", "caption").repartitionByRange("node").sortWithinPartitions("node")
    )
    return ordered.mapInArrow(
        _signer(scheme, batch.warehouse.path(shingles.TABLE), batch.name), _SIGNED
    )


def _signer(
    scheme: Scheme, folder: str, batch: str
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def sign(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Its name is drawn: a task that is tried again writes another, which the rows then name.
        name = f"{uuid.uuid4().hex}.parquet"
        filesystem, inside = filesystem_of(folder)
        writer: pq.ParquetWriter | None = None
        for rows in batches:
            if not rows.num_rows:
                continue
            sets = shingle_sets(normalised_words(rows["caption"]), scheme.shingling)
            table = pa.table(
                {
                    "node": rows["node"],
                    "shingles": pack(sets),
                    "batch": pa.repeat(pa.scalar(batch), rows.num_rows),
                }
            )
            if writer is None:
                # Hashes neither shrink nor repeat.
                writer = pq.ParquetWriter(
                    posixpath.join(inside, name),
                    table.schema,
                    filesystem=filesystem,
                    compression="none",
                    use_dictionary=["batch"],
                )
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            yield pa.RecordBatch.from_pydict(
                {
                    "node": rows["node"],
                    "keys": _keys(sets, scheme),
                    "file": pa.repeat(pa.scalar(name), rows.num_rows),
                }
            )
        if writer is not None:
            writer.close()

    return sign


def _keys(sets: ShingleSets, scheme: Scheme) -> pa.ListArray:
    """Keys of each text's bands; a blank text has none, so that it is like no other."""
    keys = band_keys(signatures(sets, scheme.num_perm, scheme.seed), scheme.bands, scheme.rows)
    has_keys = sets.sizes > 0
    offsets = np.concatenate([[0], np.cumsum(scheme.bands * has_keys)])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(keys[has_keys].reshape(-1))
    )


def _append_shingles(batch: Batch, signed: DataFrame) -> None:
    if batch.has_appended(shingles.TABLE):
        return
    files = signed.groupBy("file").agg(
        F.count("*").alias("rows"), F.min("node").alias("low"), F.max("node").alias("high")
    )
    found = files.collect()
    if found:
        batch.append_files(
            {file.file: file.rows for file in found},
            shingles.TABLE,
            ranges={"node": {file.file: (file.low, file.high) for file in found}},
        )


def paired(keys: DataFrame, index: DataFrame) -> DataFrame:
    """Pairs of nodes that share a key, at least one of them fresh.

    Args:
        keys: `key`, `node` of fresh texts.
        index: `key`, `node` of earlier ones.

    Returns:
        `a`, `b`, distinct, a < b.
    """
    count = keys.count()
    asked = keys.select("key")
    if count <= BROADCAST_KEYS:
        asked = F.broadcast(asked)
    known = index.join(asked, "key", "left_semi").select("key", "node")
    held = keys.select("key", "node", F.lit(True).alias("is_fresh")).unionByName(
        known.withColumn("is_fresh", F.lit(False))
    )
    tasks = max(held.sparkSession.sparkContext.defaultParallelism, -(-count // _KEYS_PER_TASK))
    return held.repartition(tasks, "key").mapInArrow(_pairs, _PAIR).distinct()


def _pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    held = pa.Table.from_batches(batches) if (batches := list(batches)) else None
    if held is None:
        return
    key, node, is_fresh = (held[name].to_numpy() for name in ("key", "node", "is_fresh"))
    for a, b in pairs_of_keys(key, node, is_fresh):
        yield pa.RecordBatch.from_pydict({"a": a, "b": b})


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
