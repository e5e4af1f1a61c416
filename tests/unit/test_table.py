import csv
import gzip
import io
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.sources.entry import Entry, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.parquet_footer import row_groups
from jobs.sources.place import Place
from jobs.sources.table import FORMAT, OPTIONS, entries
from schemas.error_classes import ERROR_CLASSES
from tests.parquet_footer import nested_footer

LIMITS = Limits(
    max_member_bytes=1_000_000,
    max_pixels=1_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000_000,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def read(
    folder: Path, name: str, content: bytes, limits: Limits = LIMITS, **options: str
) -> list[Entry]:
    (folder / name).write_bytes(content)
    return list(entries(Place(str(folder), name), Reading(limits=limits, options=options)))


def fates(found: list[Entry]) -> list[tuple[str | None, str | None]]:
    return [(entry.sample_key, entry.error_class) for entry in found]


def picture(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def parquet(table: pa.Table | Mapping[str, object], **how: object) -> bytes:
    with io.BytesIO() as file:
        pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), file, **how)
        return file.getvalue()


def delimited(rows: list[list[str]], delimiter: str = ",") -> bytes:
    with io.StringIO(newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
        return file.getvalue().encode()


def json_lines(rows: list[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def truth() -> list[dict[str, str]]:
    """Rows as the web has them."""
    chance = random.Random(0)
    odd = [
        "",
        "ünï 🎈👩‍👩‍👧",
        'says "hi", and\ttabs',
        "two\nlines\r\nthree",
        '"',
        "\u2028",
        " ",
        "مرحبا",
    ]
    captions = [*odd, "long " * 13_000, "\n" * 2000, '"' * 999]
    captions += ["".join(chance.choices(odd, k=3)) for _ in range(1200 - len(captions))]
    return [
        {"url": f'https://example.org/{i}.jpg?q=ü,"&t=a b', "text": caption, "uid": f"{i:032x}"}
        for i, caption in enumerate(captions)
    ]


TRUTH = truth()
HEAD = ["url", "text", "uid"]
WRITTEN = {
    "a.parquet": lambda: parquet(pa.Table.from_pylist(TRUTH), row_group_size=500),
    "b.parquet": lambda: parquet(
        pa.Table.from_pylist(TRUTH), use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY"
    ),
    "c.parquet": lambda: parquet(
        pa.Table.from_pylist(TRUTH).cast(pa.schema([(n, pa.large_binary()) for n in HEAD]))
    ),
    "a.csv": lambda: delimited([HEAD, *([row[n] for n in HEAD] for row in TRUTH)]),
    "a.tsv": lambda: delimited([HEAD, *([row[n] for n in HEAD] for row in TRUTH)], "\t"),
    "a.jsonl": lambda: json_lines(TRUTH),
    "b.json": lambda: b"".join(json.dumps(row).encode() + b"\r\n" for row in TRUTH)[:-2],
    "a.ndjson.gz": lambda: gzip.compress(json_lines(TRUTH)),
    "a.csv.zst": lambda: pa.compress(WRITTEN["a.csv"](), "zstd", asbytes=True),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_the_formats_own_writers_wrote_is_read_back(folder: Path, name: str) -> None:
    patient = replace(LIMITS, max_decompression_ratio=10_000)
    found = read(folder, name, WRITTEN[name](), patient)

    assert [(e.sample_key, e.url, e.caption) for e in found] == [
        (row["uid"], row["url"], row["text"]) for row in TRUTH
    ]
    assert [e.position for e in found] == list(range(len(TRUTH)))
    assert {(e.error_class, e.content, e.occurrence) for e in found} == {(None, None, 0)}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["URL", "TEXT", "WIDTH"], ("u", "c", "0")),  # LAION
        (["uid", "url", "text"], None),  # DataComp
        (["key", "url", "caption"], None),  # img2dataset
        (["Url", "Caption", "id"], ("u", "c", "0")),
        (["URL", "url_hash", "alt"], ("u", "c", "0")),
    ],
)
def test_known_names_are_found(folder: Path, names: list[str], expected) -> None:
    cells = {"u": "http://x/u", "c": "words", "k": "K"}
    roles = {"url": "u", "text": "c", "caption": "c", "alt": "c", "uid": "k", "key": "k"}
    row = [cells[roles[n.lower()]] if n.lower() in roles else "7" for n in names]
    (entry,) = read(folder, "n.csv", delimited([names, row]))

    key = "0" if expected else "K"
    assert (entry.url, entry.caption, entry.sample_key) == ("http://x/u", "words", key)
    others = [n for n in names if n.lower() not in roles]
    assert entry.extra == dict.fromkeys(others, "7")


def test_a_name_written_alike_goes_before_one_in_another_case(folder: Path) -> None:
    (entry,) = read(
        folder, "n.csv", delimited([["Url", "url", "TEXT"], ["http://x/1", "http://x/2", "t"]])
    )
    assert entry.url == "http://x/2"
    assert entry.extra == {"Url": "http://x/1"}


def test_options_name_the_columns(folder: Path) -> None:
    content = delimited([["link", "url", "words"], ["http://x/1", "http://x/2", "t"]])
    (entry,) = read(folder, "o.csv", content, url="link", caption="words", key="url")

    assert (entry.url, entry.caption, entry.sample_key) == ("http://x/1", "t", "http://x/2")
    assert {"url", "caption", "key", "image", "header", "quoting"} == OPTIONS
    assert FORMATS[FORMAT].options == OPTIONS


@pytest.mark.parametrize("name", ["u.csv", "u.jsonl", "u.parquet"])
@pytest.mark.parametrize("options", [{}, {"url": "nowhere"}])
def test_a_table_without_urls_is_refused_once_and_says_what_to_set(
    folder: Path, name: str, options: dict[str, str]
) -> None:
    rows = [{"picture_link": "http://x/1", "words": "t"}] * 3
    content = {
        "u.csv": delimited([list(rows[0]), *(list(row.values()) for row in rows)]),
        "u.jsonl": json_lines(rows),
        "u.parquet": parquet(pa.Table.from_pylist(rows)),
    }[name]
    (entry,) = read(folder, name, content, **options)

    assert entry.error_class == "unreadable_shard"
    assert "picture_link, words" in str(entry.detail)
    assert "option" in str(entry.detail)


def test_tables_without_a_header_name_columns_by_place(folder: Path) -> None:
    content = delimited([["a caption", "http://x/1"], ["another", "http://x/2"]], "\t")
    found = read(folder, "cc3m.tsv", content, header="none", caption="0", url="1")

    assert [(e.url, e.caption) for e in found] == [
        ("http://x/1", "a caption"),
        ("http://x/2", "another"),
    ]


def test_without_quoting_a_quote_is_a_character(folder: Path) -> None:
    content = b'"Hello" said he\thttp://x/1\nan inch is 1"\thttp://x/2\n'
    how = {"header": "none", "caption": "0", "url": "1"}

    assert [e.caption for e in read(folder, "q.tsv", content, **how, quoting="none")] == [
        '"Hello" said he',
        'an inch is 1"',
    ]
    assert [e.error_class for e in read(folder, "q.tsv", content, **how)] == [
        "damaged_record",
        None,
    ]


ROWS = [{"url": f"http://x/{i}", "text": f"caption {i}"} for i in range(3)]


@pytest.mark.parametrize(
    ("row", "error_class"),
    [
        ({"url": None, "text": "t"}, "invalid_url"),
        ({"text": "t"}, "invalid_url"),
        ({"url": "", "text": "t"}, "invalid_url"),
        ({"url": "file:///etc/hostname", "text": "t"}, "invalid_url"),
        ({"url": "data:image/png;base64,AAAA", "text": "t"}, "invalid_url"),
        ({"url": "http://[::1", "text": "t"}, "invalid_url"),
        ({"url": "http://x:port/", "text": "t"}, "invalid_url"),
        ({"url": "//x/y", "text": "t"}, "invalid_url"),
        ({"url": "http:///y", "text": "t"}, "invalid_url"),
        ({"url": 7, "text": "t"}, "invalid_url"),
        ({"url": "http://x/", "text": None}, "missing_caption"),
        ({"url": "http://x/"}, "missing_caption"),
        ({"url": "http://x/", "text": ["a", "b"]}, "missing_caption"),
        ({"url": "http://x/", "text": ""}, None),
        ({"url": "HTTPS://X/ü", "text": "\ud800"}, None),
        ({"url": "http://x/", "text": "t", "more": float("nan")}, None),
        ({"url": "http://x/", "text": "t", "\udcff": {"a": ["\udcff"]}}, None),
    ],
)
def test_a_row_that_cannot_be_fetched_is_refused_alone(
    folder: Path, row: dict[str, object], error_class: str | None
) -> None:
    content = b"".join(json.dumps(r).encode() + b"\n" for r in (ROWS[0], row, ROWS[1]))
    found = read(folder, "r.jsonl", content)

    assert fates(found) == [("0", None), ("1", error_class), ("2", None)]
    for text in (found[1].caption or "", found[1].url or "", *found[1].extra.items()):
        "".join(text).encode()  # can be stored


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1, 2]",
        b"null",
        b'"text"',
        b"not json",
        b'{"url": "http://x/\xff',
        b"[" * 100_000,
        b'{"url": ' + b"9" * 5000 + b"}",
        b'{"url": "http://x/", "text": "' + b"x" * 1_000_000 + b'"}',
    ],
)
def test_a_line_that_is_no_object_is_damaged_alone(folder: Path, line: bytes) -> None:
    first, second, _ = (json.dumps(row).encode() + b"\n" for row in ROWS)
    found = read(folder, "l.jsonl", b"\xef\xbb\xbf" + first + line + b"\n\n" + second)

    assert [e.error_class for e in found] == [None, "damaged_record", None]
    assert found[2].sample_key == "2"
    assert "xxx" not in str(found[1].detail)


