import gzip
import io
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.sources.entry import Entry, Item, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.interleaved import MMC4, OBELICS, PIN
from jobs.sources.place import Place
from schemas.error_classes import ERROR_CLASSES
from tests.loose_files import LIMITS, SAME_FOLDER, fill
from tests.parquet_footer import nested_footer

FORMAT_NAMES = pytest.mark.parametrize("name", [OBELICS, MMC4, PIN])


def lines(rows: list[object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, object]], **options: object) -> bytes:
    with io.BytesIO() as file:
        pq.write_table(pa.Table.from_pylist(rows), file, **options)
        return file.getvalue()


def zipped(*contents: bytes, **options: int) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **options) as archive:
            for number, content in enumerate(contents):
                archive.writestr(f"docs_shard_{number}.jsonl", content)
        return file.getvalue()


def read(root: Path, name: str, content: bytes, limits: Limits = LIMITS) -> list[Entry]:
    fill(root, {"part/shard": content})
    found = list(FORMATS[name].read(Place(str(root), "part/shard"), Reading(limits=limits)))
    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}
    for entry in found:
        texts = [entry.url or "", *entry.extra, *entry.extra.values()]
        assert (entry.document is None) == (entry.error_class is not None)
        if entry.document is not None:
            assert entry.document.items
            for item in entry.document.items:
                texts += [item.text or "", item.url or "", item.path or ""]
        "".join(texts).encode("utf-8")
    return found


def fates(found: list[Entry]) -> list[tuple[str | None, str | None]]:
    return [(entry.sample_key, entry.error_class) for entry in found]


def text(content: str) -> Item:
    return Item(kind="text", text=content)


def image(url: str, alt: str | None = None) -> Item:
    return Item(kind="image", url=url, text=alt)


def to_obelics(items: list[Item], url: str) -> dict[str, object]:
    """A row as OBELICS has it: JSON in texts."""
    metadata = [
        {"src": item.url, "alt_text": item.text} if item.kind == "image" else None for item in items
    ]
    return {
        "images": [item.url if item.kind == "image" else None for item in items],
        "texts": [item.text if item.kind == "text" else None for item in items],
        "metadata": json.dumps(metadata),
        "general_metadata": json.dumps({"url": url, "warc_filename": "w.gz"}),
    }


def to_mmc4(items: list[Item], url: str) -> dict[str, object]:
    """A row as MMC4 has it; images must stand before a text."""
    sentences: list[str] = []
    images = []
    for item in items:
        if item.kind == "text":
            sentences.append(str(item.text))
        else:
            index = len(sentences)
            images.append(
                {"image_name": "a.jpg", "raw_url": item.url, "matched_text_index": index}
                | {"matched_sim": 0.25}
            )
    return {
        "url": url,
        "text_list": sentences,
        "image_info": images,
        "similarity_matrix": [[0.1] * len(sentences)] * len(images),
        "could_have_url_duplicate": 0,
    }


def to_pin(items: list[Item], key: str) -> dict[str, object]:
    return {
        "id": key,
        "meta": {"language": "en", "page_id": 3},
        "license": "CC-BY",
        "quality_signals": {"doc_length": 7},
        "md": "".join(
            f"![{item.text or ''}]({item.url})" if item.kind == "image" else str(item.text)
            for item in items
        ),
        "content_image": [],
        "overall_image": f"overall_image/{key}.png",
    }


WRITERS = {OBELICS: to_obelics, MMC4: to_mmc4}
PAGE = [text("Some cats."), image("http://x/a.png", "a cat"), text("🐈 and\nmore")]


def good(name: str, key: str = "p") -> dict[str, object]:
    return to_pin(PAGE, key) if name == PIN else WRITERS[name](PAGE, "http://page")


def pages(name: str, root: Path, content: bytes) -> list[tuple[str | None, tuple[Item, ...]]]:
    return [(e.url, e.document.items) for e in read(root, name, content) if e.document]


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
URLS = st.from_regex(r"https?://[a-z]{1,8}/[a-z0-9_./?=-]{0,20}", fullmatch=True)
ALTS = st.none() | st.text("abc é🐈.!*", min_size=1, max_size=9)
TEXTS = WORDS.map(text)
DOCUMENTS = st.lists(st.lists(TEXTS | st.builds(image, URLS, ALTS), min_size=1), max_size=5)
MATCHED = st.lists(st.tuples(st.lists(URLS.map(image), max_size=2), TEXTS), min_size=1)


