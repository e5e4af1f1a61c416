"""Clips as delivered: `bronze.samples` -> `silver.clip_pairs`, with what their key frames tell.

Driven by samples, so that a video that comes again under another text gets its pairs without being
decoded. Of a video that was refused the quarantine has a row already, by `score_videos`.
"""

from collections.abc import Callable
from typing import Final

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.runtime.errors import SluiceError
from jobs.runtime.held import held
from jobs.runtime.models import Scoring
from jobs.runtime.streams import Batch, Outcome, Stage
from jobs.runtime.tables import belonging
from schemas import (
    captions,
    clip_pairs,
    clips,
    error_classes,
    image_signals,
    keyframes,
    samples,
    text_signals,
    video_signals,
)
from udfs.clip_scores import clip_scores_udf
from udfs.identity import SAMPLE_ID_HEX, digest

NAME: Final = "pair_clips"
AS_DELIVERED: Final = "sample"  # who says what a video came with
COLUMNS: Final = ("sample_id", "ingest_ordinal", "media_sha256", "text_sha256", "caption")
# Signal of an image -> what a clip has of it, by its key frames.
_AGGREGATED: Final[dict[str, dict[str, Callable[[Column], Column]]]] = {
    "nsfw_score": {"max": F.max, "mean": F.mean},
    "nsfw_head_score": {"max": F.max},
    "violence_score": {"max": F.max},
    "aesthetic_score": {"mean": F.mean},
    "watermark_score": {"max": F.max},
    "text_fraction": {"max": F.max, "mean": F.mean},
    "faces": {"max": F.max},
    "face_fraction": {"max": F.max},
}


def stage(scoring: Scoring, clip_set: str) -> Stage:
    """The stage for the clips of one signal set and the two sets of a scoring."""
    sets = _Sets(scoring, clip_set)
    return Stage(
        name=NAME,
        checkpoint=sets.signal_set,
        source=samples.TABLE,
        columns=COLUMNS,
        where=F.col("modality") == samples.VIDEO_TEXT,
        process=lambda batch: _process(batch, sets),
        outputs=(clip_pairs.TABLE,),
        needs=(clips.TABLE,),
    )


class _Sets:
    """The signal sets that a clip's pair is made of."""

    def __init__(self, scoring: Scoring, clip_set: str) -> None:
        self.clips = clip_set
        self.images, self.texts = scoring.images.signal_set, scoring.texts.signal_set
        self.signal_set = signal_set(scoring, clip_set)


def signal_set(scoring: Scoring, clip_set: str) -> str:
    """Digest of the sets of clips, images and texts."""
    return digest(clip_set, scoring.images.signal_set, scoring.texts.signal_set)[:16]


def seen(frames: DataFrame, images: DataFrame) -> DataFrame:
    """What the key frames of each clip tell.

    Args:
        frames: rows of `silver.keyframes`.
        images: rows of `silver.image_signals` of one signal set.

    Returns:
        `clip_id`, `schemas.clip_pairs.OF_KEYFRAMES` but for the embedding, `image_embeddings` in
        the order of time, and `unscored`: key frames without a row of signals.
    """
    signals = images.select(
        "media_sha256", "status", "clip_embedding", "clip_dimension", "clip_model", *_AGGREGATED
    )
    is_ok = F.col("status") == error_classes.OK
    of_ok = {
        f"{signal}_{name}": aggregate(F.when(is_ok, F.col(signal)))
        for signal, ways in _AGGREGATED.items()
        for name, aggregate in ways.items()
    }
    embedded = F.when(
        is_ok & F.col("clip_embedding").isNotNull(), F.struct("frame", "clip_embedding")
    )
    return (
        frames.select("clip_id", "frame", "media_sha256")
        .join(signals, "media_sha256", "left")
        .groupBy("clip_id")
        .agg(
            F.count_if(is_ok).cast("int").alias("keyframes"),
            F.count_if(F.isnull("status")).alias("unscored"),
            *(value.alias(name) for name, value in of_ok.items()),
            F.max("clip_dimension").alias("clip_dimension"),
            F.max("clip_model").alias("clip_model"),
            F.sort_array(F.collect_list(embedded))["clip_embedding"].alias("image_embeddings"),
        )
    )


