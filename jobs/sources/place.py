r"""Where a shard lies: opening it, and what its dump holds beside it, on any filesystem.

Paths are texts that can be stored: of a local name that is not UTF-8 each byte stands as Python
escapes it, `caf\udce9.tar`, and it is opened by that path as any other.
"""

import logging
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import BinaryIO, Final, cast
from urllib.parse import unquote

from pyarrow import fs

from jobs.sources.entry import EntryRefused
from jobs.sources.texts import printable

log: Final = logging.getLogger("sluice")

# Names that Hadoop gives to filesystems that Arrow knows under another.
_ALIASES: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs", "viewfs": "hdfs"}
SCHEMES: Final = frozenset({"file", "s3", "gs", "hdfs", "abfs", *_ALIASES})
_URI: Final = re.compile(  # RFC 3986 appendix B, less the fragment; `a:b` is a file's name
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*):(?=/)(?P<host>//[^/?]*)?(?P<path>[^?]*)(?P<query>\?.*)?",
    re.DOTALL,
)
# A byte that is not UTF-8 as it is stored, and the backslash of a name that reads like one.
_STORED: Final = re.compile(r"\\udc(5c|[89a-f][0-9a-f])")
_LOCAL: Final = fs.LocalFileSystem()
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, kw_only=True)
class File:
    """What a listing says of a file, or of a folder that is a shard as a whole.

    Attributes:
        path: relative to the dump's root, with `/`.
        size_bytes: of a folder, the sum of its files.
        modified_at: UTC; of a folder, the newest of its files; the epoch if nobody says.
    """

    path: str
    size_bytes: int
    modified_at: datetime


# From a folder's files and the paths of its folders to those that are shards.
Shards = Callable[[Sequence[File], Sequence[str]], Iterable[File]]


@dataclass(frozen=True)
class Place:
    """A shard in its dump.

    Attributes:
        root: folder of the dump, a local path or a URI.
        shard: path relative to the root; a file or a folder, `.` for the root itself.
    """

    root: str
    shard: str

    def open(self, path: str | None = None) -> BinaryIO:
        """The bytes of a file from its start, to be sought as well; the shard's unless named.

        Args:
            path: relative to the root. It may come out of the dump itself, so it is not trusted.

        Raises:
            EntryRefused: the path, or the link it is, leads out of the dump; or it is no file,
                but a pipe, a socket or a device, which is not opened.
            OSError: there is nothing to open.
        """
        filesystem, inside = self._found(path)
        if _is_local(filesystem):
            mode = os.stat(inside).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise EntryRefused("unsafe_member_type", "a pipe, socket or device")
            return open(inside, "rb")  # of a folder: an error that says so
        return cast(BinaryIO, filesystem.open_input_file(inside))

    def info(self, path: str | None = None) -> File | None:
        """What the filesystem says of a file; null where there is none.

        Raises:
            EntryRefused: the path, or the link it is, leads out of the dump.
        """
        filesystem, inside = self._found(path)
        asked = self.shard if path is None else path
        if _is_local(filesystem):
            try:
                status = os.stat(inside)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return None if stat.S_ISDIR(status.st_mode) else _local_file(status, asked)
        found = filesystem.get_file_info(inside)
        return _file(found, asked) if found.type == fs.FileType.File else None

    def beside(self, name: str) -> str:
        """The path, relative to the root, of what the shard's folder holds under a name."""
        return posixpath.join(posixpath.dirname(self.shard), name)

    def files(self, folder: str | None = None) -> list[File]:
        """The files that lie directly in a folder of the dump, by name; the shard's own folder.

        Raises:
            EntryRefused: the path leads out of the dump.
        """
        asked = self.shard if folder is None else folder
        filesystem, base = filesystem_of(self.root)
        if asked != ".":
            _inside(filesystem, base, asked)
        return sorted(_listed(filesystem, base, asked)[0], key=attrgetter("path"))

    def _found(self, path: str | None) -> tuple[fs.FileSystem, str]:
        filesystem, root = filesystem_of(self.root)
        if path is None:  # the user put the shard there, a link is theirs too
            return filesystem, posixpath.join(root, _named(filesystem, self.shard))
        return filesystem, _inside(filesystem, root, path)


