import logging
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from braceexpand import braceexpand
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.runtime import dumps
from jobs.runtime.config import Dump
from jobs.runtime.dumps import Known, check, expanded, found, fresh, root_of
from jobs.runtime.errors import ConfigError, NotFound
from jobs.sources.place import File, in_order

THEN = datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)


def dump(path: Path | str, form: str = "webdataset", **options: str) -> Dump:
    return Dump(name="d", path=str(path), format=form, options=options)


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def names(files: Iterable[File]) -> list[str]:
    return [file.path for file in files]


def merged(
    monkeypatch: pytest.MonkeyPatch, known: Iterable[Known], delivery: Dump
) -> dict[str, tuple[int, str]]:
    """Shard -> revision and cause of the rows that the manifest is to take."""
    monkeypatch.setattr(dumps, "_known", lambda *_: iter(known))
    rows = list(fresh(None, delivery))  # type: ignore[arg-type]
    taken = {row["shard"]: (row["revision"], row["cause"]) for row in rows}
    assert len(taken) == len(rows)
    return taken


def as_known(files: Iterable[File]) -> list[Known]:
    return [Known(file.path, 0, file.size_bytes, file.modified_at) for file in files]


@pytest.mark.parametrize(
    "pattern",
    [
        "a.tar",
        "{000..003}.tar",
        "{9..11}",
        "{3..1}",
        "{003..001}",
        "{1..010}",
        "{-2..2}",
        "{0..10..5}",
        "{a..e}",
        "{e..a}",
        "{a,b}.tar",
        "{a,}x",
        "{,a}",
        "{a,b{1..2}}",
        "{{0..1},{7..8}}-{x,y}",
        "x{a,{b,{c,d}}}y{1..2}z",
        "{a,b}/{c,d}",
        "{a}",
        "{}",
        "{1..x}",
        "{1.5..2}",
        "%20{a,b} #?",
    ],
)
def test_braces_stand_for_what_webdataset_takes_them_for(pattern: str) -> None:
    assert expanded(pattern) == list(dict.fromkeys(braceexpand(pattern)))


@pytest.mark.parametrize("pattern", ["{a", "a}", "{a,b", "}{", "{{a,b}", "a}{b,c}"])
def test_a_brace_alone_is_part_of_a_name(pattern: str) -> None:
    whole = {"{{a,b}": ["{a", "{b"], "a}{b,c}": ["a}b", "a}c"]}
    assert expanded(pattern) == whole.get(pattern, [pattern])


@settings(max_examples=200, deadline=None)
@given(st.text("{},.ab01-", max_size=12))
def test_any_braces_expand_to_something(pattern: str) -> None:
    answer = expanded(pattern)

    assert answer
    assert len(answer) == len(set(answer))


def test_a_list_of_more_than_a_million_is_refused() -> None:
    with pytest.raises(ConfigError, match="1,000,000"):
        check([dump("/d/{0..99999999999999}.tar")])


@pytest.mark.parametrize("pattern", ["{0..1000}", "{0..9}" * 4, "{a,b}" * 40, "{a,a}" * 10])
def test_a_list_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setattr(dumps, "MAX_LISTED", 1_000)

    assert len(expanded("{0..999}")) == 1_000
    with pytest.raises(ConfigError):
        expanded(pattern)


def test_options_are_those_of_the_format() -> None:
    check([dump("/d", "table", url="u"), dump("/d")])
    with pytest.raises(ConfigError, match="option url, x; format webdataset allows none"):
        check([dump("/d", x="1", url="u")])


@pytest.mark.parametrize("path", ["C:/dumps", "http://h/x.tar", "ftp://h/x", "memory://x"])
def test_a_path_of_no_filesystem_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="allowed a local path"):
        check([dump(path)])


@pytest.mark.parametrize("path", ["/d", "s3://b/d", "s3a://b/d", "hdfs:///d", "gs://b", "d:e"])
def test_a_path_of_a_filesystem_is_taken(path: str) -> None:
    check([dump(path)])


