import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.sources.entry import Entry, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.llava import FORMAT
from jobs.sources.place import Place
from schemas.error_classes import ERROR_CLASSES
from tests.loose_files import LIMITS, SAME_FOLDER, VALUES, fill, picture

LAYOUTS = pytest.mark.parametrize("layout", ["list", "indented", "lines"])


def written(records: list[object], layout: str) -> bytes:
    if layout == "lines":
        return "".join(json.dumps(record) + "\n" for record in records).encode()
    return json.dumps(records, indent=4 if layout == "indented" else None).encode()


def read(
    root: Path,
    content: bytes,
    limits: Limits = LIMITS,
    images: str | None = "images",
    shard: str = "chat/mix.json",
) -> list[Entry]:
    fill(root, {shard: content})
    options = {} if images is None else {"images": images}
    reading = Reading(limits=limits, options=options)
    found = list(FORMATS[FORMAT].read(Place(str(root), shard), reading))
    assert [entry.position for entry in found] == list(range(len(found)))
    assert {entry.error_class for entry in found} <= {None, *ERROR_CLASSES}
    for entry in found:
        "".join([*entry.extra, *entry.extra.values(), entry.caption or ""]).encode("utf-8")
    return found


def fates(found: list[Entry]) -> list[tuple[str | None, str | None]]:
    return [(entry.sample_key, entry.error_class) for entry in found]


def turns(*values: object) -> list[dict[str, object]]:
    speakers = ("human", "gpt")
    return [{"from": speakers[i % 2], "value": value} for i, value in enumerate(values)]


def record(key: object, answer: object = "a cat", **more: object) -> dict[str, object]:
    talk = turns("<image>\nWhat?", answer, "And?", "no")
    return {"id": key, "image": "a.png", "conversations": talk} | more


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    fill(tmp_path / "dump", {"images/a.png": picture(7), "images/b/c.png": picture(8)})
    return tmp_path / "dump"


@LAYOUTS
def test_the_caption_is_the_first_answer_and_the_conversation_stays(
    dump: Path, layout: str
) -> None:
    first = record("x", "ein Kätzchen 🐈", model="m", exif="{GPS}")
    second = record(2, "two\nlines", image=["b/c.png"])

    found = read(dump, written([first, second], layout))

    assert [(e.sample_key, e.caption, e.content, e.member) for e in found] == [
        ("x", "ein Kätzchen 🐈", picture(7), "a.png"),
        ("2", "two\nlines", picture(8), None),
    ]
    assert json.loads(found[0].extra.pop("conversations")) == first["conversations"]
    assert found[0].extra == {"model": "m"}


def test_images_lie_in_the_folder_of_the_shard_unless_said(dump: Path) -> None:
    fill(dump, {"chat/a.png": picture(1)})

    assert [e.content for e in read(dump, written([record(1)], "list"), images=None)] == [
        picture(1)
    ]


def test_an_id_that_comes_again_is_another_occurrence(dump: Path) -> None:
    found = read(dump, written([record("x"), record("y"), record("x", "other")], "lines"))

    assert [(e.sample_key, e.occurrence, e.error_class) for e in found] == [
        ("x", 0, None),
        ("y", 0, None),
        ("x", 1, None),
    ]


@LAYOUTS
@pytest.mark.parametrize(
    ("broken", "fate"),
    [
        ({"id": "t", "conversations": turns("hi", "text only")}, ("t", "missing_image")),
        (record("n", image=None), ("n", "missing_image")),
        (record("n", image=""), ("n", "missing_image")),
        (record("n", image=[]), ("n", "missing_image")),
        (record("n", image="none.png"), ("n", "missing_image")),
        (record("n", image=["a.png", "b/c.png"]), ("n", "damaged_record")),
        (record("n", image={"path": "a.png"}), ("n", "damaged_record")),
        (record("n", image="../secret.png"), ("n", "unsafe_member_name")),
        (record("n", image="/etc/hostname"), ("n", "unsafe_member_name")),
        (record("n", image="out/secret.png"), ("n", "unsafe_member_type")),
        (record("n", image="text.png"), ("n", "not_an_image")),
        (record("n", image="empty.png"), ("n", "empty_media")),
        (record("n", image="long.png"), ("n", "member_too_large")),
        (record("n", conversations=[]), ("n", "missing_caption")),
        (record("n", conversations=turns("only asked")), ("n", "missing_caption")),
        (record("n", None), ("n", "missing_caption")),
        (record("n", 7), ("n", "damaged_record")),
        (record("n", "\ud83d"), ("n", "caption_not_utf8")),
        (record("n", conversations=None), ("n", "damaged_record")),
        (record("n", conversations="talk"), ("n", "damaged_record")),
        (record("n", conversations=["talk"]), ("n", "damaged_record")),
        (record(None), ("1", None)),
        (record([]), ("1", None)),
        (7, ("1", "damaged_record")),
        (record("n", note="x" * 1_000_000), ("1", "member_too_large")),
    ],
)
def test_a_bad_record_costs_itself(
    dump: Path, layout: str, broken: object, fate: tuple[str, str | None]
) -> None:
    fill(dump.parent, {"secret.png": picture(1)})
    fill(dump / "images", {"text.png": b"x", "empty.png": b"", "long.png": bytes(1_000_001)})
    (dump / "images" / "out").symlink_to(dump.parent)

    found = read(dump, written([record("a"), broken, record("z")], layout))

    assert fates(found) == [("a", None), fate, ("z", None)]
    assert all(entry.content != picture(1) for entry in found)


