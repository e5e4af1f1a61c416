import io
import json
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.warcwriter import WARCWriter

from jobs.sources.entry import Entry, Limits
from jobs.sources.wat import entries
from schemas.error_classes import ERROR_CLASSES

LIMITS = Limits(
    max_member_bytes=2_000_000,
    max_pixels=1_000_000,
    max_decompression_ratio=100,
    max_decompressed_bytes=1_000_000_000,
)
GZIP = pytest.mark.parametrize("gz", [False, True], ids=["plain", "gzip"])
Link = dict[str, object]


def image(url: object, alt: object = "a fox") -> Link:
    return {"path": "IMG@/src", "url": url, "alt": alt}


def envelope(
    links: object, *, page: object = "http://a.org/b/c", base: object = None, status: object = "200"
) -> bytes:
    head = {} if base is None else {"Base": base}
    return json.dumps(
        {
            "Container": {"Filename": "x.warc.gz"},
            "Envelope": {
                "WARC-Header-Metadata": {
                    "WARC-Target-URI": page,
                    "WARC-Date": "2024-02-29T12:00:00Z",
                },
                "Payload-Metadata": {
                    "HTTP-Response-Metadata": {
                        "Response-Message": {"Status": status},
                        "HTML-Metadata": {"Head": head, "Links": links},
                    }
                },
            },
        }
    ).encode()


def archive(payloads: Iterable[bytes], gz: bool = True, ids: Iterable[str] = ()) -> bytes:
    names = list(ids)
    with io.BytesIO() as file:
        writer = WARCWriter(file, gzip=gz)
        writer.write_record(writer.create_warcinfo_record("x.wat", {"software": "a test"}))
        for number, payload in enumerate(payloads):
            name = names[number] if names else f"id{number}"
            writer.write_record(
                writer.create_warc_record(
                    "http://a.org/record",
                    "metadata",
                    io.BytesIO(payload),
                    warc_content_type="application/json",
                    warc_headers_dict={"WARC-Record-ID": f"<urn:uuid:{name}>"},
                )
            )
        return file.getvalue()


def read(content: bytes, limits: Limits = LIMITS) -> list[Entry]:
    return list(entries(io.BytesIO(content), limits))


def pairs(links: object, **more: object) -> list[tuple[str | None, str | None]]:
    found = read(archive([envelope(links, **more)]))  # type: ignore[arg-type]
    assert all(entry.error_class is None for entry in found)
    return [(entry.url, entry.caption) for entry in found]


def test_an_image_with_an_alt_text_is_an_entry_to_be_fetched() -> None:
    (entry,) = read(archive([envelope([image("/i.jpg", "  a\n fox ")])]))

    assert (entry.position, entry.sample_key, entry.content) == (0, "id0/0", None)
    assert (entry.url, entry.caption) == ("http://a.org/i.jpg", "a fox")
    assert entry.extra == {
        "page_url": "http://a.org/b/c",
        "warc_record_id": "id0",
        "caption_kind": "alt",
        "crawled_at": "2024-02-29T12:00:00+00:00",
    }


WORDS = ["fox", "Straße", "狐狸", "лиса", "🦊", "a&b", "<tag>", '"quoted"', "it's", "👩‍👩‍👧"]


@GZIP
def test_a_thousand_known_pairs_are_found_exactly(gz: bool) -> None:
    rng = np.random.default_rng(5)
    known, payloads = [], []
    for page in range(20):
        links: list[Link] = []
        for number in range(50):
            size = 20_000 if (page, number) == (3, 4) else int(rng.integers(1, 9))
            text = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), size))
            known.append((f"http://a.org/b/{page}/{number}.jpg", text))
            links += [image(f"{page}/{number}.jpg", text), {"path": "A@/href", "url": "/x"}]
        payloads.append(envelope(links))

    found = read(archive(payloads, gz))

    assert [(entry.url, entry.caption) for entry in found] == known
    assert [entry.position for entry in found] == list(range(1000))
    assert len({entry.sample_key for entry in found}) == 1000


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, "http://a.org/b/i.jpg"),
        ("/d/", "http://a.org/d/i.jpg"),
        ("https://c.org", "https://c.org/i.jpg"),
        ("data:,x", "http://a.org/b/i.jpg"),
        (7, "http://a.org/b/i.jpg"),
    ],
)
def test_urls_are_relative_to_the_base_of_the_page(base: object, expected: str) -> None:
    assert pairs([image("i.jpg")], base=base) == [(expected, "a fox")]


