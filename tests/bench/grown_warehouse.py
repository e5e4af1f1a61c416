"""Warehouses in which a batch waits for the search for duplicates, after so much history.

All tables that the stage asks are as large as history and hold what it would have left there,
compacted: 250,000 contents a file, sorted. What is drawn at random: keys and hashes of history.
What is planted: among images one of ten is a near copy of one of history and one of ten of another
of the batch, among texts as `bench_minhash.texts` has it.

Embeddings lie in a cone, in topics of very different sizes, cosine about 0.7 within one, as
`bench_semantic.planted` has them: so many of a cell have codes that are near without being copies,
and are looked up. The noise of a history row is one of 16,384 rows, its places shifted: rows are
as different as drawn ones, and made at a hundredth of the price. Centroids are a quarter of
`centroids_for` the history: as few as it is let have before a warning, which is the dearest.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.dedup import semantic, stored_centroids
from jobs.runtime.config import Dedup
from jobs.runtime.session import setting
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse, conform
from schemas import (
    batches,
    centroids,
    duplicate_edges,
    duplicates,
    exact_index,
    image_signals,
    minhash_index,
    pairs,
    phash_index,
    samples,
    semantic_index,
    semantic_vectors,
    shingles,
)
from schemas.duplicate_kinds import EXACT_MEDIA, EXACT_TEXT, MINHASH, PHASH, SEMANTIC
from schemas.layout import LOOKED_UP
from udfs import centroids as cells
from udfs.embedding import pack, unit

BANDS: Final = 14  # of the default search for near texts
DIMENSION: Final = 512
_MODEL: Final = "model"
_LINKED: Final = 5  # of so many contents one has a link
_FILE_ROWS: Final = 250_000  # contents of a compacted file
_SAMPLE: Final = 1 << 16  # embeddings on which centroids are found
_POOL: Final = 1 << 14  # rows of noise
_TOPICS: Final = 300
_ANGLE_DEGREES: Final = 10.0  # of a planted copy: cosine 0.985, well within 0.95
# A batch's own contents by their ids: none of history's, and none of the noise of its first 8 M.
_OWN: Final = (1 << 40) + 500 * _POOL
# So many times fewer centroids than a history should have are warned of (`stored_centroids`).
_OUTGROWN: Final = 4
_BLANK: Final = {
    "string": "'-'",
    "bigint": "0",
    "int": "0",
    "boolean": "false",
    "timestamp": "timestamp'2026-01-01'",
    "array<string>": "array()",
}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A search, and what of history it asks for.

    Attributes:
        content: exact kind whose contents it compares.
        index: table that streams past a batch.
        look_ups: keys that a batch's content would ask an index for that is asked by points; none
            where that is the same as reading it.
        tables: those that only this kind asks -> by which column files are sorted, columns by `id`.
    """

    content: str
    index: ModuleType
    look_ups: int | None
    tables: dict[str, tuple[str, tuple[str, ...]]]

    def settings(self, name: str) -> Dedup:
        """The stage's, of this kind alone."""
        return Dedup(kinds=(self.content, name))


_SIGNALS: Final = (
    "sha2(string(-1 - id), 256) AS media_sha256",
    "'ok' AS status",
    "'-' AS signal_set",
    "array() AS computed",
    "current_timestamp() AS scored_at",
    "'run' AS run_id",
)
KINDS: Final = {
    MINHASH: Kind(
        content=EXACT_TEXT,
        index=minhash_index,
        look_ups=BANDS,
        tables={
            minhash_index.TABLE: (
                "key",
                (
                    "-1 - id AS node",
                    f"explode(transform(sequence(1, {BANDS}), i -> xxhash64(id, i))) AS key",
                ),
            ),
            shingles.TABLE: (
                "node",
                ("-1 - id AS node", "unhex(repeat('00', 1200)) AS shingles"),
            ),
        },
    ),
    PHASH: Kind(
        content=EXACT_MEDIA,
        index=phash_index,
        # At radius 3, three substrings of 21 and 22 bits: the 22 values within one bit of the
        # first, and one of each other. Longer ones ask for more, shorter ones find too many rows.
        look_ups=24,
        tables={
            phash_index.TABLE: (
                "phash",
                ("-1 - id AS node", "xxhash64(id) AS phash", "NULL AS mirrored_phash"),
            ),
            image_signals.TABLE: ("media_sha256", (*_SIGNALS, "xxhash64(id) AS phash")),
        },
    ),
    SEMANTIC: Kind(
        content=EXACT_MEDIA,
        index=semantic_index,
        look_ups=None,  # a batch of 20,000 meets most cells, and a cell grows with history
        tables={},
    ),
}


