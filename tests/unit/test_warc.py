import gzip
import hashlib
import io
import itertools
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape

import brotli
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from jobs.sources.entry import Entry, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.place import File, Place
from jobs.sources.warc import crawled_at, entries
from schemas.error_classes import ERROR_CLASSES

LIMITS = Limits(
    max_member_bytes=2_000_000,
    max_pixels=1_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000_000,
)
FAST = {"main_text": "false"}
HTML = {"Content-Type": "text/html; charset=utf-8"}
GZIP = pytest.mark.parametrize("gz", [False, True], ids=["plain", "gzip"])


def picture(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


@dataclass
class Response:
    url: str
    body: bytes
    headers: dict[str, str]
    status: str = "200 OK"
    warc_headers: dict[str, str] | None = None
    type: str = "response"


def key(url: str) -> str:
    return hashlib.md5(url.encode()).hexdigest()


def archive(responses: Iterable[Response], gz: bool) -> bytes:
    with io.BytesIO() as file:
        writer = WARCWriter(file, gzip=gz)
        writer.write_record(writer.create_warcinfo_record("x.warc", {"software": "a test"}))
        for r in responses:
            headers = {
                "WARC-Record-ID": f"<urn:uuid:{key(r.url)}>",
                "WARC-Date": "2024-02-29T12:00:00Z",
                **(r.warc_headers or {}),
            }
            http = StatusAndHeaders(r.status, list(r.headers.items()), protocol="HTTP/1.1")
            writer.write_record(
                writer.create_warc_record(
                    r.url, r.type, io.BytesIO(r.body), warc_headers_dict=headers, http_headers=http
                )
            )
        return file.getvalue()


def html(number: int, text: str = "a fox") -> Response:
    body = f"<title>T{number}</title><p>Page {number}.<img src=/{number}.jpg alt='{text} {number}'>"
    return Response(f"http://a.org/{number}", body.encode(), HTML)


def read(content: bytes, limits: Limits = LIMITS, options: dict[str, str] = FAST) -> list[Entry]:
    return list(entries(io.BytesIO(content), limits, options))


def captions(content: bytes, limits: Limits = LIMITS) -> list[str | None]:
    """Of pairs their captions, of damage its class; documents left out."""
    return [e.error_class or e.caption for e in read(content, limits) if not e.document]


@GZIP
def test_a_page_gives_its_pairs_and_then_itself(gz: bool) -> None:
    pair, document = read(archive([html(7)], gz))

    assert (pair.position, pair.sample_key, pair.url, pair.caption, pair.content) == (
        0,
        f"{key('http://a.org/7')}/0",
        "http://a.org/7.jpg",
        "a fox 7",
        None,
    )
    assert pair.extra == {
        "warc_record_id": key("http://a.org/7"),
        "crawled_at": "2024-02-29T12:00:00+00:00",
        "page_url": "http://a.org/7",
        "caption_kind": "alt",
    }
    assert document.document is not None
    assert (document.position, document.sample_key) == (1, key("http://a.org/7"))
    assert (document.url, document.document.title) == ("http://a.org/7", "T7")
    assert document.document.crawled_at == datetime(2024, 2, 29, 12, tzinfo=UTC)
    assert [item.kind for item in document.document.items] == ["text", "image"]
    assert pair.shard_offset_bytes is document.shard_offset_bytes is None


WORDS = ["fox", "Straße", "狐狸", "лиса", "🦊", "a&b", "<tag>", '"quoted"', "it's", "👩‍👩‍👧"]


@GZIP
@pytest.mark.parametrize("coding", ["identity", "gzip", "deflate", "br", "chunked", "chunked gzip"])
def test_a_thousand_known_pairs_are_found_exactly(gz: bool, coding: str) -> None:
    rng = np.random.default_rng(5)
    known, responses = [], []
    for number in range(20):
        images = []
        for image in range(50):
            size = 20_000 if (number, image) == (3, 4) else int(rng.integers(1, 9))
            text = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), size))
            known.append((f"http://a.org/{number}/{image}.jpg", text))
            images.append(f"<p><img src='{number}/{image}.jpg' alt=\"{escape(text)}\">")
        responses.append(encoded(f"http://a.org/{number}", "".join(images).encode(), coding))

    found = read(archive(responses, gz))

    assert [(e.url, e.caption) for e in found if e.caption] == known
    assert len(known) == 1000
    assert max(len(text.encode()) for _, text in known) > 65_536
    assert [e.position for e in found] == list(range(1020))
    assert len({(e.sample_key, e.occurrence) for e in found}) == 1020


