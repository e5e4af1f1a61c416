import csv
import io
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.sources.entry import Entry, Limits, Reading
from jobs.sources.folder import FORMAT, LITTER
from jobs.sources.formats import FORMATS
from jobs.sources.place import Place, walk
from schemas.error_classes import ERROR_CLASSES
from tests.loose_files import LIMITS, SAME_FOLDER, fill, picture


def read(root: Path, shard: str = ".", limits: Limits = LIMITS) -> list[Entry]:
    found = list(FORMATS[FORMAT].read(Place(str(root), shard), Reading(limits=limits)))
    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}
    return found


def fates(root: Path, shard: str = ".", limits: Limits = LIMITS) -> dict[str | None, str | None]:
    found = read(root, shard, limits)
    assert len({entry.sample_key for entry in found}) == len(found)
    return {entry.sample_key: entry.error_class for entry in found}


def shards(root: Path) -> list[str]:
    return [file.path for file in walk(str(root), FORMATS[FORMAT].shards)]


def test_each_folder_that_holds_an_image_or_a_caption_is_a_shard(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "a.png": b"12345",
            "a.txt": b"123",
            "only_captions/b.caption": b"b",
            "between/deep/c.JPG": b"c",
            "table/metadata.csv": b"file_name,text\n",
            "litter/Thumbs.db": b"x",
            "litter/00000_stats.json": b"{}",
            "code/train.py": b"x",
            "empty/below/README.md": b"x",
        },
    )
    os.utime(tmp_path / "a.png", (1e9, 1e9))
    os.utime(tmp_path / "a.txt", (2e9, 2e9))

    assert shards(tmp_path) == [".", "between/deep", "only_captions", "table"]
    root = next(walk(str(tmp_path), FORMATS[FORMAT].shards))
    assert (root.size_bytes, root.modified_at.timestamp()) == (8, 2e9)


def test_a_caption_may_stand_in_a_text_a_caption_file_or_a_side_car(tmp_path: Path) -> None:
    fill(tmp_path, {f"{name}.png": picture() for name in "abcd"})
    side_car = {"caption": "from json", "url": "http://x/y", "n": [1], "exif": "{GPS}"}
    fill(
        tmp_path,
        {
            "a.txt": "ä 🐈\n".encode(),
            "a.caption": b"never",
            "b.caption": b"of kohya",
            "c.json": json.dumps(side_car).encode(),
            "d.TXT": b"loud",
        },
    )

    found = read(tmp_path)

    assert [e.caption for e in found] == ["ä 🐈\n", "of kohya", "from json", "loud"]
    assert (found[2].url, found[2].extra) == ("http://x/y", {"n": "[1]"})
    assert {(e.shard_offset_bytes, e.error_class, e.mime) for e in found} == {
        (None, None, "image/png")
    }
    assert [e.member for e in found] == ["a.png", "b.png", "c.png", "d.png"]
    assert found[0].content == picture()


@pytest.mark.parametrize(
    ("files", "error_class"),
    [
        ({"a.txt": b"alone"}, "missing_image"),
        ({"a.npy": b"neither"}, "missing_image"),
        ({"a": b"no kind at all"}, "missing_image"),
        ({"a.png": picture()}, "missing_caption"),
        ({"a.png": picture(), "a.json": b"{}"}, "missing_caption"),
        ({"a.png": picture(), "a.json": b"{"}, "missing_caption"),
        ({"a.png": picture(), "a.txt": b"\xff\xfe"}, "caption_not_utf8"),
        ({"a.png": b"", "a.txt": b"empty"}, "empty_media"),
        ({"a.svg": b"<svg/>", "a.txt": b"no image"}, "not_an_image"),
        ({"a.png": bytes(1_000_001), "a.txt": b"long"}, "member_too_large"),
        ({"a.png": picture(), "a.txt": bytes(1_000_001)}, "member_too_large"),
    ],
)
def test_a_bad_item_is_refused_under_its_class_and_its_neighbours_stay(
    tmp_path: Path, files: dict[str, bytes], error_class: str
) -> None:
    fill(tmp_path, {"0.png": picture(), "0.txt": b"0", **files, "z.png": picture(), "z.txt": b"z"})

    assert list(fates(tmp_path).items()) == [("0", None), ("a", error_class), ("z", None)]


