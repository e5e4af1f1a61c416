import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.sources.coco import FORMAT
from jobs.sources.entry import Entry, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.place import Place
from schemas.error_classes import ERROR_CLASSES
from tests.loose_files import LIMITS, SAME_FOLDER, VALUES, fill, picture

SHARD = "annotations/captions_val.json"


def read(
    root: Path, document: object, limits: Limits = LIMITS, images: str | None = "val"
) -> list[Entry]:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    fill(root, {SHARD: content})
    options = {} if images is None else {"images": images}
    reading = Reading(limits=limits, options=options)
    found = list(FORMATS[FORMAT].read(Place(str(root), SHARD), reading))
    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}
    for entry in found:
        assert entry.content is not None or entry.url is not None or entry.error_class
        "".join([*entry.extra, *entry.extra.values(), entry.caption or ""]).encode("utf-8")
    return found


def fates(found: list[Entry]) -> list[tuple[str | None, str | None]]:
    return [(entry.sample_key, entry.error_class) for entry in found]


def image(number: int, **more: object) -> dict[str, object]:
    return {"id": number, "file_name": f"{number:012}.png", "width": 6, "height": 4, **more}


def annotation(number: int, about: object, caption: object = "words") -> dict[str, object]:
    return {"image_id": about, "id": number, "caption": caption}


PAIR = {"images": [image(7)], "annotations": [annotation(1, 7)]}


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    fill(tmp_path / "dump", {"val/000000000007.png": picture(7)})
    return tmp_path / "dump"


def test_an_annotation_is_an_item_with_the_facts_of_its_image(dump: Path) -> None:
    document = {
        "info": {"year": 2014},
        "images": [image(7, coco_url="http://images/7.png", license=3, exif="{GPS}")],
        "licenses": [{"id": 3, "name": "CC BY", "url": "http://cc/by"}],
        "annotations": [annotation(1, 7, "one 🐈"), annotation(2, 7, "two\n")],
    }

    found = read(dump, document)

    assert [(e.sample_key, e.caption, e.content) for e in found] == [
        ("1", "one 🐈", picture(7)),
        ("2", "two\n", picture(7)),
    ]
    assert found[0].extra == {
        "image_id": "7",
        "width": "6",
        "height": "4",
        "license": "3",
        "license_name": "http://cc/by",
    }
    assert (found[0].url, found[0].member) == ("http://images/7.png", "000000000007.png")
    assert (found[0].mime, found[0].header_width_px) == ("image/png", 6)


def test_the_order_of_the_arrays_does_not_matter(dump: Path) -> None:
    turned = dict(reversed(PAIR.items()))

    assert read(dump, turned) == read(dump, PAIR)


def test_images_lie_in_the_folder_of_the_document_unless_said(dump: Path) -> None:
    fill(dump, {"annotations/000000000007.png": picture(1)})

    assert [e.content for e in read(dump, PAIR, images=None)] == [picture(1)]


def test_an_image_that_is_not_in_the_dump_is_to_be_fetched(dump: Path) -> None:
    document = {
        "images": [
            image(1, coco_url="http://images/1.png", flickr_url="http://flickr/1"),
            image(2, flickr_url="https://flickr/2"),
            image(3, coco_url="file:///etc/passwd"),
            {"id": 4, "coco_url": "http://images/4"},
            image(5),
        ],
        "annotations": [annotation(10 + i, i) for i in range(1, 6)],
    }

    assert [(e.url, e.content, e.error_class) for e in read(dump, document)] == [
        ("http://images/1.png", None, None),
        ("https://flickr/2", None, None),
        (None, None, "invalid_url"),
        ("http://images/4", None, None),
        (None, None, "missing_image"),
    ]