def walk(root: str, shards: Shards) -> Iterator[File]:
    """The shards of a dump, in order of their paths' parts; a folder stands before what is in it.

    Held in memory: what lies directly in a folder and in those above it, never the whole dump.
    A folder below the root that cannot be listed is logged; a later walk may find what it holds.
    Of links to folders, those that lead out of the dump are entered, once: what they lead to is
    met nowhere else. The links in there are logged.

    Args:
        root: of the dump.
        shards: from the files of a folder, and the paths of its folders, to its shards.

    Raises:
        OSError: the root cannot be listed.
    """
    above = [_met(root, ".", shards)]
    while above:
        met = next(above[-1], None)
        if met is None:
            above.pop()
        elif isinstance(met, File):
            yield met
        else:
            try:
                above.append(_met(root, met, shards))
            except OSError as error:
                log.warning(
                    "discover: folder %s of %s cannot be listed: %s",
                    met,
                    root,
                    type(error).__name__,
                )


def _met(root: str, folder: str, shards: Shards) -> Iterator[File | str]:
    """The shards that a folder's files make, and the paths of the folders in it, in order."""
    filesystem, base = filesystem_of(root)
    files, folders = _listed(filesystem, base, folder)
    if _is_local(filesystem):
        folders = [path for path in folders if _is_to_enter(base, path)]
    met: list[tuple[list[str], int, File | str]] = [
        (in_order(file.path), 0, file) for file in shards(files, folders)
    ]
    met += [(in_order(path), 1, path) for path in folders]
    return iter([found for _, _, found in sorted(met, key=itemgetter(0, 1))])


def _is_to_enter(base: str, folder: str) -> bool:
    """Whether a folder is none that is met elsewhere, or for ever."""
    path = posixpath.join(base, _bytes_unescaped(folder))
    if not os.path.islink(path):
        return True
    dump, target = os.path.realpath(base), os.path.realpath(path)
    if _is_within(dump, target):
        return False
    if _is_within(target, dump) or not _is_within(dump, os.path.realpath(os.path.dirname(path))):
        log.warning("discover: folder %s of %s is a link that is not followed", folder, base)
        return False
    return True


def _is_within(folder: str, path: str) -> bool:
    return os.path.commonpath([folder, path]) == folder


def in_order(path: str) -> list[str]:
    """What paths are sorted by.

    >>> sorted(["b", "a.tar", "a/z", "."], key=in_order)
    ['.', 'a/z', 'a.tar', 'b']
    """
    return [] if path == "." else path.split("/")


def split(path: str, *, before: str = "") -> tuple[str, str]:
    """A folder, and the path relative to it of what a path or URI names.

    Args:
        path: what is percent-encoded in a URI is decoded in the relative path.
        before: what no part of the folder may hold; else the relative path is the last name.

    >>> split("/d/a%20b.tar"), split("s3://b/d/a%20b.tar?region=r")
    (('/d', 'a%20b.tar'), ('s3://b/d?region=r', 'a b.tar'))
    >>> split("/d/{a,b}/c.tar", before="{")
    ('/d', '{a,b}/c.tar')
    """
    uri = _URI.fullmatch(path)
    whole = uri["path"] if uri else path
    inside = whole.rstrip("/")
    cut = inside.find(before) if before else len(inside)
    start = inside.rfind("/", 0, cut) + 1
    top = "/" if whole.startswith("/") else ""
    folder, name = inside[:start].rstrip("/") or top, inside[start:]
    if uri is None:
        return folder, _bytes_escaped(name)
    return f"{uri['scheme']}:{uri['host'] or ''}{folder}{uri['query'] or ''}", unquote(name)


def scheme(path: str) -> str | None:
    """The scheme of a URI; null of a local path.

    >>> scheme("s3a://b/d"), scheme("/d/a://b"), scheme("a:b")
    ('s3a', None, None)
    """
    uri = _URI.fullmatch(path)
    return uri["scheme"] if uri else None


