"""Choose the few key frames of each video that say most of it, and of what is asked for.

For models that take only so many frames of a video. Nothing is decoded, and only a query's text is
scored: the key frames have their embeddings, and so has what a video came with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs import score_videos
from jobs.export_clips import clips_of, new_folder
from jobs.runtime import models, sql_functions
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.held import held
from jobs.runtime.models import Scoring, Side
from jobs.runtime.tables import Warehouse
from schemas import error_classes, keyframes, samples
from udfs.embedding import unpack
from udfs.frame_selection import budget, select, uniform

# Chosen: JPEGs of 100 kB of so many frames make a file of 200 MB.
_FILE_FRAMES: Final = 2_000
_CHOSEN: Final = pa.schema(
    [
        ("video_sha256", pa.string()),
        ("frame", pa.int64()),
        ("reason", pa.string()),
        ("clip_score", pa.float32()),
        # Of the whole video, in its first row; 0 in the others.
        ("keyframes", pa.int64()),
        ("candidates", pa.int64()),
    ]
)
_NARROW: Final = (
    "video_sha256",
    "clip_id",
    "frame",
    "time_ms",
    "start_ms",
    "end_ms",
    "media_sha256",
)
_UNIFORM: Final = "uniform"  # what the even choice, which is only logged, has for a reason


@dataclass(frozen=True)
class Chosen:
    """What a choice came to.

    Attributes:
        videos: that have a chosen frame.
        frames: that were chosen.
        keyframes: of these videos, with an embedding.
        merged_fraction: of those, that look like their neighbours, in [0, 1).
        clip_score: mean over videos of the best cosine of a chosen frame with what was asked for;
            null where nothing was.
        uniform_clip_score: the same of as many frames evenly spread.
    """

    videos: int
    frames: int
    keyframes: int
    merged_fraction: float
    clip_score: float | None
    uniform_clip_score: float | None


def run(
    warehouse: Warehouse,
    config: Config,
    folder: str,
    *,
    query: str | None = None,
    most: int | None = None,
    where: str | None = None,
    recipe: str | None = None,
) -> Chosen:
    """Write the chosen frames of each video as Parquet: `schemas.keyframes.FRAME` and why.

    Columns: those, `video_sha256`, `clip_id`, `reason` (`relevance`, `coverage`), `clip_score`
    (cosine with what was asked for, null where nothing was), in the order of videos and frames.

    Args:
        warehouse: holds clips and scored key frames.
        config: names the signal sets, and the CLIP that reads a query.
        folder: that gets the files; new, or empty.
        query: what the frames are to show; null: what the first sample of a video says of it.
        most: frames of a video, >= 1; null: 8 up to ten seconds, 16 up to a minute, else 32.
        where: an SQL condition on columns of `silver.clips`, for the clips that frames are of.
        recipe: the clips of its table of gold.

    Raises:
        NotFound: there are no clips, no such recipe has published any, or no frame is there.
        ConfigError: a number of frames below one, a blank query, or one that CLIP cannot read; the
            folder holds something; or Spark cannot make sense of the condition.
    """
    if most is not None and most < 1:
        raise ConfigError(f"--most got {most}; allowed from 1; change it")
    if query is not None and not query.strip():
        raise ConfigError(f"--query got {query!r}; allowed a text; say what frames are to show")
    new_folder(folder)
    scoring = models.scoring(config, warehouse.spark)
    clip_set = score_videos.side(config).signal_set
    of_clips = clips_of(warehouse, clip_set, where=where, recipe=recipe)
    spans = of_clips.select("clip_id", "signal_set", "start_ms", "end_ms")
    frames = warehouse.read(keyframes.TABLE).join(spans, ["clip_id", "signal_set"])
    rows = frames.select(*_NARROW).join(_embedded(warehouse, scoring.images), "media_sha256")
    if query is None:
        rows = rows.join(_own_texts(warehouse, scoring), "video_sha256", "left")
    else:
        rows = rows.withColumn("asked", F.lit(_of_query(warehouse, scoring, query)))
    found = held(
        rows.groupBy("video_sha256").applyInArrow(_choosing(most), from_arrow_schema(_CHOSEN)),
        videos=F.count_if(F.col("keyframes") > 0),
        frames=F.count_if(F.col("reason") != _UNIFORM),
        keyframes=F.sum("keyframes"),
        candidates=F.sum("candidates"),
    )
    if not found.rows:
        raise NotFound(
            "no key frame with an embedding is there; change --where or --recipe, or run"
            " `sluice run` with the CLIP that the configuration names"
        )
    _write(found.frame.where(F.col("reason") != _UNIFORM), frames, folder, found.said["frames"])
    means = _means(found.frame)
    said = found.said
    return Chosen(
        videos=said["videos"],
        frames=said["frames"],
        keyframes=said["keyframes"],
        merged_fraction=1 - said["candidates"] / said["keyframes"],
        clip_score=means.get(False),
        uniform_clip_score=means.get(True),
    )


def _embedded(warehouse: Warehouse, side: Side) -> DataFrame:
    """What has an embedding: the side's key, `clip_embedding`."""
    is_ok = F.col("status") == error_classes.OK
    rows = warehouse.read(side.table).where((F.col("signal_set") == side.signal_set) & is_ok)
    return rows.where("clip_embedding IS NOT NULL").select(side.key, "clip_embedding")


