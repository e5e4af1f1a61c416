import hashlib
import io
import multiprocessing
import os
import resource
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import staged as worker
from jobs.demo import trouble
from jobs.demo.trouble import File
from jobs.guard import Guard
from jobs.runtime.staging import FOLDER, Staging
from jobs.sources.entry import Document, Entry, EntryRefused, Item, Limits
from jobs.sources.formats import FORMATS, Format
from jobs.sources.place import walk
from jobs.staged import STAGED, Portion, reader
from tests import manifest
from udfs.blocklist import Blocklist

LIMITS = Limits(
    max_member_bytes=1 << 30,
    max_pixels=89_478_485,
    max_decompression_ratio=100,
    max_decompressed_bytes=1 << 36,
)
ALL = Guard()
WHOLE = Portion(slice_bytes=1 << 40, slice_items=1 << 40, max_inline_bytes=1 << 30)
PICTURE = Image.new("RGB", (64, 64), "red")


def seen(path: Path) -> File:
    """What discovery says of a file."""
    return next(
        f for f in walk(str(path.parent), lambda files, _folders: files) if f.path == path.name
    )


def shard(folder: Path, name: str, *images: File) -> dict[str, object]:
    """A row of the manifest, and the tar that it is about."""
    path = folder / name
    with tarfile.open(path, "w") as tar:
        for number, image in enumerate(images):
            for member in (image, File("txt", b"a red square")):
                info = tarfile.TarInfo(f"{number}.{member.extension}")
                info.size = len(member.content)
                tar.addfile(info, io.BytesIO(member.content))
    return manifest.shard(seen(path), folder)


def read(
    row: dict[str, object], rules: Guard = ALL, portion: Portion = WHOLE
) -> list[dict[str, Any]]:
    """The staged entries, each with its media out of the file that has them."""
    with tempfile.TemporaryDirectory() as folder:
        function = reader(LIMITS, rules, Staging(folder=folder, batch="b", run_id="r"), portion)
        batches = function([pa.RecordBatch.from_pylist([row])])
        rows = [staged for batch in batches for staged in batch.to_pylist()]
        media = {
            (file.name, held["media_sha256"]): held
            for file in Path(folder, FOLDER).glob("*")
            for held in pq.read_table(file).to_pylist()
        }
    for staged in rows:
        staged["media"] = media.get((staged["media_file"], staged["media_sha256"]))
        staged["content"] = staged["media"] and staged["media"]["content"]
    return rows


def _peaks(small: dict[str, object], giant: dict[str, object], answer) -> None:
    peaks = []
    for row in (small, giant):
        found = [staged["error_class"] for staged in read(row)]
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    answer.put((found, peaks))


def test_an_image_of_900_megapixels_is_refused_in_less_than_100_megabytes(tmp_path):
    rows = (
        shard(tmp_path, "small.tar", trouble.encode(PICTURE, "png")),
        shard(tmp_path, "giant.tar", trouble.giant_png(PICTURE)),
    )
    # A process of its own: the peak of this one may lie far above already.
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peaks, args=(*rows, answer))
    process.start()
    found, (before_kib, after_kib) = answer.get(timeout=60)
    process.join()

    assert found == ["too_many_pixels"]
    assert after_kib - before_kib < 100_000


def test_a_member_that_climbs_out_of_the_shard_writes_nothing(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    row = shard(inner, "x.tar")
    with tarfile.open(inner / "x.tar", "w") as tar:
        for name in ("../../x.png", "../../x.txt", "/tmp/sluice-was-here.png"):
            tar.addfile(tarfile.TarInfo(name))
    listed = seen(inner / "x.tar")
    row |= {"size_bytes": listed.size_bytes, "modified_at": listed.modified_at}

    assert {staged["error_class"] for staged in read(row)} == {"unsafe_member_name"}
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "x.tar"]
    assert not Path("/tmp/sluice-was-here.png").exists()


def test_a_shard_that_is_gone_is_one_refused_entry(tmp_path):
    row = shard(tmp_path, "x.tar") | {"shard": "gone.tar"}
    (staged,) = read(row)
    assert staged["error_class"] == "unreadable_shard"


