"""A dump of each format, written by the format's own usual writer, is in bronze as it was."""

import csv
import gzip
import hashlib
import io
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from pyspark.sql import SparkSession
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from jobs import ingest
from jobs.fetch import stage as fetch
from jobs.runtime import dumps, streams
from jobs.runtime.config import Config
from jobs.runtime.tables import CONTRACTS, Warehouse

COUNT = 1000
SLICE = 400  # items of a shard in one batch
SITE = "http://127.0.0.1:9"  # nobody is asked: the images lie in the archive


def png(number: int) -> bytes:
    """A picture of one pixel; each number another."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + number.to_bytes(3, "big"))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", pixel), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def caption(number: int) -> str:
    """Words in many scripts; a few with line breaks, one of 64 KB."""
    words = ("a red circle", "ein grüner Kreis", "青い丸 🔵", 'said "so", twice', "two\nlines")
    return f"{words[number % len(words)]} {number}" + "é" * (32_768 if number == 7 else 0)


TRUTH = {(f"{n:06d}", caption(n), hashlib.sha256(png(n)).hexdigest()) for n in range(COUNT)}


def write_webdataset(folder: Path) -> None:
    with webdataset.TarWriter(str(folder / "0.tar.gz")) as tar:
        for n in range(COUNT):
            tar.write({"__key__": f"{n:06d}", "png": png(n), "txt": caption(n)})


def write_table(folder: Path) -> None:
    rows = [{"key": f"{n:06d}", "png": png(n), "text": caption(n)} for n in range(COUNT)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "0.parquet", row_group_size=300)


def write_folder(folder: Path) -> None:
    for n in range(COUNT):
        (folder / f"{n:06d}.png").write_bytes(png(n))
        (folder / f"{n:06d}.txt").write_text(caption(n), newline="")


def write_coco(folder: Path) -> None:
    (folder / "images").mkdir()
    images, annotations = [], []
    for n in range(COUNT):
        (folder / "images" / f"{n}.png").write_bytes(png(n))
        images.append({"id": n, "file_name": f"{n}.png"})
        annotations.append({"id": f"{n:06d}", "image_id": n, "caption": caption(n)})
    content = {"images": images, "annotations": annotations}
    (folder / "captions.json").write_text(json.dumps(content))


def write_llava(folder: Path) -> None:
    records = []
    for n in range(COUNT):
        (folder / f"{n}.png").write_bytes(png(n))
        turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": caption(n)}]
        records.append({"id": f"{n:06d}", "image": f"{n}.png", "conversations": turns})
    (folder / "llava.json").write_text(json.dumps(records))


def write_urls(folder: Path) -> None:
    with gzip.open(folder / "0.jsonl.gz", "wt") as file:
        for n in range(COUNT):
            file.write(json.dumps({"URL": f"{SITE}/{n}.png", "TEXT": caption(n)}) + "\n")
    with (folder / "1.tsv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(("url", "caption"))
        writer.writerows((f"{SITE}/{n}.png", caption(n)) for n in range(COUNT))


def write_warc(folder: Path) -> None:
    with (folder / "0.warc.gz").open("wb") as file:
        warc = WARCWriter(file, gzip=True)

        def add(url: str, content: bytes, kind: str) -> None:
            headers = StatusAndHeaders("200 OK", [("Content-Type", kind)], protocol="HTTP/1.1")
            payload = io.BytesIO(content)
            warc.write_record(
                warc.create_warc_record(url, "response", payload, http_headers=headers)
            )

        for n in range(0, COUNT, 100):
            images = (
                f'<p>text {m}<img src="/i/{m}.png" alt="picture {m} 🔵">' for m in range(n, n + 100)
            )
            add(
                f"{SITE}/page{n}.html", f"<title>{n}</title>{''.join(images)}".encode(), "text/html"
            )
        for n in range(COUNT):
            add(f"{SITE}/i/{n}.png", png(n), "image/png")


def write_obelics(folder: Path) -> None:
    rows = [
        {
            "images": [None, f"{SITE}/{n}.png", None],
            "texts": [caption(n), None, "end"],
            "metadata": json.dumps([None, {"alt_text": f"alt {n}"}, None]),
            "general_metadata": json.dumps({"url": f"{SITE}/{n}.html"}),
        }
        for n in range(COUNT)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "0.parquet")


WITH_MEDIA = {
    "webdataset": write_webdataset,
    "table": write_table,
    "folder": write_folder,
    "coco": write_coco,
    "llava": write_llava,
}
OTHERS = {
    "urls": ("table", write_urls),
    "warc": ("warc", write_warc),
    "obelics": ("obelics", write_obelics),
}


@dataclass
class Read:
    """Everything after one cycle of ingest and fetch."""

    warehouse: Warehouse
    samples: dict[str, set[tuple[str, str, str]]]

    def rows(self, table: str, where: str) -> list[Any]:
        return self.warehouse.read(table).where(where).collect()


@pytest.fixture(scope="module")
def read(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Read:
    root = tmp_path_factory.mktemp("formats")
    written = {name: (name, write) for name, write in WITH_MEDIA.items()} | OTHERS
    found = []
    for name, (kind, write) in written.items():
        (root / name).mkdir()
        write(root / name)
        found.append({"name": name, "path": str(root / name), "format": kind})
    found[3]["options"] = {"images": "images"}
    config = Config.model_validate(
        {
            "warehouse": str(root / "warehouse"),
            "dumps": found,
            "fetch": {"contact": "mailto:crawl@example.org"},
            "ingest": {"slice_items": SLICE},
        }
    )
    warehouse = Warehouse(spark, config.warehouse)
    for table in CONTRACTS:
        if not table.startswith("silver") or table == "silver.documents":
            warehouse.create(table)
    dumps.check(config.dumps)
    dumps.discover(warehouse, config, run_id="r")
    while streams.run(warehouse, ingest.stage(config), run_id="r"):
        pass
    streams.run(warehouse, fetch.stage(config), run_id="r")
    samples: dict[str, set[tuple[str, str, str]]] = {}
    columns = ("dump", "sample_key", "caption", "media_sha256")
    for row in warehouse.read("bronze.samples").select(*columns).collect():
        samples.setdefault(row.dump, set()).add((row.sample_key, row.caption, row.media_sha256))
    return Read(warehouse, samples)


@pytest.mark.parametrize("dump", WITH_MEDIA)
def test_samples_are_what_was_written(read: Read, dump: str) -> None:
    assert read.samples[dump] == TRUTH


def test_media_are_stored_once_for_all_dumps(read: Read) -> None:
    rows = read.rows("bronze.media", "true")
    assert {bytes(row.content) for row in rows} == {png(n) for n in range(COUNT)}
    assert len(rows) == COUNT


def test_urls_of_two_lists_wait_or_have_an_outcome(read: Read) -> None:
    rows = read.rows("bronze.urls", "dump = 'urls'")
    truth = {(f"{SITE}/{n}.png", caption(n)) for n in range(COUNT)}
    assert len(rows) == 2 * COUNT
    assert {(row.url, row.caption) for row in rows} == truth
    refused = read.rows("ops.quarantine", "dump = 'urls'")
    assert {(row.error_class, row.host) for row in refused} == {("address_refused", "127.0.0.1")}
    assert len(refused) == 2 * COUNT


def test_the_images_of_an_archive_become_samples_of_its_pages_unasked(read: Read) -> None:
    found = {(caption, media) for _, caption, media in read.samples["warc"]}
    assert found == {(f"picture {n} 🔵", hashlib.sha256(png(n)).hexdigest()) for n in range(COUNT)}
    answers = read.rows("bronze.fetches", "origin = 'warc'")
    assert (len(answers), {row.outcome for row in answers}) == (COUNT, {"ok"})


def test_pages_are_documents_in_reading_order(read: Read) -> None:
    pages = read.rows("silver.documents", "dump = 'warc'")
    assert len(pages) == COUNT // 100
    (first,) = [page for page in pages if page.url.endswith("page0.html")]
    assert (first.title, first.image_count) == ("0", 100)
    assert [(item.kind, item.text) for item in first["items"]][:3] == [
        ("text", "text 0"),
        ("image", "picture 0 🔵"),
        ("text", "text 1"),
    ]
    obelics = read.rows("silver.documents", "dump = 'obelics'")
    assert {row["items"][0].text for row in obelics} == {caption(n) for n in range(COUNT)}
    assert {row.markdown for row in obelics} >= {f"{caption(1)}\n\n![alt 1]({SITE}/1.png)\n\nend"}


def test_large_shards_are_read_part_by_part(read: Read) -> None:
    parts = read.rows("bronze.shards", "true")
    found = {(row.dump, row.shard): [] for row in parts}
    for row in parts:
        found[row.dump, row.shard].append((row.revision, row.first_position))
    assert sorted(found["webdataset", "0.tar.gz"]) == [(0, 0), (1, SLICE), (2, 2 * SLICE)]
    assert len(found["warc", "0.warc.gz"]) == 1 + (2 * COUNT + 10) // SLICE
    ingested = read.rows("ops.batches", "stage = 'ingest'")
    assert len(ingested) == 1 + (2 * COUNT + 10) // SLICE


def test_everything_is_accounted_for(read: Read) -> None:
    rows = read.rows("ops.batches", "true")
    assert {row.stage for row in rows} == {"ingest", "fetch"}
    met = sum(row.rows_in for row in rows if row.stage == "ingest")
    # Five with media, two lists; of the archive pairs, pages and answers; and the pages alone.
    assert met == 5 * COUNT + 2 * COUNT + (COUNT + 10 + COUNT) + COUNT
    assert read.rows("ops.quarantine", "stage = 'ingest'") == []