def test_braces_of_a_bucket_are_refused() -> None:
    with pytest.raises(ConfigError, match="bucket"):
        check([dump("s3://{a,b}/{0..1}.tar")])


def test_a_folder_gives_its_shards(tmp_path: Path) -> None:
    fill(tmp_path, "b.tar", "a/1.tar", "x.txt")

    for path in (tmp_path, f"{tmp_path}/", f"file://{tmp_path}"):
        assert names(found(dump(path))) == ["a/1.tar", "b.tar"]
        assert root_of(dump(path)).rstrip("/") == str(path).rstrip("/")


@pytest.mark.parametrize("name", ["a.tar", "any.name", "50%20 #?.tar", "{a}.tar", "back\\slash"])
def test_a_path_of_one_file_is_that_shard(tmp_path: Path, name: str) -> None:
    fill(tmp_path, name, "other.tar")
    only = dump(tmp_path / name)

    assert names(found(only)) == [name]
    assert root_of(only) == str(tmp_path)


def test_a_uri_of_one_file_is_decoded(tmp_path: Path) -> None:
    fill(tmp_path, "a b.tar", "c.tar")
    only = dump(f"file://{tmp_path}/a%20b.tar")

    assert names(found(only)) == ["a b.tar"]
    assert root_of(only) == f"file://{tmp_path}"


def test_a_folder_of_braces_that_stand_for_nothing_is_a_folder(tmp_path: Path) -> None:
    fill(tmp_path, "{x}/a.tar")

    assert names(found(dump(tmp_path / "{x}"))) == ["a.tar"]


def test_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "no" / "where", f"file://{tmp_path}/no"):
        with pytest.raises(NotFound, match="does not exist"):
            list(found(dump(path)))


def test_a_list_gives_what_is_there_once_and_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, "s/a.tar", "s/b c.tar", "s/10.tar", "s/9.tar", "s/sub/x.tar", "s/not.tar")
    (tmp_path / "s" / "gone.tar").mkdir()
    listed = dump(f"{tmp_path}/s/{{b c,a,a,./a,sub//x,sub/../a,{{9..11}},gone}}.tar")
    with caplog.at_level(logging.WARNING, "sluice"):
        assert names(found(listed)) == ["10.tar", "9.tar", "a.tar", "b c.tar", "sub/x.tar"]

    assert root_of(listed) == f"{tmp_path}/s"
    assert "2 of 7 shards of d are not there yet, the first is 11.tar" in caplog.text


def test_a_list_of_folders_and_files_has_one_root(tmp_path: Path) -> None:
    fill(tmp_path, "d/1/a.tar", "d/2/a.tar", "d/2/b.tar")
    for prefix in ("", "file://"):
        listed = dump(f"{prefix}{tmp_path}/d/{{1..2}}/{{a,b}}.tar")
        assert names(found(listed)) == ["1/a.tar", "2/a.tar", "2/b.tar"]
        assert root_of(listed) == f"{prefix}{tmp_path}/d"


def test_a_shard_that_comes_later_is_new_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "0.tar", "2.tar")
    listed = dump(f"{tmp_path}/{{0..2}}.tar")
    known = as_known(found(listed))
    assert merged(monkeypatch, known, listed) == {}
    fill(tmp_path, "1.tar")

    assert merged(monkeypatch, known, listed) == {"1.tar": (0, "new")}


