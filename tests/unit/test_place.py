import inspect
import logging
import os
import socket
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs

from jobs.sources import place as places
from jobs.sources.entry import EntryRefused
from jobs.sources.formats import by_suffix
from jobs.sources.place import File, Place, in_order, split, walk

EPOCH = datetime.fromtimestamp(0, UTC)
TARS = by_suffix(".tar")
ODD = [
    "50%20off.tar",
    "a b.tar",
    "a#b.tar",
    "a?b=c.tar",
    "a&b;c.tar",
    "ä😀日.tar",
    "two\nlines.tar",
    "C:\\x.tar",
    "s3:x.tar",
    "~.tar",
    "{0..9}.tar",
    "\\udcff.tar",
    "-.tar",
]


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def walked(root: Path | str) -> list[str]:
    return [file.path for file in walk(str(root), TARS)]


def read(root: Path | str, path: str) -> bytes:
    with Place(str(root), path).open() as stream:
        return stream.read()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_found_asked_about_and_opened(tmp_path: Path, name: str) -> None:
    put(tmp_path / "sub" / name, name.encode())
    (found,) = walk(str(tmp_path), TARS)
    place = Place(str(tmp_path), found.path)

    assert read(tmp_path, found.path) == name.encode()
    assert place.info() == found == place.files("sub")[0]
    assert found.size_bytes == len(name.encode())


@pytest.mark.parametrize("name", [name for name in ODD if "\\" not in name])
def test_an_odd_name_is_opened_when_the_dump_names_it(tmp_path: Path, name: str) -> None:
    put(tmp_path / "a.json")
    put(tmp_path / name, name.encode())
    with Place(str(tmp_path), "a.json").open(name) as stream:
        assert stream.read() == name.encode()


@pytest.mark.parametrize("name", ["50%20off", "a b", "a#b", "a?b", "é😀", "s3:", "a://b"])
def test_a_root_of_an_odd_name_is_a_path_and_no_uri(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    put(root / "a.tar")

    for spelling in (str(root), f"{root}/", f"{root}//"):
        assert walked(spelling) == ["a.tar"]
        assert read(spelling, "a.tar") == b"x"


def test_a_relative_root_starts_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        put(tmp_path / name / "d" / f"{name}.tar")
        monkeypatch.chdir(tmp_path / name)
        assert walked("d") == walked("./d/") == [f"{name}.tar"]
        assert walked("") == walked(".") == [f"d/{name}.tar"]


@pytest.mark.parametrize("prefix", ["file://", "file:"])
def test_a_file_uri_is_percent_decoded(tmp_path: Path, prefix: str) -> None:
    put(tmp_path / "a b%" / "c d.tar")
    root = f"{prefix}{tmp_path}/a%20b%25"

    assert walked(root) == walked(root + "/") == ["c d.tar"]
    assert read(root, "c d.tar") == b"x"
    assert split(f"{root}/c%20d.tar") == (root, "c d.tar")


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/a.tar", ("/", "a.tar")),
        ("/", ("/", "")),
        ("a.tar", ("", "a.tar")),
        ("/d/a.tar/", ("/d", "a.tar")),
        ("s3://b", ("s3://b", "")),
        ("s3://b/", ("s3://b/", "")),
        ("s3://b/a.tar", ("s3://b/", "a.tar")),
        ("s3://b/d?endpoint_override=http://x/y", ("s3://b/?endpoint_override=http://x/y", "d")),
        ("hdfs:///d/a.tar", ("hdfs:///d", "a.tar")),
        ("C:\\d\\a.tar", ("", "C:\\d\\a.tar")),
    ],
)
def test_a_path_is_split_into_folder_and_name(path: str, parts: tuple[str, str]) -> None:
    assert split(path) == parts


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.one_of(
        st.binary(min_size=1, max_size=40),
        st.lists(st.sampled_from([b"\\", b"udc", b"5c", b"80", b"\xff", b"\xc3\xa9"])).map(
            b"".join
        ),
    ).filter(lambda name: name not in (b"", b".", b"..") and not {0, 47} & set(name))
)
def test_any_bytes_make_a_name_that_is_stored_and_opened(tmp_path: Path, name: bytes) -> None:
    file = os.path.join(os.fsencode(tmp_path), name)
    with open(file, "wb") as stream:
        stream.write(name)
    try:
        (found,) = walk(str(tmp_path), lambda files, _: files)
        assert found.path.encode("utf-8")
        assert read(tmp_path, found.path) == name
        assert Place(str(tmp_path), found.path).info() == found
    finally:
        os.unlink(file)


