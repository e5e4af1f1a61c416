"""Near copies among clips: those that share a frame, every candidate verified by all its frames.

A clip is found by the hashes of its frames that tell something. The index of hashes streams past
those of the batch; of old clips nothing else is read but the runs of candidates. A clip that no
frame of tells anything is like no other.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.dedup import forest
from jobs.dedup.hash_scan import scanned
from jobs.dedup.near import NearKind, store
from jobs.runtime.config import Dedup
from jobs.runtime.held import Held, computed, held
from jobs.runtime.lookup import lookup
from jobs.runtime.session import arrow_rows
from jobs.runtime.streams import Batch
from jobs.runtime.table_scan import Streamed
from jobs.runtime.tables import belonging
from schemas import clip_index, clip_runs, clips
from schemas.duplicate_kinds import CONTENT, VIDEO
from udfs.clip_hashes import RADIUS, keys
from udfs.clip_match import similarity
from udfs.clip_runs import clips_of
from udfs.nearest_hashes import nearest

log: Final = logging.getLogger("sluice")

# Clips that a frame's hash leads to. An ident, a title or a template of slides is in any number of
# clips: of those the nearest, then the oldest, are compared, and the others are left off. That what
# is everywhere tells little is the stop list of Sivic and Zisserman, "Video Google: a text
# retrieval approach to object matching in videos", ICCV 2003; they drop it, but the clips that are
# copied most have no other frames. Chosen; measured on 2,500 clips of slides of two designs, where
# a hash is near 51 clips: of 321 copies room for 4 finds all.
MOST: Final = 16
# Hashes of a batch that a task compares with at a time. Chosen: what it finds for them is at most
# MOST of each, 17 bytes, which makes 36 MB.
SLICE_ROWS: Final = 1 << 17
# Rows of runs that go to Python at a time. Chosen: 1,000 pairs of clips of 100 runs are 3 MB.
_ARROW_ROWS: Final = 1000

_KEY: Final = "phash long, node long"
_HIT: Final = "phash long, node long, distance int, left_off long"
_LINK: Final = "a long, b long, similarity float"


def links(batch: Batch, fresh: Held, settings: Dedup) -> DataFrame:
    """Pairs of clips, at least one of them fresh, that show the same; the fresh are indexed.

    Args:
        batch: that brings the fresh clips.
        fresh: `node`, `media_sha256`, `clip_id`, `clip_signal_set`.
        settings: the threshold.

    Returns:
        `a`, `b`, `similarity`: by `udfs.clip_match`, at least the threshold.
    """
    measured = (
        belonging(batch.warehouse.read(clips.TABLE), fresh.frame, "media_sha256")
        .withColumnRenamed("signal_set", "clip_signal_set")
        .select("clip_id", "clip_signal_set", clip_runs.RUNS)
    )
    found = computed(
        fresh.frame.select("node", "clip_id", "clip_signal_set")
        .join(measured, ["clip_id", "clip_signal_set"], "left")
        .select("node", clip_runs.RUNS)
    )
    store(batch, found, clip_runs.TABLE)
    with arrow_rows(batch.warehouse.spark, _ARROW_ROWS):
        told = held(found.select(clip_runs.RUNS, "node").mapInArrow(_keys, _KEY))
    index = Streamed.history(batch, clip_index.TABLE, ("phash", "node"))
    pairs = computed(candidates(told.frame, index))
    if told.rows:
        rows = told.frame.withColumn("batch", F.lit(batch.name))
        batch.append(rows, clip_index.TABLE)
    return _verified(batch, pairs, settings.video.threshold)


KIND: Final = NearKind(
    name=VIDEO,
    content=CONTENT[VIDEO],
    tables=(clip_index.TABLE, clip_runs.TABLE),
    store=clip_runs.TABLE,
    links=links,
)


def candidates(fresh: DataFrame, index: Streamed, most: int = MOST) -> DataFrame:
    """Pairs of clips of which a frame looks the same; runs the comparison.

    Args:
        fresh: `phash`, `node` of fresh clips, each once; read more than once.
        index: the same of all clips of history.
        most: clips that a frame of a fresh clip leads to, itself among them.

    Returns:
        `a`, `b`, distinct, a < b.
    """
    hashes = held(fresh.select("phash").distinct())

    def compare(
        part: tuple[np.ndarray, ...], batches: Iterable[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        (mine,) = part
        streamed = ((rows["phash"].to_numpy(), rows["node"].to_numpy()) for rows in batches)
        found = nearest(mine, streamed, radius=RADIUS, most=most)
        yield pa.RecordBatch.from_pydict(
            {
                "phash": mine[found.rows],
                "node": found.ids,
                "distance": found.distances.astype(np.int32),
                "left_off": np.where(np.arange(len(found.rows)) == 0, found.left_off, 0),
            }
        )

    hits = scanned(hashes, index.with_fresh(fresh), compare, _HIT, slice_rows=SLICE_ROWS)
    of_clip = hits.groupBy("phash", "node").agg(
        F.min("distance").alias("distance"), F.sum("left_off").alias("left_off")
    )
    place = F.row_number().over(Window.partitionBy("phash").orderBy("distance", "node"))
    left_off = F.sum("left_off") + F.count_if(F.col("place") > most)
    found = held(of_clip.withColumn("place", place), left_off=left_off)
    if found.said["left_off"]:
        log.info(
            "video: frames that look like those of more than %d clips; not compared for them: %d",
            most,
            found.said["left_off"],
        )
    other = found.frame.where(F.col("place") <= most).select("phash", F.col("node").alias("other"))
    return (
        fresh.join(other, "phash")
        .where("node <> other")
        .select(F.least("node", "other").alias("a"), F.greatest("node", "other").alias("b"))
        .distinct()
    )


def _keys(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for rows in batches:
        found = [keys(clip) for clip in clips_of(rows[clip_runs.RUNS])]
        nodes = np.repeat(rows["node"].to_numpy(), [len(of_clip) for of_clip in found])
        hashes = np.concatenate(found) if found else np.empty(0, np.int64)
        yield pa.RecordBatch.from_pydict({"phash": hashes, "node": nodes})


def _verified(batch: Batch, pairs: DataFrame, threshold: float) -> DataFrame:
    ends = forest.ends(pairs)
    runs = computed(lookup(batch.warehouse, clip_runs.TABLE, "node", ends, (clip_runs.RUNS,)))
    sides = pairs
    for side in ("a", "b"):
        of_side = runs.select(F.col("node").alias(side), F.col(clip_runs.RUNS).alias(f"of_{side}"))
        sides = sides.join(of_side, side)
    with arrow_rows(batch.warehouse.spark, _ARROW_ROWS):
        compared = computed(sides.mapInArrow(_compared, _LINK))
    # As the table stores it: what is 0.7 there was at least 0.7.
    return compared.where(F.col("similarity") >= F.lit(threshold).cast("float"))


def _compared(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for rows in batches:
        sides = zip(clips_of(rows["of_a"]), clips_of(rows["of_b"]), strict=True)
        alike = np.array([similarity(a, b) for a, b in sides], np.float32)
        yield pa.RecordBatch.from_pydict({"a": rows["a"], "b": rows["b"], "similarity": alike})
