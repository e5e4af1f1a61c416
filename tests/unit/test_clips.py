import hashlib
import io
import os
import pickle
import uuid
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import signal

from jobs.demo import films
from schemas import video_signals
from tests import rendered_sound
from tests.rendered_sound import babble
from udfs import clips
from udfs.clips import ClipPass, clip_id
from udfs.model_file import ModelFile, ModelMismatch
from udfs.refused import Refused
from udfs.shots import DETECTORS
from udfs.spans import SpanConfig
from udfs.speech import Speech
from udfs.spool import Spool
from udfs.video_frames import Frame, Sound, decoded
from udfs.video_pass import Limits
from udfs.video_signals import EMITTED

RNG = 11


def found(content, *, told_s=None, pictures=os.devnull, **settings):
    video = {
        "media_sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "duration_s": told_s,
        "pictures": str(pictures),
    }
    return ClipPass(**settings)(io.BytesIO(content), video)


@pytest.fixture(scope="module")
def contents():
    return {
        name: films.film(film, np.random.default_rng(RNG))[1] for name, film in films.FILMS.items()
    }


@pytest.mark.parametrize("name", films.FILMS)
def test_clips_tile_the_video_and_begin_at_its_cuts(contents, name) -> None:
    film, (facts, cut) = films.FILMS[name], found(contents[name])

    assert [clip["clip_index"] for clip in cut] == list(range(len(film.shots)))
    assert (cut[0]["start_frame"], cut[0]["start_ms"]) == (0, 0)
    assert (cut[-1]["end_frame"], cut[-1]["end_ms"]) == (film.frames, facts["duration_ms"])
    for before, after in pairwise(cut):
        assert before["end_frame"] == after["start_frame"]
        assert before["end_ms"] == after["start_ms"]
    assert {clip["start_frame"] for clip in cut} >= set(film.cuts)
    assert facts["frames"] == sum(clip["frames"] for clip in cut)


def test_long_shots_are_split_and_short_ones_join(contents) -> None:
    lengths = SpanConfig(min_ms=1_000, max_ms=2_000)
    split = found(contents["one shot"], lengths=lengths).clips
    joined = found(contents["cuts"], lengths=SpanConfig(min_ms=2_600)).clips

    assert [clip["begins_by"] for clip in split] == ["start", "split", "split"]
    assert [clip["start_frame"] for clip in joined] == [0, 66]


def test_a_stride_asks_no_shot(contents) -> None:
    strided = found(contents["cuts"], cut_by="stride", lengths=SpanConfig(stride_ms=4_000)).clips

    assert [clip["start_ms"] for clip in strided] == [0, 4_000]
    assert [clip["begins_by"] for clip in strided] == ["start", "stride"]


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_cuts(contents, detector) -> None:
    starts = [clip["start_frame"] for clip in found(contents["cuts"], cut_by=detector).clips]

    assert starts == [0, *films.FILMS["cuts"].cuts]


def test_clips_that_are_cut_without_encoding_begin_with_key_frames(contents) -> None:
    aligned = found(contents["cuts"], is_key_aligned=True).clips
    content = io.BytesIO(contents["cuts"])
    with decoded(content, size_bytes=len(contents["cuts"])) as passing:
        keys = {part.index for part in passing if isinstance(part, Frame) and part.is_key}

    assert {clip["start_frame"] for clip in aligned} <= keys


def test_hashes_stand_for_all_sampled_frames(contents) -> None:
    for clip in found(contents["cuts"]).clips:
        runs = clip["phash_runs"]
        assert sum(run["frames"] for run in runs) == clip["sampled_frames"]
        assert all(-(2**63) <= run["phash"] < 2**63 for run in runs)
        assert all(0 <= run["information"] <= 64 for run in runs)


def test_a_second_pass_finds_the_same_to_the_bit(contents) -> None:
    assert found(contents["cuts"]) == found(contents["cuts"])