def test_more_pixels_than_allowed_are_refused_by_the_header(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": picture(), "a.txt": b"a"})

    assert fates(tmp_path, limits=replace(LIMITS, max_pixels=23)) == {"a": "too_many_pixels"}


def test_names_with_dots_and_spaces_are_items_of_their_own(tmp_path: Path) -> None:
    names = ["v1.0 cat", "v1.0 dog", "v1", ".hidden", "猫 🐈", "a", "a b", "a.b"]
    for name in names:
        fill(tmp_path, {f"{name}.png": picture(), f"{name}.txt": name.encode()})

    assert {e.sample_key: e.caption for e in read(tmp_path)} == {name: name for name in names}


def test_a_second_image_of_a_stem_is_not_lost(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": picture(1), "a.jpg": picture(2), "a.txt": b"a", "a.webp": b"3"})

    assert [(e.member, e.occurrence, e.error_class) for e in read(tmp_path)] == [
        ("a.jpg", 0, None),
        ("a.png", 1, "duplicate_key"),
        ("a.webp", 2, "duplicate_key"),
    ]


def test_known_litter_is_no_item_and_caches_beside_an_image_are_not_read(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": picture(), "a.txt": b"a", "a.npz": bytes(2_000_000)})
    fill(tmp_path, {"._a.png": b"x", "0_stats.json": b"{}", ".DS_Store": b"x", "Thumbs.db": b"x"})
    fill(tmp_path, {name.upper(): b"x" for name in LITTER})

    assert fates(tmp_path) == {"a": None}


def test_a_link_out_of_the_dump_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    dump, outside = tmp_path / "dump", tmp_path / "secret.png"
    outside.write_bytes(picture(7))
    fill(dump, {"out.txt": b"out", "within.txt": b"within", "text.png": picture()})
    fill(dump, {"other/x.png": picture(3)})
    (dump / "out.png").symlink_to(outside)
    (dump / "within.png").symlink_to(dump / "other" / "x.png")
    (dump / "text.txt").symlink_to("/etc/hostname")
    (dump / "gone.png").symlink_to(dump / "nowhere")

    found = {e.sample_key: e for e in read(dump)}

    assert {key: e.error_class for key, e in found.items()} == {
        "out": "unsafe_member_type",
        "text": "unsafe_member_type",
        "within": None,
        "gone": "missing_image",
    }
    assert found["within"].content == picture(3)


@pytest.mark.parametrize(
    ("name", "error_class"), [("a.png", "missing_image"), ("a.txt", "missing_caption")]
)
def test_a_file_that_vanishes_after_the_listing_costs_its_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error_class: str
) -> None:
    fill(tmp_path, {"a.png": picture(), "a.txt": b"a", "b.png": picture(), "b.txt": b"b"})
    listed = Place(str(tmp_path), ".").files()
    monkeypatch.setattr(Place, "files", lambda *_: listed)
    (tmp_path / name).unlink()

    assert fates(tmp_path) == {"a": error_class, "b": None}


def test_a_file_that_grows_after_the_listing_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a.png": picture(), "a.txt": b"a"})
    listed = Place(str(tmp_path), ".").files()
    monkeypatch.setattr(Place, "files", lambda *_: listed)
    (tmp_path / "a.png").write_bytes(bytes(1_000_001))

    assert fates(tmp_path) == {"a": "member_too_large"}


def test_a_file_over_the_limit_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, {"a.png": picture(), "a.txt": b""})
    os.truncate(tmp_path / "a.png", 1 << 40)  # sparse
    opened: list[str] = []
    plain = Place.open
    monkeypatch.setattr(
        Place, "open", lambda self, path=None: opened.append(str(path)) or plain(self, path)
    )

    assert fates(tmp_path) == {"a": "member_too_large"}
    assert opened == ["a.txt"]


def test_an_absolute_name_is_refused_in_any_folder(tmp_path: Path) -> None:
    rows = [{"file_name": "/etc/hostname", "text": "x"}]
    fill(tmp_path / "sub", metadata("jsonl", rows))

    assert fates(tmp_path, "sub") == {"/etc/hostname": "unsafe_member_name"}


def test_a_folder_that_cannot_be_listed_is_one_entry(tmp_path: Path) -> None:
    fill(tmp_path, {"file": b"x"})

    for shard in ("nowhere", "file", "../x"):
        (found,) = read(tmp_path, shard)
        assert found.error_class in ("unreadable_shard", "unsafe_member_name")
        assert str(tmp_path) not in str(found.detail)


def metadata(kind: str, rows: list[dict[str, object]]) -> dict[str, bytes]:
    """As `datasets` and its users write them."""
    if kind == "jsonl":
        return {"metadata.jsonl": "\n".join(json.dumps(row) for row in rows).encode()}
    with io.StringIO(newline="") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
        return {"metadata.csv": file.getvalue().encode()}


TABLES = pytest.mark.parametrize("kind", ["jsonl", "csv"])


@TABLES
def test_rows_of_a_table_drive_the_items_and_an_image_without_a_row_is_said(
    tmp_path: Path, kind: str
) -> None:
    rows = [
        {"file_name": "b.png", "text": 'b, of\na "table"', "exif": "{GPS}", "n": "1"},
        {"file_name": "./a.png", "text": "🐈", "exif": "", "n": ""},
    ]
    fill(tmp_path, {"a.png": picture(), "b.png": picture(1), "c.png": picture(2)})
    fill(tmp_path, {"b.txt": b"not this", "sub/d.png": picture(3)} | metadata(kind, rows))

    found = read(tmp_path)

    assert [(e.sample_key, e.caption, e.error_class) for e in found] == [
        ("b.png", 'b, of\na "table"', None),
        ("a.png", "🐈", None),
        ("c", None, "missing_caption"),
    ]
    assert found[0].extra == {"n": "1"}
    assert found[0].content == picture(1)


@TABLES
@pytest.mark.parametrize(
    ("row", "error_class"),
    [
        ({"file_name": "none.png", "text": "x"}, "missing_image"),
        ({"file_name": "sub/d.png", "text": "x"}, "missing_image"),
        ({"file_name": "0.txt", "text": "x"}, "missing_image"),
        ({"file_name": "../secret.png", "text": "x"}, "unsafe_member_name"),
        ({"file_name": "/etc/hostname", "text": "x"}, "unsafe_member_name"),
        ({"file_name": "sub/../a.png", "text": "x"}, "unsafe_member_name"),
        ({"file_name": "out/secret.png", "text": "x"}, "unsafe_member_type"),
        ({"file_name": "", "text": "x"}, "damaged_record"),
        ({"file_name": "z.png", "text": "again"}, "duplicate_key"),
        ({"file_name": "a" * 300 + ".png", "text": "x"}, "damaged_record"),
    ],
)
def test_a_bad_row_costs_itself(
    tmp_path: Path, kind: str, row: dict[str, object], error_class: str
) -> None:
    dump, outside = tmp_path / "dump", tmp_path / "outside"
    fill(outside, {"secret.png": picture(9)})
    fill(dump, {"0.txt": b"x", "z.png": picture(), "y.png": picture(), "sub/d.png": picture()})
    (dump / "out").symlink_to(outside)
    rows = [{"file_name": "z.png", "text": "z"}, row, {"file_name": "y.png", "text": "y"}]
    fill(dump, metadata(kind, rows))

    found = [e.error_class for e in read(dump)]

    assert found[:3] == [None, error_class, None]
    assert all(e.content != picture(9) for e in read(dump))


@pytest.mark.parametrize(
    ("line", "error_class"),
    [
        (b"{", "damaged_record"),
        (b"[1]", "damaged_record"),
        (b'{"text": "no file"}', "damaged_record"),
        (b'{"file_name": 7, "text": "x"}', "damaged_record"),
        (b'{"file_name": "a.png", "text": 7}', "damaged_record"),
        (b'{"file_name": "a.png", "text": "\\ud800"}', "caption_not_utf8"),
        (b'{"file_name": "\\ud800.png", "text": "x"}', "missing_image"),
        (b'{"file_name": "a\\u0000.png", "text": "x"}', "unsafe_member_name"),
        (b'{"file_name": "a.png", "text": "' + b"x" * 1_000_000 + b'"}', "member_too_large"),
        (b'{"file_name": "a.png", "n": ' + b"[" * 100_000 + b"}", "damaged_record"),
    ],
)
def test_a_line_that_is_no_row_costs_itself(tmp_path: Path, line: bytes, error_class: str) -> None:
    fill(tmp_path, {"a.png": picture(), "b.png": picture()})
    fill(tmp_path, {"metadata.jsonl": line + b'\n\n{"file_name": "b.png", "text": "b"}\r\n'})

    found = read(tmp_path)

    assert [e.error_class for e in found[:2]] == [error_class, None]
    assert found[1].caption == "b"
    assert len(found) in (2, 3)  # the image that the row could not name stands alone


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (b"text\nx\n", ["damaged_record", "missing_caption"]),
        (b"", ["missing_caption"]),
        (b"file_name,text\na.png\n", ["damaged_record", "missing_caption"]),
        (b'file_name,text\na.png,"never closed', ["damaged_record", "missing_caption"]),
        (b"file_name,text\na.png,\xff\n", ["caption_not_utf8"]),
        (b"\xef\xbb\xbffile_name,text\r\na.png,x\r\n", [None]),
        (b"file_name,text\na.png,\n", ["missing_caption"]),
        (b"file_name,text\na.png," + b"x" * 1_000_001, ["member_too_large", "missing_caption"]),
    ],
)
def test_a_damaged_csv_costs_the_rows_it_must(
    tmp_path: Path, table: bytes, found: list[str | None]
) -> None:
    fill(tmp_path, {"a.png": picture(), "metadata.csv": table})

    assert [e.error_class for e in read(tmp_path)] == found