def test_what_is_no_pair_gives_no_entry() -> None:
    links = [
        {"path": "A@/href", "url": "/x", "alt": "no image"},
        {"path": "IMG@/src", "url": "/no-alt.jpg"},
        image("/a.jpg", " "),
        image("/a.jpg", 5),
        image(None),
        image("data:image/png;base64,AA"),
        image("javascript:x()"),
        image("http://["),
        "no object",
        None,
        image("/a.jpg"),
        image("/a.jpg"),
    ]
    assert pairs(links) == [("http://a.org/a.jpg", "a fox")]
    assert pairs([image("/a.jpg")], status="404") == []
    assert pairs("no list") == pairs(None) == []
    assert pairs([image("/a.jpg")], page=None) == [("http://a.org/a.jpg", "a fox")]


@GZIP
@pytest.mark.parametrize(
    ("bad", "error_class"),
    [
        (b"{", "damaged_record"),
        (b"[" * 100_000, "damaged_record"),
        (b"[]", "damaged_record"),
        (b"{}", "damaged_record"),
        (b"\xff\xfe", "damaged_record"),
        (b'{"Envelope": ' + b"9" * 5000 + b"}", "damaged_record"),
        (b"", "damaged_record"),
        (b" " * 3_000_000, "member_too_large"),
    ],
)
def test_a_record_that_cannot_be_read_costs_only_itself(
    gz: bool, bad: bytes, error_class: str
) -> None:
    good = envelope([image("/i.jpg")])

    found = read(archive([good, bad, good], gz))

    assert [(e.sample_key, e.error_class) for e in found] == [
        ("id0/0", None),
        ("id1", error_class),
        ("id2/0", None),
    ]
    assert [entry.position for entry in found] == [0, 1, 2]


def test_a_record_that_comes_again_is_a_duplicate() -> None:
    good = envelope([image("/i.jpg"), image("/j.jpg")])

    found = read(archive([good, good], ids=["x", "x"]))

    assert [(e.sample_key, e.occurrence, e.error_class) for e in found] == [
        ("x/0", 0, None),
        ("x/1", 0, None),
        ("x", 1, "duplicate_key"),
    ]


def test_what_is_no_unicode_can_be_stored() -> None:
    payload = envelope([image("/i.jpg", "\ud800 fox")], page="http://a.org/\udcff")
    (entry,) = read(archive([payload]))

    for text in (entry.caption, entry.url, *entry.extra.values()):
        str(text).encode("utf-8")


def test_bytes_that_are_no_archive_are_one_unreadable_shard() -> None:
    assert [e.error_class for e in read(b"no archive")] == ["unreadable_shard"]


JSON = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["path", "url", "alt", "Links", "Head", "Base", "Status"]), inner
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(links=JSON, page=JSON, base=JSON, status=JSON)
def test_no_json_whatever_makes_the_reader_fail(
    links: object, page: object, base: object, status: object
) -> None:
    payload = envelope(links, page=page, base=base, status=status)
    (last,) = read(archive([payload, envelope([image("http://z.org/z")], page="")]))[-1:]
    assert last.url == "http://z.org/z"


@GZIP
@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=100), at=st.integers(0, 2500))
def test_no_bytes_whatever_make_the_reader_fail(gz: bool, noise: bytes, at: int) -> None:
    whole = archive([envelope([image("/i.jpg")])] * 3, gz)
    found = read(whole[:at] + noise + whole[at + len(noise) :])

    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}