def test_json_that_leaves_nulls_out_may_begin_without_a_url(folder: Path) -> None:
    found = read(folder, "s.jsonl", json_lines([{"text": "t"}, *ROWS]))

    assert fates(found)[:2] == [("0", "invalid_url"), ("1", None)]


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl", "e.parquet"])
def test_a_caption_that_is_not_utf8_is_refused_alone(folder: Path, name: str) -> None:
    whole = {
        "e.csv": delimited([["url", "text"], *(list(row.values()) for row in ROWS)]),
        "e.jsonl": json_lines(ROWS),
        "e.parquet": parquet(pa.Table.from_pylist(ROWS), compression="none", use_dictionary=False),
    }[name]
    content = whole.replace(b"caption 1", b"capti\xe9n 1")
    found = read(folder, name, content)

    assert fates(found) == [("0", None), ("1", "caption_not_utf8"), ("2", None)]


def test_other_columns_that_are_not_utf8_can_be_stored(folder: Path) -> None:
    (entry,) = read(folder, "f.csv", b"url,text,tag\nhttp://x/,t,caf\xe9\n")

    assert entry.extra == {"tag": "caf\\xe9"}


@pytest.mark.parametrize(
    ("record", "damaged"),
    [
        (b"http://x/,a,b\n", 1),
        (b"alone\n", 1),
        (b'http://x/,"a"b\n', 1),
        (b'http://x/,"never closed\n', 1),
        (b'http://x/,"never closed\nsecond line\n', 2),
        (b"http://x/," + b"x" * 1_000_000 + b"\n", 1),
        (b'http://x/,"' + b"x\n" * 3 + b'",more\n', 1),
        (b"http://x/,a\rb\n", 1),
    ],
)
def test_a_record_that_breaks_the_rules_costs_no_other(
    folder: Path, record: bytes, damaged: int
) -> None:
    after = b"".join(b"http://x/%d,caption\r\n" % i for i in range(20))
    found = read(folder, "d.csv", b"\xef\xbb\xbfurl,text\nhttp://x/first,a\n" + record + after)

    assert [e.error_class for e in found] == [None, *["damaged_record"] * damaged, *[None] * 20]
    assert [e.url for e in found[1 + damaged :]] == [f"http://x/{i}" for i in range(20)]


