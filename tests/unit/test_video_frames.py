import contextlib
import fractions
import io
import json
import shutil
import struct
import subprocess
from random import Random

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import rendered_scenes, videos
from udfs import video_pass
from udfs.frame_times import NOMINAL_S, FrameTimes
from udfs.video_container import VideoRefused
from udfs.video_frames import SOUND_HZ, Frame, Sound, VideoPass, decoded
from udfs.video_pass import Limits

FASTSTART = {"movflags": "faststart"}


def of(content: bytes, **how) -> tuple[VideoPass, list[Frame], list[Sound]]:
    with decoded(io.BytesIO(content), size_bytes=len(content), **how) as video:
        parts = list(video)
    frames = [part for part in parts if isinstance(part, Frame)]
    return video, frames, [part for part in parts if isinstance(part, Sound)]


def refusal(content: bytes, **how) -> VideoRefused:
    with pytest.raises(VideoRefused) as refused:
        of(content, **how)
    return refused.value


def times(frames: list[Frame]) -> list[int]:
    return [frame.time_ms for frame in frames]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Frames of four colours in the corners, so that their place tells how they were turned."""
    frames = np.zeros((12, 96, 160, 3), np.uint8)
    frames[:, :48, :80], frames[:, :48, 80:] = (200, 30, 30), (30, 200, 30)
    frames[:, 48:, :80], frames[:, 48:, 80:] = (30, 30, 200), (220, 220, 220)
    return frames


@pytest.mark.parametrize("kind", videos.KINDS)
def test_the_frames_and_the_sound_of_every_container(kind) -> None:
    video, frames, sounds = of(videos.video(kind))
    assert times(frames) == list(range(0, 400, 40))
    assert [frame.index for frame in frames] == list(range(videos.FRAMES))
    assert (video.frames, video.end_ms, video.is_truncated) == (videos.FRAMES, 400, False)
    assert (video.damaged_packets, video.damaged_sounds) == (0, 0)
    assert frames[0].is_key
    assert video.keys == sum(frame.is_key for frame in frames)
    assert {frame.small.shape for frame in frames} == {(36, 48, 3)}
    assert video.has_sound == (videos.KINDS[kind][2] is not None)
    samples = sum(len(sound.samples) for sound in sounds)
    assert abs(samples / SOUND_HZ - (0.4 if video.has_sound else 0)) < 0.05


def test_times_of_a_variable_rate_are_right_to_the_millisecond(pictures) -> None:
    wanted = [0, 33, 67, 100, 250, 251, 300, 900, 933, 1000, 1040, 1500]
    for container in ("mp4", "matroska", "mov"):
        content = rendered_scenes.encoded(pictures, times_ms=wanted, container=container)
        _, frames, _ = of(content)
        assert times(frames) == wanted
        assert times(frames) == packet_times(content)


def packet_times(content: bytes) -> list[int]:
    """The times of the packets, demuxed without a decoder."""
    with av.open(io.BytesIO(content)) as container:
        stamps = sorted(p.pts for p in container.demux(video=0) if p.pts is not None)
        base = container.streams.video[0].time_base
        return [round((stamp - stamps[0]) * base * 1000) for stamp in stamps]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe")
@pytest.mark.parametrize("rotation", [None, 90.0])
def test_times_are_those_that_ffprobe_tells(rotation, pictures, tmp_path) -> None:
    wanted = [0, 33, 67, 100, 250, 251, 300, 900, 933, 1000, 1040, 1500]
    content = rendered_scenes.encoded(pictures, times_ms=wanted, rotation=rotation)
    (tmp_path / "a.mp4").write_bytes(content)
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    told = subprocess.run(
        [*command, "-show_entries", "packet=pts_time", str(tmp_path / "a.mp4")],
        capture_output=True,
        check=True,
    )
    stamps = sorted(float(packet["pts_time"]) for packet in json.loads(told.stdout)["packets"])
    assert times(of(content)[1]) == [round((stamp - stamps[0]) * 1000) for stamp in stamps]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotated_frames_stand_upright(turns, pictures) -> None:
    upright = np.rot90(pictures[0], turns)
    content = rendered_scenes.encoded(pictures, rotation=90.0 * turns)
    with decoded(io.BytesIO(content), size_bytes=len(content)) as video:
        frame = next(part for part in video if isinstance(part, Frame))
        large = frame.picture(48)
    assert (video.rotation_deg, (video.height_px, video.width_px)) == (
        -90 * turns % 360,
        upright.shape[:2],
    )
    assert large.shape[:2] == ((48, 80) if turns % 2 == 0 else (80, 48))
    assert frame.small.shape[:2] == ((36, 60) if turns % 2 == 0 else (60, 36))
    for small in (large, frame.small):
        for y, x in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
            here = small[int(y * small.shape[0]), int(x * small.shape[1])].astype(int)
            want = upright[int(y * upright.shape[0]), int(x * upright.shape[1])]
            assert np.abs(here - want).max() <= 8
    assert frame.picture(4000).shape == upright.shape  # never made larger


def test_a_small_frame_is_like_the_mean_of_what_lies_under_it() -> None:
    frames = rendered_scenes.scenes("static", seed=1).frames[:1].repeat(4, axis=0)
    content = rendered_scenes.encoded(frames.repeat(4, axis=1).repeat(4, axis=2))
    mean = next(rendered_scenes.small(frames)).astype(int)
    for is_rough in (False, True):
        _, found, _ = of(content, is_rough=is_rough)
        assert np.abs(found[0].small - mean).mean() < 6


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm", "webm_vp8", "avi"])
def test_of_a_cut_video_the_good_part_is_kept(kind) -> None:
    options = FASTSTART if kind in ("mp4", "mov") else {}
    whole = videos.video(kind, times=range(60), options=options)
    for share in (0.5, 0.7, 0.9):
        video, frames, _ = of(whole[: int(len(whole) * share)])
        assert video.is_truncated
        assert 0 < len(frames) < 60
        assert times(frames) == list(range(0, 40 * len(frames), 40))


def test_an_mp4_that_ends_between_two_frames_is_cut() -> None:
    whole = videos.video("mp4_vp9", times=range(60), options=FASTSTART)
    with av.open(io.BytesIO(whole)) as container:
        ends = [p.pos + p.size for p in container.demux(video=0) if p.size]
    video, frames, _ = of(whole[: ends[29]])
    assert (video.is_truncated, len(frames)) == (True, 30)


def test_a_length_that_is_not_there_is_refused() -> None:
    content = bytearray(videos.video("webm_vp8"))
    at = content.index(b"\x44\x89\x88") + 3  # Duration, of 8 bytes: RFC 9559 §5.1.2.9
    content[at : at + 8] = struct.pack(">d", 36_000_000.0)
    refused = refusal(bytes(content))
    assert refused.error_class == "wrong_duration"
    assert refused.detail.startswith("a header that says 36000.000 s got 0.400 s; allowed")
    content[at : at + 8] = struct.pack(">d", 100.0)  # too short: the frames are there
    assert of(bytes(content))[0].end_ms == 400


def test_a_video_without_frames_is_refused() -> None:
    whole = videos.video("webm_vp8")
    refused = refusal(whole[: whole.index(b"\x1f\x43\xb6\x75")])  # the first Cluster
    assert refused.error_class in ("no_frames", "damaged_video")
    assert refusal(b"").error_class == "empty_media"
    assert refusal(b"none" * 999).error_class == "not_a_video"
    assert refusal(whole[:300]).error_class in ("no_frames", "damaged_video")
    assert refusal(videos.song(cover=True)).error_class == "not_a_video"


def test_frames_that_no_decoder_takes_are_none() -> None:
    content = bytearray(videos.video("mp4", times=range(3), audios=0))
    at = content.index(b"mdat") + 4
    content[at : content.index(b"moov") - 4] = bytes(content.index(b"moov") - 4 - at)
    refused = refusal(bytes(content))
    assert refused.error_class == "no_frames"


def test_a_codec_that_is_not_listed_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(video_pass, "VIDEO_CODECS", frozenset({"vp9"}))
    refused = refusal(videos.video("mp4"))
    assert refused.error_class == "codec_refused"
    assert refused.detail == "the codec got h264; allowed vp9"
    unknown = videos.video("webm_vp8").replace(b"V_VP8", b"V_XYZ")
    assert refusal(unknown).error_class in ("codec_refused", "damaged_video")


def test_sound_of_a_codec_that_is_not_listed_is_left_out(monkeypatch) -> None:
    monkeypatch.setattr(video_pass, "SOUND_CODECS", frozenset())
    video, frames, sounds = of(videos.video("mp4"))
    assert (video.has_sound, len(frames), sounds) == (False, videos.FRAMES, [])


@pytest.mark.parametrize(
    ("limits", "error_class"),
    [
        (Limits(max_frames=9), "video_too_long"),
        (Limits(max_seconds=0.3), "video_too_long"),
        (Limits(max_pixels=videos.WIDTH * videos.HEIGHT - 1), "too_many_pixels"),
    ],
)
def test_limits(limits, error_class) -> None:
    refused = refusal(videos.video("mp4"), limits=limits)
    assert refused.error_class == error_class
    assert "allowed" in refused.detail or "limit" in refused.detail


def test_a_damaged_packet_costs_what_hangs_on_it() -> None:
    content = bytearray(videos.video("mp4_part2", times=range(40), options=FASTSTART))
    with av.open(io.BytesIO(bytes(content))) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    content[packets[20].pos : packets[20].pos + packets[20].size] = bytes(packets[20].size)
    video, frames, sounds = of(bytes(content))
    assert 38 <= len(frames) <= 40
    assert times(frames)[-1] == 39 * 40
    assert sounds
    assert video.damaged_packets <= 2


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "ts", "mpg", "webm_vp8"])
def test_hostile_bytes_cost_their_own_video(kind, capfd) -> None:
    whole = videos.video(kind)
    for seed in range(12):
        random, content = Random(seed), bytearray(whole)
        for _ in range(random.randrange(1, 60)):
            content[random.randrange(len(content))] = random.randrange(256)
        with contextlib.suppress(VideoRefused):
            video, frames, _ = of(bytes(content))
            assert len(frames) == video.frames > 0
            assert all(a < b for a, b in zip(times(frames), times(frames)[1:], strict=False))
            assert video.end_ms > frames[-1].time_ms
    assert capfd.readouterr().out == ""


class Broken(io.BytesIO):
    def __init__(self, content: bytes, reads: int) -> None:
        super().__init__(content)
        self.left = reads

    def read(self, size: int | None = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ConnectionResetError("the store is gone")
        return super().read(size)


@pytest.mark.parametrize("reads", range(5))
def test_what_storage_raises_is_no_refusal(reads) -> None:
    content = videos.video("webm_vp8", times=range(150))
    assert len(content) > 5 * 2**15
    with (
        pytest.raises(ConnectionResetError),
        decoded(Broken(content, reads), size_bytes=len(content)) as video,
    ):
        list(video)


def test_a_file_is_not_read_for_ever(monkeypatch) -> None:
    content = videos.video("webm_vp8", times=range(150))
    monkeypatch.setattr(video_pass, "_MOST_READ", 0)
    monkeypatch.setattr(video_pass, "_READ_ANYWAY_BYTES", 5 * 2**15)
    video, frames, _ = of(content)
    assert video.is_truncated
    assert 0 < len(frames) < 150


def test_threads_and_deblocking_change_no_time() -> None:
    content = rendered_scenes.encoded(rendered_scenes.scenes("cuts", seed=3).frames[:30])
    plain = of(content)[1]
    for how in ({"threads": 2}, {"is_rough": True}, {"with_sound": False}):
        assert times(of(content, **how)[1]) == times(plain)
    narrow = of(content, small_side_px=18)[1]
    assert narrow[0].small.shape == (18, 32, 3)


def toned(*, delay_s: float = 0.0, rates: tuple[int, ...] = (44_100,)) -> bytes:
    """Two seconds of black and a tone of 440 Hz in stereo, both channels alike."""
    with io.BytesIO() as file:
        with av.open(file, "w", format="matroska") as output:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            sound = output.add_stream("pcm_s16le", rate=rates[0], layout="stereo")
            black = np.zeros((48, 64, 3), np.uint8)
            for i in range(50):
                picture = av.VideoFrame.from_ndarray(black, format="rgb24")
                picture.pts = i
                output.mux(stream.encode(picture))
                t = np.arange(i * rates[0] // 25, (i + 1) * rates[0] // 25) / rates[0]
                wave = (16_000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
                heard = av.AudioFrame.from_ndarray(
                    np.repeat(wave, 2)[None], format="s16", layout="stereo"
                )
                heard.sample_rate = rates[0]
                heard.pts = round(t[0] * rates[0]) + round(delay_s * rates[0])
                output.mux(sound.encode(heard))
            output.mux(stream.encode())
            output.mux(sound.encode())
        return file.getvalue()


@pytest.mark.parametrize("delay_s", [0.0, 0.5])
def test_sound_is_mono_at_its_place(delay_s) -> None:
    video, _, sounds = of(toned(delay_s=delay_s))
    assert video.damaged_sounds == 0
    assert abs(sounds[0].start - delay_s * SOUND_HZ) <= 32
    whole = np.concatenate([sound.samples for sound in sounds])
    assert whole.dtype == np.float32
    assert abs(len(whole) / SOUND_HZ - 2) < 0.01
    ends = [sound.start + len(sound.samples) for sound in sounds]
    gaps = np.array([sound.start for sound in sounds[1:]]) - ends[:-1]
    assert np.abs(gaps).max() <= 16  # Matroska's times are whole milliseconds
    assert max(len(sound.samples) for sound in sounds) <= SOUND_HZ
    assert abs(np.sqrt(np.mean(whole**2)) - 16_000 / 32_768 / np.sqrt(2)) < 0.01
    tones = np.abs(np.fft.rfft(whole[:SOUND_HZ]))
    assert int(np.argmax(tones)) == 440


def test_without_sound_none_is_decoded() -> None:
    video, frames, sounds = of(videos.video("mp4"), with_sound=False)
    assert (video.has_sound, len(frames), sounds) == (True, videos.FRAMES, [])


stamps = st.one_of(st.none(), st.integers(-(2**62), 2**62), st.integers(0, 5000))


@given(st.lists(st.tuples(stamps, st.integers(-5, 200)), min_size=1))
def test_times_only_go_forward(told) -> None:
    clock = FrameTimes(NOMINAL_S, fractions.Fraction(1, 1000))
    found = [clock.add(at, lasts) for at, lasts in told]
    assert all(a < b for a, b in zip(found, [*found[1:], clock.end_ms], strict=True))


def given_times(*told: int | None) -> tuple[list[int], int]:
    clock = FrameTimes(NOMINAL_S, fractions.Fraction(1, 1000))
    return [clock.add(at, 0) for at in told], clock.repaired


def test_times_that_are_missing_or_go_back_are_repaired() -> None:
    assert given_times(0, 40, 80) == ([0, 40, 80], 0)
    assert given_times(None, None, 80) == ([0, 40, 80], 2)
    assert given_times(0, 40, 40, 80) == ([0, 40, 41, 80], 1)
    assert given_times(0, 40, 30, 80) == ([0, 40, 41, 80], 1)
    assert given_times(5000, 5040, 0, 40) == ([5000, 5040, 5080, 5120], 1)  # begun anew
    assert FrameTimes(NOMINAL_S, NOMINAL_S).end_ms == 0