def _own_texts(warehouse: Warehouse, scoring: Scoring) -> DataFrame:
    """`video_sha256`, `asked`: the embedding of what its first sample says of a video."""
    first = (
        warehouse.read(samples.TABLE)
        .where(F.col("modality") == samples.VIDEO_TEXT)
        .groupBy(F.col("media_sha256").alias("video_sha256"))
        .agg(F.min_by("text_sha256", "ingest_ordinal").alias("text_sha256"))
    )
    texts = _embedded(warehouse, scoring.texts).withColumnRenamed("clip_embedding", "asked")
    return first.join(texts, "text_sha256").drop("text_sha256")


def _of_query(warehouse: Warehouse, scoring: Scoring, query: str) -> bytes:
    """The query's embedding by the configured CLIP."""
    sql_functions.register(warehouse.spark, scoring)
    embedding = F.call_function(sql_functions.EMBED_TEXT, F.lit(query)).alias("embedding")
    (row,) = warehouse.spark.range(1).select(embedding).collect()
    if row.embedding is None:
        raise ConfigError(f"--query got {query!r}; allowed a text that CLIP can read; change it")
    return bytes(row.embedding)


def _choosing(most: int | None) -> Callable[[pa.Table], pa.Table]:
    """Of one video's key frames those that are chosen, and those that an even choice would take."""

    def choose(rows: pa.Table) -> pa.Table:
        rows = rows.sort_by("frame")
        vectors = unpack(rows["clip_embedding"].to_pylist())
        asked = rows["asked"][0].as_py()
        cosines = None if asked is None else vectors @ unpack([asked])[0]
        few = budget(_duration_ms(rows)) if most is None else most
        found = select(vectors, rows["time_ms"].to_numpy(), few, relevance=cosines)
        even = uniform(len(vectors), few)
        taken = np.array([*(one.frame for one in found.chosen), *even])
        of_video = {"keyframes": len(vectors), "candidates": found.candidates}
        said = {
            "video_sha256": rows["video_sha256"].take(pa.array(taken)),
            "frame": rows["frame"].take(pa.array(taken)),
            "reason": [*(one.reason for one in found.chosen), *[_UNIFORM] * len(even)],
            "clip_score": pa.nulls(len(taken)) if cosines is None else cosines[taken],
            **{name: np.where(np.arange(len(taken)) == 0, n, 0) for name, n in of_video.items()},
        }
        return pa.table(said).cast(_CHOSEN)

    return choose


def _duration_ms(rows: pa.Table) -> int:
    """How long the clips are that the frames are of."""
    spans = rows.group_by("clip_id").aggregate([("start_ms", "min"), ("end_ms", "max")])
    return int(pc.sum(pc.subtract(spans["end_ms_max"], spans["start_ms_min"])).as_py())


def _write(chosen: DataFrame, frames: DataFrame, folder: str, count: int) -> None:
    facts = frames.select("video_sha256", "clip_id", *keyframes.FRAME.names)
    named = chosen.select("video_sha256", "frame", "reason", "clip_score")
    (
        facts.join(F.broadcast(named), ["video_sha256", "frame"])
        .repartitionByRange(-(-count // _FILE_FRAMES), "video_sha256", "frame")
        .sortWithinPartitions("video_sha256", "frame")
        .select("video_sha256", "clip_id", *keyframes.FRAME.names, "reason", "clip_score")
        .write.mode("append")  # into a folder that is empty
        .parquet(folder)
    )


def _means(found: DataFrame) -> dict[bool, float | None]:
    """Whether a choice is even -> mean over videos of its best cosine."""
    best = found.groupBy("video_sha256", (F.col("reason") == _UNIFORM).alias("is_even")).agg(
        F.max("clip_score").alias("best")
    )
    return {
        row.is_even: row.mean
        for row in best.groupBy("is_even").agg(F.mean("best").alias("mean")).collect()
    }