def test_all_that_is_found_has_a_column(contents) -> None:
    facts, cut = found(contents["cuts"], told_s=9.5)

    assert set(facts) <= set(video_signals.FACTS.names)
    assert all(set(clip) <= set(EMITTED["clip"].dataType.names) for clip in cut)
    assert facts["decoded_fraction"] == pytest.approx(1.0)


def test_a_video_is_decoded_once(contents, monkeypatch) -> None:
    opened, pictures = [], []

    def counted(*args, **named):
        opened.append(1)
        return decoded(*args, **named)

    monkeypatch.setattr(clips, "decoded", counted)
    made = Frame.picture
    monkeypatch.setattr(Frame, "picture", lambda *a: pictures.append(a[0].index) or made(*a))
    facts, _ = found(contents["cuts"])

    # Larger pictures are made of the frames that go by: one when sampled, one when kept.
    assert len(opened) == 1
    assert pictures == sorted(pictures)
    assert len(pictures) == facts["sampled_frames"] + facts["distinct_frames"]


def test_every_clip_has_key_frames_of_its_own(contents, tmp_path) -> None:
    facts, cut = found(contents["cuts"], pictures=tmp_path / "pictures", keyframes=2)
    written = (tmp_path / "pictures").read_bytes()

    for clip in cut:
        shown = clip["keyframes"]
        assert 1 <= len(shown) <= 2
        assert all(clip["start_ms"] <= one["time_ms"] < clip["end_ms"] for one in shown)
        for one in shown:
            jpeg = written[one["offset_bytes"] :][: one["size_bytes"]]
            assert Image.open(io.BytesIO(jpeg)).size == (one["width_px"], one["height_px"])
    assert sum(len(clip["keyframes"]) for clip in cut) <= facts["distinct_frames"]


def test_sampling_more_frames_moves_no_cut(contents) -> None:
    sparse, dense = (found(contents["cuts"], sample_fps=fps) for fps in (0.2, 12.0))

    assert [clip["clip_id"] for clip in sparse.clips] == [clip["clip_id"] for clip in dense.clips]
    assert [clip["sampled_frames"] for clip in dense.clips] == [36, 30, 48]
    # A span that no sampled frame lies in is heard, not seen.
    unseen = [clip for clip in sparse.clips if not clip["sampled_frames"]]
    assert unseen
    assert all("motion_score" not in clip and clip["has_audio"] for clip in unseen)


@pytest.mark.parametrize("error_class", films.DAMAGED)
def test_a_damaged_film_is_refused_under_its_class(error_class) -> None:
    container, damaged = films.DAMAGED[error_class]
    film = films.film(films.FILMS["one shot"], np.random.default_rng(RNG), container=container)[1]
    with pytest.raises(Refused) as refusal:
        found(damaged(film))

    assert refusal.value.error_class == error_class


@pytest.mark.parametrize(
    ("limits", "error_class"),
    [
        (Limits(max_pixels=1000), "too_many_pixels"),
        (Limits(max_seconds=2), "video_too_long"),
        (Limits(max_frames=20), "video_too_long"),
    ],
)
def test_what_the_header_hid_is_met_while_decoding(contents, limits, error_class) -> None:
    with pytest.raises(Refused) as refusal:
        found(contents["one shot"], limits=limits)

    assert refusal.value.error_class == error_class


@pytest.mark.parametrize("size_px", [(2, 2), (640, 30), (48, 600), (320, 240)])
def test_sampled_frames_are_of_one_small_size_whatever_the_picture(size_px) -> None:
    small = np.full((36, 64, 3), 90, np.uint8)
    picture = np.full((*size_px, 3), 90, np.uint8)
    frame = SimpleNamespace(small=small, picture=lambda side: picture)  # noqa: ARG005

    sampled = clips._sampled(frame)

    assert sampled.shape == (72, 128, 3)
    assert (sampled == 90).all()


def test_a_clip_is_named_by_bytes_and_frames() -> None:
    names = {clip_id(sha256, start, 9) for sha256 in ("a" * 64, "b" * 64) for start in (0, 1)}

    assert len(names) == 4
    assert {uuid.UUID(name).version for name in names} == {5}