@pytest.mark.parametrize(
    ("broken", "fate"),
    [
        (annotation(2, 99), ("2", "missing_image")),
        (annotation(2, None), ("2", "missing_image")),
        (annotation(2, [7]), ("2", "missing_image")),
        (annotation(2, 7, None), ("2", "missing_caption")),
        (annotation(2, 7, 3), ("2", "damaged_record")),
        (annotation(2, 7, "\ud800"), ("2", "caption_not_utf8")),
        ({"image_id": 7, "caption": "no id"}, (None, "damaged_record")),
        ({"image_id": 7, "caption": "x", "id": True}, (None, "damaged_record")),
        (annotation(1, 7), ("1", "duplicate_key")),
        (None, (None, "damaged_record")),
        ("text", (None, "damaged_record")),
        ([[]], (None, "damaged_record")),
        (annotation(2, 7, "x" * 1_000_000), (None, "member_too_large")),
    ],
)
def test_a_bad_annotation_costs_itself(
    dump: Path, broken: object, fate: tuple[str | None, str]
) -> None:
    document = {
        "images": [image(7)],
        "annotations": [annotation(1, 7), broken, annotation(3, 7)],
    }

    assert fates(read(dump, document)) == [("1", None), fate, ("3", None)]


@pytest.mark.parametrize(
    ("broken", "fates_of_it"),
    [
        (image(8), [("image/8", "missing_caption")]),
        (image(7), [("image/7", "duplicate_key")]),
        ({"file_name": "no id"}, [(None, "damaged_record")]),
        (7, [(None, "damaged_record")]),
        (image(8, note="x" * 1_000_000), [(None, "member_too_large")]),
    ],
)
def test_a_bad_image_costs_itself(
    dump: Path, broken: object, fates_of_it: list[tuple[str | None, str]]
) -> None:
    document = {"images": [image(7), broken], "annotations": [annotation(1, 7)]}

    assert sorted(fates(read(dump, document)), key=str) == sorted(
        [("1", None), *fates_of_it], key=str
    )


@pytest.mark.parametrize(
    ("name", "error_class"),
    [
        ("../secret.png", "unsafe_member_name"),
        ("a/../../../secret.png", "unsafe_member_name"),
        ("..\\secret.png", "unsafe_member_name"),
        ("/etc/hostname", "unsafe_member_name"),
        ("a\0.png", "unsafe_member_name"),
        ("out/secret.png", "unsafe_member_type"),
        ("link.png", "unsafe_member_type"),
        ("", "missing_image"),
        (".", "missing_image"),
        ("\ud800.png", "missing_image"),
        ("000000000007.png/x", "missing_image"),
        (7, "damaged_record"),
        (["000000000007.png"], "damaged_record"),
        ("text.txt", "not_an_image"),
        ("empty.png", "empty_media"),
        ("long.png", "member_too_large"),
    ],
)
def test_a_name_that_is_no_image_of_the_dump_is_refused(
    dump: Path, name: object, error_class: str
) -> None:
    fill(dump.parent, {"secret.png": picture(1)})
    fill(dump / "val", {"text.txt": b"x", "empty.png": b"", "long.png": bytes(1_000_001)})
    (dump / "val" / "out").symlink_to(dump.parent)
    (dump / "val" / "link.png").symlink_to(dump.parent / "secret.png")
    document = {"images": [{"id": 7, "file_name": name}], "annotations": [annotation(1, 7)]}

    assert fates(read(dump, document)) == [("1", error_class)]


def test_more_pixels_than_allowed_are_refused_by_the_header(dump: Path) -> None:
    found = read(dump, PAIR, replace(LIMITS, max_pixels=23))

    assert fates(found) == [("1", "too_many_pixels")]


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"7", b"[]", b"{}", b"[1]", b"\xff\xfe{", b'{"images": [], "x": 1}'],
)
def test_what_is_no_coco_document_is_one_unreadable_shard(dump: Path, content: bytes) -> None:
    *_, last = read(dump, content)

    assert last.error_class == "unreadable_shard"


def test_a_shard_that_is_not_there_is_one_entry(tmp_path: Path) -> None:
    found = list(FORMATS[FORMAT].read(Place(str(tmp_path), "no.json"), Reading(limits=LIMITS)))

    assert fates(found) == [(None, "unreadable_shard")]
    assert str(tmp_path) not in str(found[0].detail)