def test_an_open_quote_is_looked_for_no_further_than_a_record_may_go(folder: Path) -> None:
    small = replace(LIMITS, max_member_bytes=100_000)
    lines = b"".join(b"http://x/%d,%s\n" % (i, b"x" * 50) for i in range(10_000))
    found = read(folder, "d.csv", b'url,text\nhttp://x/,"open\n' + lines + b'x,y"\n', small)

    assert [e.error_class for e in found[:2]] == ["damaged_record", None]
    assert len(found) == 10_002


@pytest.mark.parametrize("content", [b"", b"\n\n", b'"open', b"x" * 2_000_000])
def test_a_csv_without_a_header_is_unreadable(folder: Path, content: bytes) -> None:
    assert fates(read(folder, "h.csv", content)) == [(None, "unreadable_shard")]


def test_a_key_that_comes_again_is_a_duplicate_with_its_own_occurrence(folder: Path) -> None:
    rows = [{**ROWS[0], "uid": uid} for uid in ("a", "b", "a", None, "a", "3")]
    found = read(folder, "k.parquet", parquet(pa.Table.from_pylist(rows)))

    assert [(e.sample_key, e.occurrence, e.error_class) for e in found] == [
        ("a", 0, None),
        ("b", 0, None),
        ("a", 1, "duplicate_key"),
        ("3", 0, None),  # by its number, as it has no key
        ("a", 2, "duplicate_key"),
        ("3", 1, "duplicate_key"),
    ]


