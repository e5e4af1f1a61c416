"""Crops among images: those that share two segments, every candidate verified by all its segments.

An image is found by the hashes of its segments that tell something. The index of hashes streams
past those of the batch; of old images nothing else is read but the hashes of candidates. An image
with fewer than two such hashes is like no other.

Equal hashes are one *class*, and a hash leads to the oldest of each class near it. So a logo that a
third of all rows share costs a comparison a row: with the oldest that shows it. Of images that come
in their order the links are the same, however they are dealt out to batches: what a class is led to
is settled when it begins. In another order so are the clusters, unless an image shares no hash but
such as others, unlike it, had before.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.dedup import forest
from jobs.dedup.hash_scan import collapsed, scanned
from jobs.dedup.near import NearKind
from jobs.runtime.config import Dedup
from jobs.runtime.held import Held, computed, held
from jobs.runtime.lookup import lookup
from jobs.runtime.session import arrow_rows, setting
from jobs.runtime.streams import Batch
from jobs.runtime.tables import belonging
from schemas import crop_index, crop_segments, image_signals
from schemas.crop_segments import HASHES
from schemas.duplicate_kinds import CONTENT, CROP
from udfs.crop_match import BITS, similarity, telling
from udfs.near_hashes import NearHashes, check_radius

log: Final = logging.getLogger("sluice")

# Classes that a hash of an image leads to. What is near more is everywhere and tells little, a logo
# in any number of encodings: the nearest, then those that began first, are compared. As for frames
# of clips (jobs/dedup/video.py); chosen.
MOST: Final = 16
# Hashes of a batch that a task compares with at a time: as for perceptual hashes.
SLICE_ROWS: Final = 1_000_000
# Images, or pairs of them, that go to Python at a time. Chosen: of 16 hashes a side 2.6 MB.
_ARROW_ROWS: Final = 10_000

_SEGMENTS: Final = StructType([crop_segments.SCHEMA[name] for name in ("node", HASHES)])
_LINK: Final = "a long, b long, similarity float"
_HIT: Final = "hash long, other_hash long, distance byte, other long, is_old boolean"
_HIT_ARROW: Final = pa.schema(
    [
        ("hash", pa.int64()),
        ("other_hash", pa.int64()),
        ("distance", pa.int8()),
        ("other", pa.int64()),
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
    # Hashes do not depend on the networks: any signal set's will do.
    signals = (
        belonging(batch.warehouse.read(image_signals.TABLE), fresh.frame, "media_sha256")
        .groupBy("media_sha256")
        .agg(F.first("crop_hash", ignorenulls=True).alias("crop_hash"))
    )
    measured = fresh.frame.join(signals, "media_sha256", "left").select("node", "crop_hash")
    with arrow_rows(batch.warehouse.spark, _ARROW_ROWS):
        told = computed(measured.mapInArrow(_told, _SEGMENTS))
    _append_segments(batch, told)
    findable = told.where(F.size(HASHES) > 1)
    hashes = held(findable.select(F.explode(HASHES).alias("hash"), "node"))
    index = batch.history(crop_index.TABLE).select("hash", "node")
    pairs = candidates(hashes.frame, index, radius)
    if hashes.rows:
        rows = hashes.frame.withColumn("batch", F.lit(batch.name))
        batch.append(rows, crop_index.TABLE, sort_by=crop_index.LAYOUT.sorted_by)
    return _verified(batch, pairs, radius)


KIND: Final = NearKind(
    name=CROP,
    content=CONTENT[CROP],
    tables=(crop_index.TABLE, crop_segments.TABLE),
    store=crop_segments.TABLE,
    links=links,
)


def candidates(fresh: DataFrame, index: DataFrame, radius: int, most: int = MOST) -> DataFrame:
    """Pairs of images of which a segment looks the same; runs the comparison.

    Of two segments that differ in so many bits on average, one differs in no more.

    Args:
        fresh: hash long, node long: hashes of fresh images, each once; read more than once.
        index: the same of all images of history, best sorted by hash; no fresh node.
        radius: most bits that differ, 0 to 10.
        most: classes that a hash of a fresh image leads to.

    Returns:
        `a`, `b`, distinct, a < b.

    Raises:
        ValueError: a radius that is not allowed.
    """
    check_radius(radius)
    hashes = held(fresh.select("hash").distinct())
    classes = fresh.groupBy("hash").agg(F.min("node").alias("node"))
    others = index.select("hash", "node", F.lit(True).alias("is_old")).unionByName(
        classes.select("hash", "node", F.lit(False).alias("is_old"))
    )
    hits = scanned(hashes, others, partial(_compare, radius=radius), _HIT, slice_rows=SLICE_ROWS)
    # A class that history knows began there, whoever joins it now.
    began = F.coalesce(F.min(F.when(F.col("is_old"), F.col("other"))), F.min("other"))
    near = hits.groupBy("hash", "other_hash").agg(
        F.min("distance").alias("distance"),
        began.alias("other"),
        F.bool_or("is_old").alias("is_old"),
    )
    # Of two fresh images the younger finds the older.
    led = fresh.join(near, "hash").where("is_old OR other < node")
    nearest = Window.partitionBy("node", "hash").orderBy("distance", "other")
    found = held(
        led.withColumn("place", F.row_number().over(nearest)),
        left_off=F.count_if(F.col("place") > most),
    )
    if found.said["left_off"]:
        log.info(
            "crop: segments that look like those of more than %d others; not compared for them: %d",
            most,
            found.said["left_off"],
        )
    pair = F.least("node", "other").alias("a"), F.greatest("node", "other").alias("b")
    return computed(found.frame.where(F.col("place") <= most).select(*pair).distinct())


def _append_segments(batch: Batch, told: DataFrame) -> None:
    """Write hashes in order of nodes, so that a look-up reads little else."""
    rows = told.withColumn("batch", F.lit(batch.name)).repartitionByRange("node")
    # As the session's: Delta passes no such option of a write on.
    with setting(batch.warehouse.spark, "parquet.block.size", crop_segments.LAYOUT.row_group_bytes):
        batch.append(rows, crop_segments.TABLE, sort_by=crop_segments.LAYOUT.sorted_by)


def _told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    schema = to_arrow_schema(_SEGMENTS)
    for rows in batches:
        hashes = [telling(of_image or []) for of_image in rows["crop_hash"].to_pylist()]
        columns = [rows["node"], pa.array(hashes, schema.field(HASHES).type)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _compare(
    part: tuple[np.ndarray, ...], batches: Iterable[pa.RecordBatch], *, radius: int
) -> Iterator[pa.RecordBatch]:
    """Stream rows of (hash, node, is_old) through a slice of the fresh hashes."""
    (mine,) = part
    near = NearHashes(mine, mine, radius=radius)
    for rows in batches:
        hashes, nodes, are_old = collapsed(
            rows["hash"].to_numpy(),
            rows["node"].to_numpy(),
            rows["is_old"].to_numpy(zero_copy_only=False),
        )
        for found in near.near(hashes, np.arange(len(hashes))):
            row = found.others
            columns = found.ids, hashes[row], found.distances, nodes[row], are_old[row]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(column, field.type)
                    for column, field in zip(columns, _HIT_ARROW, strict=True)
                ],
                schema=_HIT_ARROW,
            )


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