def test_all_of_an_unknown_dump_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.tar", "b/c.tar")
    monkeypatch.setattr(dumps, "_known", lambda *_: iter(()))
    rows = list(fresh(None, dump(tmp_path)))  # type: ignore[arg-type]
    status = (tmp_path / "a.tar").stat()

    assert rows[0] == {
        "dump": "d",
        "root": str(tmp_path),
        "format": "webdataset",
        "options": {},
        "shard": "a.tar",
        "size_bytes": 5,
        "modified_at": datetime.fromtimestamp(0, UTC)
        + timedelta(microseconds=status.st_mtime_ns // 1000),
        "revision": 0,
        "cause": "new",
    }
    assert [row["shard"] for row in rows] == ["a.tar", "b/c.tar"]


def test_a_shard_of_another_size_or_time_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    same = File(path="a", size_bytes=1, modified_at=THEN)
    known = [
        Known("a", 0, 1, THEN),
        Known("b", 4, 2, THEN),
        Known("c", 1, 1, THEN - timedelta(microseconds=1)),
        Known("gone", 0, 1, THEN),
    ]
    files = [same, *(File(path=name, size_bytes=1, modified_at=THEN) for name in "bcz")]
    monkeypatch.setattr(dumps, "found", lambda _: iter(files))

    assert merged(monkeypatch, known, dump("/d")) == {
        "b": (5, "changed"),
        "c": (2, "changed"),
        "z": (0, "new"),
    }


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.lists(st.text("a-./ é", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
        st.sampled_from(["known", "new", "gone", "size", "time"]),
        max_size=12,
    )
)
def test_the_merge_tells_every_shard_by_what_became_of_it(fates: dict[str, str]) -> None:
    order = sorted(fates, key=in_order)
    known = [
        Known(name, 3, 2 if fates[name] == "size" else 1, THEN)
        for name in order
        if fates[name] != "new"
    ]
    later = THEN + timedelta(seconds=1)
    files = [
        File(path=name, size_bytes=1, modified_at=later if fates[name] == "time" else THEN)
        for name in order
        if fates[name] != "gone"
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dumps, "found", lambda _: iter(files))
        taken = merged(patch, known, dump("/d"))

    wanted = {"new": (0, "new"), "size": (4, "changed"), "time": (4, "changed")}
    assert taken == {name: wanted[fate] for name, fate in fates.items() if fate in wanted}


@pytest.mark.parametrize("form", ["folder", "img2dataset"])
def test_a_folder_that_is_a_shard_is_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    fill(tmp_path, "00000/1.jpg", "00000/1.txt", "00001/2.jpg")
    delivery = dump(tmp_path, form)
    known = as_known(found(delivery))

    assert [shard.shard for shard in known] == ["00000", "00001"]
    assert merged(monkeypatch, known, delivery) == {}
    fill(tmp_path, "00001/3.jpg")
    # img2dataset's folders are not looked into by a listing.
    changed = {"00001": (1, "changed")} if form == "folder" else {}
    assert merged(monkeypatch, known, delivery) == changed


def _peak(monkeypatch: pytest.MonkeyPatch, shards: int) -> int:
    """Bytes that a merge of so many known and listed shards holds at most."""

    def files(_: Dump) -> Iterator[File]:
        for i in range(shards):
            yield File(path=f"{i:09d}.tar", size_bytes=i % 1000 // 999, modified_at=THEN)

    def known(*_: Any) -> Iterator[Known]:
        return (Known(f"{i:09d}.tar", 0, 0, THEN) for i in range(shards))

    monkeypatch.setattr(dumps, "found", files)
    monkeypatch.setattr(dumps, "_known", known)
    tracemalloc.start()
    try:
        changed = sum(1 for _ in fresh(None, dump("/d")))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert changed == shards // 1000
    return peak


def test_neither_side_of_the_merge_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    _peak(monkeypatch, 1_000)  # what is made once
    few, many = _peak(monkeypatch, 1_000), _peak(monkeypatch, 40_000)

    assert many < few + 20_000


def test_the_merge_asks_for_no_more_than_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def endless() -> Iterator[int]:
        nonlocal asked
        while True:
            yield asked
            asked += 1

    monkeypatch.setattr(
        dumps,
        "found",
        lambda _: (File(path=f"{i:09d}", size_bytes=1, modified_at=THEN) for i in endless()),
    )
    monkeypatch.setattr(dumps, "_known", lambda *_: iter(()))
    assert len(list(islice(fresh(None, dump("/d")), 10))) == 10  # type: ignore[arg-type]

    assert asked == 9
