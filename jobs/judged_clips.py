"""Clips as delivered, as recipes judge them: `silver.clip_pairs` with what was measured of each."""

from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import pair_clips, vocabulary
from jobs.judged import Judged, Narrow
from jobs.levels import Levels
from jobs.runtime import quality
from jobs.runtime.tables import Warehouse
from schemas import clip_pairs, clips, gold_clips, samples

_MEASURED: Final = tuple(n for n in clips.SIGNALS.names if n in vocabulary.CLIPS.numbers)
_PAIRED: Final = tuple(n for n in clip_pairs.SCHEMA.names if n in vocabulary.CLIPS.numbers)

_BOTH: Final = ("clip_id", "clip_index")  # which clip it is, both tables say


@dataclass(frozen=True)
class Clips(Judged):
    """Clips as delivered, of a signal set of clips and a scoring.

    Attributes:
        clip_signal_set: whose spans, and what was measured on them.
    """

    of = "clips"
    suffix = "_clips"
    table = clip_pairs.TABLE
    columns = ("sample_id", "ingest_ordinal", "clip_id", *_PAIRED, "clip_signal_set")
    validate = staticmethod(quality.validate_gold_clips)
    may_be_empty = True

    clip_signal_set: str

    @property
    def signal_set(self) -> str:
        """Digest of the sets of clips, images and texts."""
        return pair_clips.signal_set(self.scoring, self.clip_signal_set)

    def candidates(
        self, warehouse: Warehouse, rows: DataFrame, narrow: Narrow, registry: str | None
    ) -> DataFrame:
        """Clips with what was measured on them."""
        del registry  # benchmarks are compared with samples, not with clips
        clip = narrow(warehouse.read(clips.TABLE), "clip_id").select(
            "clip_id",
            F.col("signal_set").alias("clip_signal_set"),
            *_MEASURED,
            ((F.col("end_ms") - F.col("start_ms")) / 1000).alias("duration_s"),
        )
        return self.shaped(rows.join(clip, ["clip_id", "clip_signal_set"], "left"))

    def published(
        self, warehouse: Warehouse, kept: DataFrame, levels: Levels | None = None
    ) -> DataFrame:
        """Clips with the samples of their videos and the main signals."""
        del levels  # recipes of clips name none
        paired = warehouse.read(clip_pairs.TABLE).where(F.col("signal_set") == self.signal_set)
        item = warehouse.read(samples.TABLE).select(
            F.col("sample_id").alias("video_sample_id"),
            "dump",
            "shard",
            "sample_key",
            "url",
            "caption",
        )
        clip = warehouse.read(clips.TABLE).select(
            "clip_id",
            F.col("signal_set").alias("clip_signal_set"),
            *(n for n in clips.SIGNALS.names if n in gold_clips.SCHEMA.names and n not in _BOTH),
        )
        joined = (
            kept.join(paired, "sample_id")
            .join(item, "video_sample_id")
            .join(clip, ["clip_id", "clip_signal_set"])
        )
        return joined.select(*(n for n in gold_clips.SCHEMA.names if n not in gold_clips.VOLATILE))
