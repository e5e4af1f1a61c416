"""Cut new videos into clips: `bronze.media` -> `silver.clips`, `silver.video_signals`.

The frames that stand for a clip go to `silver.keyframes`, to be scored as images are; what the
video's own subtitles and title say in it goes to `silver.captions`.

Each distinct video is decoded once by a signal set. What came of it lies for a moment in a
staging folder, so that both tables, and the quarantine, are written from the same decoding; a
staging that is whole is not repeated after a kill.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.runtime.config import Config
from jobs.runtime.held import Held, held
from jobs.runtime.models import Operator, digests
from jobs.runtime.signals import Shelf
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import belonging, counted
from jobs.scoring import enter
from jobs.videos import clip_look
from schemas import (
    captions,
    clips,
    error_classes,
    keyframes,
    media,
    quarantine,
    samples,
    signal_sets,
    video_signals,
)
from udfs.clips import NETWORK, ClipPass
from udfs.identity import digest
from udfs.spans import SpanConfig
from udfs.speech import Speech
from udfs.transnetv2 import TransNetV2
from udfs.video_signals import COLUMNS, EMITTED, VideoLimits, video_signals_udf

NAME: Final = "score_videos"
# Chosen: a batch is what a kill repeats, and a file of media may name many hours of video.
_MAX_FILES: Final = 64
_MADE: Final = (clips.TABLE, keyframes.TABLE, video_signals.TABLE)
# Seconds more for each of a video's own. Chosen: at 60 fps the network takes 1.8 s of a core that
# has nothing else to do, twice that of a busy one.
_NETWORK_FACTOR: Final = 4.0
_MAX_TASKS: Final = 10_000  # chosen: a task is a video, until the driver would feel them


@dataclass(frozen=True)
class VideoSide:
    """The clip pass of a configuration, and what its rows are known by.

    Attributes:
        signal_set: digest of what decides its values.
        version: the same in words.
        operator: for `mapInArrow`: rows of `COLUMNS` -> rows of `EMITTED`.
        digests: of the files of its models.
    """

    signal_set: str
    version: str
    operator: Operator
    digests: Mapping[str, str]


def side(config: Config, spark: SparkSession | None = None) -> VideoSide:
    """What a configuration does to videos.

    Args:
        config: names the rules and the models.
        spark: distributes models' files where the workers are on other machines; null: they are
            read where they lie.

    Raises:
        ModelProblem: a model is missing, altered or not what its card says.
        ConfigError: none is named.
    """
    asked, most, shelf = config.video, limits(config), Shelf(config, spark)
    if asked.cut_by == NETWORK:
        most = replace(most, deadline_factor=most.deadline_factor + _NETWORK_FACTOR)
    passing = ClipPass(
        cut_by=asked.cut_by,
        lengths=SpanConfig(
            min_ms=round(asked.min_clip_s * 1000),
            max_ms=round(asked.max_clip_s * 1000),
            stride_ms=round(asked.stride_s * 1000),
        ),
        is_key_aligned=asked.is_key_aligned,
        sample_fps=asked.sample_fps,
        keyframes=asked.keyframes,
        limits=most.of_pass(),
        speech=Speech(shelf.network("speech")) if asked.hears_speech else None,
        network=TransNetV2(shelf.network("shots")) if asked.cut_by == NETWORK else None,
    )
    return VideoSide(
        signal_set=digest(passing.version)[:16],
        version=passing.version,
        operator=video_signals_udf(partial(clip_look, passing), most),
        digests=digests(card for card, _ in shelf.taken.values()),
    )


def limits(config: Config) -> VideoLimits:
    """What a configuration lets one video be, and take of the process that decodes it."""
    asked = config.video
    return VideoLimits(
        max_pixels=asked.max_pixels,
        max_duration_s=asked.max_duration_s,
        deadline_s=asked.deadline_s,
        deadline_factor=asked.deadline_factor,
        memory_bytes=asked.memory_bytes,
    )


def transform(videos: DataFrame, operator: Operator) -> DataFrame:
    """Rows of `EMITTED`: of each video its clips, and itself.

    Args:
        videos: columns of `COLUMNS`.
        operator: scores them, a fake in tests of the plumbing.
    """
    return videos.select(*COLUMNS).mapInArrow(operator, EMITTED)


def stage(of: VideoSide) -> Stage:
    """The stage for a signal set; another set has its own checkpoint and sees all videos."""

    def process(batch: Batch) -> Outcome:
        return _process(batch, of)

    return Stage(
        name=NAME,
        checkpoint=of.signal_set,
        source=media.TABLE,
        columns=tuple(
            F.col("video.duration_s") if name == "duration_s" else name for name in COLUMNS
        ),
        where=F.col("mime").startswith("video/"),
        process=process,
        outputs=(*_MADE, captions.TABLE, quarantine.TABLE, signal_sets.TABLE),
        max_files=_MAX_FILES,
    )


def _process(batch: Batch, of: VideoSide) -> Outcome:
    warehouse = batch.warehouse

    def known() -> DataFrame:
        return warehouse.read(video_signals.TABLE).where(F.col("signal_set") == of.signal_set)

    videos = held(batch.frame.dropDuplicates(["media_sha256"]))
    if not videos.rows:  # as in most dumps, which need no tables for them either
        return Outcome(rows_in=0, rows_kept=0)
    for table in _MADE:
        warehouse.create(table)
    done = belonging(known(), videos.frame, "media_sha256").select("media_sha256")
    unknown = held(videos.frame.join(F.broadcast(done), "media_sha256", "left_anti"))
    if unknown.rows:
        todo = unknown.frame
        _describe(batch, of)
        rows = _staged(batch, unknown, of)
        found = counted(
            rows,
            clips=F.isnotnull("clip"),
            keyframes=F.size("clip.keyframes") > 0,
            captions=F.size("clip.captions") > 0,
            refused=F.isnull("clip") & (F.col("status") != error_classes.OK),
        )
        if found["clips"]:
            cut = rows.where("clip IS NOT NULL").select("media_sha256", "clip.*")
            batch.append(_signed(batch, cut, of), clips.TABLE)
        if found["keyframes"]:
            batch.append(_signed(batch, standing_for(rows), of), keyframes.TABLE)
        if found["captions"]:
            warehouse.create(captions.TABLE)
            said = rows.select("media_sha256", "clip.clip_id", F.inline("clip.captions"))
            said = said.withColumn("signal_set", F.lit(of.signal_set))
            batch.append(batch.stamped(said, at="captioned_at"), captions.TABLE)
        told = rows.where("clip IS NULL").drop("clip")
        if found["refused"]:
            poisoned = told.where(F.col("status") != error_classes.OK).select(
                "media_sha256", "status", "detail"
            )
            poisoned = quarantined(
                poisoned.join(todo.select("media_sha256", "path", "size_bytes"), "media_sha256"),
                belonging(warehouse.read(samples.TABLE), todo, "media_sha256"),
            )
            # Another signal set may have refused it before.
            earlier = batch.history(quarantine.TABLE)
            fresh = held(poisoned.join(earlier, "quarantine_id", "left_anti"))
            if fresh.rows:
                batch.append(batch.stamped(fresh.frame, at="quarantined_at"), quarantine.TABLE)
        # Last: whoever finds the row finds the clips.
        batch.append(_signed(batch, told, of), video_signals.TABLE)
    is_ok = F.col("status") == error_classes.OK
    counts = counted(
        belonging(known(), videos.frame, "media_sha256"),
        rows_kept=is_ok,
        rows_quarantined=~is_ok,
        rows_reused=is_ok & (F.col("batch") != batch.name),
    )
    return Outcome(rows_in=videos.rows, **counts)


def _signed(batch: Batch, rows: DataFrame, of: VideoSide) -> DataFrame:
    return batch.stamped(rows.withColumn("signal_set", F.lit(of.signal_set)), at="scored_at")


def _staged(batch: Batch, todo: Held, of: VideoSide) -> DataFrame:
    """What the operator emits, once."""
    folder = f"{batch.staging()}/clips"
    if batch.warehouse.read_text(f"{folder}/_SUCCESS") is None:
        # Videos differ in length by a thousand times: each is a task, taken as cores are free.
        tasks = min(todo.rows, _MAX_TASKS)
        rows = transform(todo.frame.repartition(tasks), of.operator)
        rows.write.mode("overwrite").parquet(folder)
    return batch.warehouse.spark.read.schema(EMITTED).parquet(folder)


def standing_for(rows: DataFrame) -> DataFrame:
    """The key frames of clips, a row each.

    Args:
        rows: of `EMITTED`.
    """
    named = rows.select(
        F.col("media_sha256").alias("video_sha256"),
        "clip.clip_id",
        F.explode("clip.keyframes").alias("keyframe"),
    )
    return named.select("video_sha256", "clip_id", "keyframe.*")


def _describe(batch: Batch, of: VideoSide) -> None:
    """Enter the set where it is not described yet."""
    known = batch.warehouse.read(signal_sets.TABLE).where(F.col("signal_set") == of.signal_set)
    if known.isEmpty():
        enter(batch, of.signal_set, clips.TABLE, {NAME: (of.version, clips.SIGNALS.names)})


def quarantined(refused: DataFrame, delivered: DataFrame) -> DataFrame:
    """A quarantine row for each refused video, under the first sample that brought it.

    Args:
        refused: `media_sha256`, `status`, `detail`, `path`, `size_bytes`.
        delivered: rows of `bronze.samples`.
    """
    columns = ("sample_id", "dump", "shard", "sample_key", "member", "shard_offset_bytes", "url")
    first = (
        delivered.groupBy("media_sha256")
        .agg(F.min_by(F.struct(*columns), "ingest_ordinal").alias("first"))
        .select("media_sha256", "first.*")
    )
    name = F.udf(lambda media_sha256: digest(NAME, media_sha256), "string")
    return refused.join(first, "media_sha256", "left").withColumns(
        {
            # A video whose samples are taken down meanwhile still has the place of its bytes.
            "dump": F.coalesce("dump", F.lit("")),
            "shard": F.coalesce("shard", "path"),
            "quarantine_id": name("media_sha256"),
            "stage": F.lit(NAME),
            "error_class": F.col("status"),
            "detail": F.substring("detail", 1, 500),
            "host": F.expr("try_parse_url(url, 'HOST')"),
            "position": F.lit(None),
            "attempt": F.lit(0),
        }
    )