@SAME_FOLDER
@given(DOCUMENTS, st.booleans())
def test_pages_go_to_obelics_and_back(
    tmp_path: Path, documents: list[list[Item]], is_parquet: bool
) -> None:
    rows = [to_obelics(items, f"http://page/{i}") for i, items in enumerate(documents)]
    content = parquet(rows, row_group_size=2) if is_parquet and rows else lines(list(rows))

    found = pages(OBELICS, tmp_path, content)

    assert found == [(f"http://page/{i}", tuple(items)) for i, items in enumerate(documents)]


@SAME_FOLDER
@given(st.lists(MATCHED.map(lambda parts: [i for before, t in parts for i in (*before, t)])))
def test_pages_go_to_mmc4_and_back(tmp_path: Path, documents: list[list[Item]]) -> None:
    rows = [to_mmc4(items, f"http://page/{i}") for i, items in enumerate(documents)]

    found = pages(MMC4, tmp_path, zipped(lines(list(rows))))

    assert found == [(f"http://page/{i}", tuple(items)) for i, items in enumerate(documents)]


PLAIN = st.text("abc é🐈.\n#*", min_size=1, max_size=20).filter(str.strip).map(text)


@SAME_FOLDER
@given(st.lists(st.tuples(PLAIN, st.builds(image, URLS, ALTS)), min_size=1, max_size=4))
def test_pages_go_to_pin_and_back(tmp_path: Path, parts: list[tuple[Item, Item]]) -> None:
    items = [item for pair in parts for item in pair]

    assert pages(PIN, tmp_path, lines([to_pin(items, "p")])) == [(None, tuple(items))]


def test_the_other_facts_stay_as_texts(tmp_path: Path) -> None:
    (obelics,) = read(tmp_path, OBELICS, lines([good(OBELICS) | {"n": 1, "exif": "{GPS}"}]))
    assert obelics.sample_key == "0"
    assert obelics.extra.keys() == {"metadata", "warc_filename", "n"}

    (mmc4,) = read(tmp_path, MMC4, lines([good(MMC4)]))
    assert mmc4.extra.keys() == {"image_info", "could_have_url_duplicate"}
    assert json.loads(mmc4.extra["image_info"])[0]["matched_sim"] == 0.25

    (pin,) = read(tmp_path, PIN, lines([good(PIN, "doc-7")]))
    assert pin.sample_key == "doc-7"
    assert pin.extra["overall_image"] == "overall_image/doc-7.png"
    assert json.loads(pin.extra["meta"]) == {"language": "en", "page_id": 3}


def test_pages_of_omnicorpus_are_read_with_their_typed_facts(tmp_path: Path) -> None:
    row = {
        "images": [None, "http://x/a.png", None],
        "texts": ["one", None, "two"],
        "metadata": [{"width": 3, "alt_text": "a cat", "p_hash": "ff"}],
        "general_metadata": {"id": "abc", "url": "http://page", "porn_prob": 0.5, "domain": ["x"]},
    }

    for content in (parquet([row]), lines([row])):
        (found,) = read(tmp_path, OBELICS, content)
        assert found.document is not None
        assert found.document.items == (text("one"), image("http://x/a.png", "a cat"), text("two"))
        assert (found.sample_key, found.url) == ("abc", "http://page")
        assert (found.extra["porn_prob"], found.extra["domain"]) == ("0.5", '["x"]')


def test_metadata_that_cannot_be_read_cost_only_themselves(tmp_path: Path) -> None:
    row = good(OBELICS) | {"metadata": "{", "general_metadata": "["}

    (found,) = read(tmp_path, OBELICS, lines([row]))

    assert found.document is not None
    assert found.document.items[1] == image("http://x/a.png")
    assert found.extra["metadata"] == "{"
    assert found.extra["general_metadata_error"].startswith("JSONDecodeError")


def test_images_of_one_sentence_stand_before_it_in_their_order(tmp_path: Path) -> None:
    row = good(MMC4) | {
        "text_list": ["zero", "one"],
        "image_info": [
            {"raw_url": "http://x/b", "matched_text_index": 1},
            {"raw_url": "http://x/a", "matched_text_index": 0},
            {"raw_url": "http://x/c", "matched_text_index": 1},
        ],
    }

    assert pages(MMC4, tmp_path, lines([row]))[0][1] == (
        image("http://x/a"),
        text("zero"),
        image("http://x/b"),
        image("http://x/c"),
        text("one"),
    )