def test_more_pixels_than_allowed_are_refused_by_the_header(dump: Path) -> None:
    found = read(dump, written([record("a")], "list"), replace(LIMITS, max_pixels=23))

    assert fates(found) == [("a", "too_many_pixels")]


@pytest.mark.parametrize(
    ("bad", "classes"),
    [
        (b"{", ["damaged_record"]),
        (b"\xff\xfe", ["damaged_record"]),
        (b'{"id": "\xff"}', ["damaged_record"]),
        (b"[" * 100_000, ["damaged_record"]),
        (b'{"id": ' + b"9" * 5_000 + b"}", ["damaged_record"]),
        (b"\r\n \t\n", []),
    ],
)
def test_a_line_that_is_no_json_costs_itself(dump: Path, bad: bytes, classes: list[str]) -> None:
    good = [json.dumps(record(key)).encode() for key in "az"]

    found = read(dump, b"\n".join([good[0], bad, good[1]]))

    assert [e.error_class for e in found] == [None, *classes, None]


def test_wherever_a_list_is_cut_what_came_before_is_kept(dump: Path) -> None:
    whole = written([record(str(i)) for i in range(3)], "list")

    for cut in range(1, len(whole)):
        *kept, tail = fates(read(dump, whole[:cut]))
        whole_ones = whole[:cut].count(b'"no"}]},') + whole[:cut].count(b'"no"}]}]')
        assert kept == [(str(i), None) for i in range(whole_ones)]
        assert tail == (None, "truncated_shard")


def test_compressed_records_are_read_within_limits(dump: Path) -> None:
    for layout in ("list", "lines"):
        plain = written([record("a"), record("b")], layout)
        assert read(dump, gzip.compress(plain)) == read(dump, plain)

        bomb = gzip.compress(plain[:-1] + b" " * 50_000_000)
        assert fates(read(dump, bomb))[-1] == (None, "decompression_bomb")
        cut = gzip.compress(plain)[:-12]
        assert fates(read(dump, cut))[-1] == (None, "truncated_shard")


@LAYOUTS
def test_a_thousand_records_are_each_delivered_once(dump: Path, layout: str) -> None:
    chance = random.Random(4)
    records: list[object] = []
    expected = []
    for i in range(1_000):
        answer = chance.choice(["short", "two\nlines", "🎈é\u2028", "", '"quoted\\"', "]}[{"])
        answer = "words " * 11_000 if i % 100 == 7 else answer  # 64 KB
        fate = chance.choice([None, None, "missing_image", "missing_caption"])
        made = record(f"k{i}", None if fate == "missing_caption" else answer)
        if fate == "missing_image":
            made.pop("image")
        records.append(made)
        expected.append((f"k{i}", None if fate else answer, fate))

    found = read(dump, written(records, layout))

    assert [(e.sample_key, e.caption, e.error_class) for e in found] == expected


RECORDS = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES,
        "image": VALUES | st.just("a.png"),
        "exif": VALUES,
        "conversations": VALUES
        | st.lists(st.fixed_dictionaries({"from": st.just("gpt") | VALUES, "value": VALUES})),
    },
)


@SAME_FOLDER
@given(st.lists(RECORDS, max_size=5), st.sampled_from(["list", "lines"]))
def test_no_record_whatever_makes_the_reader_fail(
    dump: Path, records: list[object], layout: str
) -> None:
    shard = "chat/mix.jsonl" if layout == "lines" else "chat/mix.json"
    found = read(dump, written(records, layout), shard=shard)

    assert len(found) == len(records)
    assert all("exif" not in entry.extra for entry in found)


@SAME_FOLDER
@given(st.binary(max_size=60), st.integers(0, 150), st.sampled_from(["list", "lines"]))
def test_no_bytes_whatever_make_the_reader_fail(
    dump: Path, noise: bytes, at: int, layout: str
) -> None:
    whole = written([record("a"), record("b")], layout)
    read(dump, whole[:at] + noise + whole[at + len(noise) :])