def test_of_two_tables_the_second_is_an_entry(tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "text": "a"}]
    fill(tmp_path, {"a.png": picture()} | metadata("jsonl", rows) | metadata("csv", rows))

    assert fates(tmp_path) == {"a.png": None, "metadata": "missing_image"}


def test_a_thousand_items_in_many_folders_are_each_delivered_once(tmp_path: Path) -> None:
    chance = random.Random(5)
    long = "words " * 11_000  # 64 KB
    expected: dict[tuple[str, str], tuple[str | None, str | None]] = {}
    for i in range(1_000):
        folder = chance.choice([".", "a", "a/b", "ü 🐈"])
        stem = f"{chance.choice(['x', '猫', 'v1.2 '])}{i}"
        caption = chance.choice(["short", "two\nlines", "🎈é", "", long])
        fate = chance.choice([None, None, None, "missing_image", "missing_caption", "empty_media"])
        kind = chance.choice(["txt", "caption", "json"])
        held = json.dumps({"caption": caption}) if kind == "json" else caption
        if fate != "missing_caption":
            fill(tmp_path / folder, {f"{stem}.{kind}": held.encode()})
        if fate != "missing_image":
            content = b"" if fate == "empty_media" else picture(i % 9)
            fill(tmp_path / folder, {f"{stem}.png": content})
        expected[folder, stem] = (None if fate else caption, fate)

    found = {
        (shard, str(e.sample_key)): (e.caption, e.error_class)
        for shard in shards(tmp_path)
        for e in read(tmp_path, shard)
    }

    assert found == expected


