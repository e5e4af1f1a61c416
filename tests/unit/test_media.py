import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from jobs.guard import Guard
from jobs.media import COLUMNS, Files, with_bytes
from jobs.runtime.staging import FOLDER, Staging
from jobs.sources.formats import FORMATS
from jobs.sources.place import walk
from jobs.staged import Portion, reader
from tests import manifest
from tests.loose_files import LIMITS

COUNT = 5


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8 + number, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def tar(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for number in range(COUNT):
            for name, content in ((f"{number}.png", png(number)), (f"{number}.txt", b"a")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_tar(folder: Path) -> None:
    tar(folder / "0.tar")


def write_packed_tar(folder: Path) -> None:
    plain = tar(folder / "0")
    (folder / "0.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def write_folder(folder: Path) -> None:
    (folder / "caf\udce9").mkdir()  # a name that is not UTF-8 leads back to its file as well
    for number in range(COUNT):
        (folder / "caf\udce9" / f"{number}.png").write_bytes(png(number))
        (folder / "caf\udce9" / f"{number}.txt").write_text("a")


def write_coco(folder: Path) -> None:
    (folder / "images").mkdir()
    images = [{"id": n, "file_name": f"images/{n}.png"} for n in range(COUNT)]
    captions = [{"id": n, "image_id": n, "caption": "a"} for n in range(COUNT)]
    for number in range(COUNT):
        (folder / "images" / f"{number}.png").write_bytes(png(number))
    (folder / "0.json").write_text(json.dumps({"images": images, "annotations": captions}))


def write_img2dataset(folder: Path) -> None:
    tar(folder / "00000.tar")
    rows = [{"key": str(n), "url": f"http://a.example/{n}", "caption": "a"} for n in range(COUNT)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")


def write_table(folder: Path) -> None:
    rows = [{"png": png(n), "text": "a"} for n in range(COUNT)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "0.parquet")


def write_warc(folder: Path) -> None:
    with (folder / "0.warc").open("wb") as file:
        warc = WARCWriter(file, gzip=False)
        for number in range(COUNT):
            headers = StatusAndHeaders(
                "200 OK", [("Content-Type", "image/png")], protocol="HTTP/1.1"
            )
            url, body = f"http://a.example/{number}.png", io.BytesIO(png(number))
            record = warc.create_warc_record(url, "response", body, http_headers=headers)
            warc.write_record(record)


def stored(root: Path, format_name: str, *, max_inline_bytes: int) -> list[dict[str, object]]:
    """What the media table gets of a dump."""
    staging = root.parent / "staging"
    shards = [
        manifest.shard(found, root, format=format_name, shard_ordinal=number)
        for number, found in enumerate(walk(str(root), FORMATS[format_name].shards))
    ]
    portion = Portion(slice_bytes=1 << 40, slice_items=1 << 40, max_inline_bytes=max_inline_bytes)
    function = reader(LIMITS, Guard(), Staging(folder=str(staging), batch="b", run_id="r"), portion)
    fates = [
        row["fate"]
        for batch in function([pa.RecordBatch.from_pylist(shards)])
        for row in batch.to_pylist()
    ]
    assert fates in (["sample"] * COUNT, ["response"] * COUNT)
    return [row for file in (staging / FOLDER).glob("*") for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize(
    ("format_name", "write", "can_stay"),
    [
        ("webdataset", write_tar, True),
        ("webdataset", write_packed_tar, False),
        ("folder", write_folder, True),
        ("coco", write_coco, True),
        ("img2dataset", write_img2dataset, True),
        ("table", write_table, False),
        ("warc", write_warc, True),
    ],
)
def test_media_that_stay_in_their_dump_are_had_again_from_there(
    format_name, write, can_stay, tmp_path
):
    root = tmp_path / "dump"
    root.mkdir()
    write(root)
    rows = stored(root, format_name, max_inline_bytes=0)
    files = Files()

    assert [row["path"] is not None for row in rows] == [can_stay] * COUNT
    assert [row["content"] is None for row in rows] == [can_stay] * COUNT
    assert {files.content(row) for row in rows} == {png(number) for number in range(COUNT)}
    files.close()


def test_media_up_to_the_limit_are_stored(tmp_path):
    root = tmp_path / "dump"
    root.mkdir()
    write_tar(root)
    limit = sorted(len(png(number)) for number in range(COUNT))[2]
    rows = stored(root, "webdataset", max_inline_bytes=limit)

    assert len(rows) == COUNT
    for row in rows:
        assert (row["content"] is None) == (row["size_bytes"] > limit)


def rows_of(path: Path, contents: list[bytes]) -> list[dict[str, object]]:
    path.write_bytes(b"".join(contents))
    offsets = [sum(map(len, contents[:n])) for n in range(len(contents))]
    return [
        {
            "media_sha256": hashlib.sha256(content).hexdigest(),
            "content": None,
            "size_bytes": len(content),
            "root": str(path.parent),
            "path": path.name,
            "offset_bytes": offset,
        }
        for content, offset in zip(contents, offsets, strict=True)
    ]


SCHEMA = pa.schema(
    [
        ("media_sha256", pa.string()),
        ("content", pa.binary()),
        ("size_bytes", pa.int64()),
        ("root", pa.string()),
        ("path", pa.string()),
        ("offset_bytes", pa.int64()),
    ]
)


def given(rows: list[dict[str, object]]) -> list[list[bytes | None]]:
    """The contents that a function is given, batch by batch."""
    seen = []

    def work(batches):
        for batch in batches:
            assert batch.schema.names == ["media_sha256", "content"]
            seen.append(batch["content"].to_pylist())
            yield batch

    list(with_bytes(work)([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)]))
    return seen


def test_a_batch_of_references_becomes_batches_of_bounded_bytes(tmp_path):
    contents = [bytes([n]) * (6 << 20) for n in range(5)]
    batches = given(rows_of(tmp_path / "0", contents))

    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert [content for batch in batches for content in batch] == contents


def test_what_is_gone_or_another_is_null_and_its_neighbours_are_not(tmp_path):
    contents = [b"one", b"two", b"three"]
    rows = rows_of(tmp_path / "0", contents)
    here = {**rows[0], "content": b"one", "root": None, "path": None, "offset_bytes": None}
    elsewhere = {**rows[1], "path": "none"}
    outside = {**rows[1], "path": "0", "offset_bytes": 1 << 40}
    file = tmp_path / "0"
    file.write_bytes(file.read_bytes().replace(b"two", b"six"))
    (batch,) = given([rows[0], rows[1], rows[2], here, elsewhere, outside])

    assert batch == [b"one", None, b"three", b"one", None, None]


def test_columns_are_those_that_are_asked_for():
    assert tuple(SCHEMA.names) == COLUMNS