def told(items: DataFrame, captioned: DataFrame | None, texts: DataFrame) -> DataFrame:
    """The texts of each clip as delivered: what its video came with, then all captions.

    Args:
        items: `sample_id`, `clip_id`, `caption`, `text_sha256` (of the video).
        captioned: rows of `silver.captions`; null: there are none.
        texts: rows of `silver.text_signals` of one signal set.

    Returns:
        `sample_id`, `texts`: `order`, the first columns of `schemas.clip_pairs.CAPTION`, `status`
        and `embedding`.
    """
    columns = ("annotator", "language", "text", "text_sha256")
    delivered = items.where("caption <> ''").select(
        "sample_id",
        F.lit(0).alias("order"),
        F.lit(AS_DELIVERED).alias("annotator"),
        F.lit(None).cast("string").alias("language"),
        F.col("caption").alias("text"),
        "text_sha256",
    )
    every = delivered
    if captioned is not None:
        of_clip = items.select("sample_id", "clip_id").join(captioned, "clip_id")
        every = every.unionByName(of_clip.select("sample_id", F.lit(1).alias("order"), *columns))
    signals = texts.select("text_sha256", "status", F.col("clip_embedding").alias("embedding"))
    told_of = F.struct("order", *columns, "status", "embedding")
    return (
        every.join(signals, "text_sha256", "left")
        .groupBy("sample_id")
        .agg(F.sort_array(F.collect_list(told_of)).alias("texts"))
    )


def transform(items: DataFrame, of_frames: DataFrame, of_texts: DataFrame) -> DataFrame:
    """Rows of `silver.clip_pairs` without the columns that say which sets and which run.

    Args:
        items: `sample_id`, `ingest_ordinal`, `video_sample_id`, `media_sha256`, `clip_id`,
            `clip_index`, `text_sha256`.
        of_frames: as `seen` gives them.
        of_texts: as `told` gives them.

    Returns:
        Besides, `unscored`: key frames and texts of the clip without a row of signals.
    """
    nothing = F.array().cast("array<binary>")
    joined = (
        items.join(of_frames, "clip_id", "left")
        .join(of_texts, "sample_id", "left")
        .withColumn(
            "scores",
            clip_scores_udf()(
                F.coalesce("image_embeddings", nothing),
                F.coalesce(F.col("texts")["embedding"], nothing),
            ),
        )
    )
    of_text = [f"t.{name}" for name in clip_pairs.CAPTION.names if not name.startswith("clip_")]
    spoken = F.expr(
        "transform(coalesce(texts, array()), (t, i) -> struct("
        f"{', '.join(of_text)}, scores.means[i] AS clip_score,"
        " scores.greatest[i] AS clip_score_max))"
    )
    delivered = F.expr(f"get(filter(captions, c -> c.annotator = '{AS_DELIVERED}'), 0)")
    unread = F.expr("size(filter(coalesce(texts, array()), t -> t.status IS NULL))")
    return (
        joined.withColumn("captions", spoken)
        .withColumns(
            {
                "keyframes": F.coalesce("keyframes", F.lit(0)),
                "clip_embedding": F.col("scores.pooled"),
                "clip_score": delivered["clip_score"],
                "clip_score_max": delivered["clip_score_max"],
                "unscored": F.coalesce("unscored", F.lit(0)) + unread,
            }
        )
        .drop("scores", "texts", "image_embeddings")
    )