@pytest.mark.parametrize("codec", ["gz", "zst"])
def test_a_packed_table_that_is_cut_keeps_what_came_before(folder: Path, codec: str) -> None:
    chance = random.Random(1)
    rows = [{**ROWS[0], "text": chance.randbytes(99).hex()} for _ in range(2000)]
    plain = json_lines(rows)
    packed = gzip.compress(plain) if codec == "gz" else pa.compress(plain, "zstd", asbytes=True)
    *kept, tail = read(folder, f"c.jsonl.{codec}", packed[: len(packed) * 2 // 3])

    assert len(kept) > (1000 if codec == "gz" else 0)
    assert [e.caption for e in kept] == [row["text"] for row in rows[: len(kept)]]
    assert tail.error_class == "truncated_shard"


@pytest.mark.parametrize("name", ["b.csv.gz", "b.jsonl.gz"])
def test_a_packed_table_that_grows_too_much_ends_there(folder: Path, name: str) -> None:
    head = b"url,text\nhttp://x/,t\n" if "csv" in name else json_lines(ROWS[:1])
    found = read(folder, name, gzip.compress(head + b" " * 40_000_000))

    assert [e.error_class for e in found] == [None, "decompression_bomb"]


# Parquet.


def test_rows_that_carry_images_are_samples(folder: Path) -> None:
    rows = [
        {"key": "00", "caption": "a", "url": "http://x/", "jpg": picture(1), "exif": "GPS", "n": 1},
        {"key": "01", "caption": "b", "url": "http://x/", "jpg": None, "exif": None, "n": None},
        {"key": "02", "caption": "c", "url": None, "jpg": picture(2), "exif": None, "n": None},
        {"key": "03", "caption": None, "url": "http://x/", "jpg": picture(2), "exif": "", "n": 2},
        {"key": "04", "caption": "e", "url": "http://x/", "jpg": b"no image", "exif": "", "n": 2},
        {"key": "05", "caption": "f", "url": "http://x/", "jpg": b"", "exif": "", "n": 2},
        {
            "key": "06",
            "caption": "g",
            "url": "http://x/",
            "jpg": bytes(1_000_001),
            "exif": "",
            "n": 2,
        },
    ]
    found = read(folder, "i.parquet", parquet(pa.Table.from_pylist(rows)))

    assert fates(found) == [
        ("00", None),
        ("01", None),
        ("02", None),
        ("03", "missing_caption"),
        ("04", "not_an_image"),
        ("05", "empty_media"),
        ("06", "member_too_large"),
    ]
    sample, to_fetch, without_url = found[:3]
    assert (sample.content, sample.member) == (picture(1), "00.jpg")
    assert (sample.mime, sample.is_extension_mismatch) == ("image/png", True)
    assert (sample.size_bytes, sample.shard_offset_bytes) == (len(picture(1)), None)
    assert sample.extra == {"n": "1"}
    assert (to_fetch.content, to_fetch.member, to_fetch.url) == (None, None, "http://x/")
    assert (without_url.url, without_url.extra) == (None, {})


def test_images_as_hugging_face_writes_them_keep_the_extension_of_their_path(folder: Path) -> None:
    images = [
        {"bytes": picture(1), "path": "some/where.PNG"},
        {"bytes": picture(2), "path": None},
        {"bytes": None, "path": "gone.png"},
        None,
    ]
    table = {"image": images, "text": ["a", "b", "c", "d"]}
    found = read(folder, "hf.parquet", parquet(table))

    assert [(e.member, e.error_class) for e in found] == [
        ("0.PNG", None),
        ("1.image", None),
        (None, "missing_image"),
        (None, "missing_image"),
    ]
    assert [e.content for e in found] == [picture(1), picture(2), None, None]


def test_nested_facts_are_json_without_bytes_and_camera_facts(folder: Path) -> None:
    nested = {"exif": "GPS", "width": 3, "thumb": b"\x00", "tags": ["a", "ü"]}
    table = pa.table(
        {
            "url": ["http://x/"],
            "text": ["t"],
            "json": [nested],
            "raw": [b"\x00\x01"],
            "score": pa.array([0.1], pa.float32()),
            "seen": pa.array([0], pa.timestamp("us", "UTC")),
            "far": pa.array([2**55], pa.timestamp("us")),
            "none": pa.nulls(1),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())),
        }
    )
    (entry,) = read(folder, "x.parquet", parquet(table))

    assert json.loads(entry.extra.pop("json")) == {"tags": ["a", "ü"], "thumb": None, "width": 3}
    assert entry.extra.pop("score") == "0.1"
    assert entry.extra.pop("seen").startswith("1970-01-01 00:00:00")
    assert json.loads(entry.extra.pop("map")) == [["k", 1]]
    assert set(entry.extra) <= {"far"}


