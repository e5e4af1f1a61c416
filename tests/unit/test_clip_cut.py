import contextlib
import io
import itertools
import subprocess
import sys
from fractions import Fraction
from random import Random

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import rendered_sound, videos
from tests.rendered_sound import HZ
from udfs import clip_cut, clip_source
from udfs.clip_copy import ClipCopy
from udfs.clip_cut import Clip, copied, reencoded
from udfs.clip_encoder import ClipEncoder, Encoding
from udfs.clip_file import ClipFile
from udfs.clip_source import Picture, opened_source
from udfs.keyframe_jpeg import stills
from udfs.spans import Span
from udfs.video_container import VideoRefused
from udfs.video_frames import Frame, decoded
from udfs.video_pass import Limits

CUTS = (reencoded, copied)


def seen(content: bytes) -> tuple[list[int], int, list[bool]]:
    """Times, the end and the keys of a video's frames, as everything else sees them."""
    with decoded(io.BytesIO(content), size_bytes=len(content)) as video:
        frames = [part for part in video if isinstance(part, Frame)]
    return [f.time_ms for f in frames], video.end_ms, [f.is_key for f in frames]


def spans(content: bytes, *edges: int) -> list[Span]:
    """Spans between the given frames."""
    times, end_ms, _ = seen(content)
    edge_ms = [*times, end_ms]
    return [
        Span(first, end, edge_ms[first], edge_ms[end]) for first, end in itertools.pairwise(edges)
    ]


def cut(how, content: bytes, of: list[Span], **more) -> list[tuple[Clip, bytes]]:
    clips = how(io.BytesIO(content), size_bytes=len(content), spans=of, **more)
    return [(clip, clip.file.read()) for clip in clips]


def pictures(content: bytes, pixels: str = "yuv420p") -> tuple[np.ndarray, list[Fraction]]:
    """All frames and their times in seconds."""
    with av.open(io.BytesIO(content)) as container:
        frames = list(container.decode(video=0))
        times = [frame.pts * frame.time_base for frame in frames]
        return np.stack([frame.to_ndarray(format=pixels) for frame in frames]), times


