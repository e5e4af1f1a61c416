"""Why a row is where it is: from its bytes in the dump to kept, the reasons or the error."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from jobs.fetch import urls as web
from jobs.runtime.errors import NotFound
from jobs.runtime.tables import Warehouse
from jobs.sources.entry import EntryRefused
from schemas import (
    batches,
    captions,
    clip_pairs,
    clips,
    contamination,
    decisions,
    duplicates,
    error_classes,
    fetches,
    gold,
    image_signals,
    keyframes,
    pairs,
    quarantine,
    rejects,
    retries,
    samples,
    shards,
    text_signals,
    tombstones,
    urls,
    video_signals,
)

MOST: Final = 20  # chosen: a key that names more is a question for SQL
# What a key may be, in the tables that know it.
SAMPLE_KEYS: Final = ("sample_id", "url", "sample_key", "member", "media_sha256", "text_sha256")
URL_KEYS: Final = ("sample_id", "url", "sample_key", "url_sha256")
QUARANTINE_KEYS: Final = ("quarantine_id", "sample_key", "member", "media_sha256", "shard", "url")
REJECT_KEYS: Final = ("input_id", "sample_key", "sample_id", "url", "matched")
CLIP_KEYS: Final = ("sample_id", "clip_id")
BINARY: Final = frozenset({"clip_embedding", "content"})
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Story:
    """One row's way through the tables, in order: a table's name and what it says."""

    subject: str
    fate: str
    steps: tuple[tuple[str, Row], ...]


def explain(warehouse: Warehouse, key: str) -> list[Story]:
    """The stories of everything that a key names, at most `MOST`.

    Args:
        warehouse: where to look.
        key: a sample id, url, member name, key in a shard, sha256 or quarantine id; of a clip, its
            id, or that of the clip as delivered.

    Raises:
        NotFound: no table knows the key.
    """
    found = _rows(warehouse, samples.TABLE, _any(SAMPLE_KEYS, key), limit=MOST)
    stories = [_of_sample(warehouse, sample) for sample in found]
    entries = _rows(warehouse, quarantine.TABLE, _any(QUARANTINE_KEYS, key), limit=MOST)
    told = {sample["sample_id"] for sample in found}
    # What was listed to be fetched and has become no sample: waiting, rejected or quarantined.
    listed = _rows(warehouse, urls.TABLE, _any(URL_KEYS, key) & (F.col("attempt") == 0), limit=MOST)
    listed = [row for row in listed if row["sample_id"] not in told]
    stories += [_of_url(warehouse, row) for row in listed]
    told |= {row["sample_id"] for row in listed}
    entries = [entry for entry in entries if entry["sample_id"] not in told]
    stories += [_of_quarantine(warehouse, entry) for entry in entries]
    turned_away = _rows(warehouse, rejects.TABLE, _any(REJECT_KEYS, key), limit=MOST)
    stories += [_of_reject(warehouse, row) for row in turned_away if row["sample_id"] not in told]
    stories += _of_clips(warehouse, key)
    stories += _of_tombstones(warehouse, key)
    if not stories:
        raise NotFound(
            f"{key!r} is no sample id, url, member, sha256, clip id or quarantine id in"
            f" {warehouse.root}; `sluice sql` can search the captions"
        )
    return stories


def _any(columns: Iterable[str], key: str) -> Column:
    condition = F.lit(False)
    for column in columns:
        condition = condition | (F.col(column) == key)
    return condition


def _rows(
    warehouse: Warehouse, table: str, condition: Column, *, limit: int | None = None
) -> list[dict[str, Any]]:
    frame = warehouse.read(table).where(condition)
    frame = frame.select(*(name for name in frame.columns if name not in BINARY))
    rows = (frame.limit(limit) if limit else frame).collect()
    return [row.asDict(recursive=True) for row in rows]


def _of_sample(warehouse: Warehouse, sample: Row) -> Story:
    sample_id = F.col("sample_id") == sample["sample_id"]
    steps: list[tuple[str, Row]] = [*_shard(warehouse, sample)]
    steps += _asked(warehouse, sample)
    steps.append((samples.TABLE, sample))

    def add(table: str, condition: Column) -> list[dict[str, Any]]:
        rows = _rows(warehouse, table, condition)
        steps.extend((table, row) for row in rows)
        return rows

    media = F.col("media_sha256") == sample["media_sha256"]
    is_video = sample["modality"] == samples.VIDEO_TEXT
    found = _video(warehouse, media) if is_video else []
    steps += found
    add(image_signals.TABLE, media)
    add(text_signals.TABLE, F.col("text_sha256") == sample["text_sha256"])
    add(pairs.TABLE, sample_id)
    add(duplicates.TABLE, sample_id)
    if warehouse.exists(contamination.TABLE):
        add(contamination.TABLE, sample_id)
    decided = add(decisions.TABLE, sample_id)
    refused = add(quarantine.TABLE, sample_id)
    for recipe in {decision["recipe"] for decision in decided}:
        if warehouse.exists(gold.table(recipe)):
            add(gold.table(recipe), sample_id)
    return Story(
        subject=f"sample {sample['sample_id']}",
        fate=_of_video(found, _judged(warehouse, sample)) if is_video else _fate(decided, refused),
        steps=_dated(warehouse, steps),
    )


def _video(warehouse: Warehouse, media: Column) -> list[tuple[str, Row]]:
    """What was found of a video, and its first clips."""
    if not warehouse.exists(video_signals.TABLE):
        return []
    found = _rows(warehouse, video_signals.TABLE, media)
    cut = warehouse.read(clips.TABLE).where(media).orderBy("signal_set", "clip_index").limit(MOST)
    told = [row.asDict(recursive=True) for row in cut.collect()]
    return [(video_signals.TABLE, row) for row in found] + [(clips.TABLE, row) for row in told]


def _judged(warehouse: Warehouse, sample: Row) -> list[str]:
    """What became of the clips of a video as delivered, in a line a recipe version."""
    if not warehouse.exists(clip_pairs.TABLE):
        return []
    is_of_video = F.col("video_sample_id") == sample["sample_id"]
    of_video = warehouse.read(clip_pairs.TABLE).where(is_of_video).select("sample_id").distinct()
    version, reason = ("recipe", "recipe_version"), F.col("first_reason")
    counted = (
        warehouse.current(decisions.TABLE)
        .join(F.broadcast(of_video), "sample_id", "left_semi")
        .groupBy(*version, reason)
        .agg(F.count(F.lit(1)).alias("clips"), F.max("decided_at").alias("decided_at"))
        .withColumn("latest", F.max("decided_at").over(Window.partitionBy(*version)))
        .orderBy("latest", *version, reason)
    )
    outcomes = groupby(counted.collect(), lambda row: f"{row.recipe} {row.recipe_version}")
    return [f"{name}: {', '.join(map(_counted, rows))}" for name, rows in outcomes]


def _counted(outcome: Any) -> str:
    if outcome.first_reason is None:
        return f"{outcome.clips} kept"
    return f"{outcome.clips} rejected for {outcome.first_reason}"


def _of_video(found: Sequence[tuple[str, Row]], judged: Sequence[str]) -> str:
    """What became of a video, in a line a signal set, and of its clips in one a recipe version.

    >>> cut = ("silver.video_signals", {"status": "ok", "clips": 3})
    >>> _of_video([cut], [])
    'cut into 3 clips; not decided yet'
    >>> _of_video([cut], ["clips_all 1f: 2 kept, 1 rejected for static"])
    'cut into 3 clips; clips_all 1f: 2 kept, 1 rejected for static'
    """
    told = [row for table, row in found if table == video_signals.TABLE]
    if not told:
        return "registered: waits for score_videos"
    is_cut = any(row["status"] == error_classes.OK for row in told)
    lines = [
        f"cut into {row['clips']} clips"
        if row["status"] == error_classes.OK
        else f"quarantined: {row['status']} (score_videos)"
        for row in told
    ]
    return "; ".join([*lines, *(judged or ["not decided yet"] * is_cut)])


def _of_clips(warehouse: Warehouse, key: str) -> list[Story]:
    """The stories of a clip: of each sample that brought it, or of itself while it waits."""
    if not warehouse.exists(clips.TABLE):
        return []
    delivered = []
    if warehouse.exists(clip_pairs.TABLE):
        delivered = _rows(warehouse, clip_pairs.TABLE, _any(CLIP_KEYS, key), limit=MOST)
    if delivered:
        by_id: dict[str, list[dict[str, Any]]] = {}
        for row in delivered:
            by_id.setdefault(row["sample_id"], []).append(row)
        return [_of_clip(warehouse, rows) for rows in by_id.values()]
    cut = _rows(warehouse, clips.TABLE, F.col("clip_id") == key, limit=MOST)
    if not cut:
        return []
    steps = [(clips.TABLE, row) for row in cut]
    return [Story(f"clip {key}", "waits for its key frames and texts", _dated(warehouse, steps))]


def _of_clip(warehouse: Warehouse, paired: Sequence[Row]) -> Story:
    """The story of a clip as delivered; it has a row of `silver.clip_pairs` a signal set."""
    clip = paired[0]
    sample_id = F.col("sample_id") == clip["sample_id"]
    clip_id = F.col("clip_id") == clip["clip_id"]
    steps: list[tuple[str, Row]] = []

    def add(table: str, condition: Column) -> list[dict[str, Any]]:
        rows = _rows(warehouse, table, condition) if warehouse.exists(table) else []
        steps.extend((table, row) for row in rows)
        return rows

    for sample in add(samples.TABLE, F.col("sample_id") == clip["video_sample_id"]):
        steps[:0] = _shard(warehouse, sample)
    add(video_signals.TABLE, F.col("media_sha256") == clip["media_sha256"])
    for table in (clips.TABLE, keyframes.TABLE, captions.TABLE):
        add(table, clip_id)
    steps.extend((clip_pairs.TABLE, row) for row in paired)
    add(duplicates.TABLE, sample_id)
    decided = add(decisions.TABLE, sample_id)
    for recipe in {decision["recipe"] for decision in decided}:
        add(gold.table(recipe), sample_id)
    return Story(
        subject=f"clip {clip['clip_id']} of sample {clip['video_sample_id']}",
        fate=_fate(decided, []),
        steps=_dated(warehouse, steps),
    )


def _asked(warehouse: Warehouse, sample: Row) -> list[tuple[str, Row]]:
    """How the media of a sample was asked for, and what its url gave."""
    listed = _rows(warehouse, urls.TABLE, F.col("sample_id") == sample["sample_id"])
    if not listed:
        return []
    answers = _rows(warehouse, fetches.TABLE, F.col("url_sha256") == listed[0]["url_sha256"])
    return [(urls.TABLE, row) for row in listed] + [(fetches.TABLE, row) for row in answers]


def _of_url(warehouse: Warehouse, listed: Row) -> Story:
    sample_id = F.col("sample_id") == listed["sample_id"]
    refused = _rows(warehouse, quarantine.TABLE, sample_id)
    turned_away = _rows(warehouse, rejects.TABLE, sample_id)
    retried = _retried(warehouse, refused)
    steps: list[tuple[str, Row]] = [*_shard(warehouse, listed), *_asked(warehouse, listed)]
    steps += [(quarantine.TABLE, row) for row in refused]
    steps += [(retries.TABLE, row) for row in retried]
    steps += [(rejects.TABLE, row) for row in turned_away]
    past = {row["quarantine_id"] for row in retried}
    standing = [row for row in refused if row["quarantine_id"] not in past]
    fate = _turned_away(turned_away) if turned_away else _fate([], standing)
    return Story(
        subject=f"sample {listed['sample_id']}",
        fate=fate if turned_away or standing else "waits to be fetched",
        steps=_dated(warehouse, steps),
    )


def _of_tombstones(warehouse: Warehouse, key: str) -> list[Story]:
    """That something was taken down, when and by which key; what it was is not there any more."""
    if not warehouse.exists(tombstones.TABLE):
        return []
    keys = [key.lower()]
    with contextlib.suppress(EntryRefused):
        keys.append(web.parse(key).url_sha256)
    stones = _rows(warehouse, tombstones.TABLE, F.col("key").isin(keys), limit=MOST)
    return [_of_tombstone(warehouse, stone) for stone in stones]


def _of_tombstone(warehouse: Warehouse, stone: Row) -> Story:
    steps: list[tuple[str, Row]] = [(tombstones.TABLE, stone)]
    if stone["kind"] == tombstones.SAMPLE:
        decided = _rows(warehouse, decisions.TABLE, F.col("sample_id") == stone["key"])
        steps += [(decisions.TABLE, row) for row in decided]
    why = f": {stone['reason']}" if stone["reason"] else ""
    return Story(
        subject=f"{stone['kind']} {stone['key']}",
        fate=f"taken down at {stone['removed_at']:%Y-%m-%d %H:%M:%S} by {stone['asked']}{why}",
        steps=_dated(warehouse, steps),
    )


def _of_reject(warehouse: Warehouse, row: Row) -> Story:
    steps: list[tuple[str, Row]] = [*_shard(warehouse, row), (rejects.TABLE, row)]
    return Story(
        subject=f"input {row['input_id']}",
        fate=_turned_away([row]),
        steps=_dated(warehouse, steps),
    )


def _turned_away(rows: Iterable[Row]) -> str:
    return "; ".join(f"rejected before bronze: {row['reason']} ({row['stage']})" for row in rows)


def _retried(warehouse: Warehouse, refused: Sequence[Row]) -> list[dict[str, Any]]:
    names = [row["quarantine_id"] for row in refused]
    return _rows(warehouse, retries.TABLE, F.col("quarantine_id").isin(*names)) if names else []


def _of_quarantine(warehouse: Warehouse, entry: Row) -> Story:
    retried = _retried(warehouse, [entry])
    steps: list[tuple[str, Row]] = [*_shard(warehouse, entry), (quarantine.TABLE, entry)]
    steps += [(retries.TABLE, row) for row in retried]
    return Story(
        subject=f"quarantine {entry['quarantine_id']}",
        fate=_fate([], [entry]) + (", retried since" if retried else ""),
        steps=_dated(warehouse, steps),
    )


def _shard(warehouse: Warehouse, row: Row) -> list[tuple[str, Row]]:
    condition = (F.col("dump") == row["dump"]) & (F.col("shard") == row["shard"])
    return [(shards.TABLE, shard) for shard in _rows(warehouse, shards.TABLE, condition)]


def _fate(decided: Sequence[Row], refused: Sequence[Row]) -> str:
    """What became of it, in a line a recipe version.

    >>> _fate([], [{"error_class": "empty_media", "stage": "ingest"}])
    'quarantined: empty_media (ingest)'
    """
    if refused:
        return "; ".join(f"quarantined: {row['error_class']} ({row['stage']})" for row in refused)
    if not decided:
        return "not decided yet"
    latest = sorted(decided, key=lambda row: str(row["decided_at"]))
    return "; ".join(
        f"{row['recipe']} {row['recipe_version']}: "
        + ("kept" if row["is_kept"] else f"rejected: {_said(row['reasons'])}")
        for row in latest
    )


def _said(reasons: Iterable[Row]) -> str:
    return ", ".join(
        f"{reason['reason']} ({reason['signal']} {reason['value']}, must be {reason['threshold']})"
        for reason in reasons
    )


def _dated(warehouse: Warehouse, steps: Iterable[tuple[str, Row]]) -> tuple[tuple[str, Row], ...]:
    """Each row with the version of its table that brought it, by the ledger."""
    told = list(steps)
    names = {row["batch"] for _, row in told if "batch" in row}
    entries = _rows(warehouse, batches.TABLE, F.col("batch").isin(*names))
    versions = {entry["batch"]: entry["output_versions"] for entry in entries}
    return tuple(
        (table, {**row, "table_version": versions.get(row["batch"], {}).get(table)})
        if "batch" in row
        else (table, row)
        for table, row in told
    )