def test_columns_of_one_name_are_all_kept(folder: Path) -> None:
    arrays = [["http://x/"], ["t"], ["1"], ["2"]]
    table = pa.Table.from_arrays([pa.array(a) for a in arrays], ["url", "text", "tag", "tag"])

    assert read(folder, "x.parquet", parquet(table))[0].extra == {"tag": "1", "tag.2": "2"}


def groups(count: int = 4, size: int = 50) -> tuple[bytes, list[int]]:
    """A table in row groups, and where the captions of each begin."""
    chance = random.Random(2)
    rows = [
        {"url": f"http://x/{i}", "text": chance.randbytes(50).hex()} for i in range(count * size)
    ]
    content = parquet(
        pa.Table.from_pylist(rows), row_group_size=size, use_dictionary=False, compression="none"
    )
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    return content, [metadata.row_group(i).column(1).data_page_offset for i in range(count)]


def test_a_damaged_row_group_costs_only_itself(folder: Path) -> None:
    content, starts = groups()
    broken = content[: starts[1]] + b"\xff" * 40 + content[starts[1] + 40 :]
    found = read(folder, "g.parquet", broken)

    assert [e.error_class for e in found] == [*[None] * 50, "damaged_record", *[None] * 100]
    assert "50 of its 50 rows" in str(found[50].detail)
    # Rows keep their numbers in the file.
    assert [e.sample_key for e in found[51:]] == [str(i) for i in range(100, 200)]


