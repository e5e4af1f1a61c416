"""Near copies among images: links between 64-bit hashes within a radius, against all history.

Equal hashes are one *class*: its members are linked to the oldest of them, not each to each, and
classes within the radius are linked by their oldest. So a hash that a third of all rows share
costs one link a row, and the clusters are those that all pairs would give, at any radius.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.dedup.hash_scan import scanned, stored_hashes
from jobs.dedup.near import NearKind
from jobs.runtime.config import Dedup
from jobs.runtime.held import Held, held
from jobs.runtime.streams import Batch
from jobs.runtime.table_scan import Streamed
from schemas import phash_index
from schemas.duplicate_kinds import CONTENT, PHASH
from udfs.near_hashes import BITS, NearHashes, check_radius

# Hashes that a task compares with at a time: 17 MB on the driver, and with their tables about
# 100 MB in a task. Measured at radius 10: a row compared with 1 M costs 0.6 times what it costs
# to compare it with 20,000 fifty times.
SLICE_ROWS: Final = 1_000_000

_LINK: Final = "a long, b long, similarity float"
_HIT: Final = (
    "node long, other long, other_hash long, distance byte, is_mirrored boolean, is_old boolean"
)
_HIT_ARROW: Final = pa.schema(
    [
        ("node", pa.int64()),
        ("other", pa.int64()),
        ("other_hash", pa.int64()),
        ("distance", pa.int8()),
        ("is_mirrored", pa.bool_()),
        ("is_old", pa.bool_()),
    ]
)


def search(batch: Batch, fresh: Held, settings: Dedup) -> DataFrame:
    """Links of a batch's fresh images, which are put into the index.

    Args:
        batch: that brings them.
        fresh: `node`, `media_sha256`.
        settings: the radius, and whether mirror images are copies.

    Returns:
        as `links`.
    """
    names = ("phash", *(("mirrored_phash",) if settings.phash.mirrored else ()))
    hashes = stored_hashes(batch.warehouse, fresh.frame, names).where("phash IS NOT NULL")
    hashed = held(fresh.frame.join(hashes, "media_sha256").select("node", *names))
    index = Streamed.history(batch, phash_index.TABLE, ("node", *names))
    found = links(hashed.frame, index, settings.phash.radius)
    if hashed.rows:
        rows = hashed.frame.withColumn("batch", F.lit(batch.name))
        if not settings.phash.mirrored:
            rows = rows.withColumn("mirrored_phash", F.lit(None))
        batch.append(rows, phash_index.TABLE)
    return found


KIND: Final = NearKind(
    name=PHASH,
    content=CONTENT[PHASH],
    tables=(phash_index.TABLE,),
    store=phash_index.TABLE,
    links=search,
)


def links(fresh: DataFrame, index: Streamed, radius: int) -> DataFrame:
    """Links of fresh images to each other and to those of the index; runs the comparison.

    The index streams through the tasks once for each million of fresh hashes. However the images
    are dealt out to batches, the same classes are linked. In their order the maximum spanning
    forest is the same too: a hash that history knows repeats the links of its class by a younger
    member, which no forest takes.

    Where both have `mirrored_phash`, an image is also linked to those that look like its mirror
    image, by the least of the distances in either direction. Where only the fresh have it, the
    mirror images of history are not asked for: near the radius, the order then matters.

    Args:
        fresh: node long, phash long, and perhaps mirrored_phash long, which may be null; read
            more than once.
        index: the same of all members of history, best sorted by phash; no fresh node.
        radius: most bits that differ, 0 to 10.

    Returns:
        a long, b long, similarity float: a < b, each pair once; 1 - differing bits / 64.

    Raises:
        ValueError: a radius that is not allowed.
    """
    check_radius(radius)
    hits = _hits(fresh, index, radius)
    return (
        _stars(fresh, hits)
        .unionByName(_between(hits))
        .where("node <> other")
        .groupBy(F.least("node", "other").alias("a"), F.greatest("node", "other").alias("b"))
        .agg((1 - F.min("distance") / BITS).cast("float").alias("similarity"))
    )


def _stars(fresh: DataFrame, hits: DataFrame) -> DataFrame:
    """The oldest of each class, and every other that is fresh."""
    known = (
        hits.where("is_old and not is_mirrored and distance = 0")
        .groupBy(F.col("other_hash").alias("phash"))
        .agg(F.min("other").alias("other"))
    )
    members = fresh.select("phash", F.col("node").alias("other")).unionByName(known)
    return members.select(
        F.min("other").over(Window.partitionBy("phash")).alias("node"),
        "other",
        F.lit(0).cast("byte").alias("distance"),
    )


def _between(hits: DataFrame) -> DataFrame:
    """The oldest fresh member of a class and the oldest of each class near it."""
    return (
        hits.where("is_mirrored or distance > 0")
        .groupBy("node", "other_hash")
        .agg(F.min("other").alias("other"), F.min("distance").alias("distance"))
        .drop("other_hash")
    )


def _oldest(images: DataFrame, *same: str) -> DataFrame:
    return images.groupBy(*same).agg(F.min("node").alias("node"))


def _hits(fresh: DataFrame, index: Streamed, radius: int) -> DataFrame:
    """Fresh hashes and those within the radius, of the index and of each other."""
    entries = _oldest(fresh, "phash").withColumn("is_mirrored", F.lit(False))
    if "mirrored_phash" in fresh.columns:
        mirrored = _oldest(fresh.where("mirrored_phash is not null"), "mirrored_phash", "phash")
        entries = entries.unionByName(
            mirrored.select(
                F.col("mirrored_phash").alias("phash"), "node", F.lit(True).alias("is_mirrored")
            )
        )
    hashes = held(entries)
    classes = hashes.frame.where("not is_mirrored")
    if "mirrored_phash" in index.columns:  # of what is fresh, the entries have them
        classes = classes.withColumn("mirrored_phash", F.lit(None).cast("long"))
    compare = partial(_compare, radius=radius)
    return scanned(hashes, index.with_fresh(classes), compare, _HIT, slice_rows=SLICE_ROWS)


def _compare(
    part: tuple[np.ndarray, ...], batches: Iterable[pa.RecordBatch], *, radius: int
) -> Iterator[pa.RecordBatch]:
    """Stream rows through a slice of the fresh."""
    hashes, nodes, are_mirrored = part
    near = NearHashes(hashes, np.arange(len(hashes)), radius=radius)
    for batch in batches:
        others, other_nodes, are_old = _collapsed(
            batch["phash"].to_numpy(),
            batch["node"].to_numpy(),
            batch["is_old"].to_numpy(zero_copy_only=False),
        )
        for found in near.near(others, np.arange(len(others))):
            entry, row = found.ids, found.others
            of_mirrored, node, other = are_mirrored[entry], nodes[entry], other_nodes[row]
            # Of two fresh classes, the older finds the younger; mirrored ones find all.
            is_wanted = are_old[row] | of_mirrored | (other > node)
            yield _hit_rows(
                is_wanted, node, other, others[row], found.distances, of_mirrored, are_old[row]
            )
        if "mirrored_phash" in batch.schema.names:
            yield from _mirrored(near, batch, nodes, are_mirrored)


def _mirrored(
    near: NearHashes, batch: pa.RecordBatch, nodes: np.ndarray, are_mirrored: np.ndarray
) -> Iterator[pa.RecordBatch]:
    """The same for the mirrored hashes of the rows, against the fresh hashes as they are."""
    batch = batch.filter(batch["mirrored_phash"].is_valid())
    names = ("phash", "node", "mirrored_phash")
    hashes, other_nodes, mirrored = (batch[name].to_numpy() for name in names)
    are_old = batch["is_old"].to_numpy(zero_copy_only=False)
    for found in near.near(mirrored, np.arange(len(mirrored))):
        entry, row = found.ids, found.others
        yield _hit_rows(
            ~are_mirrored[entry],
            nodes[entry],
            other_nodes[row],
            hashes[row],
            found.distances,
            np.ones(len(row), bool),
            are_old[row],
        )


def _hit_rows(is_wanted: np.ndarray, *columns: np.ndarray) -> pa.RecordBatch:
    arrays = [
        pa.array(column[is_wanted], field.type)
        for column, field in zip(columns, _HIT_ARROW, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_HIT_ARROW)


def _collapsed(
    hashes: np.ndarray, nodes: np.ndarray, are_old: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One row, the oldest, of each run of equal hashes: of a sorted index, of each hash."""
    is_first = np.ones(len(hashes), bool)
    is_first[1:] = (hashes[1:] != hashes[:-1]) | (are_old[1:] != are_old[:-1])
    starts = np.flatnonzero(is_first)
    oldest = np.minimum.reduceat(nodes, starts) if len(starts) else nodes
    return hashes[starts], oldest, are_old[starts]
