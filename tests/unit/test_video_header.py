import dataclasses
import io
import json
import resource
import shutil
import struct
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from random import Random

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.error_classes import ERROR_CLASSES
from tests import videos
from tests.loose_files import picture
from udfs import video_header
from udfs.video_header import (
    MAX_READ_BYTES,
    SNIFFED_BYTES,
    VIDEO_TYPES,
    VideoHeader,
    VideoRefused,
    extension_matches,
    header,
    is_video,
    video_type,
)

LIMIT = 10_000
MIMES = {
    "mp4": "video/mp4",
    "mp4_part2": "video/mp4",
    "mp4_vp9": "video/mp4",
    "3gp": "video/3gpp",
    "3g2": "video/3gpp2",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
    "webm_vp8": "video/webm",
    "avi": "video/x-msvideo",
    "ts": "video/mp2t",
    "m2ts": "video/mp2t",
    "mpg": "video/mpeg",
}
CODECS = {
    "libx264": "h264",
    "libvpx-vp9": "vp9",
    "libvpx": "vp8",
    "libopus": "opus",
}
FRAGMENTED = {"movflags": "frag_every_frame+empty_moov"}
FASTSTART = {"movflags": "faststart"}


class Counted(io.BytesIO):
    """A file that knows how much of it was read."""

    read_bytes = 0
    furthest = 0

    def read(self, size=-1) -> bytes:
        content = super().read(size)
        self.read_bytes += len(content)
        self.furthest = max(self.furthest, self.tell())
        return content