def test_a_page_whose_checksum_does_not_fit_is_damage(folder: Path) -> None:
    rows = pa.Table.from_pylist(ROWS)
    content = parquet(rows, write_page_checksum=True, compression="none", use_dictionary=False)
    found = read(folder, "p.parquet", content.replace(b"caption 1", b"caption 9"))

    assert fates(found) == [(None, "damaged_record")]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 99 + b"PAR1", b"x" * 999])
def test_bytes_that_are_no_parquet_are_one_unreadable_shard(folder: Path, content: bytes) -> None:
    assert fates(read(folder, "n.parquet", content)) == [(None, "unreadable_shard")]


@pytest.mark.parametrize("levels", [150, 100_000])
def test_columns_that_nest_too_deep_do_not_end_the_process(folder: Path, levels: int) -> None:
    (entry,) = read(folder, "n.parquet", nested_footer(levels))

    assert entry.error_class == "unreadable_shard"
    assert f"nest {levels + 1} deep" in str(entry.detail)
    (shallow,) = read(folder, "n.parquet", nested_footer(50))
    assert "no column for a url" in str(shallow.detail)  # as Arrow has read it


@pytest.mark.parametrize("name", ["a.parquet", "b.parquet", "c.parquet"])
def test_what_is_read_of_a_footer_is_what_arrow_reads(name: str) -> None:
    content = WRITTEN[name]()
    theirs = pq.ParquetFile(io.BytesIO(content)).metadata

    ours = row_groups(io.BytesIO(content), LIMITS)

    assert len(ours) == theirs.num_row_groups
    for index, group in enumerate(ours):
        their = theirs.row_group(index)
        assert (group.rows, group.plain_bytes) == (their.num_rows, their.total_byte_size)
        for leaf, chunk in enumerate(group.chunks):
            of = their.column(leaf)
            sizes = (of.num_values, of.total_uncompressed_size, of.total_compressed_size)
            assert (chunk.values, chunk.plain_bytes, chunk.stored_bytes) == sizes
            assert chunk.encodings == set(of.encodings)


def test_statistics_of_other_levels_do_not_end_the_process(folder: Path) -> None:
    content = parquet({"url": ["http://x/y"], "text": ["words"]})
    # parquet.thrift: SizeStatistics, its histograms of no repetition and of two definition levels.
    levels, turned = b"\x19\x06\x19\x26\x00\x02", b"\x19\x26\x00\x02\x19\x06"
    assert levels in content

    (entry,) = read(folder, "n.parquet", content.replace(levels, turned))

    assert entry.error_class == "damaged_record"
    assert "1 of its 1 rows" in str(entry.detail)


def test_a_header_of_one_name_costs_no_more_than_its_length(folder: Path) -> None:
    start = time.monotonic()
    content = b"a," * 100_000 + b"url\n"
    (entry,) = read(folder, "h.csv", content + content)

    assert entry.error_class == "invalid_url"
    assert time.monotonic() - start < 10  # by the square of its names: half an hour


def test_a_footer_over_the_limit_is_refused_unread(folder: Path) -> None:
    wide = pa.table({f"column{i}": [1] for i in range(300)})
    small = replace(LIMITS, max_member_bytes=10_000)
    (entry,) = read(folder, "w.parquet", parquet(wide), small)

    assert "a footer of" in str(entry.detail)


def test_a_row_group_over_the_limit_is_refused_and_the_others_are_read(folder: Path) -> None:
    with io.BytesIO() as file:
        small = pa.Table.from_pylist(ROWS)
        bomb = pa.Table.from_pylist(
            [{"url": "http://x/", "text": f"{i}" * 500_000} for i in range(10)] * 4
        )
        with pq.ParquetWriter(
            file, small.schema, compression="zstd", use_dictionary=False
        ) as writer:
            for table in (small, bomb, small):
                writer.write_table(table)
        content = file.getvalue()
    found = read(folder, "b.parquet", content)

    assert [e.error_class for e in found] == [*[None] * 3, "decompression_bomb", *[None] * 3]
    assert "40 rows" in str(found[3].detail)
    few = replace(LIMITS, max_decompressed_bytes=10_000, max_decompression_ratio=10**6)
    assert read(folder, "b.parquet", content, few)[3].error_class == "decompression_bomb"


