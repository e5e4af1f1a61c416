"""Clips as delivered get the signals of their key frames and the scores of their texts."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs import pair_clips
from jobs.runtime import streams
from jobs.runtime.errors import SluiceError
from jobs.runtime.tables import Warehouse
from schemas import (
    batches,
    captions,
    clip_pairs,
    clips,
    image_signals,
    keyframes,
    samples,
    text_signals,
    video_signals,
)
from tests import equality
from tests.told_rows import append
from udfs.embedding import pack, unit
from udfs.identity import digest

TABLES = (
    *(batches, captions, clips, image_signals, keyframes, samples, text_signals),
    video_signals,
)
CLIPS, OTHER_CLIPS = "clips-1", "clips-2"
SCORING: Any = SimpleNamespace(
    images=SimpleNamespace(signal_set="images"),
    texts=SimpleNamespace(signal_set="texts"),
)
RIGHT, UP, BETWEEN = pack(unit(np.array([[1, 0], [0, 1], [1, 1]], np.float32)))


@pytest.fixture(scope="module")
def warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    made = Warehouse(spark, str(tmp_path_factory.mktemp("pair_clips")))
    for table in TABLES:
        made.create(table.TABLE)
    for shown, embedding, nsfw in (("f0", RIGHT, 0.1), ("f1", UP, 0.4), ("f2", BETWEEN, 0.9)):
        append(
            made,
            image_signals.TABLE,
            {
                "media_sha256": shown,
                "signal_set": "images",
                "status": "ok",
                "clip_embedding": embedding,
                "clip_dimension": 2,
                "clip_model": "m",
                "nsfw_score": nsfw,
                "faces": 2 if shown == "f1" else 0,
            },
        )
    for text, embedding in (("t-right", RIGHT), ("t-up", UP), ("t-empty", RIGHT)):
        row = {"text_sha256": text, "signal_set": "texts", "status": "ok"}
        append(made, text_signals.TABLE, row | {"clip_embedding": embedding})
    video(made, "good", {CLIPS: ("c0", "c1")})
    frame(made, "c0", 0, "f0")
    frame(made, "c0", 30, "f1")
    append(
        made,
        captions.TABLE,
        {
            "media_sha256": "good",
            "clip_id": "c0",
            "annotator": "subtitle:2",
            "language": "eng",
            "text": "up",
            "text_sha256": "t-up",
            "signal_set": CLIPS,
        },
    )
    video(made, "bad", {CLIPS: ()}, status="truncated_video")
    append(made, samples.TABLE, sample("s0", 0, "good", "right"), sample("s1", 1, "bad", "up"))
    append(made, samples.TABLE, sample("s2", 2, "good", ""))
    run(made, "one")
    return made


def video(warehouse: Warehouse, name: str, sets: Mapping[str, Any], *, status: str = "ok") -> None:
    for of_set, ids in sets.items():
        row = {"media_sha256": name, "signal_set": of_set, "status": status, "clips": len(ids)}
        append(warehouse, video_signals.TABLE, row | {"frames": 9})
        for number, clip_id in enumerate(ids):
            append(
                warehouse,
                clips.TABLE,
                {
                    "media_sha256": name,
                    "signal_set": of_set,
                    "clip_id": clip_id,
                    "clip_index": number,
                    "frames": 1,
                    "end_frame": 1,
                    "end_ms": 1,
                },
            )


def frame(warehouse: Warehouse, clip_id: str, number: int, shown: str) -> None:
    row = {"video_sha256": "good", "clip_id": clip_id, "frame": number, "media_sha256": shown}
    append(warehouse, keyframes.TABLE, row | {"signal_set": CLIPS})


def sample(name: str, ordinal: int, media: str, caption: str) -> dict[str, Any]:
    return {
        "sample_id": name,
        "ingest_ordinal": ordinal,
        "media_sha256": media,
        "caption": caption,
        "text_sha256": f"t-{caption or 'empty'}",
        "modality": samples.VIDEO_TEXT,
    }


def run(warehouse: Warehouse, run_id: str, *, of: str = CLIPS) -> None:
    streams.run(warehouse, pair_clips.stage(SCORING, of), run_id=run_id)


def paired(warehouse: Warehouse, of: str = CLIPS) -> dict[Any, Any]:
    rows = warehouse.read(clip_pairs.TABLE).where(f"clip_signal_set = '{of}'").collect()
    return {(row.video_sample_id, row.clip_id): row for row in rows}


def test_each_clip_of_each_sample_has_a_name_and_a_place_of_its_own(warehouse: Warehouse) -> None:
    rows = paired(warehouse)
    ordinals = [row.ingest_ordinal for row in rows.values()]

    assert set(rows) == {(s, c) for s in ("s0", "s2") for c in ("c0", "c1")}
    assert rows["s0", "c0"].sample_id == digest("s0", "c0")[:32]
    assert min(ordinals) == clip_pairs.FIRST_ORDINAL
    in_order = sorted(rows, key=lambda key: rows[key].ingest_ordinal)
    assert in_order == [("s0", "c0"), ("s0", "c1"), ("s2", "c0"), ("s2", "c1")]
    assert len(set(ordinals)) == len(ordinals)


def test_key_frames_tell_of_their_clip(warehouse: Warehouse) -> None:
    row, bare = paired(warehouse)["s0", "c0"], paired(warehouse)["s0", "c1"]

    assert (row.keyframes, row.faces_max, row.clip_dimension) == (2, 2, 2)
    assert row.nsfw_score_max == pytest.approx(0.4)
    assert row.nsfw_score_mean == pytest.approx(0.25)
    assert row.clip_embedding == BETWEEN
    assert row.aesthetic_score_mean is None  # not measured
    # Without a key frame nothing is known, and nothing counts as safe.
    assert (bare.keyframes, bare.nsfw_score_max, bare.clip_score) == (0, None, None)


def test_every_text_is_compared_and_keeps_its_author(warehouse: Warehouse) -> None:
    rows = paired(warehouse)
    delivered, subtitled = rows["s0", "c0"].captions
    (alone,) = rows["s2", "c0"].captions

    assert (delivered.annotator, delivered.text) == ("sample", "right")
    assert (subtitled.annotator, subtitled.language, subtitled.text) == ("subtitle:2", "eng", "up")
    assert delivered.clip_score == pytest.approx(0.5, abs=1e-3)
    assert delivered.clip_score_max == pytest.approx(1, abs=1e-3)
    assert rows["s0", "c0"].clip_score == delivered.clip_score
    assert alone.annotator == "subtitle:2"
    assert rows["s2", "c0"].clip_score is None  # it came without a text
    assert rows["s0", "c1"].captions[0].clip_score is None


def test_the_ledger_counts_samples(warehouse: Warehouse) -> None:
    (entry,) = warehouse.read(batches.TABLE).where("run_id = 'one'").collect()

    assert (entry.rows_in, entry.rows_kept, entry.rows_quarantined) == (3, 2, 1)


def test_a_run_with_nothing_new_makes_no_version(warehouse: Warehouse) -> None:
    before = equality.versions(warehouse)
    run(warehouse, "again")

    assert equality.versions(warehouse) == before


def test_a_clip_that_another_set_finds_too_keeps_its_ordinal(warehouse: Warehouse) -> None:
    video(warehouse, "good", {OTHER_CLIPS: ("c1", "c2")})
    video(warehouse, "bad", {OTHER_CLIPS: ()}, status="truncated_video")
    run(warehouse, "other", of=OTHER_CLIPS)
    before, after = paired(warehouse), paired(warehouse, OTHER_CLIPS)
    last = max(row.ingest_ordinal for row in before.values())

    assert after["s0", "c1"].ingest_ordinal == before["s0", "c1"].ingest_ordinal
    assert after["s0", "c2"].ingest_ordinal > last
    names = {row.ingest_ordinal: row.sample_id for row in (*before.values(), *after.values())}
    assert len(names) == len({*names.values()}) == 6


def test_what_is_not_scored_yet_stops_the_stage(warehouse: Warehouse) -> None:
    append(warehouse, samples.TABLE, sample("s3", 3, "new", "right"))
    with pytest.raises(SluiceError, match="1 of 1 videos have no clips yet"):
        run(warehouse, "early")
    video(warehouse, "new", {CLIPS: ("n0",)})
    append(
        warehouse,
        keyframes.TABLE,
        {"video_sha256": "new", "clip_id": "n0", "media_sha256": "f9", "signal_set": CLIPS},
    )
    with pytest.raises(SluiceError, match="1 of 1 clips have key frames or texts without signals"):
        run(warehouse, "early")


def test_a_warehouse_without_videos_has_no_such_tables(spark: SparkSession, tmp_path: Path) -> None:
    empty = Warehouse(spark, str(tmp_path))

    assert streams.run(empty, pair_clips.stage(SCORING, CLIPS), run_id="none") == 0
    assert not empty.exists(clip_pairs.TABLE)