class Sparse(io.RawIOBase):
    """A file with much of nothing between its head and its tail."""

    def __init__(self, head: bytes, empty: int, tail: bytes = b"") -> None:
        self.head, self.tail = head, tail
        self.tail_at = len(head) + empty
        self.size = self.tail_at + len(tail)
        self.at = 0
        self.read_bytes = 0

    def seek(self, offset, whence=io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        self.at = offset
        return self.at

    def read(self, size=-1) -> bytes:
        end = min(self.at + size, self.size)
        content = bytearray(max(0, end - self.at))
        for start, part in ((0, self.head), (self.tail_at, self.tail)):
            first, last = max(self.at, start), min(end, start + len(part))
            if first < last:
                content[first - self.at : last - self.at] = part[first - start : last - start]
        self.at += len(content)
        self.read_bytes += len(content)
        return bytes(content)


def told(content: bytes, *, max_pixels: int = LIMIT) -> VideoHeader:
    return header(io.BytesIO(content), size_bytes=len(content), max_pixels=max_pixels)


def told_or_refused(content: bytes) -> VideoHeader | VideoRefused:
    try:
        return told(content)
    except VideoRefused as refused:
        return refused


def refusal(content: bytes, **how) -> VideoRefused:
    with pytest.raises(VideoRefused) as refused:
        told(content, **how)
    assert refused.value.error_class in ERROR_CLASSES
    return refused.value


@cache
def of(kind: str) -> bytes:
    return videos.video(kind)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


@pytest.mark.parametrize("kind", videos.KINDS)
def test_the_facts_of_every_container(kind) -> None:
    _, codec, sound = videos.KINDS[kind]
    found = told(of(kind))
    assert found.mime == MIMES[kind]
    assert (found.width_px, found.height_px) == (videos.WIDTH, videos.HEIGHT)
    assert (found.fps, found.is_variable_fps) == (videos.FPS, False)
    assert found.duration_s == pytest.approx(videos.FRAMES / videos.FPS, abs=0.1)
    assert found.video_codec == CODECS.get(codec, codec)
    assert found.audio_codec == CODECS.get(sound, sound)
    assert found.audio_streams == (sound is not None)
    assert (found.rotation_deg, found.subtitle_streams, found.created_at) == (0, 0, None)
    assert video_type(of(kind)[:SNIFFED_BYTES]) == found.mime


def test_every_type_is_tested() -> None:
    assert set(MIMES.values()) == VIDEO_TYPES


@pytest.mark.parametrize("kind", ["mp4", "mp4_part2", "mov", "mkv"])
@pytest.mark.parametrize(("turned", "upright"), [(-90, 90), (180, 180), (90, 270), (0, 0)])
def test_rotation_is_clockwise(kind, turned, upright) -> None:
    found = told(videos.video(kind, rotation=turned))
    assert found.rotation_deg == upright
    assert (found.width_px, found.height_px) == (videos.WIDTH, videos.HEIGHT)


@pytest.mark.parametrize(
    ("said", "upright"), [("90", 90), ("-90", 270), ("89.9", 90), ("nan", 0), ("x", 0), ("inf", 0)]
)
def test_a_rotate_tag_counts_where_there_is_no_matrix(said, upright) -> None:
    assert told(videos.video("mkv", of_stream={"ROTATE": said})).rotation_deg == upright


@pytest.mark.parametrize("kind", ["mp4", "mov"])
def test_a_variable_rate_is_told(kind) -> None:
    found = told(videos.video(kind, times=[0, 1, 2, 10, 11, 12, 30, 31, 32, 40]))
    assert found.is_variable_fps
    assert found.fps == pytest.approx(10 / 41 * videos.FPS, rel=0.3)


@pytest.mark.parametrize(("kind", "codec"), [("mkv", "subrip"), ("mp4", "mov_text")])
def test_streams_are_counted(kind, codec) -> None:
    found = told(videos.video(kind, audios=3, subtitles=codec))
    assert (found.audio_streams, found.subtitle_streams) == (3, 1)


@pytest.mark.parametrize("options", [{}, FASTSTART, FRAGMENTED])
def test_it_does_not_matter_where_the_index_stands(options) -> None:
    content = videos.video(options=options)
    assert (content.find(b"moov") < content.find(b"mdat")) == bool(options)
    assert told(content).duration_s == pytest.approx(videos.FRAMES / videos.FPS, abs=0.1)


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv"])
def test_of_the_tags_only_the_time_is_told(kind) -> None:
    tags = {"creation_time": videos.MADE, "location": videos.PLACE, "title": "Zq9"}
    content = videos.video(kind, tags=tags)
    with av.open(io.BytesIO(content)) as container:
        assert "48.85" in repr(container.metadata)
    found = told(content)
    assert found.created_at == datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert "48.85" not in repr(found)
    assert "Zq9" not in repr(found)


@pytest.mark.parametrize("said", ["x", "2021-03-04T05:06:07", "1904-01-01T00:00:00Z", "0001"])
def test_a_time_that_is_none_is_null(said) -> None:
    content = videos.video("mkv", tags={"copyright": "2021-03-04T05:06:07Z"})
    assert told(content).created_at is None
    assert video_header._created_at(said) is None


def test_tags_need_not_be_utf8() -> None:
    content = videos.video(tags={"title": "A title to break"})
    assert told(content.replace(b"A title", b"\xff\xfe\xed\xa0\x80\xc3(")) == told(content)


@pytest.mark.parametrize("declared", [1e12, 1e300, float("inf")])
def test_an_absurd_duration_is_null(declared) -> None:
    content = bytearray(of("webm_vp8"))
    at = content.index(b"\x44\x89\x88") + 3  # RFC 9559 §5.1.2.10: Duration, of 8 bytes, in ms
    struct.pack_into(">d", content, at, declared)
    assert told(bytes(content)).duration_s is None


@pytest.mark.parametrize("microseconds", [None, 0, -1, 8 * 24 * 3600 * 10**6, 2**63 - 1])
def test_a_duration_that_is_none_is_null(microseconds) -> None:
    assert video_header._duration_s(microseconds) is None


def test_pixels_are_bounded() -> None:
    size = videos.WIDTH * videos.HEIGHT
    assert told(of("mp4"), max_pixels=size)
    for kind in videos.KINDS:
        assert refusal(of(kind), max_pixels=size - 1).error_class == "too_many_pixels"


@pytest.mark.parametrize("cover", [True, False])
def test_sound_is_no_video_nor_is_its_cover(cover) -> None:
    content = videos.song(cover=cover)
    with av.open(io.BytesIO(content)) as container:
        assert len(container.streams.video) == cover
    assert is_video(content)
    assert refusal(content).error_class == "not_a_video"


@pytest.mark.parametrize(
    "content",
    [
        *(bytes(4) + b"ftyp" + brand for brand in (b"avif", b"avis", b"heic", b"mif1", b"crx ")),
        picture(),
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
        b"\x1a\x45\xdf\xa3\x80",
        b"G" + bytes(187) + b"G" + bytes(187) + b"H",
        b"G",
        b"a text that is named a.mp4",
        b"\x00",
    ],
)
def test_what_is_no_video(content) -> None:
    assert not is_video(content)
    assert refusal(content).error_class == "not_a_video"


def test_nothing_is_no_video() -> None:
    assert not is_video(b"")
    assert refusal(b"").error_class == "empty_media"


def test_images_of_iso_files_are_no_video() -> None:
    with io.BytesIO() as file:
        Image.new("RGB", (16, 16)).save(file, "AVIF")
        assert refusal(file.getvalue()).error_class == "not_a_video"


@pytest.mark.parametrize("kind", videos.KINDS)
def test_a_cut_video_is_told_or_refused(kind) -> None:
    content, whole = of(kind), told(of(kind))
    for tenth in range(10):
        cut = content[: len(content) * tenth // 10]
        found = told_or_refused(cut)
        if isinstance(found, VideoRefused):
            assert found.error_class in ("empty_media", "not_a_video", "damaged_video")
            continue
        assert tenth
        assert (found.mime, found.width_px, found.video_codec) == (
            whole.mime,
            whole.width_px,
            whole.video_codec,
        )


def test_an_mp4_without_its_index_is_damaged() -> None:
    content = of("mp4")
    assert refusal(content[: content.index(b"moov") - 4]).error_class == "damaged_video"


@pytest.mark.parametrize("kind", ["mkv", "webm", "avi", "ts"])
def test_where_the_header_is_whole_a_cut_costs_nothing(kind) -> None:
    whole = told(of(kind))
    found = told(of(kind)[: len(of(kind)) * 8 // 10])
    assert dataclasses.replace(found, duration_s=whole.duration_s) == whole


def test_only_the_file_of_its_size_is_read() -> None:
    content = of("mp4")
    longer = io.BytesIO(content + box(b"moov", b""))
    assert header(longer, size_bytes=len(content), max_pixels=LIMIT) == told(content)
    with pytest.raises(VideoRefused):  # its index stands behind what it is said to hold
        header(io.BytesIO(content), size_bytes=len(content) // 2, max_pixels=LIMIT)
    more = Counted(of("ts") * 2)
    size = len(of("ts")) - 188
    assert header(more, size_bytes=size, max_pixels=LIMIT).mime == "video/mp2t"
    assert more.furthest <= size
    more = io.BytesIO(content)
    assert header(more, size_bytes=10 * len(content), max_pixels=LIMIT) == told(content)


def test_a_large_file_is_read_at_its_ends() -> None:
    content = of("mp4")
    at, moov = content.index(b"mdat") - 4, content.index(b"moov") - 4
    size = 10 * 2**30
    head = content[:at] + struct.pack(">I4sQ", 1, b"mdat", 16 + size)
    file = Sparse(head, size, content[moov:])
    found = header(file, size_bytes=file.size, max_pixels=LIMIT)
    assert (found.width_px, found.fps) == (videos.WIDTH, videos.FPS)
    assert file.read_bytes < 2**20


def test_not_more_than_so_many_bytes_are_read(capfd, monkeypatch) -> None:
    most = 2**20
    monkeypatch.setattr(video_header, "MAX_READ_BYTES", most)
    ftyp = box(b"ftyp", b"isom" + bytes(4))
    boxes = box(b"free", b"") * (2 * most // 8)  # each is looked at
    file = Counted(ftyp + boxes)
    size = len(file.getvalue())
    with pytest.raises(VideoRefused, match="the header is not told by") as refused:
        header(file, size_bytes=size, max_pixels=LIMIT)
    assert refused.value.error_class == "damaged_video"
    assert file.read_bytes <= most
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["mkv", "ts", "mpg", "avi"])
def test_a_long_file_without_more_is_not_read_through(kind) -> None:
    file = Sparse(of(kind)[:12_000], 2**31)
    with suppress(VideoRefused):
        header(file, size_bytes=file.size, max_pixels=LIMIT)
    assert file.read_bytes <= MAX_READ_BYTES


@pytest.mark.parametrize("samples", [20_000_000, 2**32 - 1])
def test_an_index_that_is_only_declared_takes_no_memory(samples) -> None:
    content = bytearray(of("mp4"))
    for name in (b"stsz", b"stsc"):  # ISO/IEC 14496-12 §8.7.3 and §8.7.4
        at = content.index(name)
        if name == b"stsz":
            struct.pack_into(">II", content, at + 8, 1, samples)
        else:
            struct.pack_into(">I", content, at + 16, samples)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert told(bytes(content)).width_px == videos.WIDTH
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "ts", "mpg"])
@pytest.mark.parametrize("whole", [0, 4096, 8192])
def test_what_storage_raises_is_no_refusal(kind, whole, capfd) -> None:
    class Broken(io.BytesIO):
        def read(self, size=-1) -> bytes:
            if self.tell() >= whole:
                raise ConnectionResetError("storage")
            return super().read(size)

    content = of(kind)
    with pytest.raises(ConnectionResetError, match="storage"):
        header(Broken(content), size_bytes=len(content), max_pixels=LIMIT)
    assert capfd.readouterr() == ("", "")


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet><Representation>'
    "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na={}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_no_video_and_opens_none(kind, tmp_path, monkeypatch) -> None:
    canary = tmp_path / "canary.ts"
    canary.write_bytes(of("ts"))
    content = PLAYLISTS[kind].format(canary).encode()
    assert refusal(content).error_class == "not_a_video"
    for mime in VIDEO_TYPES:  # nor would it if its first bytes were forged
        monkeypatch.setattr(video_header, "video_type", lambda _first, mime=mime: mime)
        assert refusal(content + bytes(2000)).error_class in ("damaged_video", "not_a_video")


def test_the_demuxer_is_never_guessed(monkeypatch) -> None:
    asked = []
    opened = av.open
    monkeypatch.setattr(av, "open", lambda *a, **how: asked.append(how) or opened(*a, **how))
    for kind in videos.KINDS:
        assert told(of(kind)).container == asked[-1]["format"]
        assert asked[-1]["options"]["format_whitelist"] == asked[-1]["format"]
        assert asked[-1]["options"]["protocol_whitelist"] == "none"


def test_the_same_script_is_followed_where_the_demuxer_is_guessed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary.ts").write_bytes(of("ts"))
    content = PLAYLISTS["concat"].format("canary.ts").encode()
    with av.open(io.BytesIO(content)) as container:
        assert container.streams.video[0].width == videos.WIDTH
    assert refusal(content).error_class == "not_a_video"


@pytest.mark.parametrize(
    "prefix", [b"", bytes(4) + b"ftypisom", b"\x1a\x45\xdf\xa3\x42\x82\x84webm"]
)
def test_noise_is_refused(prefix) -> None:
    for seed in range(20):
        content = prefix + Random(seed).randbytes(5000)
        assert refusal(content).error_class in ("not_a_video", "damaged_video")


def test_ffmpeg_says_nothing(capfd, caplog) -> None:
    for kind in videos.KINDS:
        content = videos.video(kind, tags={"title": "Zq9"})
        capfd.readouterr()
        for end in (len(content), len(content) // 2, 500):
            assert "Zq9" not in repr(told_or_refused(content[:end]))
        assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert av.logging.get_level() is None


SMALL = ("mp4", "mp4_part2", "webm_vp8", "mpg")


@settings(max_examples=150, deadline=2000)
@given(
    kind=st.sampled_from(SMALL),
    edits=st.lists(
        st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6
    ),
    end=st.integers(1, 100),
    header_only=st.booleans(),
)
def test_a_damaged_video_is_told_or_refused(kind, edits, end, header_only) -> None:
    content = bytearray(of(kind))
    start = max(0, content.find(b"moov"))  # where the bytes that mean something are
    for at, new in edits:
        where = start + at % 1500 if header_only else at % len(content)
        content[where : where + len(new)] = new
    found = told_or_refused(bytes(content[: len(content) * end // 50]))
    if isinstance(found, VideoRefused):
        assert found.error_class in ERROR_CLASSES
        return
    assert 0 < found.width_px * found.height_px <= LIMIT
    assert found.rotation_deg in (0, 90, 180, 270)
    assert found.duration_s is None or found.duration_s > 0


def test_an_extension_may_not_name_another_type() -> None:
    assert extension_matches("video/quicktime", "a.MOV")
    assert not extension_matches("video/x-matroska", "a.webm")
    assert extension_matches("video/mp2t", "a.bin")


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="no ffprobe")
@pytest.mark.parametrize("kind", videos.KINDS)
def test_ffprobe_agrees(kind, tmp_path) -> None:
    (tmp_path / "video").write_bytes(of(kind))
    asked = ["ffprobe", "-v", "quiet", "-of", "json", "-show_streams", "-show_format"]
    said = json.loads(subprocess.check_output([*asked, str(tmp_path / "video")]))
    found = told(of(kind))
    stream = next(s for s in said["streams"] if s["codec_type"] == "video")
    assert (stream["width"], stream["height"]) == (found.width_px, found.height_px)
    assert stream["codec_name"] == found.video_codec
    assert float(said["format"]["duration"]) == pytest.approx(found.duration_s, abs=0.05)