def sounds(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        parts = [f.to_ndarray().mean(0) for f in container.decode(audio=0)]
        return np.concatenate(parts)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def nearest(frame: np.ndarray, among: np.ndarray) -> int:
    return int(np.argmin([np.mean((frame.astype(float) - other) ** 2) for other in among]))


def check_same_frames(content: bytes, clips: list[tuple[Clip, bytes]], least_psnr: float) -> None:
    whole, times = pictures(content)
    for clip, cut_out in clips:
        got, got_times = pictures(cut_out)
        span = clip.span
        assert len(got) == clip.frames == span.end - span.first
        want = times[span.first : span.end]
        assert [t - got_times[0] for t in got_times] == [t - want[0] for t in want]
        assert got_times[0] == 0
        for n, frame in enumerate(got):
            assert nearest(frame, whole) == span.first + n
            assert psnr(frame, whole[span.first + n]) >= least_psnr


def refusal(how, content: bytes, of: list[Span] | None = None, **more) -> VideoRefused:
    with pytest.raises(VideoRefused) as refused:
        cut(how, content, of or [Span(0, 5, 0, 200)], **more)
    return refused.value


@pytest.fixture(scope="module")
def moving() -> np.ndarray:
    return rendered_sound.frames(60)


@pytest.fixture(scope="module")
def film(moving) -> bytes:
    """Sixty frames with B-frames, a key frame every 20, and sound."""
    options = {"g": "20", "bf": "3", "crf": "16"}
    return rendered_sound.video(moving, options=options, sound=rendered_sound.steps(2.4))


@pytest.mark.parametrize("kind", videos.KINDS)
def test_a_clip_of_every_container_has_exactly_its_frames(kind) -> None:
    content = videos.video(kind)
    clips = cut(reencoded, content, spans(content, 0, 3, 4, 10))
    check_same_frames(content, clips, least_psnr=25)  # of noise
    for clip, cut_out in clips:
        assert (clip.start_ms, clip.end_ms) == (clip.span.start_ms, clip.span.end_ms)
        assert (clip.audio_codec is not None) == (videos.KINDS[kind][2] is not None)
        with av.open(io.BytesIO(cut_out)) as container:
            assert container.duration == 1000 * (clip.end_ms - clip.start_ms)
            assert len(container.streams) == 1 + (clip.audio_codec is not None)


def test_frames_of_a_clip_are_those_of_the_video(film) -> None:
    clips = cut(reencoded, film, spans(film, 0, 7, 33, 60))
    check_same_frames(film, clips, least_psnr=38)
    assert [clip.frames for clip, _ in clips] == [7, 26, 27]
    assert {clip.video_codec for clip, _ in clips} == {"h264"}


def test_frames_that_no_span_has_are_left_out(film) -> None:
    all_ = spans(film, 5, 12, 40, 47)
    check_same_frames(film, cut(reencoded, film, [all_[0], all_[2]]), least_psnr=38)


def test_a_variable_rate_is_kept_to_the_tick(moving) -> None:
    times = [0, 33, 67, 100, 250, 251, 300, 900, 933, 1000, 1040, 1500]
    for container in ("mp4", "matroska", "mov"):
        content = rendered_sound.video(
            moving[:12], times=times, tick=Fraction(1, 1000), container=container
        )
        clips = cut(reencoded, content, spans(content, 0, 5, 12))
        check_same_frames(content, clips, least_psnr=35)
        assert seen(clips[1][1])[0] == [t - 251 for t in times[5:]]
        assert seen(clips[0][1])[1] == 251  # the last is shown until the next clip begins


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotated_pictures_stand_upright(turns, moving) -> None:
    content = rendered_sound.video(moving[:6], rotation=90.0 * turns)
    ((clip, cut_out),) = cut(reencoded, content, spans(content, 0, 6))
    with av.open(io.BytesIO(cut_out)) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation == 0
        got = frame.to_ndarray(format="rgb24")
    want = np.rot90(moving[0], turns)
    assert got.shape == want.shape == (clip.height_px, clip.width_px, 3)
    assert psnr(got, want) > 27  # the colours have half the size


def test_a_side_that_is_odd_loses_a_row(moving) -> None:
    content = rendered_sound.video(moving[:4, :63, :95], codec="libvpx-vp9", container="webm")
    ((clip, cut_out),) = cut(reencoded, content, spans(content, 0, 4))
    assert (clip.width_px, clip.height_px) == (94, 62)
    got, _ = pictures(cut_out, "rgb24")
    whole, _ = pictures(content, "rgb24")
    assert psnr(got, whole[:, :62, :94]) > 27


@pytest.mark.parametrize(
    "pixels", ["yuv422p", "yuv444p", "yuv420p10le", "yuvj420p", "rgb24", "gray"]
)
def test_colours_of_other_kinds_stay_what_they_are(pixels, moving) -> None:
    codec = "libx264rgb" if pixels == "rgb24" else "libx264"
    content = rendered_sound.video(moving[:4], pixels=pixels, codec=codec)
    ((_, cut_out),) = cut(reencoded, content, spans(content, 0, 4))
    got, _ = pictures(cut_out, "rgb24")
    whole, _ = pictures(content, "rgb24")
    assert psnr(got, whole) > 30
    with av.open(io.BytesIO(cut_out)) as container:
        assert container.streams.video[0].pix_fmt == (
            "yuvj420p" if pixels == "yuvj420p" else "yuv420p"
        )


@pytest.mark.parametrize(
    ("container", "codec", "channels", "hertz"),
    [
        ("mp4", "aac", 2, 48_000),
        ("matroska", "libopus", 1, 48_000),
        ("mov", "pcm_s16le", 2, 44_100),
        ("mov", "pcm_s16le", 2, 96_000),
        ("mov", "pcm_s16le", 1, 37_800),
        ("mpegts", "aac", 2, 48_000),
        ("mpegts", "aac", 1, 48_000),
        ("matroska", "flac", 6, 48_000),
    ],
)
def test_a_clip_has_the_sound_of_its_span(container, codec, channels, hertz, moving) -> None:
    content = rendered_sound.video(
        moving,
        container=container,
        sound=rendered_sound.steps(2.4),
        sound_codec=codec,
        channels=channels,
        hertz=hertz,
    )
    clips = cut(reencoded, content, spans(content, 0, 20, 45, 60))
    for clip, cut_out in clips:
        span = clip.span
        with av.open(io.BytesIO(cut_out)) as opened:
            stream = opened.streams.audio[0]
            # The header of a transport stream tells no channels.
            assert stream.codec_context.channels == (
                2 if container == "mpegts" else min(channels, 2)
            )
            rate = stream.codec_context.sample_rate
            assert rate == (44_100 if hertz == 44_100 else 48_000)
        got = sounds(cut_out)
        lasts_ms = span.end_ms - span.start_ms
        assert abs(len(got) - lasts_ms * rate // 1000) <= 1024  # the last block
        # Loudness goes in steps of 100 ms: each is found where it belongs.
        for ms in range(0, lasts_ms - 100, 100):
            middle = got[(ms + 30) * rate // 1000 : (ms + 70) * rate // 1000]
            step = (span.start_ms + ms) // 100 % 10
            loud = np.sqrt(np.mean(middle**2) * 2)
            want = 0.1 + 0.08 * step
            assert loud == pytest.approx(want, rel=0.2)
        assert clip.heard_ms == pytest.approx(lasts_ms, abs=60)


def test_sound_that_begins_late_stays_where_it_is(moving) -> None:
    for container in ("mp4", "matroska"):
        content = rendered_sound.video(
            moving, container=container, sound=rendered_sound.steps(1.0), sound_at_s=1.0
        )
        clips = cut(reencoded, content, spans(content, 0, 20, 40, 60))
        heard = [clip.heard_ms for clip, _ in clips]
        assert heard[0] == 0
        assert heard[1] == pytest.approx(600, abs=40)
        assert heard[2] == pytest.approx(400, abs=60)
        assert {len(sounds(cut_out)) // (HZ // 10) for _, cut_out in clips} == {8}
        middle = sounds(clips[1][1])
        assert np.abs(middle[: HZ // 6]).max() < 0.01
        assert np.abs(middle[HZ * 22 // 100 :]).max() > 0.3


def test_the_same_clip_is_the_same_bytes(film) -> None:
    for how in CUTS:
        once, again = (cut(how, film, spans(film, 0, 20, 60)) for _ in range(2))
        assert [content for _, content in once] == [content for _, content in again]


@pytest.mark.parametrize("how", CUTS)
def test_no_tag_comes_along_and_the_index_comes_first(how, moving) -> None:
    tags = {"title": "SECRETTITLE", "location": videos.PLACE, "comment": "SECRETCOMMENT"}
    content = rendered_sound.video(
        moving, container="mov", tags=tags | {"creation_time": videos.MADE}
    )
    assert b"SECRETTITLE" in content
    for _, cut_out in cut(how, content, spans(content, 0, 60)):
        assert b"SECRET" not in cut_out
        assert b"48.8577" not in cut_out
        assert b"Lavf" not in cut_out
        assert 0 < cut_out.find(b"moov") < cut_out.find(b"mdat")
        with av.open(io.BytesIO(cut_out)) as container:
            assert set(container.metadata) <= {"major_brand", "minor_version", "compatible_brands"}


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "avi"])
def test_a_copied_clip_between_key_frames_is_equal_to_the_bit(container, moving) -> None:
    codec = "mpeg4" if container == "avi" else "libx264"
    options = {"g": "20", "bf": "0" if container == "avi" else "3", "sc_threshold": "0"}
    content = rendered_sound.video(
        moving, container=container, codec=codec, options=options, sound=rendered_sound.steps(2.4)
    )
    whole, _ = pictures(content)
    assert [n for n, key in enumerate(seen(content)[2]) if key][:3] == [0, 20, 40]
    clips = cut(copied, content, spans(content, 0, 20, 40, 60))
    for clip, cut_out in clips:
        got, times = pictures(cut_out)
        assert clip.frames == len(got) == 20
        assert np.array_equal(got, whole[clip.span.first : clip.span.end])
        assert abs(clip.start_ms - clip.span.start_ms) <= 1
        assert abs(clip.end_ms - clip.span.end_ms) <= 1
        first, end = clip.span.first, clip.span.end
        assert seen(cut_out)[0] == [t - clip.span.start_ms for t in seen(content)[0][first:end]]
        assert times[0] == pytest.approx(0, abs=0.09)  # Matroska: reordering comes first


def test_a_copied_clip_begins_with_the_key_frame_before(film) -> None:
    whole, _ = pictures(film)
    clips = cut(copied, film, spans(film, 5, 12, 33, 34, 50))
    assert [clip.start_ms for clip, _ in clips] == [0, 0, 800, 800]
    for clip, cut_out in clips:
        got, _ = pictures(cut_out)
        begin = clip.start_ms // 40
        assert len(got) == clip.frames
        assert clip.end_ms >= clip.span.end_ms
        assert clip.end_ms - clip.span.end_ms <= 4 * 40  # frames that others are made from
        assert np.array_equal(got, whole[begin : begin + len(got)])
        assert clip.end_ms == (begin + len(got)) * 40


def test_an_open_group_has_all_frames_of_its_span(moving) -> None:
    options = {"g": "20", "bf": "3", "sc_threshold": "0", "x264-params": "open-gop=1"}
    for container in ("mpegts", "matroska"):
        content = rendered_sound.video(moving, container=container, options=options)
        whole, _ = pictures(content)
        keys = [n for n, key in enumerate(seen(content)[2]) if key]
        assert len(keys) > 1
        for clip, cut_out in cut(copied, content, spans(content, *keys, 60)):
            got, _ = pictures(cut_out)
            begin = next(n for n in range(60) if np.array_equal(whole[n], got[0]))
            assert begin <= clip.span.first
            assert np.array_equal(got, whole[begin : begin + len(got)])
            assert begin + len(got) >= clip.span.end
            assert len(got) == clip.frames
        check_same_frames(
            content, cut(reencoded, content, spans(content, *keys, 60)), least_psnr=30
        )


@pytest.mark.parametrize(
    ("container", "codec", "options", "extension"),
    [
        ("avi", "mpeg4", {"bf": "2", "g": "20"}, "mp4"),
        ("mpeg", "mpeg2video", {"bf": "2", "g": "15"}, "mkv"),
        ("mpegts", "libx265", {"x265-params": "keyint=20:open-gop=1:log-level=none"}, "mp4"),
        ("mp4", "libsvtav1", {"g": "20", "preset": "12"}, "mp4"),
        ("matroska", "ffv1", {}, "mkv"),
    ],
)
def test_a_copied_clip_of_other_codecs(container, codec, options, extension, moving) -> None:
    content = rendered_sound.video(moving, container=container, codec=codec, options=options)
    whole, _ = pictures(content)
    _, _, is_key = seen(content)
    for clip, cut_out in cut(copied, content, spans(content, 0, 20, 33, 60)):
        got, _ = pictures(cut_out)
        begin = clip.start_ms // 40
        assert clip.start_ms <= clip.span.start_ms
        assert is_key[begin]
        assert not any(is_key[begin + 1 : clip.span.first + 1])
        assert np.array_equal(got, whole[begin : begin + len(got)])
        assert clip.frames == len(got)
        assert begin + len(got) >= clip.span.end
        assert (clip.extension, clip.end_ms) == (extension, 40 * (begin + len(got)))


def test_what_an_edit_list_hides_stays_hidden(film) -> None:
    ((_, later),) = cut(copied, film, spans(film, 20, 60))
    hidden = edited(later, 200)
    times, _, _ = seen(hidden)
    assert len(times) < 40
    clips = cut(reencoded, hidden, spans(hidden, 0, 10, len(times)))
    check_same_frames(hidden, clips, least_psnr=35)
    for clip, cut_out in cut(copied, hidden, spans(hidden, 0, 10)):
        got, _ = pictures(cut_out)
        assert clip.start_ms <= 0
        assert clip.frames >= len(got)


def edited(content: bytes, hidden_ms: int) -> bytes:
    """An MP4 whose first frames are hidden: written with times before zero."""
    with io.BytesIO() as file:
        with (
            av.open(io.BytesIO(content)) as source,
            av.open(file, "w", format="mp4") as output,
        ):
            video = source.streams.video[0]
            stream = output.add_stream_from_template(video, opaque=True)
            back = round(Fraction(hidden_ms, 1000) / video.time_base)
            for packet in source.demux(video):
                if packet.size:
                    packet.pts, packet.dts = packet.pts - back, packet.dts - back
                    packet.stream = stream
                    output.mux(packet)
        return file.getvalue()


def test_a_clock_that_is_set_anew_goes_on(moving) -> None:
    parts = [
        rendered_sound.video(
            moving[at : at + 30],
            container="mpegts",
            options={"g": "10", "bf": "0", "sc_threshold": "0"},
            sound=rendered_sound.steps(1.2),
            times=range(begin, begin + 30),
            sound_at_s=begin / 25,
        )
        for at, begin in ((0, 500), (30, 0))
    ]
    content = b"".join(parts)
    assert len(seen(content)[0]) == 60
    of = spans(content, 0, 20, 40, 60)
    for clip, cut_out in cut(reencoded, content, of):
        got, _ = pictures(cut_out, "rgb24")
        assert len(got) == clip.frames == 20
        assert [nearest(frame, moving) for frame in got] == list(
            range(clip.span.first, clip.span.end)
        )
        assert seen(cut_out)[0] == list(range(0, 800, 40))
        assert clip.heard_ms > 600
    whole, _ = pictures(content)
    for clip, cut_out in cut(copied, content, of):
        got, _ = pictures(cut_out)
        assert np.array_equal(got, whole[clip.span.first : clip.span.first + len(got)])
        assert len(got) == 20


@pytest.mark.parametrize("kind", videos.KINDS)
def test_a_copied_clip_of_every_container_can_be_read(kind) -> None:
    content = videos.video(kind)
    whole, _ = pictures(content)
    for clip, cut_out in cut(copied, content, spans(content, 0, 4, 10)):
        got, _ = pictures(cut_out)
        begin = round(clip.start_ms / 40)
        assert len(got) == clip.frames
        assert np.array_equal(got, whole[begin : begin + len(got)])
        with av.open(io.BytesIO(cut_out)) as container:
            assert ("mp4" in container.format.name) == (clip.extension == "mp4")


def test_a_copied_clip_stays_turned(moving) -> None:
    content = rendered_sound.video(moving[:6], rotation=90.0)
    ((clip, cut_out),) = cut(copied, content, spans(content, 0, 6))
    with decoded(io.BytesIO(cut_out), size_bytes=len(cut_out)) as video:
        assert video.rotation_deg == 270
    assert (clip.width_px, clip.height_px) == (64, 96)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "ts", "mpg"])
def test_frames_are_numbered_and_timed_as_everywhere(kind) -> None:
    content = videos.video(kind, times=[0, 1, 2, 5, 6, 7, 11, 12, 13, 14])
    with opened_source(io.BytesIO(content), size_bytes=len(content)) as source:
        parts = [part for part in source.parts() if isinstance(part, Picture)]
    assert [part.time_ms for part in parts] == seen(content)[0]
    assert [part.index for part in parts] == list(range(videos.FRAMES))
    ticks = [part.ticks for part in parts]
    assert ticks == sorted(set(ticks))


def test_stills_are_upright_and_bounded(moving) -> None:
    content = rendered_sound.video(moving, rotation=90.0)
    of = spans(content, 0, 20, 60)
    clips = cut(reencoded, content, of, stills=[0, 19, 20, 59, 1000], still_side_px=32)
    assert [[s.frame for s in clip.stills] for clip, _ in clips] == [[0, 19], [20, 59]]
    apart = list(
        stills(io.BytesIO(content), size_bytes=len(content), frames=[0, 19, 20, 59], side_px=32)
    )
    assert apart == [still for clip, _ in clips for still in clip.stills]
    for still in apart:
        assert still.time_ms == 40 * still.frame
        with Image.open(io.BytesIO(still.content)) as picture:
            assert picture.size == (32, 48)
            assert not picture.getexif()
            want = Image.fromarray(np.rot90(moving[still.frame])).resize((32, 48))
            assert psnr(np.asarray(picture), np.asarray(want)) > 24
    assert not list(stills(io.BytesIO(content), size_bytes=len(content), frames=[]))
    past = stills(io.BytesIO(content), size_bytes=len(content), frames=[0, 4000])
    assert [still.frame for still in past] == [0]


def test_an_encoder_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"allowed .*libx264"):
        Encoding("libx999")


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("of", [[Span(3, 3, 0, 1)], [Span(5, 9, 0, 1), Span(8, 12, 1, 2)]])
def test_spans_out_of_order_are_refused(how, of) -> None:
    with pytest.raises(ValueError, match="sort the spans"):
        cut(how, b"", of)


@pytest.mark.parametrize("how", CUTS)
def test_without_spans_nothing_is_read(how) -> None:
    assert cut(how, b"", []) == []


@pytest.mark.parametrize("how", CUTS)
def test_what_is_no_video_is_refused(how, film) -> None:
    assert refusal(how, b"").error_class == "empty_media"
    assert refusal(how, b"hello" * 100).error_class == "not_a_video"
    assert refusal(how, film[:100]).error_class == "damaged_video"
    small = Limits(max_pixels=1000)
    assert refusal(how, film, limits=small).error_class == "too_many_pixels"
    assert refusal(how, videos.song(cover=True)).error_class == "not_a_video"


@pytest.mark.parametrize("how", CUTS)
def test_a_video_that_ends_early_is_refused(how, moving) -> None:
    content = rendered_sound.video(moving, container="matroska", options={"g": "10"})
    of = spans(content, 0, 30, 60)
    assert refusal(how, content[: len(content) // 2], of).error_class == "truncated_video"
    past = [Span(0, 30, 0, 1200), Span(30, 600, 1200, 24_000)]
    assert refusal(how, content, past).error_class == "truncated_video"
    assert refusal(how, content, [Span(600, 610, 24_000, 24_400)]).error_class == "truncated_video"


def test_spans_of_another_video_are_refused(film) -> None:
    assert refusal(reencoded, film, [Span(5, 9, 777, 888)]).error_class == "clip_not_cut"


def test_a_video_that_is_too_long_is_refused(film) -> None:
    limits = Limits(max_frames=10)
    of = spans(film, 0, 20)
    assert refusal(reencoded, film, of, limits=limits).error_class == "video_too_long"


def test_a_group_that_is_too_large_to_hold_is_refused(film) -> None:
    of = spans(film, 15, 30)
    assert refusal(copied, film, of, max_group_bytes=500).error_class == "clip_not_cut"


@pytest.mark.parametrize("how", CUTS)
def test_an_error_of_the_stream_is_raised_as_it_is(how, film) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > len(film) // 2:
                raise OSError("gone")
            return super().read(size)

    with pytest.raises(OSError, match="gone"):
        list(how(Broken(film), size_bytes=len(film), spans=spans(film, 0, 20, 60)))


@pytest.mark.parametrize("how", CUTS)
def test_who_stops_early_leaves_nothing_open(how, film) -> None:
    clips = how(io.BytesIO(film), size_bytes=len(film), spans=spans(film, 0, 20, 40, 60))
    file = next(clips).file
    assert not file.closed
    clips.close()
    assert file.closed


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["mp4", "mkv", "avi", "ts"]))
def test_damage_costs_its_own_video(random: Random, kind: str) -> None:
    content = bytearray(videos.video(kind))
    for _ in range(random.randint(1, 30)):
        content[random.randrange(len(content))] = random.randrange(256)
    for how in CUTS:
        with contextlib.suppress(VideoRefused):
            cut(how, bytes(content), [Span(0, 4, 0, 160), Span(4, 10, 160, 400)])


def test_what_no_container_takes_is_encoded_anew_or_refused(moving) -> None:
    content = rendered_sound.video(
        moving, container="mov", sound=rendered_sound.steps(2.4), sound_codec="pcm_alaw"
    )
    assert refusal(copied, content, spans(content, 0, 60)).error_class == "clip_not_cut"
    ((clip, _),) = cut(reencoded, content, spans(content, 0, 60))
    assert clip.heard_ms == pytest.approx(2400, abs=60)


def test_sound_that_does_not_say_what_it_is_in_time_is_left_out(moving, monkeypatch) -> None:
    content = rendered_sound.video(
        moving, container="mpegts", sound=rendered_sound.steps(1.0), sound_at_s=1.4
    )
    of = spans(content, 0, 60)
    ((clip, _),) = cut(copied, content, of)
    assert clip.audio_codec == "aac"
    monkeypatch.setattr(clip_source, "_MOST_ASKED", 5)
    ((clip, cut_out),) = cut(copied, content, of)
    assert clip.audio_codec is None
    assert len(pictures(cut_out)[0]) == clip.frames == 60


def test_sound_that_comes_much_too_early_or_late_is_left_out(film, monkeypatch) -> None:
    of = spans(film, 0, 33, 60)
    heard_ms = sum(clip.heard_ms for clip, _ in cut(reencoded, film, of))
    assert heard_ms > 2300
    monkeypatch.setattr(clip_source, "HELD_SOUND_S", 0.05)
    assert sum(clip.heard_ms for clip, _ in cut(reencoded, film, of)) < heard_ms - 30
    for clip, cut_out in cut(reencoded, film, of):
        assert len(sounds(cut_out)) >= HZ * (clip.end_ms - clip.start_ms) // 1000
    monkeypatch.setattr(clip_cut, "_MOST_HEARD_BYTES", 1000)
    _, (clip, cut_out) = cut(copied, film, of)
    assert len(pictures(cut_out)[0]) == clip.frames
    assert len(sounds(cut_out)) < HZ * (clip.end_ms - clip.start_ms) // 1000


def test_sound_whose_channels_change_goes_on(moving) -> None:
    content = b"".join(
        rendered_sound.video(
            moving[at : at + 30],
            container="mpegts",
            options={"bf": "0"},
            sound=rendered_sound.steps(1.2),
            channels=channels,
            times=range(at, at + 30),
            sound_at_s=at / 25,
        )
        for at, channels in ((0, 1), (30, 2))
    )
    ((clip, cut_out),) = cut(reencoded, content, spans(content, 0, 60))
    assert clip.heard_ms > 2000
    assert np.abs(sounds(cut_out)[-HZ // 10 :]).max() > 0.05


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize(
    ("error", "met"),
    [
        (av.error.InvalidDataError(1, "no", ""), VideoRefused),
        (OSError(28, "disk full"), OSError),
    ],
)
def test_only_what_ffmpeg_refuses_is_the_videos_fault(how, error, met, film, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(ClipFile, "finished", broken)
    with pytest.raises(met):
        cut(how, film, spans(film, 0, 20, 60))
    monkeypatch.setattr(ClipEncoder, "see", broken)
    monkeypatch.setattr(ClipCopy, "see", broken)
    with pytest.raises(met):
        cut(how, film, spans(film, 0, 20, 60))


_MADE = """
import sys
import numpy as np
from tests import rendered_sound

noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), np.uint8)
for times in (1, 4):
    content = rendered_sound.video(
        np.concatenate([noise] * times), container="matroska", codec="ffv1"
    )
    with open(f"{sys.argv[1]}/{times}.mkv", "wb") as file:
        file.write(content)
"""
_MEASURED = """
import resource, sys
from udfs.clip_cut import copied, reencoded
from udfs.spans import Span

for times in (1, 4):
    frames = 40 * times
    with open(f"{sys.argv[1]}/{times}.mkv", "rb") as file:
        size = file.seek(0, 2)
        for how in (copied, reencoded):
            for clip in how(file, size_bytes=size, spans=[Span(0, frames, 0, 40 * frames)]):
                assert clip.frames == frames
    print(size / 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_clip(tmp_path) -> None:
    for script in (_MADE, _MEASURED):
        command = [sys.executable, "-c", script, str(tmp_path)]
        told = subprocess.run(command, check=True, capture_output=True)
    small_mb, before_mb, large_mb, after_mb = map(float, told.stdout.split())
    assert large_mb > small_mb + 8
    assert after_mb < before_mb + 8  # what was added is more, packed or not


def test_what_lies_behind_a_packet_that_cannot_be_read_is_left_out(film) -> None:
    class Failing:
        def __init__(self, container: av.container.InputContainer) -> None:
            self._container = container

        def demux(self, streams: list[av.stream.Stream]):
            yield from itertools.islice(self._container.demux(streams), 40)
            raise av.error.InvalidDataError(1, "no", "")

    with opened_source(io.BytesIO(film), size_bytes=len(film)) as source:
        source._container = Failing(source._container)
        frames = [part for part in source.parts() if isinstance(part, Picture)]
    assert 5 < len(frames) < 30
    assert [frame.time_ms for frame in frames] == [40 * n for n in range(len(frames))]