def write(spark: SparkSession, root: str, name: str, history: int, batch: Path) -> Warehouse:
    """Write one.

    Args:
        spark: the session.
        root: its folder.
        name: of the kind.
        history: contents that came before.
        batch: file of samples, as `write_samples` makes it.
    """
    warehouse = filled(spark, root, batch)
    kind = KINDS[name]
    for table, (order, columns) in {**_asked(name, kind.content), **kind.tables}.items():
        warehouse.create(table)
        count = history // _LINKED if table == duplicate_edges.TABLE else history
        if count:
            _append(warehouse, table, _ids(spark, count).selectExpr(*columns), (order,))
    if name == SEMANTIC:
        _write_semantic(warehouse, history, pq.read_metadata(batch).num_rows)
    if name == PHASH:
        fresh = _planted(spark, history, pq.read_metadata(batch).num_rows)
        flipped = "xxhash64(of) ^ IF(of = own, 0L, 1L << int(id % 64) ^ 1L << int(id * 7 % 64))"
        _append_signals(warehouse, fresh.withColumn("phash", F.expr(flipped)))
    return warehouse


def found(warehouse: Warehouse, name: str, batch: int) -> float | None:
    """Share of a batch's planted images that count as copies; of texts see `bench_minhash`."""
    if name == MINHASH:
        return None
    is_planted = F.expr("ingest_ordinal >= 0 AND ingest_ordinal % 10 IN (1, 2)")
    held = warehouse.current(duplicates.TABLE).where((F.col("kind") == name) & is_planted)
    return held.where("is_duplicate").count() / sum(i % 10 in (1, 2) for i in range(batch))


def filled(spark: SparkSession, root: str, documents: Path) -> Warehouse:
    """A warehouse in which samples wait for the stage."""
    warehouse = Warehouse(spark, root)
    for table in (samples.TABLE, pairs.TABLE, batches.TABLE, duplicates.TABLE):
        warehouse.create(table)
    read = spark.read.parquet(str(documents))
    for module in (samples, pairs):
        rows = conform(_blank(read, module), module.TABLE).coalesce(4)
        rows.write.format("delta").mode("append").save(warehouse.path(module.TABLE))
    return warehouse


def write_samples(file: Path, captions: Iterable[str]) -> None:
    """A file of samples, each of its own image."""
    texts = list(captions)
    table = pa.table(
        {
            "ingest_ordinal": pa.array(range(len(texts)), pa.int64()),
            "caption": texts,
            "sample_id": [f"{i:032x}" for i in range(len(texts))],
            "text_sha256": [f"{i:064x}" for i in range(len(texts))],
            "media_sha256": [hashlib.sha256(b"%d" % i).hexdigest() for i in range(len(texts))],
        }
    )
    pq.write_table(table, file, row_group_size=5_000)


def bytes_of(folder: str) -> int:
    """Of a table's files."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))


def _blank(rows: DataFrame, module: ModuleType) -> DataFrame:
    lacking = {
        f.name: F.expr("NULL" if f.nullable else _BLANK[f.dataType.simpleString()])
        for f in module.SCHEMA
        if f.name not in rows.columns
    }
    return rows.withColumns(lacking)


def _asked(kind: str, content: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What every kind asks: table -> by which column its files are sorted, columns by `id`."""
    return {
        exact_index.TABLE: (
            "high",
            (
                "-1 - id AS node",
                "-1 - id AS survivor",
                "NULL AS score",
                f"'{content}' AS kind",
                "xxhash64(id) AS high",
                "id AS low",
            ),
        ),
        duplicates.TABLE: (
            "ingest_ordinal",
            (
                "-1 - id AS node",
                "-1 - id AS ingest_ordinal",
                "lpad(hex(-1 - id), 32, '0') AS sample_id",
                "sample_id AS representative_id",
                "sample_id AS cluster_id",
                "1 AS similarity",
                f"explode(array('{content}', '{kind}')) AS kind",
                "false AS is_duplicate",
                "0 AS revision",
                "current_timestamp() AS decided_at",
                "'run' AS run_id",
            ),
        ),
        duplicate_edges.TABLE: (
            "cluster",
            (
                f"'{kind}' AS kind",
                f"-2 - {_LINKED} * id AS a",
                f"-1 - {_LINKED} * id AS b",
                "0.99 AS similarity",
                "NULL AS a_score",
                "NULL AS b_score",
                f"-2 - {_LINKED} * id AS cluster",
                "true AS is_forest",
                "0 AS revision",
                "current_timestamp() AS linked_at",
                "'run' AS run_id",
            ),
        ),
        samples.TABLE: (
            "ingest_ordinal",
            ("-1 - id AS ingest_ordinal", "lpad(hex(-1 - id), 32, '0') AS sample_id"),
        ),
    }