def row_of(path: Path, form: str = "webdataset") -> dict[str, object]:
    """The row of the manifest for a file or folder that lies there."""
    listed = next(f for f in walk(str(path.parent), FORMATS[form].shards) if f.path == path.name)
    return manifest.shard(listed, path.parent, format=form)


def classes(row: dict[str, object]) -> set[str | None]:
    return {staged["error_class"] for staged in read(row)}


def delivers(monkeypatch: pytest.MonkeyPatch, *entries: Entry | Exception) -> None:
    """Let every webdataset shard deliver these."""

    def given(*_: object) -> Iterator[Entry]:
        for entry in entries:
            if isinstance(entry, Exception):
                raise entry
            yield entry

    monkeypatch.setitem(FORMATS, "webdataset", Format(FORMATS["webdataset"].shards, given))


def sound(position: int, **told: Any) -> Entry:
    return Entry(position=position, sample_key=f"{position}", **told)


def test_a_shard_that_is_as_it_was_is_read(tmp_path):
    row = shard(tmp_path, "x.tar", trouble.encode(PICTURE, "png"))

    assert classes(row) == {None}
    assert classes(row | {"modified_at": row["modified_at"].replace(tzinfo=None)}) == {None}
    elsewhere = row["modified_at"].astimezone(timezone(timedelta(hours=-5)))
    assert classes(row | {"modified_at": elsewhere}) == {None}


def test_a_shard_of_another_size_or_of_the_same_but_another_time_has_changed(tmp_path):
    row = shard(tmp_path, "x.tar", trouble.encode(PICTURE, "png"))
    path = tmp_path / "x.tar"
    content, status = path.read_bytes(), path.stat()
    os.utime(path, ns=(0, status.st_mtime_ns + 1_000))
    (entry,) = read(row)
    assert (entry["fate"], entry["error_class"]) == ("quarantined", "shard_changed")
    assert "same size" in entry["detail"]
    assert "sluice retry" in entry["detail"]

    path.write_bytes(content + bytes(512))
    os.utime(path, ns=(0, status.st_mtime_ns))
    (entry,) = read(row)
    assert entry["error_class"] == "shard_changed"
    assert f"{len(content)} bytes when" in entry["detail"]


def test_a_shard_that_discovery_met_changed_is_not_read(tmp_path):
    row = shard(tmp_path, "x.tar", trouble.encode(PICTURE, "png")) | {"cause": "changed"}

    assert classes(row) == {"shard_changed"}
    assert classes(row | {"cause": "retry"}) == {None}


@pytest.mark.parametrize("form", ["img2dataset", "folder"])
def test_a_folder_that_is_a_shard_is_read_whatever_its_time(tmp_path, form):
    image = trouble.encode(PICTURE, "png")
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000" / "1.png").write_bytes(image.content)
    (tmp_path / "00000" / "1.txt").write_bytes(b"red")
    row = row_of(tmp_path / "00000", form)
    os.utime(tmp_path / "00000", (1, 1))

    assert [staged["fate"] for staged in read(row)] == ["sample"]


def test_a_name_that_is_not_utf8_costs_nothing(tmp_path):
    made = shard(tmp_path, "x.tar", trouble.encode(PICTURE, "png"))
    os.rename(tmp_path / "x.tar", os.fsencode(tmp_path) + b"/\xff\xfe.tar")
    (listed,) = walk(str(tmp_path), FORMATS["webdataset"].shards)
    (entry,) = read(made | {"shard": listed.path})

    assert (entry["fate"], entry["shard"]) == ("sample", "\\udcff\\udcfe.tar")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", ["webdataset", "table", "warc", "wat", "llava", "coco", "obelics"])