def _listed(filesystem: fs.FileSystem, base: str, folder: str) -> tuple[list[File], list[str]]:
    """The files and the paths of the folders that lie directly in a folder."""
    if _is_local(filesystem):
        return _scanned(base, folder)
    selector = fs.FileSelector(base if folder == "." else posixpath.join(base, folder))
    files, folders = [], []
    for info in filesystem.get_file_info(selector):
        path = _below(folder, info.base_name)
        if info.type == fs.FileType.File:
            files.append(_file(info, path))
        elif info.type == fs.FileType.Directory:
            folders.append(path)
    return files, folders


def _scanned(base: str, folder: str) -> tuple[list[File], list[str]]:
    # Arrow fails at names that are not UTF-8, and leaves out links that lead nowhere: whatever
    # is no folder stands in the listing, so that its opening says what it is.
    files, folders = [], []
    with os.scandir(posixpath.join(base, _bytes_unescaped(folder))) as found:
        for entry in found:
            path = _below(folder, _bytes_escaped(entry.name))
            status = _status(entry)
            if status is not None and stat.S_ISDIR(status.st_mode):
                folders.append(path)
            else:
                files.append(_local_file(status, path))
    return files, folders


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of what a link leads to, else of the link itself; null where nobody may know."""
    for is_followed in (True, False):
        try:
            return entry.stat(follow_symlinks=is_followed)
        except OSError:
            continue
    return None


def _local_file(status: os.stat_result | None, path: str) -> File:
    if status is None:
        return File(path=path, size_bytes=0, modified_at=_EPOCH)
    size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return File(path=path, size_bytes=size_bytes, modified_at=_moment(status.st_mtime_ns))


def _file(info: fs.FileInfo, path: str) -> File:
    return File(path=path, size_bytes=info.size or 0, modified_at=_moment(info.mtime_ns))


def _moment(since_epoch_ns: int | None) -> datetime:
    """A time, cut to the microseconds that a table keeps; the epoch for none that it can keep."""
    try:
        return _EPOCH + timedelta(microseconds=(since_epoch_ns or 0) // 1000)
    except OverflowError:  # past the year 9999
        return _EPOCH


def _below(folder: str, name: str) -> str:
    return name if folder == "." else posixpath.join(folder, name)


def _bytes_escaped(name: str) -> str:
    r"""A local name as it is stored.

    >>> _bytes_escaped("caf\udce9"), _bytes_unescaped(_bytes_escaped("caf\udce9")) == "caf\udce9"
    ('caf\\udce9', True)
    """
    return printable(_STORED.sub(lambda like: rf"\udc5c{like[0][1:]}", name))


def _bytes_unescaped(path: str) -> str:
    """A local name as the system takes it."""
    return _STORED.sub(
        lambda byte: "\\" if byte[1] == "5c" else chr(0xDC00 + int(byte[1], 16)), path
    )


def _named(filesystem: fs.FileSystem, path: str) -> str:
    return _bytes_unescaped(path) if _is_local(filesystem) else path


def _inside(filesystem: fs.FileSystem, root: str, path: str) -> str:
    """The path as the filesystem takes it, if it does not lead out of the root."""
    path = _named(filesystem, path)
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or ".." in parts or "\0" in path:
        raise EntryRefused("unsafe_member_name", "climbs out of the dump")
    joined = posixpath.join(root, path)
    if _is_local(filesystem) and not _is_within(os.path.realpath(root), os.path.realpath(joined)):
        raise EntryRefused("unsafe_member_type", "a link that leads out of the dump")
    return joined


def _is_local(filesystem: fs.FileSystem) -> bool:
    return bool(filesystem.type_name == "local")


def filesystem_of(root: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a folder, and the folder as it calls it.

    Args:
        root: a local path, or a URI by Hadoop's name of the filesystem or by Arrow's.
    """
    uri = _URI.fullmatch(root)
    if uri is None:
        return _LOCAL, os.path.abspath(root)
    known = _ALIASES.get(uri["scheme"], uri["scheme"])
    return _connected(known + root.removeprefix(uri["scheme"]))


@lru_cache(maxsize=16)  # chosen: the dumps of a configuration; a connection is costly
def _connected(uri: str) -> tuple[fs.FileSystem, str]:
    filesystem, path = fs.FileSystem.from_uri(uri)
    return filesystem, path
