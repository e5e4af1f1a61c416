"""A warehouse made by hand that the stage dedup_clips runs over, and what it must say."""

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyspark.sql import SparkSession

from jobs.dedup import clips as stage
from jobs.runtime import streams
from jobs.runtime.config import Dedup
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse
from schemas import batches, clip_pairs, clips, duplicates
from tests.dedup_warehouse import Link, sha256
from tests.told_rows import append
from udfs.clip_hashes import RADIUS, ClipHashes, keys
from udfs.clip_match import LEAST_SIMILARITY, similarity
from udfs.identity import digest
from udfs.phash import hamming

FPS: Final = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A clip as delivered; `content` says which frames of which bytes it has."""

    ordinal: int
    content: str
    hashes: ClipHashes | None
    signal_set: str = "set"

    @property
    def sample_id(self) -> str:
        """Its name."""
        return f"c{self.ordinal:05d}"

    @property
    def clip_id(self) -> str:
        """Name of its content."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.content))


class ClipWarehouse:
    """Tables with the few columns that matter filled in."""

    def __init__(self, spark: SparkSession, root: Path, settings: Dedup | None = None) -> None:
        self.warehouse = Warehouse(spark, str(root))
        self.settings = settings or Dedup()
        self.done = 0
        for table in (clips.TABLE, clip_pairs.TABLE, batches.TABLE, duplicates.TABLE):
            self.warehouse.create(table)

    def arrive(self, *delivered: Clip) -> Any:
        """One batch: the clips become pairs, and the stage runs over them; its ledger row."""
        self.put(delivered)
        return self.search(delivered)

    def put(self, delivered: Sequence[Clip]) -> None:
        """Write clips, each content once a signal set, and pairs."""
        measured = {(clip.clip_id, clip.signal_set): clip for clip in delivered}
        here = self.warehouse.read(clips.TABLE).select("clip_id", "signal_set").collect()
        append(
            self.warehouse,
            clips.TABLE,
            *(
                {
                    "media_sha256": sha256(clip.content),
                    "clip_id": clip.clip_id,
                    "signal_set": clip.signal_set,
                    "frames": 1,
                    "end_frame": 1,
                    "end_ms": 1,
                    "phash_runs": None if clip.hashes is None else runs(clip.hashes),
                }
                for key, clip in measured.items()
                if key not in {tuple(row) for row in here}
            ),
        )
        append(
            self.warehouse,
            clip_pairs.TABLE,
            *(
                {
                    "sample_id": clip.sample_id,
                    "ingest_ordinal": clip_pairs.FIRST_ORDINAL + clip.ordinal,
                    "media_sha256": sha256(clip.content),
                    "clip_id": clip.clip_id,
                    "clip_signal_set": clip.signal_set,
                    "signal_set": clip.signal_set,
                }
                for clip in delivered
            ),
        )

    def search(self, delivered: Sequence[Clip], *, sample_fps: float = FPS) -> Any:
        """Run the stage over these clips as one batch."""
        wanted = [clip.sample_id for clip in delivered]
        sets = [clip.signal_set for clip in delivered]
        built = stage.stage(self.settings, sample_fps)
        frame = self.warehouse.read(clip_pairs.TABLE)
        frame = frame.where(frame.sample_id.isin(wanted) & frame.signal_set.isin(sets))
        batch = Batch(
            warehouse=self.warehouse,
            stage=built.name,
            checkpoint=built.checkpoint,
            generation=digest(built.checkpoint),
            batch_id=self.done,
            run_id="run",
            frame=frame.select(*built.columns),
        )
        streams.process(batch, built.process, inputs=(built.source,), outputs=built.outputs)
        self.done += 1
        (row,) = self.warehouse.read(batches.TABLE).where(f"batch = '{batch.name}'").collect()
        return row

    def verdicts(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The verdicts that hold, by kind and clip."""
        rows = self.warehouse.current(duplicates.TABLE).collect()
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row.kind, {})[row.sample_id] = row.asDict()
        assert sum(map(len, found.values())) == len(rows)
        return found


def runs(hashes: ClipHashes) -> list[dict[str, int]]:
    """As a row of silver.clips has them."""
    columns = (column.tolist() for column in hashes)
    return [
        {"phash": value, "information": information, "frames": frames}
        for value, information, frames in zip(*columns, strict=True)
    ]


def video_links(delivered: Sequence[Clip]) -> list[Link]:
    """All pairs of distinct clips that share a frame and show the same, by brute force."""
    first = {clip.content: clip for clip in reversed(sorted(delivered, key=lambda c: c.ordinal))}
    links = []
    for a, b in itertools.combinations(sorted(first.values(), key=lambda c: c.ordinal), 2):
        if a.hashes is None or b.hashes is None:
            continue
        near = hamming(keys(a.hashes)[:, None], keys(b.hashes)) <= RADIUS
        if near.any() and (alike := similarity(a.hashes, b.hashes)) >= LEAST_SIMILARITY:
            links.append((a.sample_id, b.sample_id, alike))
    return links
