import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.benchmark_source import Given, Refused, items
from jobs.runtime.errors import ConfigError


def test_a_table_of_json_lines_gives_texts_and_paths_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    rows: list[object] = [
        {"id": 7, "question": "what is it", "image": "a/b.png"},
        {"question": "and this"},
        "no object",
        {"id": "x", "image": "https://a.example/b.png"},
        {"id": "y", "text": 5},
        {"id": "z", "image": ""},
        {"id": "l", "image": [1]},
    ]
    path.write_text("\n".join([*map(json.dumps, rows), "", "{broken"]))

    *found, refused, broken = items(path)
    assert found[:2] == [
        Given(item_id="7", text="what is it", image=tmp_path / "a/b.png"),
        Given(item_id="1", text="and this"),
    ]
    assert found[2:] == [
        Refused("row 2", "a str, no object"),
        Refused("x", "its image is a URL; allowed a file beside the table"),
        Refused("y", "its text is a int"),
        Given(item_id="z"),
    ]
    assert refused == Refused("l", "its image is a list; allowed a path or bytes")
    assert isinstance(broken, Refused)
    assert broken.why.startswith("no JSON: JSONDecodeError")


@pytest.mark.parametrize(("suffix", "comma"), [(".csv", ","), (".tsv", "\t")])
def test_a_delimited_table_loses_no_neighbour_of_a_bad_row(
    tmp_path: Path, suffix: str, comma: str
) -> None:
    path = tmp_path / f"bench{suffix}"
    lines = ["\ufeffkey,caption,file_name", 'a,"one, two",', "b,short", 'c,"x"y,', "d,four,d.png"]
    quoted = [line.replace(", ", "\0").replace(",", comma).replace("\0", ", ") for line in lines]
    path.write_text("\n".join(quoted))
    first, short, bad, last = items(path)

    assert first == Given(item_id="a", text="one, two")
    assert short == Refused("row 1", "2 cells, 3 columns")
    assert isinstance(bad, Refused)
    assert last == Given(item_id="d", text="four", image=tmp_path / "d.png")


def test_parquet_may_hold_the_bytes(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "caption": "a", "image": {"bytes": b"xyz", "path": "a.png"}},
        {"id": 2, "caption": "b", "image": {"bytes": None, "path": "b.png"}},
        {"id": 3, "caption": None, "image": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "bench.parquet")

    assert list(items(tmp_path / "bench.parquet")) == [
        Given(item_id="1", text="a", image=b"xyz"),
        Given(item_id="2", text="b", image=tmp_path / "b.png"),
        Given(item_id="3"),
    ]


def test_a_folder_gives_images_with_the_captions_beside_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.jpg").write_bytes(b"b")
    (tmp_path / "b.txt").write_text("a cat")
    (tmp_path / "deep" / "a.PNG").write_bytes(b"a")
    (tmp_path / "c.png").write_bytes(b"c")
    (tmp_path / "c.caption").write_bytes(b"\xff")
    (tmp_path / "notes.md").write_text("not an item")
    first, refused, last = items(tmp_path)

    assert first == Given(item_id="b.jpg", text="a cat", image=tmp_path / "b.jpg")
    assert isinstance(refused, Refused)
    assert refused.why.startswith("its caption cannot be read: UnicodeDecodeError")
    assert last == Given(item_id="deep/a.PNG", image=tmp_path / "deep/a.PNG")


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_text("nr,stem,picture\n5,what is it,p.png\n")
    columns = {"item_id": "nr", "text": "stem", "image": "picture"}

    assert list(items(path, columns)) == [
        Given(item_id="5", text="what is it", image=tmp_path / "p.png")
    ]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "got columns nr, stem; allowed one of a text or an image"),
        ({"text": "stern"}, "--text-column got stern; allowed a column of"),
        ({"item_id": "no", "text": "stem"}, "--id-column got no; allowed a column of"),
    ],
)
def test_a_table_of_no_use_says_what_it_has(
    tmp_path: Path, columns: dict[str, str], said: str
) -> None:
    path = tmp_path / "bench.csv"
    path.write_text("nr,stem\n5,what is it\n")
    with pytest.raises(ConfigError, match=said):
        list(items(path, columns))


def test_what_is_neither_table_nor_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.xlsx").write_bytes(b"x")
    (tmp_path / "bad.parquet").write_bytes(b"x" * 100)
    for name in ("bench.xlsx", "missing.csv"):
        with pytest.raises(ConfigError, match="is no folder and no table; allowed"):
            list(items(tmp_path / name))
    with pytest.raises(ConfigError, match=r"bad.parquet cannot be read: .* give a sound file"):
        list(items(tmp_path / "bad.parquet"))