def encoded(url: str, body: bytes, coding: str) -> Response:
    headers = dict(HTML)
    if "gzip" in coding:
        headers["Content-Encoding"], body = "gzip", gzip.compress(body)
    elif coding == "deflate":
        headers["Content-Encoding"], body = "deflate", zlib.compress(body)
    elif coding == "br":
        headers["Content-Encoding"], body = "br", brotli.compress(body, quality=1)
    if "chunked" in coding:
        headers["Transfer-Encoding"], body = "chunked", chunked(body)
    return Response(url, body, headers)


def coded(body: bytes, coding: str, url: str = "http://a.org/b") -> Response:
    """A response whose body is said to be in a coding, as it is."""
    name = "Transfer-Encoding" if coding == "chunked" else "Content-Encoding"
    return Response(url, body, {**HTML, name: coding})


def chunked(body: bytes) -> bytes:
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    return b"".join(b"%x;a=b\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\nX: trailer\r\n\r\n"


def test_bare_deflate_and_bodies_stored_decoded_are_read_too() -> None:
    page = html(1).body
    bare = zlib.compressobj(wbits=-15)
    responses = [
        coded(bare.compress(page) + bare.flush(), "deflate", "http://a.org/a"),
        coded(page, "gzip"),
        coded(page, "chunked", "http://a.org/c"),
        coded(page, "utf-8", "http://a.org/d"),
    ]
    assert captions(archive(responses, False)) == ["a fox 1"] * 4


@GZIP
def test_an_image_is_media_for_its_url(gz: bool) -> None:
    content = archive(
        [
            Response("http://a.org/i.jpg?x", picture(1), {"Content-Type": "image/png"}),
            Response("http://a.org/j", picture(2), {"Content-Type": "text/html"}),
            encoded("http://a.org/k", picture(3), "gzip"),
        ],
        gz,
    )
    found = read(content)

    assert [e.content for e in found] == [picture(1), picture(2), picture(3)]
    assert all(e.is_response and e.caption is None and e.error_class is None for e in found)
    assert (found[0].url, found[0].mime) == ("http://a.org/i.jpg?x", "image/png")
    assert [e.is_extension_mismatch for e in found] == [True, False, False]
    assert found[0].media_sha256 == hashlib.sha256(picture(1)).hexdigest()
    for entry in found[:2]:
        if gz:
            assert entry.shard_offset_bytes is None
        else:
            start = entry.shard_offset_bytes
            assert content[start : start + entry.size_bytes] == entry.content
    assert found[2].shard_offset_bytes is None


@GZIP
def test_what_is_no_item_gives_no_entry(gz: bool) -> None:
    page = html(1)
    others = [
        replace(page, url="http://a.org/x", status="404 Not Found"),
        replace(page, url="http://a.org/y", status="301 Moved", body=b""),
        Response("http://a.org/s.css", b"p {}", {"Content-Type": "text/css"}),
        Response("http://a.org/p.pdf", b"%PDF-1.7", {"Content-Type": "application/pdf"}),
        Response("http://a.org/t.txt", b"words", {"Content-Type": "text/plain"}),
        Response("http://a.org/e", b"", HTML),
        Response("http://a.org/f", b"<p> ", HTML),
        Response("http://a.org/r", page.body, HTML, type="revisit"),
    ]
    assert captions(archive([*others, page], gz)) == ["a fox 1"]


def test_a_page_that_is_not_said_to_be_one_is_known_by_its_start() -> None:
    body = b" <!DOCTYPE html>" + html(1).body
    assert captions(archive([Response("http://a.org/", body, {})], False)) == ["a fox 1"]


@GZIP
@pytest.mark.parametrize(
    ("bad", "error_class"),
    [
        (Response("http://a.org/b", b"<svg/>", {"Content-Type": "image/svg+xml"}), "not_an_image"),
        (Response("http://a.org/b", b"", {"Content-Type": "image/png"}), "empty_media"),
        (
            Response("http://a.org/b", picture()[:20], {"Content-Type": "image/png"}),
            "truncated_image",
        ),
        (replace(html(1), url="file:///etc/passwd"), "invalid_url"),
        (replace(html(1), url="http://["), "invalid_url"),
        (html(0), "duplicate_key"),
        (Response("http://a.org/b", b"<p>" + bytes(3_000_000), HTML), "member_too_large"),
        (
            coded(gzip.compress(b"<p>x" * 100), "gzip"),
            None,
        ),
        (
            coded(gzip.compress(b"<p>x" * 100)[:-9], "gzip"),
            "damaged_record",
        ),
        (
            coded(brotli.compress(b"<p>x" * 99)[:-3], "br"),
            "damaged_record",
        ),
        (coded(b"no zlib", "deflate"), "damaged_record"),
        (coded(b"\0\0", "rot13"), "damaged_record"),
        (coded(b"x", "br,br,br,br"), "damaged_record"),
        (
            coded(gzip.compress(bytes(10_000_000)), "gzip"),
            "decompression_bomb",
        ),
        (
            coded(brotli.compress(bytes(10_000_000)), "br"),
            "decompression_bomb",
        ),
        (coded(b"zz\r\n<p>x", "chunked"), "damaged_record"),
        (coded(b"ff\r\n<p>x", "chunked"), "damaged_record"),
        (coded(b"4\r\n<p>x\r\n", "chunked"), "damaged_record"),
        (
            replace(html(1), url="http://a.org/b", status="nonsense"),
            "damaged_record",
        ),
    ],
)
def test_a_bad_response_costs_only_itself(gz: bool, bad: Response, error_class: str | None) -> None:
    found = read(archive([html(0), bad, html(2)], gz))

    assert [e.caption for e in found if e.caption] == ["a fox 0", "a fox 2"]
    assert [e.error_class for e in found if e.error_class] == ([error_class] if error_class else [])
    assert error_class is None or error_class in ERROR_CLASSES
    assert [e.position for e in found] == list(range(len(found)))


@GZIP
def test_a_page_whose_http_head_does_not_end_is_damaged(gz: bool) -> None:
    plain = gzip.decompress(archive([html(0), html(1), html(2)], True))
    at = plain.index(b"\r\n\r\n", plain.index(b"HTTP/1.1", plain.index(b"/1\r\n")))
    broken = plain[:at] + b"xxxx" + plain[at + 4 :]
    content = members(broken) if gz else broken

    assert captions(content) == ["a fox 0", "damaged_record", "a fox 2"]


def members(plain: bytes) -> bytes:
    """Each record in a gzip member of its own."""
    starts = [i for i in range(len(plain)) if plain.startswith(b"WARC/1.", i)] + [len(plain)]
    return b"".join(gzip.compress(plain[a:b], mtime=0) for a, b in itertools.pairwise(starts))


def record(response: Response) -> bytes:
    content = archive([response], False)
    return content[content.index(b"WARC/1.", 1) :]


def member(response: Response) -> bytes:
    return gzip.compress(record(response), mtime=0)


def with_length(record: bytes, length: bytes) -> bytes:
    start = record.index(b"Content-Length: ") + len(b"Content-Length: ")
    return record[:start] + length + record[record.index(b"\r\n", start) :]


RECORD_DAMAGE = {
    "magic": lambda r: b"XXXX" + r[4:],
    "length too short": lambda r: with_length(r, b"40"),
    "length too long": lambda r: with_length(r, b"%d" % (len(r) + 100)),
    "length into the next": lambda r: with_length(r, b"1200"),
    "length past the end": lambda r: with_length(r, b"999999"),
    "length past all limits": lambda r: with_length(r, b"99999999999"),
    "length absurd": lambda r: with_length(r, b"9" * 5000),
    "length negative": lambda r: with_length(r, b"-5"),
    "length no number": lambda r: with_length(r, b"abc"),
    "length missing": lambda r: r.replace(b"Content-Length", b"Content-Breadth", 1),
    "headers without an end": lambda r: r.replace(b"\r\n", b"  "),
    "noise for headers": lambda r: b"\xff\0" * 100 + r[200:],
    "cut": lambda r: r[: len(r) // 2],
    "garbage before": lambda r: b"garbage\r\n\r\n" * 9 + r,
}


@pytest.mark.parametrize("form", ["plain", "members", "one member", "zstd"])
@pytest.mark.parametrize("damage", RECORD_DAMAGE)
def test_a_damaged_record_costs_only_itself(form: str, damage: str) -> None:
    broken = record(html(0)) + RECORD_DAMAGE[damage](record(html(1))) + record(html(2))
    if form == "members":
        broken = members(broken)
    elif form == "one member":
        broken = gzip.compress(broken)
    elif form == "zstd":
        broken = pa.compress(broken, "zstd", asbytes=True)

    found = captions(broken)

    survivors = [caption for caption in found if caption not in ERROR_CLASSES]
    errors = [caption for caption in found if caption in ERROR_CLASSES]
    if damage == "garbage before":
        assert survivors == ["a fox 0", "a fox 1", "a fox 2"]
    else:
        assert survivors == ["a fox 0", "a fox 2"]
    assert errors == ["damaged_record"]


@pytest.mark.parametrize("at", [0, 1, 3, 8, 10, 50, 100, 150, -8, -6, -4, -1])
def test_a_damaged_gzip_member_costs_only_itself(at: int) -> None:
    broken = bytearray(member(html(1)))
    broken[at] ^= 0xFF

    found = captions(member(html(0)) + bytes(broken) + member(html(2)))

    # Not all of a header is checked: RFC 1952 §2.3.1, the time and the system at 4 to 9.
    assert found in (
        ["a fox 0", "damaged_record", "a fox 2"],
        *([["a fox 0", "a fox 1", "a fox 2"]] if at == 8 else []),
    )


def test_garbage_between_members_is_one_entry_and_padding_none() -> None:
    first, second = member(html(0)), member(html(1))

    assert captions(first + b"garbage" * 99 + second) == ["a fox 0", "damaged_record", "a fox 1"]
    assert captions(first + bytes(100_000) + second + bytes(9)) == ["a fox 0", "a fox 1"]


def test_a_member_that_grows_too_much_costs_only_itself() -> None:
    bomb = Response("http://a.org/bomb", bytes(40_000_000), HTML)
    content = b"".join(map(member, [html(0), bomb, html(2)]))

    assert captions(content) == ["a fox 0", "decompression_bomb", "a fox 2"]
    patient = replace(LIMITS, max_decompression_ratio=10_000)
    assert captions(content, patient) == ["a fox 0", "member_too_large", "a fox 2"]


def test_an_archive_over_the_total_ends_there() -> None:
    content = archive([html(i) for i in range(100)], True)

    *kept, last = captions(content, replace(LIMITS, max_decompressed_bytes=30_000))

    assert last == "decompression_bomb"
    assert kept == [f"a fox {i}" for i in range(len(kept))] != []


@pytest.mark.parametrize(
    "content", [b"", b"\r\n\r\n", b"x" * 5000, gzip.compress(b"x" * 500, mtime=0)]
)
def test_bytes_that_are_no_archive_are_one_unreadable_shard(content: bytes) -> None:
    assert [e.error_class for e in read(content)] == ["unreadable_shard"]


def test_a_record_may_be_spread_over_members_and_members_hold_many() -> None:
    plain = archive([html(i) for i in range(3)], False)
    parts = [plain[start : start + 333] for start in range(0, len(plain), 333)]

    assert captions(b"".join(map(gzip.compress, parts))) == [f"a fox {i}" for i in range(3)]
    assert captions(gzip.compress(plain)) == [f"a fox {i}" for i in range(3)]
    assert captions(pa.compress(plain, "zstd", asbytes=True)) == [f"a fox {i}" for i in range(3)]


FOUR = {gz: archive([html(i) for i in range(4)], gz) for gz in (False, True)}


@GZIP
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_wherever_an_archive_is_cut_what_came_before_is_kept(gz: bool, data) -> None:  # type: ignore[no-untyped-def]
    content = FOUR[gz]
    cut = data.draw(st.integers(4, len(content) - 1))

    found = captions(content[:cut])

    kept = [caption for caption in found if caption not in ERROR_CLASSES]
    assert kept == [f"a fox {i}" for i in range(len(kept))]
    assert found[len(kept) :] in (["truncated_shard"], [], ["unreadable_shard"][: not kept])


@GZIP
@settings(max_examples=150, deadline=None)
@given(noise=st.binary(max_size=300), at=st.integers(0, 5000), is_put=st.booleans())
def test_no_bytes_whatever_make_the_reader_fail(
    gz: bool, noise: bytes, at: int, is_put: bool
) -> None:
    whole = FOUR[gz]
    found = read(whole[:at] + noise + whole[at + (0 if is_put else len(noise)) :])

    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}
    assert len({(e.sample_key, e.occurrence) for e in found if not e.error_class}) == len(
        [e for e in found if not e.error_class]
    )


def test_records_that_lie_about_their_length_do_not_take_quadratic_time() -> None:
    liar = with_length(record(html(1)), b"1900000")
    start_s = time.process_time()

    found = captions(liar * 3000 + bytes(2_000_000))

    # Each is read again from its start until 1 GiB was; then the next is sought behind it.
    assert 100 < found.count("damaged_record") < 1000
    assert time.process_time() - start_s < 10  # chosen: several times what it takes


def test_the_main_text_is_kept_unless_it_is_not_wanted() -> None:
    sentence = "The red fox crosses the field at dawn, and nobody sees it but the owl. "
    body = f"<html><body><nav>menu</nav><article><p>{sentence * 9}</p></article>".encode()
    content = archive([Response("http://a.org/", body, HTML)], True)

    (kept,) = read(content, options={})
    (left,) = read(content)

    assert "crosses the field" in kept.extra["main_text"]
    assert "menu" not in kept.extra["main_text"]
    assert "main_text" not in left.extra


def test_facts_of_a_page_are_said() -> None:
    page = html(1)
    page.body += b"<img src=data:,x alt=y>"
    page.warc_headers = {"WARC-Truncated": "length", "WARC-Date": "no date"}

    pair, document = read(archive([page], False))

    assert document.extra["images_without_url"] == "1"
    assert pair.extra["warc_truncated"] == document.extra["warc_truncated"] == "length"
    assert "crawled_at" not in pair.extra


@pytest.mark.parametrize("date", [None, "", "x", "0001-01-01T00:00:00+23:59", "9999-99-99"])
def test_a_date_that_is_none_is_no_date(date: str | None) -> None:
    assert crawled_at(date) is None


def test_dates_are_utc() -> None:
    expected = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    for date in ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05", "2024-01-02T05:04:05+02:00"):
        assert crawled_at(date) == expected


def test_archives_are_found_by_their_names_and_read_from_their_place(tmp_path) -> None:  # type: ignore[no-untyped-def]
    names = [
        "a.warc",
        "b.warc.gz",
        "c.warc.zst",
        "d.warc.wat.gz",
        "e.warc.wet.gz",
        "f.wat",
        "g.tar",
    ]
    files = [File(path=n, size_bytes=1, modified_at=datetime.now(UTC)) for n in names]
    found = {
        name: [file.path for file in FORMATS[name].shards(files, [])] for name in ("warc", "wat")
    }
    assert found == {"warc": names[:3], "wat": ["d.warc.wat.gz", "f.wat"]}

    for gz, name in enumerate(names[:2]):
        (tmp_path / name).write_bytes(archive([html(0)], bool(gz)))
        reading = Reading(limits=LIMITS, options=FAST)
        (pair, _) = FORMATS["warc"].read(Place(str(tmp_path), name), reading)
        assert pair.caption == "a fox 0"


@GZIP
@pytest.mark.parametrize("of_warc", [False, True])
def test_a_header_line_without_end_costs_its_record(gz: bool, of_warc: bool) -> None:
    long = html(1)
    header = {"X-Long": "x" * 50_000}
    if of_warc:
        long = replace(long, warc_headers=header)
    else:
        long = replace(long, headers={**HTML, **header})
    content = archive([html(0), long, html(2)], gz)

    assert captions(content) == ["a fox 0", "damaged_record", "a fox 2"]


def test_many_starts_without_a_record_cost_no_more_than_their_length() -> None:
    start_s = time.process_time()
    found = read(b"WARC/1.0\r\nWARC-x\r\n" * 15_000)

    assert len(found) == 15_000
    assert {entry.error_class for entry in found} <= {"damaged_record", "truncated_shard"}
    assert time.process_time() - start_s < 5  # chosen: a tenth of it; else several times as much