def seeing(heard, *, max_seconds=1.0):
    return clips._Seen(
        detector=None,
        sample_fps=2.0,
        keyframes=None,
        small=None,
        sounds=heard,
        max_seconds=max_seconds,
    )


def kept(*sounds, max_seconds=1.0):
    with Spool() as heard:
        seen = seeing(heard, max_seconds=max_seconds)
        for start, count in sounds:
            seen.add(Sound(start, np.full(count, 0.5, np.float32)))
        return (heard[:] != 0).astype(int)


def test_sound_lies_in_its_place() -> None:
    assert kept((0, 3), (3, 2)).tolist() == [1, 1, 1, 1, 1]
    assert kept((2, 2), (5, 1)).tolist() == [0, 0, 1, 1, 0, 1]
    assert kept((0, 4), (2, 4)).tolist() == [1, 1, 1, 1, 1, 1]  # what comes twice counts once
    assert kept((0, 4), (1, 2)).tolist() == [1, 1, 1, 1]


def test_sound_from_beyond_the_longest_video_fills_no_disk() -> None:
    assert len(kept((10**12, 5))) == 16_000
    assert len(kept((0, 15_999), (15_999, 5))) == 16_000


def test_sound_beyond_full_scale_is_cut() -> None:
    with Spool() as heard:
        seen = seeing(heard)
        seen.add(Sound(0, np.array([-9, -1, 0, 1, 9], np.float32)))
        assert heard[:].tolist() == [-32767, -32767, 0, 32767, 32767]


@pytest.fixture(scope="module")
def spoken():
    """Six seconds, in the second half of which somebody speaks."""
    voice = signal.resample_poly(babble(3), rendered_sound.HZ, rendered_sound.VOICE_HZ)
    sound = np.concatenate([np.zeros(3 * rendered_sound.HZ), voice]).astype(np.float32)
    return rendered_sound.video(rendered_sound.frames(6 * rendered_sound.FPS), sound=sound)


def test_speech_is_measured_where_the_clip_is(spoken, silero) -> None:
    halves = {"cut_by": "stride", "lengths": SpanConfig(stride_ms=3_000)}
    heard = found(spoken, speech=silero, **halves).clips

    assert [clip["has_audio"] for clip in heard] == [True, True]
    assert heard[0]["speech_fraction"] < 0.05 < 0.7 < heard[1]["speech_fraction"]
    assert all("speech_fraction" not in clip for clip in found(spoken, **halves).clips)


def test_what_has_no_sound_has_no_share_of_speech(contents, silero) -> None:
    (silent,) = found(contents["one shot"], speech=silero).clips

    assert not silent["has_audio"]
    assert "speech_fraction" not in silent


def test_models_are_found_before_they_travel(silero) -> None:
    asked = []
    file = ModelFile(silero.model.sha256, lambda: asked.append(1) or silero.model.locate())
    here = ClipPass(speech=Speech(file)).here()

    assert pickle.loads(pickle.dumps(here)).speech.load() == "CPUExecutionProvider"
    assert len(asked) == 1
    assert here.version == ClipPass(speech=silero).version
    assert ClipPass().here() == ClipPass()
    with pytest.raises(ModelMismatch):
        ClipPass(speech=Speech(ModelFile("0" * 64, silero.model.locate))).here()


def test_speech_is_part_of_the_version_only_where_it_is_measured() -> None:
    versions = [ClipPass(speech=Speech(ModelFile(sha256, str))).version for sha256 in "ab"]

    assert len({ClipPass().version, *versions}) == 3
    assert "speech" not in ClipPass().version


def test_another_setting_is_another_version() -> None:
    versions = {ClipPass(sample_fps=fps).version for fps in (1, 2)}
    versions |= {ClipPass(lengths=SpanConfig(min_ms=low)).version for low in (1, 3)}
    versions |= {ClipPass(cut_by="stride").version, ClipPass(is_key_aligned=True).version}
    versions |= {ClipPass(cut_by=name).version for name in DETECTORS}

    versions.add(ClipPass(keyframes=1).version)

    assert len(versions) == 9