def test_rows_that_cost_nothing_in_the_file_are_a_bomb_too(folder: Path) -> None:
    rows = 5_000_000
    same = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(rows, np.int8)), pa.array(["http://x/"])
    )
    content = parquet({"url": same, "text": same}, compression="none", row_group_size=rows)

    assert len(content) < 100_000
    assert fates(read(folder, "r.parquet", content)) == [(None, "decompression_bomb")]


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_long_value_that_all_rows_share_is_held_once(folder: Path, is_nested: bool) -> None:
    long = "x" * 3_000_000
    shared = pa.DictionaryArray.from_arrays(pa.array(np.zeros(60, np.int32)), pa.array([long]))
    if is_nested:
        shared = pa.StructArray.from_arrays([shared.cast(pa.string())], ["a"])
    table = pa.table(
        {"url": ["http://x/"] * len(shared), "text": ["t"] * len(shared), "far": shared}
    )
    content = parquet(
        table, compression="zstd", dictionary_pagesize_limit=10**9, store_schema=False
    )
    del table, shared
    patient = replace(LIMITS, max_decompression_ratio=10**6)
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    (folder / "v.parquet").write_bytes(content)
    found = entries(Place(str(folder), "v.parquet"), Reading(limits=patient))
    most = 0
    for entry in found:
        assert entry.error_class == "damaged_record"
        most = max(most, pool.bytes_allocated() - before)

    assert most < 10 * len(long)


EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def whole(name: str) -> bytes:
    rows = [{**row, "uid": str(i), "n": i} for i, row in enumerate(ROWS)]
    if name.endswith("parquet"):
        table = pa.Table.from_pylist([{**row, "jpg": picture(), "tags": ["a"]} for row in rows])
        return parquet(table, row_group_size=2)
    if name.endswith("csv"):
        return delimited([list(rows[0]), *([str(v) for v in row.values()] for row in rows)])
    plain = json_lines(rows)
    return gzip.compress(plain, mtime=0) if name.endswith("gz") else plain


@pytest.mark.parametrize("name", ["z.csv", "z.jsonl", "z.jsonl.gz", "z.parquet"])
@EXAMPLES
@given(noise=st.binary(max_size=40), place=st.floats(0, 1), is_inserted=st.booleans())
def test_no_bytes_whatever_make_the_reader_fail(
    folder: Path, name: str, noise: bytes, place: float, is_inserted: bool
) -> None:
    content = whole(name)
    at = int(place * len(content))
    rest = content[at:] if is_inserted else content[at + len(noise) :]
    for found in (
        read(folder, name, content[:at] + noise + rest),
        read(folder, name, content[:at]),
        read(folder, name, noise),
    ):
        assert [entry.position for entry in found] == list(range(len(found)))
        assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}


def test_a_shard_that_is_not_there_is_unreadable(folder: Path) -> None:
    gone = Place(str(folder), "gone.csv")
    (entry,) = entries(gone, Reading(limits=LIMITS))

    assert entry.error_class == "unreadable_shard"
    assert str(folder) not in str(entry.detail)


def test_shards_are_found_by_their_names() -> None:
    def names() -> Iterator[str]:
        yield from ("a.parquet", "b.csv", "c.tsv.gz", "d.jsonl.zst", "e.ndjson", "f.json")
        yield from ("g.tar", "h.txt", "i.parquet.gz", "_SUCCESS")

    from datetime import UTC, datetime

    from jobs.sources.place import File

    files = [File(path=n, size_bytes=1, modified_at=datetime.now(UTC)) for n in names()]
    assert len(list(FORMATS[FORMAT].shards(files, []))) == 6
