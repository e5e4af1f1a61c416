import datetime
import io
import json
import tarfile

import av
import numpy as np
import pytest
import webdataset

from tests import rendered_sound
from udfs.clip_cut import Clip, copied, reencoded
from udfs.clip_record import Member, as_json, clip_key, failed_record, members, record
from udfs.spans import Span

SPANS = [Span(0, 10, 0, 400), Span(10, 25, 400, 1000)]
# The columns of a sample of video2dataset, but those of what it downloads from.
COLUMNS = {"key", "status", "error_message", "caption", "clips", "video_metadata"}


@pytest.fixture(scope="module")
def film() -> bytes:
    return rendered_sound.video(
        rendered_sound.frames(25), options={"g": "5"}, sound=rendered_sound.steps(1.0)
    )


def shard(samples: list[list[Member]]) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for sample in samples:
                for member in sample:
                    content = member.content
                    entry = tarfile.TarInfo(member.name)
                    entry.size = member.size_bytes
                    tar.addfile(
                        entry, io.BytesIO(content) if isinstance(content, bytes) else content
                    )
        return file.getvalue()


def read_back(content: bytes, tmp_path) -> list[dict]:
    (tmp_path / "00000.tar").write_bytes(content)
    return list(webdataset.WebDataset(str(tmp_path / "00000.tar"), shardshuffle=False))


@pytest.mark.parametrize("how", [reencoded, copied])
def test_webdataset_reads_the_clips_back(how, film, tmp_path) -> None:
    samples, whole = [], []
    for n, clip in enumerate(how(io.BytesIO(film), size_bytes=len(film), spans=SPANS)):
        whole.append(clip.file.read())
        clip.file.seek(0)
        columns = record(clip, key="000000012", clip_index=n, caption=None if n else "a cat, très")
        found = members(clip, columns)
        held = Member(found[0].name, found[0].content.read(), found[0].size_bytes)
        samples.append([held, *found[1:]])
    got = read_back(shard(samples), tmp_path)
    assert [sample["__key__"] for sample in got] == ["000000012_00000", "000000012_00001"]
    assert [sample["mp4"] for sample in got] == whole
    assert got[0]["txt"].decode() == "a cat, très"
    assert "txt" not in got[1]
    columns = [json.loads(sample["json"]) for sample in got]
    assert all(set(each) >= COLUMNS for each in columns)
    assert [each["key"] for each in columns] == [sample["__key__"] for sample in got]
    assert [each["clips"] for each in columns] == [[[0.0, 0.4]], [[0.4, 1.0]]]
    assert {each["status"] for each in columns} == {"success"}
    assert {each["error_message"] for each in columns} == {None}
    assert columns[0]["caption"] == "a cat, très"
    for each, sample in zip(columns, got, strict=True):
        told = each["video_metadata"]
        with av.open(io.BytesIO(sample["mp4"])) as container:
            video, sound = told["streams"]
            assert video["codec_name"] == container.streams.video[0].codec_context.codec.name
            assert sound["codec_name"] == container.streams.audio[0].codec_context.codec.name
            assert (video["width"], video["height"]) == rendered_sound.SIZE
            assert int(video["nb_frames"]) == sum(1 for _ in container.decode(video=0))
            assert video["avg_frame_rate"] == "25/1"
            assert told["format"]["format_name"] == container.format.name
            assert int(told["format"]["size"]) == len(sample["mp4"])


def test_stills_are_members_in_their_order(film, tmp_path) -> None:
    stream = io.BytesIO(film)
    clips = reencoded(stream, size_bytes=len(film), spans=SPANS, stills=[0, 3, 9, 12])
    samples = []
    for n, clip in enumerate(clips):
        found = members(clip, record(clip, key="a", clip_index=n))
        samples.append([m for m in found if isinstance(m.content, bytes)])
        assert record(clip, key="a", clip_index=n)["keyframes_ms"] == [[0, 120, 360], [480]][n]
    first, second = read_back(shard(samples), tmp_path)
    assert sorted(first) == [
        "1.jpg",
        "2.jpg",
        "__key__",
        "__local_path__",
        "__url__",
        "jpg",
        "json",
    ]
    assert "1.jpg" not in second
    assert second["jpg"][:2] == b"\xff\xd8"


def test_what_a_copied_clip_has_is_said_beside_what_was_asked(film) -> None:
    stream = io.BytesIO(film)
    (clip,) = copied(stream, size_bytes=len(film), spans=[Span(7, 10, 280, 400)])
    columns = record(clip, key="a", clip_index=2)
    assert columns["clips"] == [[0.28, 0.4]]
    assert columns["contained_ms"] == [200, 400]
    assert columns["video_metadata"]["format"]["duration"] == "0.200000"


def made() -> Clip:
    return Clip(SPANS[0], io.BytesIO(b"x"), 1, "mkv", 0, 400, 10, 8, 8, "vp8", None)


def test_facts_of_a_clip_are_columns_that_json_can_hold() -> None:
    facts = {
        "clip_id": "b",
        "motion_score": float("nan"),
        "loudness_lufs": float("-inf"),
        "phash_runs": [{"phash": -5, "frames": 2}],
        "scored_at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "sharpness_mean": np.float32(0.5),
        "is_static": True,
        "key": "not this one",
    }
    columns = json.loads(as_json(record(made(), key="a", clip_index=0, facts=facts)).content)
    assert columns["key"] == "a_00000"
    assert (columns["motion_score"], columns["loudness_lufs"]) == (None, None)
    assert columns["phash_runs"] == [{"phash": -5, "frames": 2}]
    assert columns["scored_at"] == "2026-01-02T00:00:00+00:00"
    assert columns["sharpness_mean"] == 0.5
    assert columns["is_static"] is True
    assert len(columns["video_metadata"]["streams"]) == 1
    assert members(made(), columns)[0].name == "a_00000.mkv"


def test_a_clip_that_failed_has_the_same_columns() -> None:
    failed = failed_record(key="a", clip_index=7, error_message="truncated_video", facts={"b": 1})
    assert set(failed) == set(record(made(), key="a", clip_index=7, facts={"b": 1}))
    assert (failed["status"], failed["key"]) == ("failed_to_subsample", "a_00007")
    assert failed["error_message"] == "truncated_video"


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "a\\b"])
def test_a_key_that_a_tar_would_split_is_refused(key) -> None:
    with pytest.raises(ValueError, match="a key got"):
        clip_key(key, 0)


def test_a_key_grows_past_five_digits() -> None:
    assert clip_key("a", 123_456) == "a_123456"