ROWS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["file_name", "text", "caption", "url", "x"]), inner)
    ),
    max_leaves=6,
)


@SAME_FOLDER
@given(st.lists(ROWS | st.fixed_dictionaries({"file_name": ROWS, "text": ROWS}), max_size=4))
def test_no_row_whatever_makes_the_reader_fail(tmp_path: Path, rows: list[object]) -> None:
    table = "\n".join(json.dumps(row) for row in rows)
    fill(tmp_path, {"a.png": picture(), "metadata.jsonl": table.encode()})

    assert len(read(tmp_path)) >= len(rows)


@SAME_FOLDER
@given(st.binary(max_size=200), st.sampled_from(["metadata.csv", "a.txt", "a.json", "a.png"]))
def test_no_bytes_whatever_make_the_reader_fail(tmp_path: Path, noise: bytes, name: str) -> None:
    fill(tmp_path, {"a.png": picture(), "a.txt": b"a", name: noise})

    assert read(tmp_path)
    (tmp_path / name).unlink()


def test_a_name_that_is_not_utf8_is_read_like_any_other(tmp_path: Path) -> None:
    fill(tmp_path, {"a.png": picture(), "a.txt": b"a", "z.png": picture(), "z.txt": b"z"})
    for name in (b"caf\xe9.png", b"caf\xe9.txt"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/x\xff")).mkdir()

    assert shards(tmp_path) == ["."]
    assert fates(tmp_path) == {
        "a": None,
        "caf\\udce9": "not_an_image",
        "z": None,
    }