def test_a_pipe_or_a_link_to_nothing_is_one_quarantined_entry(tmp_path, form):
    suffixes = {"table": "csv", "warc": "warc", "wat": "wat.gz", "llava": "json", "coco": "json"}
    suffix = suffixes.get(form, "tar" if form == "webdataset" else "parquet")
    pipe, link = tmp_path / f"pipe.{suffix}", tmp_path / f"link.{suffix}"
    os.mkfifo(pipe)
    link.symlink_to("nowhere")

    for path, wanted in ((pipe, "unsafe_member_type"), (link, "unreadable_shard")):
        (entry,) = read(row_of(path, form))
        assert (entry["fate"], entry["error_class"]) == ("quarantined", wanted)
        assert str(tmp_path) not in entry["detail"]


def test_a_pipe_in_a_folder_is_one_quarantined_entry(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "good.png").write_bytes(trouble.encode(PICTURE, "png").content)
    (tmp_path / "f" / "good.txt").write_bytes(b"red")
    os.mkfifo(tmp_path / "f" / "pipe.png")
    (tmp_path / "f" / "link.png").symlink_to("nowhere")
    found = {
        entry["sample_key"]: entry["error_class"]
        for entry in read(row_of(tmp_path / "f", "folder"))
    }

    assert found == {"good": None, "pipe": "unsafe_member_type", "link": "missing_image"}


@pytest.mark.parametrize(
    ("error", "at_first", "later"),
    [
        (OSError("/secret/path"), "unreadable_shard", "truncated_shard"),
        (ValueError("\ud800"), "unreadable_shard", "truncated_shard"),
        (RecursionError("deep"), "unreadable_shard", "truncated_shard"),
        (EntryRefused("decompression_bomb", "x"), "decompression_bomb", "decompression_bomb"),
    ],
)
def test_what_ends_a_reading_is_its_last_entry(tmp_path, monkeypatch, error, at_first, later):
    row = shard(tmp_path, "x.tar")
    delivers(monkeypatch, error)
    (entry,) = read(row)
    assert (entry["position"], entry["error_class"]) == (0, at_first)

    delivers(monkeypatch, sound(0, url="http://a.org/x", caption="x"), error)
    kept, entry = read(row)
    assert (kept["fate"], kept["position"]) == ("url", 0)
    assert (entry["fate"], entry["position"], entry["error_class"]) == ("quarantined", 1, later)
    assert entry["ingest_ordinal"] == 1
    assert "secret" not in entry["detail"]


def test_every_entry_meets_the_fate_of_what_it_carries(tmp_path, monkeypatch):
    image = trouble.encode(PICTURE, "png").content
    media = {
        "content": image,
        "media_sha256": hashlib.sha256(image).hexdigest(),
        "mime": "image/png",
        "header_width_px": 64,
        "header_height_px": 64,
    }
    page = Document(items=(Item(kind="text", text="hé"), Item(kind="image", url="http://a.org/i")))
    delivers(
        monkeypatch,
        sound(0, caption="x", **media),
        sound(1, caption="x", url="http://A.org/x#f"),
        sound(2, url="http://a.org/y", is_response=True, **media),
        sound(3, url="http://a.org/p", document=page),
        sound(4, caption="x", url="gopher://a.org"),
        sound(5, caption="x", url="no url", **media),
        sound(6, url="no url", document=page),
        Entry(position=7, sample_key=None, error_class="empty_media", detail="x"),
    )
    found = read(shard(tmp_path, "x.tar"))

    assert [entry["fate"] for entry in found] == [
        *("sample", "url", "response", "document"),
        *("quarantined", "sample", "document", "quarantined"),
    ]
    assert found[4]["error_class"] == "invalid_url"
    assert found[1]["host"] == "a.org"
    assert found[0]["md5"] == hashlib.md5(image, usedforsecurity=False).hexdigest()
    assert found[0]["sha1"] == hashlib.sha1(image, usedforsecurity=False).hexdigest()
    assert [entry["position"] for entry in found] == list(range(8))
    assert len({entry["input_id"] for entry in found}) == 8
    assert (found[3]["image_count"], found[3]["text_chars"]) == (1, 2)
    assert [item["position"] for item in found[3]["items"]] == [0, 1]
    assert [item["url_sha256"] is None for item in found[3]["items"]] == [True, False]
    assert all(
        entry["content"] is None
        for entry in found
        if "sample" not in entry["fate"] and entry["fate"] != "response"
    )


