import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from udfs import isolation, video_signals
from udfs.clips import Found
from udfs.refused import Refused
from udfs.video_signals import COLUMNS, VideoLimits, video_signals_udf

LIMITS = VideoLimits(
    max_pixels=1000, max_duration_s=100, deadline_s=1.5, deadline_factor=0.001, memory_bytes=1 << 28
)
PICTURES = b"abc"
ACCIDENTS = {
    "crash": "decoder_crashed",
    "hang": "decoder_timeout",
    "hog": "decoder_memory",
    "refuse": "no_frames",
    "raise": "corrupt_video",
}


def look(content):
    """A pass that does what the video's name says; clips as many as its length says."""
    video = json.loads(content)
    match video["media_sha256"]:
        case "crash":
            os.abort()
        case "hang":
            time.sleep(600)
        case "hog":
            np.ones(1 << 30, np.uint8).sum()
        case "refuse":
            raise Refused("no_frames", "0 frames")
        case "raise":
            raise ZeroDivisionError("of a signal")
    many = int(video["duration_s"] or 1)
    Path(video["pictures"]).write_bytes(PICTURES)
    clips = [{"clip_index": n, "frames": 1, "keyframes": keyframes(n % 3)} for n in range(many)]
    return Found({"frames": 7}, clips)


def keyframes(count):
    return [{"frame": n, "offset_bytes": n, "size_bytes": 1 + n} for n in range(count)]


@pytest.fixture(autouse=True, scope="module")
def _nothing_left_warm():
    yield
    isolation.close_warm()


def scored(*videos, limits=LIMITS):
    known = {"header_width_px": 10, "header_height_px": 10, "size_bytes": 1}
    rows = [dict.fromkeys(COLUMNS) | known | video for video in videos]
    batches = [pa.RecordBatch.from_pylist([row]) for row in rows]
    return list(video_signals_udf(lambda: look, limits)(batches))


def named(name, **more):
    return {"media_sha256": name, **more}


def test_accidents_cost_their_own_rows() -> None:
    videos = [named("a"), *(named(name) for name in ACCIDENTS), named("b", duration_s=3.0)]
    rows = [row for batch in scored(*videos) for row in batch.to_pylist()]
    told = {row["media_sha256"]: row for row in rows if row["clip"] is None}

    assert {name: told[name]["status"] for name in ACCIDENTS} == ACCIDENTS
    assert [row["clip"]["clip_index"] for row in rows if row["clip"]] == [0, 0, 1, 2]
    assert (told["a"]["status"], told["a"]["clips"], told["a"]["frames"]) == ("ok", 1, 7)
    assert told["raise"]["detail"].startswith("a signal failed: ZeroDivisionError")
    assert told["hang"]["clips"] is told["hang"]["frames"] is None


def test_the_clips_of_a_video_stand_before_it_in_bounded_batches(monkeypatch) -> None:
    monkeypatch.setattr(video_signals, "_BATCH_ROWS", 10)
    batches = scored(named("long", duration_s=24.0))
    rows = [row for batch in batches for row in batch.to_pylist()]

    assert [batch.num_rows for batch in batches] == [10, 10, 5]
    assert [row["clip"] is None for row in rows] == [False] * 24 + [True]


def test_key_frames_are_read_from_where_the_pass_put_them(monkeypatch) -> None:
    monkeypatch.setattr(video_signals, "_BATCH_BYTES", 3)
    batches = scored(named("short", duration_s=4.0))
    rows = [row["clip"] for batch in batches for row in batch.to_pylist() if row["clip"]]
    told = [[(one["frame"], one["content"]) for one in row["keyframes"]] for row in rows]

    assert told == [[], [(0, b"a")], [(0, b"a"), (1, b"bc")], []]
    assert rows[2]["keyframes"][1]["media_sha256"] == hashlib.sha256(b"bc").hexdigest()
    assert [batch.num_rows for batch in batches] == [2, 3]


@pytest.mark.parametrize(
    ("header", "error_class"),
    [
        ({"header_width_px": 100, "header_height_px": 11}, "too_many_pixels"),
        ({"duration_s": 100.5}, "video_too_long"),
    ],
)
def test_what_a_header_gives_away_is_not_looked_at(header, error_class) -> None:
    (batch,) = scored(named("crash", **header))  # it would

    assert batch.to_pylist()[0]["status"] == error_class


def test_a_video_has_time_by_its_length_or_else_by_its_size() -> None:
    limits = VideoLimits(
        max_pixels=1, max_duration_s=100, deadline_s=5, deadline_factor=2, memory_bytes=1
    )

    assert limits.seconds_for({"duration_s": 10.0, "size_bytes": 10**9}) == 25
    assert limits.seconds_for({"duration_s": None, "size_bytes": 125_000}) == 25
    assert limits.seconds_for({"duration_s": None, "size_bytes": 10**12}) == 205
