"""What pairs are about: clusters of the embeddings of image and text together.

Embeddings stay where they are. Clusters are learnt in one task from a bounded sample, and every
row finds its nearest in a pass of its own; only the vectors learnt come to the driver.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, FloatType, IntegerType, StringType, StructType

from jobs.runtime.errors import ConfigError
from jobs.runtime.tables import Warehouse
from schemas import image_signals, text_signals
from schemas.field import field
from udfs.arrow import record_batch
from udfs.joint_embedding import nearest, read_pairs
from udfs.review_clusters import centroids, clusters_for, representatives

COLUMNS: Final = ("sample_id", "clip_score", "image_embedding", "text_embedding")
# Rows that clusters are learnt from. Chosen: 200 MB at 512 + 512 dimensions, in one worker.
TRAINING_ROWS: Final = 50_000
_HASHES: Final = 1 << 32

LEARNT: Final = StructType(
    [
        field("sample_id", StringType(), "the row it is; null: a centroid", nullable=True),
        field("vector", BinaryType(), "float32 of unit length"),
    ]
)
PLACED: Final = StructType(
    [
        field("sample_id", StringType(), "the sample"),
        field("clip_score", FloatType(), "cosine of its image and text", nullable=True),
        field("nearest", IntegerType(), "index; null: no usable embeddings", nullable=True),
        field("cosine", FloatType(), "to the nearest, in [-1, 1]", nullable=True),
    ]
)
Learner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class Shape:
    """How much there is to learn from: rows, and the dimensions that most embeddings have."""

    rows: int
    image_dimension: int
    text_dimension: int


@dataclass(frozen=True)
class Learnt:
    """Vectors that rows are nearest to.

    Attributes:
        vectors: (k, d) float32 of unit length.
        sample_ids: the rows they are, k of them; none of centroids.
    """

    vectors: np.ndarray
    sample_ids: tuple[str, ...] = ()

    def joined(self, more: "Learnt") -> "Learnt":
        """These, then more."""
        return Learnt(
            np.concatenate([self.vectors, more.vectors]), self.sample_ids + more.sample_ids
        )


def nothing(shape: Shape) -> Learnt:
    """No vectors, of the dimension of others."""
    return Learnt(np.zeros((0, shape.image_dimension + shape.text_dimension), np.float32))


def with_embeddings(warehouse: Warehouse, chosen: DataFrame) -> DataFrame:
    """`COLUMNS` of some rows of `silver.pairs`."""
    return embedded(chosen, warehouse.read(image_signals.TABLE), warehouse.read(text_signals.TABLE))


def embedded(chosen: DataFrame, images: DataFrame, texts: DataFrame) -> DataFrame:
    """Pairs with both embeddings; null where there is none.

    Args:
        chosen: rows of `silver.pairs` of one signal set.
        images: rows of `silver.image_signals`.
        texts: rows of `silver.text_signals`.
    """
    image = images.select(
        "media_sha256",
        F.col("signal_set").alias("image_signal_set"),
        F.col("clip_embedding").alias("image_embedding"),
    )
    text = texts.select(
        "text_sha256",
        F.col("signal_set").alias("text_signal_set"),
        F.col("clip_embedding").alias("text_embedding"),
    )
    return (
        chosen.join(image, ["media_sha256", "image_signal_set"], "left")
        .join(text, ["text_sha256", "text_signal_set"], "left")
        .select(*COLUMNS)
    )


def measured(rows: DataFrame) -> Shape:
    """Count rows and dimensions, in one pass.

    Args:
        rows: `COLUMNS`.

    Raises:
        ConfigError: there are no rows, or none has an embedding.
    """
    size = {name: F.octet_length(name) for name in ("image_embedding", "text_embedding")}
    (counted,) = rows.agg(
        F.count("*").alias("rows"),
        *(F.mode(F.when(size[n] > 0, size[n]), deterministic=True).alias(n) for n in size),
    ).collect()
    if not counted["rows"]:
        raise ConfigError(
            "0 pairs were chosen; allowed 1 or more; widen --where or run `sluice run`"
        )
    if counted["image_embedding"] is None or counted["text_embedding"] is None:
        raise ConfigError(
            f"none of {counted['rows']:,} pairs has an embedding of its image and of its text; both"
            " are needed; add clip_embedding to the signals, or choose other pairs"
        )
    return Shape(counted["rows"], counted["image_embedding"] // 2, counted["text_embedding"] // 2)


def learn_representatives(
    rows: DataFrame, shape: Shape, *, most: int, radius: float, clusters: int | None
) -> Learnt:
    """Rows that stand for those near them, at most `most`, the one that covers most first.

    Args:
        rows: `COLUMNS`; beyond `TRAINING_ROWS` a sample of them is looked at.
        shape: of all rows; `shape.rows` may be of these alone.
        most: largest number of representatives.
        radius: least cosine to what stands for a row.
        clusters: of k-means; null: by the number of rows.
    """

    def learn(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = representatives(features, most=most, radius=radius, clusters=clusters)
        return features[found.rows], found.rows

    return _learnt(rows, shape, learn)


def learn_centroids(rows: DataFrame, shape: Shape, *, clusters: int | None) -> Learnt:
    """Directions of the clusters, at least one, if any row is usable."""

    def learn(features: np.ndarray) -> tuple[np.ndarray, None]:
        asked = clusters_for(len(features)) if clusters is None else clusters
        return centroids(features, clusters=asked), None

    return _learnt(rows, shape, learn)


def sampled(rows: DataFrame, count: int, most: int) -> DataFrame:
    """About `most` of `count` rows, the same ones however they are partitioned."""
    if count <= most:
        return rows
    hashed = F.pmod(F.xxhash64(F.lit("themes"), "sample_id"), F.lit(_HASHES))
    return rows.where(hashed < int(most / count * _HASHES))


def placed(rows: DataFrame, learnt: Learnt, shape: Shape) -> DataFrame:
    """`PLACED`: of each row the vector it is nearest to.

    Args:
        rows: `COLUMNS`.
        learnt: at least one vector.
        shape: gives the dimensions.
    """
    vectors = learnt.vectors

    def place(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            features, is_usable = _features(batch, shape)
            index, cosine = nearest(features, vectors)
            yield pa.RecordBatch.from_arrays(
                [
                    batch["sample_id"],
                    batch["clip_score"],
                    pa.array(index.astype(np.int32), mask=~is_usable),
                    pa.array(cosine, mask=~is_usable),
                ],
                names=PLACED.names,
            )

    return rows.select(*COLUMNS).mapInArrow(place, PLACED)


def _learnt(rows: DataFrame, shape: Shape, learn: Learner) -> Learnt:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sample_ids, features = _gathered(batches, shape)
        if not len(features):
            return
        vectors, which = learn(features)
        names: Sequence[str | None] = (
            [None] * len(vectors) if which is None else [sample_ids[row] for row in which]
        )
        yield record_batch(
            [
                {"sample_id": name, "vector": vector.astype("<f4").tobytes()}
                for name, vector in zip(names, vectors, strict=True)
            ],
            LEARNT,
        )

    sample = sampled(rows.select(*COLUMNS), shape.rows, TRAINING_ROWS)
    found = sample.repartition(1).mapInArrow(work, LEARNT).collect()
    dimension = shape.image_dimension + shape.text_dimension
    whole = b"".join(bytes(row["vector"]) for row in found)
    return Learnt(
        np.frombuffer(whole, "<f4").reshape(len(found), dimension),
        tuple(row["sample_id"] for row in found if row["sample_id"] is not None),
    )


def _gathered(batches: Iterable[pa.RecordBatch], shape: Shape) -> tuple[list[str], np.ndarray]:
    """All usable rows in the order of their ids, so that what is learnt does not depend on it."""
    sample_ids: list[str] = []
    parts = [np.zeros((0, shape.image_dimension + shape.text_dimension), np.float32)]
    for batch in batches:
        features, is_usable = _features(batch, shape)
        parts.append(features[is_usable])
        sample_ids += batch["sample_id"].filter(pa.array(is_usable)).to_pylist()
    order = sorted(range(len(sample_ids)), key=sample_ids.__getitem__)
    return [sample_ids[row] for row in order], np.concatenate(parts)[order]


def _features(batch: pa.RecordBatch, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    return read_pairs(
        batch["image_embedding"].to_pylist(),
        batch["text_embedding"].to_pylist(),
        image_dimension=shape.image_dimension,
        text_dimension=shape.text_dimension,
    )
