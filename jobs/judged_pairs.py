"""Image-text samples, as recipes judge them: `silver.pairs` with the signals of both halves."""

from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import decontaminate, vocabulary
from jobs.judged import Judged, Narrow
from jobs.levels import Levels, level
from jobs.runtime import quality
from jobs.runtime.tables import Warehouse
from schemas import gold, image_signals, pairs, samples, text_signals

# What recipes may ask for, and what the rest is made from.
_TEXT: Final = tuple(
    name
    for name in text_signals.SIGNALS.names
    if name in (*vocabulary.PAIRS.numbers, vocabulary.LANGUAGE)
)
_IMAGE: Final = tuple(
    name for name in image_signals.SIGNALS.names if name in vocabulary.PAIRS.numbers
)


@dataclass(frozen=True)
class Pairs(Judged):
    """Image-text samples of a scoring."""

    of = "pairs"
    suffix = ""
    table = pairs.TABLE
    columns = (
        "sample_id",
        "ingest_ordinal",
        "media_sha256",
        "text_sha256",
        "clip_score",
        "image_signal_set",
        "text_signal_set",
    )
    validate = staticmethod(quality.validate_gold)

    @property
    def signal_set(self) -> str:
        """That of the scoring."""
        return self.scoring.signal_set

    def candidates(
        self, warehouse: Warehouse, rows: DataFrame, narrow: Narrow, registry: str | None
    ) -> DataFrame:
        """Pairs with the signals of image and text."""
        image = narrow(warehouse.read(image_signals.TABLE), "media_sha256").select(
            "media_sha256", F.col("signal_set").alias("image_signal_set"), *_IMAGE
        )
        text = narrow(warehouse.read(text_signals.TABLE), "text_sha256").select(
            "text_sha256", F.col("signal_set").alias("text_signal_set"), *_TEXT
        )
        found = rows.join(image, ["media_sha256", "image_signal_set"], "left").join(
            text, ["text_sha256", "text_signal_set"], "left"
        )
        hits = None
        if registry is not None:
            counting = decontaminate.counting(warehouse, self.scoring, registry)
            hits = narrow(counting, "sample_id")
        return decontaminate.with_contaminated(self.shaped(found), hits)

    def published(
        self, warehouse: Warehouse, kept: DataFrame, levels: Levels | None = None
    ) -> DataFrame:
        """Pairs with their samples, the main signals and the level that they reach."""
        paired = warehouse.read(pairs.TABLE).where(F.col("signal_set") == self.signal_set)
        pair = paired.select(
            "sample_id",
            "text_sha256",
            "clip_score",
            "signal_set",
            "image_signal_set",
            "text_signal_set",
        )
        item = warehouse.read(samples.TABLE).select(
            "sample_id",
            "ingest_ordinal",
            "dump",
            "shard",
            "sample_key",
            "url",
            "caption",
            "media_sha256",
            "mime",
        )
        image = warehouse.read(image_signals.TABLE).select(
            "media_sha256",
            F.col("signal_set").alias("image_signal_set"),
            "width_px",
            "height_px",
            "phash",
            "sharpness",
            "nsfw_score",
        )
        text = warehouse.read(text_signals.TABLE).select(
            "text_sha256", F.col("signal_set").alias("text_signal_set"), "language"
        )
        joined = (
            kept.join(pair, "sample_id")
            .join(item, "sample_id")
            .join(image, ["media_sha256", "image_signal_set"])
            .join(text, ["text_sha256", "text_signal_set"])
        )
        joined = joined.withColumn("align_level", level(levels))
        return joined.select(*(n for n in gold.SCHEMA.names if n not in gold.VOLATILE))