@pytest.mark.parametrize(
    ("markdown", "items"),
    [
        ("![](content_image/1.png)", [("image", None, None, "part/content_image/1.png")]),
        ("![a b](./i/1.png)", [("image", "a b", None, "part/i/1.png")]),
        ('![](<i/1.png> "title")', [("image", None, None, "part/i/1.png")]),
        ("![x](HTTPS://x/y.png)", [("image", "x", "HTTPS://x/y.png", None)]),
        (
            "# a\n![](1.png)\n\n![](2.png)b",
            [
                ("text", "# a\n", None, None),
                ("image", None, None, "part/1.png"),
                ("image", None, None, "part/2.png"),
                ("text", "b", None, None),
            ],
        ),
        ("[no image](1.png)", [("text", "[no image](1.png)", None, None)]),
        ("![open](1.png", [("text", "![open](1.png", None, None)]),
    ],
)
def test_markdown_is_split_where_images_stand(
    tmp_path: Path, markdown: str, items: list[tuple[str, str | None, str | None, str | None]]
) -> None:
    (found,) = read(tmp_path, PIN, lines([{"id": 1, "md": markdown}]))

    assert found.document is not None
    assert [(i.kind, i.text, i.url, i.path) for i in found.document.items] == items


@pytest.mark.timeout(20)
def test_no_markdown_takes_more_than_its_length_to_split(tmp_path: Path) -> None:
    for part in ("![", "![](", "![a](b ", '![a](b "', "![a](<", "]("):
        markdown = part * (450_000 // len(part))
        (found,) = read(tmp_path, PIN, lines([{"id": 1, "md": markdown}]))
        assert found.error_class is None


SLOTS = {"images": [None, "http://x"], "texts": ["a", None]}
BAD = [
    (OBELICS, {"texts": ["a"]}, "damaged_record"),
    (OBELICS, {"images": ["http://x", "http://x"], "texts": ["a", None]}, "damaged_record"),
    (OBELICS, {"images": [None, None], "texts": ["a", None]}, "damaged_record"),
    (OBELICS, {"images": [None, 7], "texts": ["a", None]}, "damaged_record"),
    (OBELICS, {"images": "http://x", "texts": "a"}, "damaged_record"),
    (OBELICS, {"images": [], "texts": []}, "empty_document"),
    (OBELICS, {"images": None, "texts": None}, "empty_document"),
    (OBELICS, {"images": [None], "texts": [" \n"]}, "empty_document"),
    (MMC4, {"text_list": ["a"], "image_info": [{"raw_url": "http://x"}]}, "damaged_record"),
    (MMC4, {"image_info": [{"matched_text_index": 2}]}, "damaged_record"),
    (MMC4, {"image_info": [{"matched_text_index": -1}]}, "damaged_record"),
    (MMC4, {"image_info": [{"matched_text_index": True}]}, "damaged_record"),
    (MMC4, {"image_info": [{"matched_text_index": 0.0}]}, "damaged_record"),
    (MMC4, {"image_info": ["http://x"]}, "damaged_record"),
    (MMC4, {"text_list": ["a", 7], "image_info": []}, "damaged_record"),
    (MMC4, {"text_list": {}}, "damaged_record"),
    (MMC4, {"text_list": [], "image_info": []}, "empty_document"),
    (PIN, {"md": None}, "damaged_record"),
    (PIN, {"md": ["a"]}, "damaged_record"),
    (PIN, {"md": " \n"}, "empty_document"),
    (PIN, {"md": "![](../../secret.png)"}, "unsafe_member_name"),
    (PIN, {"md": "![](a/..\\..\\b.png)"}, "unsafe_member_name"),
    (PIN, {"md": "![](/etc/hostname)"}, "unsafe_member_name"),
    (PIN, {"md": "![](a\0.png)"}, "unsafe_member_name"),
    (PIN, {"md": "x" * 1_000_000}, "member_too_large"),
]


@pytest.mark.parametrize(("name", "change", "error_class"), BAD)
def test_a_broken_row_costs_itself(
    tmp_path: Path, name: str, change: dict[str, object], error_class: str
) -> None:
    rows: list[object] = [good(name, "a"), good(name, "b") | change, good(name, "c")]

    found = [e.error_class for e in read(tmp_path, name, lines(rows))]

    assert found == [None, error_class, None]


@FORMAT_NAMES
@pytest.mark.parametrize(
    ("bad", "classes"),
    [
        (b"{", ["damaged_record"]),
        (b"[]", ["damaged_record"]),
        (b"\xff", ["damaged_record"]),
        (b"[" * 100_000, ["damaged_record"]),
        (b'{"n": ' + b"9" * 5_000 + b"}", ["damaged_record"]),
        (b"x" * 1_000_001, ["member_too_large"]),
        (b" \r", []),
    ],
)
def test_a_line_that_is_no_row_costs_itself(
    tmp_path: Path, name: str, bad: bytes, classes: list[str]
) -> None:
    content = lines([good(name, "a")]) + bad + b"\n" + lines([good(name, "b")])

    found = read(tmp_path, name, content)

    assert [e.error_class for e in found] == [None, *classes, None]
    assert found[-1].sample_key == ("b" if name == PIN else "2")


def test_an_id_that_comes_again_is_a_duplicate(tmp_path: Path) -> None:
    found = read(tmp_path, PIN, lines([good(PIN, "x"), good(PIN, "y"), good(PIN, "x")]))

    assert fates(found) == [("x", None), ("y", None), ("x", "duplicate_key")]
    assert found[2].occurrence == 1


@FORMAT_NAMES
def test_packed_lines_are_read_within_limits(tmp_path: Path, name: str) -> None:
    plain = lines([good(name, "a"), good(name, "b")])
    bomb = plain + b" " * 50_000_000
    expected = read(tmp_path, name, plain)

    for packed in (gzip.compress(plain), zipped(plain), pa.compress(plain, "zstd", asbytes=True)):
        assert read(tmp_path, name, packed) == expected
    assert fates(read(tmp_path, name, gzip.compress(bomb)))[-1] == (None, "decompression_bomb")
    # A zip declares its size: nothing of it is read.
    assert fates(read(tmp_path, name, zipped(bomb))) == [(None, "decompression_bomb")]
    cut = gzip.compress(plain)[:-12]
    assert fates(read(tmp_path, name, cut))[-1] == (None, "truncated_shard")


def test_a_zip_that_is_not_one_file_or_is_damaged_is_said(tmp_path: Path) -> None:
    plain = lines([good(MMC4)] * 50)
    whole = zipped(plain)

    assert fates(read(tmp_path, MMC4, zipped())) == [(None, "unreadable_shard")]
    assert fates(read(tmp_path, MMC4, zipped(plain, plain))) == [(None, "unreadable_shard")]
    assert fates(read(tmp_path, MMC4, whole[:-30])) == [(None, "unreadable_shard")]
    wrong = bytearray(whole)
    wrong[len(whole) // 3] ^= 0xFF
    assert fates(read(tmp_path, MMC4, bytes(wrong)))[-1][1] == "truncated_shard"


def test_a_zip_of_a_file_without_a_name_is_said(tmp_path: Path) -> None:
    name = b"docs_shard_0.jsonl"
    nameless = bytearray(zipped(lines([good(MMC4)])))
    at = nameless.rindex(name) - 46  # APPNOTE 6.3.10 §4.3.12: the entry of the directory
    nameless[at + 28 : at + 30] = b"\0\0"
    nameless[at + 30 : at + 32] = len(name).to_bytes(2, "little")  # an extra field instead

    assert fates(read(tmp_path, MMC4, bytes(nameless))) == [(None, "unreadable_shard")]


def test_a_zip_that_lies_about_its_size_gives_no_more(tmp_path: Path) -> None:
    plain = lines([good(MMC4)] * 50)
    whole = zipped(plain)
    size = len(plain).to_bytes(4, "little")
    lying = whole.replace(size, (1000).to_bytes(4, "little"))
    assert lying != whole

    found = read(tmp_path, MMC4, lying)

    assert len(found) < 5
    assert found[-1].error_class is not None


def test_damage_in_a_parquet_file_costs_one_row_group(tmp_path: Path) -> None:
    rows = [to_obelics([text(f"page {i} " * 50)], "http://page") for i in range(30)]
    whole = parquet(rows, row_group_size=10, compression="none", use_dictionary=False)
    broken = bytearray(whole)
    column = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(1).column(1)
    broken[column.data_page_offset : column.data_page_offset + 200] = b"\xff" * 200

    found = read(tmp_path, OBELICS, bytes(broken))

    assert [e.sample_key for e in found if e.error_class is None] == [
        str(i) for i in (*range(10), *range(20, 30))
    ]
    (refused,) = [e for e in found if e.error_class is not None]
    assert refused.error_class == "damaged_record"
    assert str(refused.detail).startswith("10 rows of row group 1")


@FORMAT_NAMES
def test_columns_that_nest_too_deep_do_not_end_the_process(tmp_path: Path, name: str) -> None:
    (entry,) = read(tmp_path, name, nested_footer(100_000))

    assert entry.error_class == "unreadable_shard"
    assert "nest 100001 deep" in str(entry.detail)


def test_parquet_within_limits(tmp_path: Path) -> None:
    rows = [
        to_obelics([text("short")], "http://page"),
        to_obelics([text("x" * 2_000_000)], "http://page"),
        to_obelics([text("after")], "http://page"),
    ]
    whole = parquet(rows)

    assert [e.error_class for e in read(tmp_path, OBELICS, whole)] == [
        None,
        "member_too_large",
        None,
    ]
    small = replace(LIMITS, max_decompressed_bytes=1_000_000)
    assert fates(read(tmp_path, OBELICS, whole, small)) == [(None, "decompression_bomb")]
    for cut in (4, 100, len(whole) - 1):
        assert fates(read(tmp_path, OBELICS, whole[:cut])) == [(None, "unreadable_shard")]


def test_text_that_is_not_utf8_in_parquet_costs_its_row(tmp_path: Path) -> None:
    rows = [to_obelics([text(f"words {i}")], "http://page") for i in range(3)]
    whole = parquet(rows, compression="none", use_dictionary=False, write_statistics=False)
    broken = whole.replace(b"words 1", b"words\xff1")
    assert broken != whole

    assert fates(read(tmp_path, OBELICS, broken)) == [
        ("0", None),
        ("1", "damaged_record"),
        ("2", None),
    ]


@FORMAT_NAMES
def test_a_thousand_pages_are_each_delivered_once(tmp_path: Path, name: str) -> None:
    chance = random.Random(6)
    rows: list[object] = []
    expected: list[tuple[tuple[Item, ...] | None, str | None]] = []
    for i in range(1_000):
        items = []
        for part in range(chance.randint(1, 4)):
            if chance.random() < 0.5:
                items.append(image(f"http://x/{i}/{part}"))
            words = chance.choice(["short", "two\nlines", "🎈é\u2028", '"quoted\\"', "{[<"])
            items.append(text("words " * 11_000 if i % 200 == 7 else f"{words}{part}"))
            items += [image("http://x/between")] if name == PIN else []
        row = to_pin(items, f"k{i}") if name == PIN else WRITERS[name](items, "http://page")
        fate = chance.choice([None, None, "empty_document", "damaged_record"])
        if fate == "empty_document":
            row |= {"images": [], "texts": [], "text_list": [], "image_info": [], "md": ""}
        if fate == "damaged_record":
            row |= {"images": 0, "text_list": 0, "md": 0}
        rows.append(row)
        expected.append((None if fate else tuple(items), fate))

    found = read(tmp_path, name, lines(rows))

    assert [(e.document and e.document.items, e.error_class) for e in found] == expected


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["http://x/y", "\ud800", "[null]", '{"url": 7}', "![](a)", "![\ud800](b)"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "url", "alt_text", "raw_url", "matched_text_index", "exif"]),
            inner,
        )
    ),
    max_leaves=8,
)
NAMES = ("id", "images", "texts", "metadata", "general_metadata", "text_list", "image_info")
ROWS = VALUES | st.fixed_dictionaries(
    {}, optional={name: VALUES | st.lists(VALUES) for name in (*NAMES, "url", "md", "meta", "exif")}
)


@FORMAT_NAMES
@SAME_FOLDER
@given(rows=st.lists(ROWS, max_size=4))
@example(rows=[{"images": [None], "texts": ["\ud800"]}])
def test_no_row_whatever_makes_the_reader_fail(
    tmp_path: Path, name: str, rows: list[object]
) -> None:
    found = read(tmp_path, name, lines(rows))

    assert len(found) == len(rows)
    assert all("exif" not in entry.extra for entry in found)


@FORMAT_NAMES
@SAME_FOLDER
@given(noise=st.binary(max_size=60), at=st.integers(0, 400), pack=st.integers(0, 2))
def test_no_bytes_whatever_make_the_reader_fail(
    tmp_path: Path, name: str, noise: bytes, at: int, pack: int
) -> None:
    plain = lines([good(name, "a"), good(name, "b")])
    whole = (plain, gzip.compress(plain), zipped(plain))[pack]
    assert read(tmp_path, name, whole[:at] + noise + whole[at + len(noise) :])