def _ids(spark: SparkSession, count: int) -> DataFrame:
    return spark.range(count, numPartitions=-(-count // _FILE_ROWS))


def _append(warehouse: Warehouse, table: str, rows: DataFrame, order: tuple[str, ...]) -> None:
    rows = rows.withColumn("batch", F.lit("history"))
    if table == samples.TABLE:
        rows = _blank(rows, samples)
    elif table == image_signals.TABLE:
        rows = _blank(rows, image_signals)
    rows = conform(rows, table).sortWithinPartitions(*order)
    rows.write.format("delta").mode("append").save(warehouse.path(table))


def _planted(spark: SparkSession, history: int, batch: int) -> DataFrame:
    """The batch's `id`, `own`, and `of`: what its content is like, itself if it is no copy."""
    of_history = f"pmod(xxhash64(id), {history})" if history else "own"
    return (
        spark.range(batch, numPartitions=4)
        .withColumn("own", F.expr(f"id + {_OWN}"))
        .withColumn(
            "of", F.expr(f"CASE id % 10 WHEN 1 THEN {of_history} WHEN 2 THEN own - 2 ELSE own END")
        )
    )


def _append_signals(warehouse: Warehouse, fresh: DataFrame) -> None:
    warehouse.create(image_signals.TABLE)
    rows = fresh.withColumn("media_sha256", F.expr("sha2(string(id), 256)"))
    rows = rows.withColumn("status", F.lit("ok"))
    _append(warehouse, image_signals.TABLE, rows.drop("id", "own", "of"), ("media_sha256",))


def _write_semantic(warehouse: Warehouse, history: int, batch: int) -> None:
    """Vectors, index and signals of history, centroids, and the batch's signals."""
    spark = warehouse.spark
    for module in (semantic_index, semantic_vectors, image_signals, centroids):
        warehouse.create(module.TABLE)
    sample = np.random.default_rng(0).integers(0, max(history, _POOL), _SAMPLE)
    count = -(-cells.centroids_for(history + batch) // _OUTGROWN)
    trained = cells.train(_vectors(np.unique(sample)), count)
    none = spark.range(0)
    before = Batch(
        warehouse=warehouse,
        stage="dedup",
        checkpoint="-",
        generation="history",
        batch_id=0,
        run_id="run",
        frame=none,
    )
    stored_centroids.store(before, trained, _MODEL)
    stored_centroids.hold(warehouse, trained, _MODEL)
    if history:
        rows = _ids(spark, history).select("id", F.col("id").alias("of"))
        of_history = _embedded(rows).withColumn("node", F.expr("-1 - id"))
        with setting(spark, "parquet.block.size", LOOKED_UP):
            _append(warehouse, semantic_vectors.TABLE, of_history, ("node",))
        index = semantic.assigned(of_history, trained)
        _append(warehouse, semantic_index.TABLE, index, ("cell", "node"))
        signals = of_history.selectExpr(*_SIGNALS, "embedding AS clip_embedding")
        signals = signals.withColumns(_scored())
        _append(warehouse, image_signals.TABLE, signals, ("media_sha256",))
    fresh = _embedded(_planted(spark, history, batch).select("id", "of"))
    fresh = fresh.withColumnRenamed("embedding", "clip_embedding")
    _append_signals(warehouse, fresh.withColumns(_scored()))


def _scored() -> dict[str, Column]:
    """What an image with an embedding says beside it."""
    return {"clip_model": F.lit(_MODEL), "clip_dimension": F.lit(DIMENSION)}


def _embedded(rows: DataFrame) -> DataFrame:
    """`id`, `embedding`: that of `of`, turned a little where that is another."""
    return rows.mapInArrow(_embed, "id long, embedding binary")


def _embed(parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for part in parts:
        ids, of = (part[name].to_numpy() for name in ("id", "of"))
        vectors = _vectors(of)
        is_copy = (of != ids) & (of != ids + _OWN)
        turn = np.tan(np.radians(_ANGLE_DEGREES))
        vectors[is_copy] += np.float32(turn) * _noise(ids[is_copy] + _OWN // 2)
        packed = pack(unit(vectors))
        yield pa.record_batch({"id": part["id"], "embedding": pa.array(packed, pa.binary())})


def _vectors(ids: np.ndarray) -> np.ndarray:
    """(n, 512) float32 of unit length; equal ids, equal vectors."""
    _, topics = _drawn()
    # Zipf's law over the topics, by a number that the id scrambles to.
    share = np.cumsum(1 / np.arange(1, _TOPICS + 1))
    scrambled = (ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)
    topic = np.searchsorted(share / share[-1], scrambled / (1 << 53))
    return unit(topics[np.minimum(topic, _TOPICS - 1)] + np.float32(0.55) * _noise(ids))


def _noise(ids: np.ndarray) -> np.ndarray:
    """(n, 512) float32 of unit length."""
    pool, _ = _drawn()
    shift, row = np.divmod(ids, _POOL)
    places = (np.arange(DIMENSION) + shift[:, None]) % DIMENSION
    return np.take_along_axis(pool[row], places, axis=1)


@cache
def _drawn() -> tuple[np.ndarray, np.ndarray]:
    """Noise, and where the topics lie: a cosine of 0.4 between two of them."""
    rng = np.random.default_rng(5)
    pool, cone, topics = (
        unit(rng.standard_normal((count, DIMENSION), np.float32)) for count in (_POOL, 1, _TOPICS)
    )
    return pool, np.float32(0.63) * cone + np.float32(0.55) * topics
