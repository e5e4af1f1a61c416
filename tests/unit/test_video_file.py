import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.guard import Guard
from jobs.media import Files
from jobs.runtime.staging import FOLDER, Staging
from jobs.sources import folder, webdataset
from jobs.sources.entry import Entry, EntryRefused, Reading
from jobs.sources.place import Place, walk
from jobs.sources.video_file import registered
from jobs.staged import Portion, reader
from tests import manifest
from tests.loose_files import LIMITS
from tests.videos import FRAMES, HEIGHT, WIDTH, video

CLIP = video("mp4")
OTHER = video("webm")


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return file.getvalue()


# A video with all that may stand beside it, one that is alone, one that is none, an image.
FILES = {
    "a.jpg": png(),
    "a.json": b'{"url": "http://a.example/a.mp4", "views": 3}',
    "a.mp4": CLIP,
    "a.txt": "a caf\u00e9".encode(),
    "b.webm": OTHER,
    "c.mp4": b"no video at all",
    "d.png": png(),
    "d.txt": b"a picture",
}


def tar(files: dict[str, bytes]) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return file.getvalue()


def of_tar(_root: Path) -> list[Entry]:
    return list(webdataset.entries(io.BytesIO(tar(FILES)), LIMITS))


def of_folder(root: Path) -> list[Entry]:
    for name, content in FILES.items():
        (root / name).write_bytes(content)
    (shard,) = walk(str(root), folder.shards)
    return list(folder.entries(Place(str(root), shard.path), Reading(limits=LIMITS)))


@pytest.mark.parametrize("read", [of_tar, of_folder])
def test_videos_are_registered_and_what_stands_beside_them_is_theirs(
    read: Callable[[Path], list[Entry]], tmp_path: Path
) -> None:
    first, alone, none, image = read(tmp_path)

    assert first.video is not None
    assert first.content is None
    assert (first.member, first.caption, first.mime) == ("a.mp4", "a caf\u00e9", "video/mp4")
    assert (first.url, first.extra) == ("http://a.example/a.mp4", {"views": "3"})
    assert first.media_sha256 == hashlib.sha256(CLIP).hexdigest()
    assert (first.video.md5, first.video.sha1) == (
        hashlib.md5(CLIP, usedforsecurity=False).hexdigest(),
        hashlib.sha1(CLIP, usedforsecurity=False).hexdigest(),
    )
    assert (first.header_width_px, first.header_height_px) == (WIDTH, HEIGHT)
    assert first.size_bytes == len(CLIP)
    assert alone.video is not None
    assert (alone.caption, alone.mime, alone.error_class) == ("", "video/webm", None)
    assert (none.error_class, none.member) == ("not_a_video", "c.mp4")
    assert (image.content, image.caption) == (FILES["d.png"], "a picture")


def test_a_row_of_the_media_table_leads_to_the_video_in_its_tar(tmp_path: Path) -> None:
    root, staging = tmp_path / "dump", tmp_path / "staging"
    root.mkdir()
    (root / "0.tar").write_bytes(tar(FILES))
    (file,) = walk(str(root), lambda files, _folders: files)
    portion = Portion(slice_bytes=1 << 40, slice_items=1 << 40, max_inline_bytes=1 << 40)
    function = reader(LIMITS, Guard(), Staging(folder=str(staging), batch="b", run_id="r"), portion)
    rows = [
        row
        for batch in function([pa.RecordBatch.from_pylist([manifest.shard(file, root)])])
        for row in batch.to_pylist()
    ]
    (path,) = (staging / FOLDER).glob("*")
    media = {row["media_sha256"]: row for row in pq.read_table(path).to_pylist()}
    stored = media[hashlib.sha256(CLIP).hexdigest()]

    assert [row["fate"] for row in rows] == ["sample", "sample", "quarantined", "sample"]
    assert [row["modality"] for row in rows] == ["video_text", "video_text", None, "image_text"]
    assert (stored["content"], stored["path"]) == (None, "0.tar")
    assert Files().content(stored) == CLIP
    assert stored["video"]["duration_s"] == pytest.approx(FRAMES / 25, abs=0.05)
    assert stored["video"]["video_codec"] == "h264"
    assert [row["video"] for row in media.values()].count(None) == 1


def test_a_video_of_a_compressed_shard_is_refused_and_its_neighbours_are_not() -> None:
    content = gzip.compress(tar(FILES))
    found = list(webdataset.entries(io.BytesIO(content), LIMITS))

    refused = ["video_compressed"] * 3
    assert [entry.error_class for entry in found] == [*refused, None]


def test_a_video_that_is_longer_than_any_member_may_be_is_taken_in_little_memory() -> None:
    large = CLIP + bytes(LIMITS.max_member_bytes)
    (entry,) = webdataset.entries(io.BytesIO(tar({"a.mp4": large})), LIMITS)

    assert entry.error_class is None
    assert entry.media_sha256 == hashlib.sha256(large).hexdigest()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_shard_that_ends_within_a_video_is_truncated(kept: float) -> None:
    content = tar({"d.png": png(), "d.txt": b"a picture", "a.mp4": CLIP})
    start = content.index(CLIP)
    cut = content[: start + int(len(CLIP) * kept)]
    found = list(webdataset.entries(io.BytesIO(cut), LIMITS))

    assert [entry.error_class for entry in found] == [None, "truncated_shard"]
    assert found[-1].sample_key == "a"


def test_more_pixels_than_allowed_are_refused() -> None:
    limits = LIMITS.__class__(**{**vars(LIMITS), "max_pixels": WIDTH * HEIGHT - 1})

    with pytest.raises(EntryRefused, match="too_many_pixels"):
        registered(io.BytesIO(CLIP), len(CLIP), limits)