def test_names_that_are_stored_alike_would_be_two_shards(tmp_path: Path) -> None:
    put(tmp_path / "a\\udcff.tar", b"text")
    put(tmp_path / "a\udcff.tar", b"byte")  # as Python writes the byte ff

    assert {read(tmp_path, path) for path in walked(tmp_path)} == {b"text", b"byte"}


def test_escaped_dots_and_slashes_lead_nowhere(tmp_path: Path) -> None:
    put(tmp_path / "secret")
    put(tmp_path / "dump" / "a.tar")
    place = Place(str(tmp_path / "dump"), "a.tar")

    for path in ("../secret", "\\udc2e\\udc2e/secret", "\\udc5c..\\udc5csecret", "/etc/hostname"):
        with pytest.raises((EntryRefused, FileNotFoundError)):
            place.open(path)


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A dump of everything that is no file."""
    put(tmp_path / "good.tar")
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "null.tar").symlink_to("/dev/null")
    (tmp_path / "gone.tar").symlink_to("nowhere")
    (tmp_path / "self.tar").symlink_to("self.tar")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's address is short
        try:
            bound.bind("socket.tar")
        finally:
            os.chdir(here)
    return tmp_path


NO_FILES = {"pipe.tar", "null.tar", "gone.tar", "self.tar", "socket.tar"}


def test_what_is_no_file_is_listed(strange: Path) -> None:
    found = {file.path: file for file in walk(str(strange), TARS)}

    assert found.keys() == NO_FILES | {"good.tar"}
    assert {file.path for file in Place(str(strange), ".").files()} == found.keys()
    assert {found[name].size_bytes for name in NO_FILES} == {0}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", ["pipe.tar", "null.tar", "socket.tar"])
def test_a_pipe_a_socket_or_a_device_is_never_opened(strange: Path, name: str) -> None:
    for asked in (None, name):
        with pytest.raises(EntryRefused, match="unsafe_member_type"):
            # A device of the machine is also outside of the dump.
            Place(str(strange), name).open(asked)


@pytest.mark.parametrize("name", ["gone.tar", "self.tar"])
def test_a_link_to_nothing_is_an_error_of_its_opening(strange: Path, name: str) -> None:
    with pytest.raises(OSError, match=name):
        Place(str(strange), name).open()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.tar").mkdir()
    place = Place(str(tmp_path), "a.tar")

    assert place.info() is None
    with pytest.raises(IsADirectoryError):
        place.open()


def test_the_time_of_a_file_is_exact_to_the_microsecond(tmp_path: Path) -> None:
    file = put(tmp_path / "a.tar")
    for ns in (1_700_000_000_123_456_789, 999, -1_000, -86_400_000_000_000 * 365):
        os.utime(file, ns=(ns, ns))
        (found,) = walk(str(tmp_path), TARS)
        assert found.modified_at == EPOCH + timedelta(microseconds=ns // 1000)


def test_a_time_past_all_calendars_is_the_epoch() -> None:
    status = SimpleNamespace(st_mode=stat.S_IFREG, st_size=1, st_mtime_ns=2**39 * 10**9)

    assert places._local_file(status, "a").modified_at == EPOCH


@pytest.mark.timeout(10)
def test_links_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    put(dump / "a" / "x.tar")
    put(dump / "b" / "y.tar")
    for link, target in [
        ("a/up", ".."),
        ("a/self", "."),
        ("a/b", "../b"),
        ("b/a", "../a"),
        ("top", str(dump)),
        ("root", "/"),
        ("above", str(tmp_path)),
    ]:
        (dump / link).symlink_to(target)

    assert walked(dump) == ["a/x.tar", "b/y.tar"]
    (tmp_path / "other").symlink_to(dump)
    assert walked(tmp_path / "other") == ["a/x.tar", "b/y.tar"]


@pytest.mark.timeout(10)
def test_folders_that_all_link_to_all_are_walked_once(tmp_path: Path) -> None:
    for i in range(12):
        put(tmp_path / f"{i:02d}" / "x.tar")
        for j in range(12):
            (tmp_path / f"{i:02d}" / f"to{j}").symlink_to(tmp_path / f"{j:02d}")

    assert walked(tmp_path) == [f"{i:02d}/x.tar" for i in range(12)]


@pytest.mark.timeout(10)
def test_a_linked_folder_outside_is_met_once_and_its_own_links_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "outside" / "x.tar")
    (tmp_path / "outside" / "loop").symlink_to(tmp_path / "outside")
    put(tmp_path / "dump" / "a.tar")
    (tmp_path / "dump" / "disk2").symlink_to(tmp_path / "outside")
    with caplog.at_level(logging.WARNING, "sluice"):
        assert walked(tmp_path / "dump") == ["a.tar", "disk2/x.tar"]

    assert read(tmp_path / "dump", "disk2/x.tar") == b"x"
    assert "disk2/loop" in caplog.text


def test_a_folder_that_cannot_be_listed_is_said_and_the_others_are_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path / name / "x.tar")
    plain = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "denied", path)
        return plain(path)

    monkeypatch.setattr(places.os, "scandir", scandir)
    with caplog.at_level(logging.WARNING, "sluice"):
        assert walked(tmp_path) == ["a/x.tar", "c/x.tar"]
    assert "folder b " in caplog.text


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        walked(tmp_path / "nowhere")


def test_folders_deeper_than_pythons_stack_are_walked(tmp_path: Path) -> None:
    put(tmp_path.joinpath(*["d"] * 300, "x.tar"))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        found = walked(tmp_path)
    finally:
        sys.setrecursionlimit(limit)

    assert found == ["d/" * 300 + "x.tar"]


def test_shards_come_in_order_of_their_parts(tmp_path: Path) -> None:
    names = ["a.tar", "a/z.tar", "a-b.tar", "a/b/c.tar", "b/a.tar", "é.tar", "a b/x.tar", "😀.tar"]
    for name in names:
        put(tmp_path / name)

    assert walked(tmp_path) == sorted(names, key=in_order)


def test_other_filesystems_list_and_open_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    mock = fs._MockFileSystem()
    mock.create_dir("dump/sub %#")
    for name in ("dump/b.tar", "dump/sub %#/ü \\udcff.tar", "dump/x.txt"):
        with mock.open_output_stream(name) as stream:
            stream.write(name.encode())
    monkeypatch.setattr(places, "_connected", lambda _uri: (mock, "dump"))
    found = {file.path: file for file in walk("gs://b/dump", TARS)}

    assert list(found) == ["b.tar", "sub %#/ü \\udcff.tar"]
    for path, file in found.items():
        assert read("gs://b/dump", path) == f"dump/{path}".encode()
        assert Place("gs://b/dump", path).info(path) == file
    assert Place("gs://b/dump", "no.tar").info() is None


@pytest.mark.parametrize(
    ("root", "uri"),
    [("s3a://b/d", "s3://b/d"), ("abfss://c/d", "abfs://c/d"), ("gs://b", "gs://b")],
)
def test_hadoops_names_of_filesystems_are_known(
    monkeypatch: pytest.MonkeyPatch, root: str, uri: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        places, "_connected", lambda u: asked.append(u) or (fs._MockFileSystem(), "x")
    )
    Place(root, "a").info()

    assert asked == [uri]


def test_what_an_object_store_does_not_say_is_nought() -> None:
    found = places._file(fs.FileInfo("a", type=fs.FileType.File), "a")

    assert found == File(path="a", size_bytes=0, modified_at=EPOCH)
