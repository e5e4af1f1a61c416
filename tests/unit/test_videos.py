import hashlib
import json
import pickle

import pytest

from jobs.videos import Look
from udfs.clips import Found
from udfs.refused import Refused

CONTENT = bytes(range(256)) * 10


def first_byte(stream, video):
    return Found({"first": stream.read(1)[0], "of": video["media_sha256"]}, [])


def never(stream, _video):
    stream.read(10)
    raise Refused("no_frames", "0 frames")


@pytest.fixture
def video(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"tar" + CONTENT + b"tar")
    return {
        "media_sha256": hashlib.sha256(CONTENT).hexdigest(),
        "size_bytes": len(CONTENT),
        "root": str(tmp_path),
        "path": "film.mp4",
        "offset_bytes": 3,
    }


def looked(video, measure=first_byte):
    look = pickle.loads(pickle.dumps(Look(measure)))
    return look(json.dumps(video).encode())


def test_a_video_is_measured_where_it_lies(video) -> None:
    assert looked(video).facts == {"first": 0, "of": video["media_sha256"]}


@pytest.mark.parametrize(
    "altered",
    [
        {"path": "gone.mp4"},
        {"path": "../film.mp4"},
        {"path": None, "root": None},
        {"offset_bytes": 4},
        {"size_bytes": len(CONTENT) + 30},
        {"media_sha256": "0" * 64},
    ],
)
@pytest.mark.parametrize("measure", [first_byte, never])
def test_bytes_that_are_others_or_gone_are_told_as_that_alone(video, altered, measure) -> None:
    with pytest.raises(Refused) as refusal:
        looked(video | altered, measure)

    assert refusal.value.error_class == "media_gone"


def test_what_the_right_bytes_do_to_a_decoder_is_told_as_it_is(video) -> None:
    with pytest.raises(Refused) as refusal:
        looked(video, never)

    assert refusal.value.error_class == "no_frames"