def test_wherever_the_document_is_cut_what_came_before_is_kept(dump: Path) -> None:
    document = {
        "images": [image(7), image(8)],
        "annotations": [annotation(i, 7) for i in range(3)],
    }
    whole = json.dumps(document).encode()

    for cut in range(2, len(whole)):
        *kept, tail = fates(read(dump, whole[:cut]))
        assert tail == (None, "truncated_shard")
        captions = whole[:cut].count(b'"words"},') + whole[:cut].count(b'"words"}]')
        assert [key for key, fate in kept if fate is None] == [str(i) for i in range(captions)]
        assert sum(fate is not None for _, fate in kept) <= 2


def test_a_compressed_document_is_read_within_limits(dump: Path) -> None:
    assert read(dump, gzip.compress(json.dumps(PAIR).encode())) == read(dump, PAIR)

    bomb = gzip.compress(json.dumps(PAIR).encode() + b" " * 50_000_000)
    assert fates(read(dump, bomb)) == [("1", None), (None, "decompression_bomb")]


def test_a_thousand_annotations_are_each_delivered_once(dump: Path) -> None:
    chance = random.Random(3)
    long = "words " * 11_000  # 64 KB
    images, annotations, expected = [], [], {}
    for i in range(400):
        images.append(image(i, coco_url=f"http://images/{i}"))
        if i % 3:
            fill(dump, {f"val/{i:012}.png": picture(i % 9)})
        captions = chance.choice([0, 1, 5])
        if not captions:
            expected[f"image/{i}"] = (None, None, "missing_caption")
        for _ in range(captions):
            number = len(annotations)
            caption = chance.choice(["short", "two\nlines", "🎈é\u2028", "", '"quoted\\"'])
            caption = long if number % 100 == 7 else caption
            annotations.append(annotation(number, i, caption))
            expected[str(number)] = (caption, picture(i % 9) if i % 3 else None, None)
    chance.shuffle(annotations)

    found = read(dump, {"images": images, "annotations": annotations})

    assert len(found) == len(expected) > 800
    assert {e.sample_key: (e.caption, e.content, e.error_class) for e in found} == expected


RECORDS = st.lists(
    VALUES
    | st.fixed_dictionaries(
        {},
        optional={
            name: VALUES
            for name in ("id", "image_id", "file_name", "caption", "coco_url", "license", "exif")
        },
    ),
    max_size=4,
)


@SAME_FOLDER
@given(RECORDS | VALUES, RECORDS | VALUES, RECORDS | VALUES)
def test_no_document_whatever_makes_the_reader_fail(
    dump: Path, images: object, annotations: object, licenses: object
) -> None:
    document = {"images": images, "annotations": annotations, "licenses": licenses}
    found = read(dump, document)

    if isinstance(images, list) and isinstance(annotations, list):
        assert len(found) >= len(annotations)
    assert all("exif" not in entry.extra for entry in found)


@SAME_FOLDER
@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_bytes_whatever_make_the_reader_fail(dump: Path, noise: bytes, at: int) -> None:
    whole = json.dumps(PAIR).encode()
    assert read(dump, whole[:at] + noise + whole[at + len(noise) :])


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"images": [{"id": 7, "file_name": "000000000007.png", "n": ' + value + "}]}"
            for value in ("NaN", "-Infinity", "1e999", "9" * 5000, "[" * 10**5 + "]" * 10**5)
        ),
        '{"images": [], "images": [{"id": 7, "id": 8, "file_name": "a"}]}',
        '{"images": [{"id": 1, "id": 7}], "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_odd_json_costs_one_record_at_most(dump: Path, text: str) -> None:
    text = text[:-1] + ', "annotations": [{"id": 1, "image_id": 7, "caption": "x"}]}'

    found = read(dump, text.encode())

    assert len(found) <= 2
    assert "1" in [entry.sample_key for entry in found]