def _process(batch: Batch, sets: _Sets) -> Outcome:
    read = batch.warehouse.read
    arrived = held(batch.frame)
    if not arrived.rows:
        return Outcome(rows_in=0, rows_kept=0)

    def of_set(table: str, name: str, key: str, *, by: str = "signal_set") -> DataFrame:
        rows = read(table).where(F.col(by) == name)
        found = arrived.frame.select(F.col("media_sha256").alias(key))
        return belonging(rows, found, key)

    videos = of_set(video_signals.TABLE, sets.clips, "media_sha256")
    is_ok = F.col("status") == error_classes.OK
    met = held(
        arrived.frame.join(
            videos.select("media_sha256", "status", "clips"), "media_sha256", "left"
        ),
        waiting=F.count_if(F.isnull("status")),
        refused=F.count_if(~is_ok),
    )
    if met.said["waiting"]:
        raise SluiceError(
            f"{met.said['waiting']} of {met.rows} videos have no clips yet, all need them before"
            " they can be paired; run the stage score_videos first"
        )
    cut = of_set(clips.TABLE, sets.clips, "media_sha256")
    items = held(_items(batch, met.frame.where(is_ok), cut, sets)).frame
    shown = of_set(keyframes.TABLE, sets.clips, "video_sha256")
    captioned = None
    if batch.warehouse.exists(captions.TABLE):
        captioned = of_set(captions.TABLE, sets.clips, "media_sha256")
    of_frames = seen(
        shown, belonging(_of(read(image_signals.TABLE), sets.images), shown, "media_sha256")
    )
    of_texts = told(items, captioned, _of(read(text_signals.TABLE), sets.texts))
    paired = held(transform(items, of_frames, of_texts), unscored=F.count_if(F.col("unscored") > 0))
    if paired.said["unscored"]:
        raise SluiceError(
            f"{paired.said['unscored']} of {paired.rows} clips have key frames or texts without"
            " signals, all need them before they can be paired; run the stages score_keyframes,"
            " score_text and score_captions first"
        )
    if paired.rows:
        rows = paired.frame.withColumns(
            {
                "clip_signal_set": F.lit(sets.clips),
                "image_signal_set": F.lit(sets.images),
                "text_signal_set": F.lit(sets.texts),
                "signal_set": F.lit(sets.signal_set),
            }
        )
        batch.append(batch.stamped(rows, at="paired_at"), clip_pairs.TABLE)
    written = batch.written(clip_pairs.TABLE)
    return Outcome(
        rows_in=arrived.rows,
        rows_kept=written.select("video_sample_id").distinct().count(),
        rows_quarantined=met.said["refused"],
    )


def _of(rows: DataFrame, signal_set: str) -> DataFrame:
    return rows.where(F.col("signal_set") == signal_set)


def _items(batch: Batch, videos: DataFrame, cut: DataFrame, sets: _Sets) -> DataFrame:
    """The clips of samples, each with a name and an ordinal.

    A clip that another signal set has found too keeps its ordinal. The others get the next ones,
    in the order of their samples and then of time.
    """
    batch.warehouse.create(clip_pairs.TABLE)
    pairs = batch.warehouse.read(clip_pairs.TABLE)
    # Of a table without a filter Delta knows it from its log. A killed attempt's rows are in it:
    # they stay, and those of this attempt are not written.
    (last,) = pairs.agg(F.max("ingest_ordinal")).collect()
    first = clip_pairs.FIRST_ORDINAL if last[0] is None else last[0] + 1
    earlier = (
        Window.partitionBy(F.lit(0))
        .orderBy("ingest_ordinal")
        .rowsBetween(Window.unboundedPreceding, -1)
    )
    named = F.udf(lambda sample, clip: digest(sample, clip)[:SAMPLE_ID_HEX], "string")
    items = (
        videos.withColumn("before", F.coalesce(F.sum("clips").over(earlier), F.lit(0)))
        .join(cut.select("media_sha256", "clip_id", "clip_index"), "media_sha256")
        .select(
            named("sample_id", "clip_id").alias("sample_id"),
            (F.lit(first) + F.col("before") + F.col("clip_index")).alias("next"),
            F.col("sample_id").alias("video_sample_id"),
            *("media_sha256", "clip_id", "clip_index", "text_sha256", "caption"),
        )
    )
    others = pairs.where(F.col("signal_set") != sets.signal_set)
    known = (
        belonging(
            others, videos.select(F.col("sample_id").alias("video_sample_id")), "video_sample_id"
        )
        .select("sample_id", "ingest_ordinal")
        .distinct()
    )
    return items.join(known, "sample_id", "left").withColumn(
        "ingest_ordinal", F.coalesce("ingest_ordinal", "next")
    )
