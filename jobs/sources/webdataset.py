"""WebDataset: a tar whose consecutive members of one key make an item.

The key is the member's path up to the first dot of its base name; what follows is the kind:
an image, `txt` or `caption` (the caption), `json` (further facts, and the caption where there is
neither).
The tar may be compressed as a whole. Nothing is ever extracted: names are data, not paths.
"""

import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final, Self

from jobs.sources.compression import decompressed
from jobs.sources.entry import Entry, EntryRefused, Limits, Video
from jobs.sources.media_file import too_large
from jobs.sources.members import FACTS_KIND, Group, Member, judged
from jobs.sources.occurrences import Occurrences
from jobs.sources.texts import printable, said
from jobs.sources.video_file import VIDEO_KINDS, registered

FORMAT: Final = "webdataset"
SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_MAX_BYTES: Final = 2**63 - 1  # of a file: off_t of POSIX; and the tables' long
_DRAIN_BYTES: Final = 1 << 16  # chosen: what is read and dropped at a time


class _Header(tarfile.TarInfo):
    """Headers that do not end an archive in silence when they are damaged."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        # tarfile takes an invalid or missing header for the end: what follows would be lost
        # without a word. A proper end is a block of zeros.
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise tarfile.ReadError("the archive has no end marker") from None
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


@dataclass(frozen=True)
class _Damage:
    """Where a shard stops being readable."""

    error_class: str
    detail: str
    info: tarfile.TarInfo | None = None


@dataclass(frozen=True)
class _Tail:
    """The damage, and the item that it fell into."""

    damage: _Damage
    cut: Group | None


def entries(stream: BinaryIO, limits: Limits, *, first: int = 0) -> Iterator[Entry]:
    """Every item of a shard exactly once, accepted or refused, in the order of the tar.

    Args:
        stream: the shard's bytes from its start; gzip and zstd are known by their first bytes.
        limits: what one member may cost, and how far a compressed shard may grow.
        first: position of the first entry that is wanted; those before are only counted.

    Yields:
        Entries with dense positions from `first`. A damaged tail is one entry. In a compressed
        shard no entry has an offset.
    """
    plain = decompressed(stream, limits)
    for entry in _entries(plain, limits, first, is_plain=plain is stream):
        yield entry if plain is stream else replace(entry, shard_offset_bytes=None)


def key_and_kind(name: str) -> tuple[str, str]:
    """The item that a member belongs to, and what it is of it.

    The kind is everything past the first dot of the base name: as webdataset has it.

    >>> key_and_kind("a.b/0012.left.JPG")
    ('a.b/0012', 'left.jpg')
    """
    folder, slash, base = name.rpartition("/")
    # "../../x" has its dots before the slash; a base name that starts with one keeps it.
    stem, _, kind = base[1:].partition(".")
    return f"{folder}{slash}{base[:1]}{stem}", kind.lower()


def _entries(stream: BinaryIO, limits: Limits, first: int, *, is_plain: bool) -> Iterator[Entry]:
    seen = Occurrences()
    for position, found in enumerate(_groups(_members(stream, limits, is_plain=is_plain))):
        if isinstance(found, _Tail):
            yield _damaged(position, found)
            return
        occurrence = seen.count(found.key)
        if position >= first:
            yield judged(found, position, occurrence, limits)


def _groups(members: Iterable[Member | _Damage]) -> Iterator[Group | _Tail]:
    """The items that neighbouring members make; where the shard is damaged, that comes last."""
    group: Group | None = None
    for found in members:
        if isinstance(found, _Damage):
            is_cut = group is not None and _is_cut(group, found.info)
            if group is not None and not is_cut:
                yield group
            yield _Tail(found, group if is_cut else None)
            return
        if group is not None and (found.key != group.key or group.has(found.kind)):
            yield group
            group = None
        group = group or Group(found.key)
        group.members.append(found)
    if group is not None:
        yield group


def _members(stream: BinaryIO, limits: Limits, *, is_plain: bool) -> Iterator[Member | _Damage]:
    """The members of a tar; where it is damaged, that comes last."""
    try:
        archive = tarfile.TarFile.open(fileobj=stream, mode="r|", tarinfo=_Header)
    except Exception as error:  # hostile bytes raise whatever they like
        yield _damage(error, "unreadable_shard", "not a tar: ")
        return
    with archive:
        while True:
            info = None
            try:
                info = _next(archive)
                member = (
                    _read(archive, info, limits, stream if is_plain else None) if info else None
                )
            except Exception as error:  # likewise
                yield _damage(error, "truncated_shard", info=info)
                return
            if info is None:
                break
            if member is not None:
                yield member
    try:
        # The checksum of a compressed stream stands behind the tar's own end.
        while stream.read(_DRAIN_BYTES):
            pass
    except EntryRefused as refusal:
        yield _damage(refusal, "truncated_shard")


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    info = archive.next()
    # Base-256 and pax headers may declare any number; no file has so many bytes.
    if info is not None and not 0 <= info.size <= _MAX_BYTES:
        raise tarfile.ReadError("a header declares a size that no file has")
    return info


def _damage(
    error: Exception, error_class: str, prefix: str = "", info: tarfile.TarInfo | None = None
) -> _Damage:
    if isinstance(error, EntryRefused):
        return _Damage(error.error_class, error.detail, info)
    return _Damage(error_class, f"{prefix}{said(error)}", info)


def _read(
    archive: tarfile.TarFile, info: tarfile.TarInfo, limits: Limits, plain: BinaryIO | None
) -> Member | None:
    """The member with its bytes; null for a folder."""
    if info.isdir():
        return None
    key, kind = key_and_kind(info.name)
    return Member(
        name=info.name,
        key=key,
        kind=kind,
        size_bytes=info.size,
        content=_content(archive, info, kind, limits, plain),
        offset_bytes=None if info.issparse() else info.offset_data,
    )


def _content(
    archive: tarfile.TarFile,
    info: tarfile.TarInfo,
    kind: str,
    limits: Limits,
    plain: BinaryIO | None,
) -> bytes | Video | EntryRefused:
    if not info.isreg():
        return EntryRefused("unsafe_member_type", f"{kind or 'member'} is no file")
    if kind in VIDEO_KINDS and not info.issparse():
        return _video(info, limits, plain)
    if info.size > limits.max_member_bytes:
        return too_large(info.size, limits)
    opened = archive.extractfile(info)
    assert opened is not None  # a regular member always opens
    content = opened.read()
    if len(content) < info.size:
        raise tarfile.ReadError(f"{len(content)} of {info.size} bytes are there")
    return content


def _video(
    info: tarfile.TarInfo, limits: Limits, plain: BinaryIO | None
) -> bytes | Video | EntryRefused:
    """What is known of a video; nothing, if no place holds it as it is."""
    if plain is None:
        return b""
    # The tar is read ahead of what it has given, and goes on from there.
    ahead = plain.tell()
    try:
        return registered(plain, info.size, limits, offset_bytes=info.offset_data)
    except EntryRefused as refusal:
        if refusal.error_class == "truncated_shard":
            raise
        return refusal
    finally:
        plain.seek(ahead)


def _is_cut(group: Group, damaged: tarfile.TarInfo | None) -> bool:
    """Whether the shard's damage fell into this item."""
    if damaged is not None and key_and_kind(damaged.name)[0] == group.key:
        return True
    return (group.image or group.video) is None or not (group.caption or group.has(FACTS_KIND))


def _damaged(position: int, tail: _Tail) -> Entry:
    damage, info = tail.damage, tail.damage.info
    key = tail.cut.key if tail.cut else (key_and_kind(info.name)[0] if info else None)
    return Entry(
        position=position,
        sample_key=None if key is None else printable(key),
        member=None if info is None else printable(info.name),
        shard_offset_bytes=info.offset_data if info else None,
        size_bytes=info.size if info else None,
        error_class=damage.error_class,
        detail=damage.detail,
    )