def blocked(folder: Path, kind: str, key: str) -> Guard:
    file = folder / f"{kind}.npy"
    Blocklist.parse([key], kind).save(file)
    return Guard(lists=(("mine", str(file)),))


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256", "url_sha256", "domain"])
def test_of_what_stands_on_a_blocklist_nothing_is_kept(tmp_path, monkeypatch, kind):
    image = trouble.encode(PICTURE, "png").content
    entry = sound(
        0,
        member="secret.png",
        content=image,
        caption="secret",
        url="http://www.secret.org/x",
        mime="image/png",
        header_width_px=64,
        header_height_px=64,
        media_sha256=hashlib.sha256(image).hexdigest(),
        extra={"secret": "secret"},
    )
    delivers(monkeypatch, entry)
    row = shard(tmp_path, "x.tar")
    (plain,) = read(row)
    key = {
        "md5": plain["md5"],
        "sha1": plain["sha1"],
        "sha256": plain["media_sha256"],
        "url_sha256": plain["url_sha256"],
        "domain": "secret.org",
    }[kind]
    (entry,) = read(row, blocked(tmp_path, kind, key))

    assert (entry["fate"], entry["reason"]) == ("rejected", "blocklisted")
    assert entry["detail"] == "on blocklist mine"
    of_the_list = {"matched"}
    for name in STAGED.names:
        if name not in of_the_list:
            assert "secret" not in str(entry[name])
    digests = {"md5", "sha1", "media_sha256", "url_sha256", "host", "content", "url", "text_sha256"}
    assert {entry[name] for name in digests} == {None}
    assert entry["sample_id"] == plain["sample_id"]


def test_a_page_on_a_blocklist_is_not_kept(tmp_path, monkeypatch):
    page = Document(items=(Item(kind="text", text="secret"),), title="secret")
    delivers(monkeypatch, sound(0, url="http://secret.org/p", document=page))
    (entry,) = read(shard(tmp_path, "x.tar"), blocked(tmp_path, "domain", "secret.org"))

    assert entry["fate"] == "rejected"
    assert {entry[name] for name in ("title", "items", "markdown", "url")} == {None}


def test_what_is_too_small_is_rejected_and_known(tmp_path):
    row = shard(tmp_path, "x.tar", trouble.encode(PICTURE, "png"))
    (entry,) = read(row, Guard(min_side_px=65))

    assert (entry["fate"], entry["reason"], entry["content"]) == (
        "rejected",
        "too_few_pixels",
        None,
    )
    assert entry["sample_key"] == "0"


@pytest.mark.parametrize(
    "told",
    [
        {"caption": "x" * 10_000},
        {"caption": "日" * 3_400},
        {"extra": {"k" * 5_000: "x" * 5_000}},
        {"items": [{"text": "x" * 5_000, "url": "y" * 5_000}]},
        {"markdown": "x" * 10_000},
        {"title": "x" * 10_000},
    ],
)
def test_batches_are_bounded_by_whatever_is_large(monkeypatch, told):
    monkeypatch.setattr(worker, "BATCH_BYTES", 100_000)
    sizes = [batch.num_rows for batch in worker._bounded(dict(told) for _ in range(50))]

    assert sum(sizes) == 50
    assert 8 <= max(sizes) <= 10


def test_a_batch_is_given_before_the_row_that_would_not_fit(monkeypatch):
    monkeypatch.setattr(worker, "BATCH_BYTES", 100_000)
    large = [10, 60_000, 60_000, 900_000, 10, 900_000, 20]
    batches = list(worker._bounded({"caption": "x" * size} for size in large))
    held = [[len(text) for text in batch.column("caption").to_pylist()] for batch in batches]

    assert held == [[10, 60_000], [60_000], [900_000], [10], [900_000], [20]]


def test_rows_are_asked_for_a_batch_at_a_time(monkeypatch):
    monkeypatch.setattr(worker, "BATCH_BYTES", 100_000)
    asked: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(1_000):
            asked.append(i)
            yield {"caption": "x" * 10_000}

    next(iter(worker._bounded(rows())))
    assert len(asked) <= 11
