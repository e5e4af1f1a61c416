"""Crops among images: those that share two segments, every candidate verified by all its segments.

An image is found by the hashes of its segments that tell something. The index of hashes streams
past those of the batch; of old images nothing else is read but the hashes of candidates. An image
with fewer than two such hashes is like no other.

A hash leads to a few of the images that came before: a logo that a third of all rows share costs a
few comparisons a row. Of images that come in their order the links are the same however they are
dealt out to batches, for what came before one is the same. In another order so are the clusters, up
to what a hash that more share would have led to.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.dedup import forest
from jobs.dedup.hash_scan import scanned, stored_hashes
from jobs.dedup.near import NearKind, store
from jobs.runtime.config import Dedup
from jobs.runtime.held import Held, computed, held
from jobs.runtime.lookup import lookup
from jobs.runtime.session import arrow_rows
from jobs.runtime.streams import Batch
from jobs.runtime.table_scan import Streamed
from schemas import crop_index, crop_segments
from schemas.crop_segments import HASHES
from schemas.duplicate_kinds import CONTENT, CROP
from udfs.crop_match import BITS, similarity, telling
from udfs.near_hashes import NearHashes, Pairs, check_radius

log: Final = logging.getLogger("sluice")

# Images that a hash of an image leads to. What more show is everywhere and tells little, a logo or
# a frame: the nearest, then the oldest, are compared. As for frames of clips (jobs/dedup/video.py);
# chosen.
MOST: Final = 16
# Hashes of a batch that a task compares with at a time: as for perceptual hashes.
SLICE_ROWS: Final = 1_000_000
# Classes of equal hashes that are laid open at a time. Chosen: of MOST + 1 images each 28 MB.
_HITS: Final = 1 << 16
# Images, or pairs of them, that go to Python at a time. Chosen: of 16 hashes a side 2.6 MB.
_ARROW_ROWS: Final = 10_000

_SEGMENTS: Final = StructType([crop_segments.SCHEMA[name] for name in ("node", HASHES)])
_LINK: Final = "a long, b long, similarity float"
_HIT: Final = "hash long, other long, distance byte, is_old boolean"
_HIT_ARROW: Final = pa.schema(
    [
        ("hash", pa.int64()),
        ("other", pa.int64()),
        ("distance", pa.int8()),
        ("is_old", pa.bool_()),
    ]
)


def links(batch: Batch, fresh: Held, settings: Dedup) -> DataFrame:
    """Pairs of images, at least one of them fresh, that share two segments; the fresh are indexed.

    Args:
        batch: that brings the fresh images.
        fresh: `node`, `media_sha256`.
        settings: the radius.

    Returns:
        `a`, `b`, `similarity`: by `udfs.crop_match`, at least 1 - radius / 64.
    """
    radius = settings.crop.radius
    hashes = stored_hashes(batch.warehouse, fresh.frame, ("crop_hash",))
    measured = fresh.frame.join(hashes, "media_sha256", "left").select("node", "crop_hash")
    with arrow_rows(batch.warehouse.spark, _ARROW_ROWS):
        told = computed(measured.mapInArrow(_told, _SEGMENTS))
    store(batch, told, crop_segments.TABLE)
    findable = told.where(F.size(HASHES) > 1)
    found = held(findable.select(F.explode(HASHES).alias("hash"), "node"))
    index = Streamed.history(batch, crop_index.TABLE, ("hash", "node"))
    pairs = candidates(found.frame, index, radius)
    if found.rows:
        rows = found.frame.withColumn("batch", F.lit(batch.name))
        batch.append(rows, crop_index.TABLE)
    return _verified(batch, pairs, radius)


KIND: Final = NearKind(
    name=CROP,
    content=CONTENT[CROP],
    tables=(crop_index.TABLE, crop_segments.TABLE),
    store=crop_segments.TABLE,
    links=links,
)


def candidates(fresh: DataFrame, index: Streamed, radius: int, most: int = MOST) -> DataFrame:
    """Pairs of images of which a segment looks the same; runs the comparison.

    Of two segments that differ in so many bits on average, one differs in no more.

    Args:
        fresh: hash long, node long: hashes of fresh images, each once; read more than once.
        index: the same of all images of history, best sorted by hash; no fresh node.
        radius: most bits that differ, 0 to 10.
        most: images that a hash of a fresh image leads to.

    Returns:
        `a`, `b`, distinct, a < b.

    Raises:
        ValueError: a radius that is not allowed.
    """
    check_radius(radius)
    hashes = held(fresh.select("hash").distinct())
    compare = partial(_compare, radius=radius, most=most)
    hits = scanned(hashes, index.with_fresh(fresh), compare, _HIT, slice_rows=SLICE_ROWS)
    near = hits.groupBy("hash", "other", "is_old").agg(F.min("distance").alias("distance"))
    # One more than is asked for, so that it shows where there were more. All of history is before
    # an image of the batch; what of the batch is before it, differs from image to image.
    place = F.row_number().over(Window.partitionBy("hash", "is_old").orderBy("distance", "other"))
    near = near.withColumn("place", place).where(~F.col("is_old") | (F.col("place") <= most + 1))
    before = fresh.join(near.drop("place"), "hash").where("is_old OR other < node")
    place = F.row_number().over(Window.partitionBy("node", "hash").orderBy("distance", "other"))
    found = held(
        before.withColumn("place", place).where(F.col("place") <= most + 1),
        crowded=F.count_if(F.col("place") > most),
    )
    if found.said["crowded"]:
        log.info(
            "crop: segments that look like those of more than %d images, of which the nearest are"
            " compared: %d",
            most,
            found.said["crowded"],
        )
    pair = F.least("node", "other").alias("a"), F.greatest("node", "other").alias("b")
    return computed(found.frame.where(F.col("place") <= most).select(*pair).distinct())


def _told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    schema = to_arrow_schema(_SEGMENTS)
    for rows in batches:
        hashes = [telling(of_image or []) for of_image in rows["crop_hash"].to_pylist()]
        columns = [rows["node"], pa.array(hashes, schema.field(HASHES).type)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _compare(
    part: tuple[np.ndarray, ...], batches: Iterable[pa.RecordBatch], *, radius: int, most: int
) -> Iterator[pa.RecordBatch]:
    """Stream rows of (hash, node, is_old) through a slice of the fresh hashes."""
    (mine,) = part
    near = NearHashes(mine, mine, radius=radius)
    for rows in batches:
        runs = _Runs.of(
            rows["hash"].to_numpy(),
            rows["node"].to_numpy(),
            rows["is_old"].to_numpy(zero_copy_only=False),
        )
        for found in _parts(near.near(runs.hashes, np.arange(len(runs.hashes)))):
            hit, row = runs.firsts(found.others, most)
            columns = found.ids[hit], runs.nodes[row], found.distances[hit], runs.are_old[row]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(column, field.type)
                    for column, field in zip(columns, _HIT_ARROW, strict=True)
                ],
                schema=_HIT_ARROW,
            )


def _parts(blocks: Iterable[Pairs]) -> Iterator[Pairs]:
    for block in blocks:
        for start in range(0, len(block.ids), _HITS):
            yield Pairs(*(column[start : start + _HITS] for column in block))


class _Runs(NamedTuple):
    """Rows in runs of equal hashes, each looked up once, the oldest first.

    Attributes:
        hashes: (k,) int64, of each run.
        starts: (k + 1,) int64, the row that each begins with, and the end.
        nodes: (n,) int64, of the rows.
        are_old: (n,) bool; all of a run are, or none.
    """

    hashes: np.ndarray
    starts: np.ndarray
    nodes: np.ndarray
    are_old: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray, nodes: np.ndarray, are_old: np.ndarray) -> "_Runs":
        order = np.lexsort((nodes, are_old, hashes))
        hashes, nodes, are_old = hashes[order], nodes[order], are_old[order]
        is_first = np.ones(len(hashes), bool)
        is_first[1:] = (hashes[1:] != hashes[:-1]) | (are_old[1:] != are_old[:-1])
        starts = np.flatnonzero(is_first)
        return cls(hashes[starts], np.append(starts, len(hashes)), nodes, are_old)

    def firsts(self, runs: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Of runs that were hit the first rows, one more than so many: each's hit, and the row."""
        counts = np.minimum(np.diff(self.starts), most + 1)[runs]
        hit = np.repeat(np.arange(len(runs)), counts)
        return hit, self.starts[runs][hit] + np.arange(len(hit)) - (np.cumsum(counts) - counts)[hit]


def _verified(batch: Batch, pairs: DataFrame, radius: int) -> DataFrame:
    ends = forest.ends(pairs)
    stored = computed(lookup(batch.warehouse, crop_segments.TABLE, "node", ends, (HASHES,)))
    sides = pairs
    for side in ("a", "b"):
        of_side = stored.select(F.col("node").alias(side), F.col(HASHES).alias(f"of_{side}"))
        sides = sides.join(of_side, side)
    with arrow_rows(batch.warehouse.spark, _ARROW_ROWS):
        compared = computed(sides.mapInArrow(_compared, _LINK))
    return compared.where(F.col("similarity") >= 1 - radius / BITS)


def _compared(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for rows in batches:
        sides = zip(_hashes(rows["of_a"]), _hashes(rows["of_b"]), strict=True)
        alike = np.array([similarity(a, b) for a, b in sides], np.float32)
        yield pa.RecordBatch.from_pydict({"a": rows["a"], "b": rows["b"], "similarity": alike})


def _hashes(column: pa.ListArray) -> list[np.ndarray]:
    return [of_image.values.to_numpy() for of_image in column]
