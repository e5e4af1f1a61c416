"""What img2dataset leaves: Parquet with the images in it, tars, or folders of files.

Beside a tar or a folder lies a Parquet file of the same number with a row for each url, those
that failed among them. A run that was killed leaves a tar or folder without it, or a torn one.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from jobs.sources import media_file, table, webdataset
from jobs.sources.columns import ROLES
from jobs.sources.entry import Entry, EntryRefused, Extent, Limits, Reading, Video
from jobs.sources.members import Group, Member, judged
from jobs.sources.place import File, Place
from jobs.sources.webdataset import key_and_kind

FORMAT: Final = "img2dataset"
_NUMBER: Final = re.compile(r"\d+")  # img2dataset names shards 00000, 00001, ...
_SIDECAR: Final = ".parquet"
_TAR: Final = ".tar"
# What lies in a numbered folder that somebody made to hold shards, and is none of its items.
_NO_ITEMS: Final = (_SIDECAR, _TAR, "_stats.json")
_OF_SHARDS: Final = frozenset({"unreadable_shard", "truncated_shard", "decompression_bomb"})
OPTIONS: Final = frozenset(ROLES)
# In `extra` of a row that img2dataset calls a success: where its image is not.
MISSING_FROM: Final = "missing_from"


def shards(files: Sequence[File], folders: Sequence[str]) -> Iterator[File]:
    """The numbered Parquet files; the numbered tars and folders that belong to none.

    Returns:
        Of a folder neither size nor time: a listing of the folder above does not say them.

    >>> from datetime import datetime
    >>> names = ["00000.parquet", "00000.tar", "00000_stats.json", "00001.tar"]
    >>> files = [File(path=n, size_bytes=1, modified_at=datetime.now()) for n in names]
    >>> [shard.path for shard in shards(files, ["00002", "logs"])]
    ['00000.parquet', '00001.tar', '00002']
    """
    there = {file.path for file in files}
    for file in files:
        stem, kind = posixpath.splitext(file.path)
        is_alone = kind == _TAR and stem + _SIDECAR not in there
        if _is_numbered(stem) and (kind == _SIDECAR or is_alone):
            yield file
    for folder in folders:
        # A Parquet file that has a tar as well belongs to that.
        is_alone = folder + _SIDECAR not in there or folder + _TAR in there
        if _is_numbered(folder) and is_alone:
            yield File(path=folder, size_bytes=0, modified_at=datetime.fromtimestamp(0, UTC))


def _is_numbered(path: str) -> bool:
    return _NUMBER.fullmatch(posixpath.basename(path)) is not None


def entries(place: Place, reading: Reading) -> Iterator[Entry]:
    """Every url of a shard exactly once: what was delivered, then what was not.

    Rows whose image is not there have a url to be fetched; `status` and `error_message` stay in
    `extra`, and where the status is `success`, `MISSING_FROM` says what should have held it.

    Args:
        place: of what `shards` found.
        reading: how; its options name the columns of the Parquet file, as those of a table.

    Yields:
        Entries with dense positions from 0. Damage of the tar, and of the Parquet file, is an
        entry each.
    """
    # Numbered here, so that none may be left out there.
    for position, entry in enumerate(_all(place, replace(reading, first=0))):
        yield replace(entry, position=position)


def _all(place: Place, reading: Reading) -> Iterator[Entry]:
    stem, kind = posixpath.splitext(place.shard)
    if kind == _TAR:
        yield from _tar(place, place.shard, reading.limits)
        return
    if kind != _SIDECAR:
        yield from _folder(place, place.shard, reading.limits)
        return
    tar = stem + _TAR
    has_tar = _is_there(place, tar)
    holder = tar if has_tar else stem
    seen = set()
    for entry in (_tar if has_tar else _folder)(place, holder, reading.limits):
        # An item that damage of the shard fell into is not there; its row is.
        if entry.error_class not in _OF_SHARDS:
            seen.add(entry.sample_key)
        yield _beside(entry, holder)
    for entry in table.entries(place, reading):
        if entry.sample_key is None or entry.sample_key not in seen:
            yield _said_missing(entry, holder if has_tar or seen else place.shard)


def _beside(entry: Entry, holder: str) -> Entry:
    """The entry of a tar that is not the shard itself."""
    if entry.shard_offset_bytes is None:
        return entry
    extent = Extent(path=holder, offset_bytes=entry.shard_offset_bytes)
    return replace(entry, shard_offset_bytes=None, extent=extent)


def _said_missing(entry: Entry, holder: str) -> Entry:
    if entry.content is not None or entry.extra.get("status") != "success":
        return entry
    return replace(entry, extra={**entry.extra, MISSING_FROM: posixpath.basename(holder)})


def _is_there(place: Place, path: str) -> bool:
    try:
        return place.info(path) is not None
    except EntryRefused:
        return True  # a link that leads out is met, and said, when it is opened


def _tar(place: Place, path: str, limits: Limits) -> Iterator[Entry]:
    try:
        stream = place.open(path)
    except (OSError, EntryRefused) as error:
        yield _unreadable(error)
        return
    with stream:
        yield from webdataset.entries(stream, limits)


def _folder(place: Place, path: str, limits: Limits) -> Iterator[Entry]:
    """The items of a folder; none where there is no folder."""
    try:
        files = place.files(path)
    except FileNotFoundError:
        return
    except (OSError, EntryRefused) as error:
        yield _unreadable(error)
        return
    items = (file for file in files if not file.path.endswith(_NO_ITEMS))
    for key, of_key in groupby(items, lambda file: _key(file.path)):
        # Names of a folder, in order, make a key once: webdataset's are its stems.
        group = Group(key, [_member(place, file, limits) for file in of_key])
        yield judged(group, 0, 0, limits)


def _key(path: str) -> str:
    return key_and_kind(posixpath.basename(path))[0]


def _member(place: Place, file: File, limits: Limits) -> Member:
    name = posixpath.basename(file.path)
    key, kind = key_and_kind(name)
    content: bytes | Video | EntryRefused
    try:
        content = media_file.taken(place, file, kind, limits)
    except EntryRefused as refusal:
        content = refusal
    return Member(
        name=name,
        key=key,
        kind=kind,
        size_bytes=file.size_bytes,
        content=content,
        extent=Extent(path=file.path),
    )


def _unreadable(error: Exception) -> Entry:
    if isinstance(error, EntryRefused):
        return Entry(
            position=0, sample_key=None, error_class=error.error_class, detail=error.detail
        )
    # Its words name the path.
    detail = f"cannot be opened: {type(error).__name__}"
    return Entry(position=0, sample_key=None, error_class="unreadable_shard", detail=detail)
