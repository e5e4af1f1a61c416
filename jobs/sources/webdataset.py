"""WebDataset: a tar whose consecutive members of one key make an item.

The key is the member's path up to the first dot of its base name; what follows is the kind:
an image, `txt` (the caption), `json` (further facts, and the caption where there is no `txt`).
The tar may be compressed as a whole. Nothing is ever extracted: names are data, not paths.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final, Self

from jobs.sources.compression import decompressed
from jobs.sources.entry import Entry, EntryRefused, Limits, image_facts
from jobs.sources.texts import printable, said

FORMAT: Final = "webdataset"
SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.zst")
_DRAIN_BYTES: Final = 1 << 16  # chosen: what is read and dropped at a time
# Kinds that stand for the image; those no decoder here accepts are named so that they are
# refused as images rather than missed.
IMAGE_KINDS: Final = frozenset(
    {
        "jpg",
        "jpeg",
        "jfif",
        "png",
        "webp",
        "gif",
        "bmp",
        "tif",
        "tiff",
        "svg",
        "avif",
        "heic",
        "jxl",
        "ppm",
        "pgm",
        "ico",
    }
)
# Never kept: camera facts carry positions and serial numbers.
PRIVATE_FACTS: Final = frozenset({"exif"})


@dataclass
class _Member:
    name: str
    key: str
    kind: str
    offset_bytes: int
    size_bytes: int
    is_file: bool
    content: bytes | None  # null: longer than the limit


@dataclass
class _Group:
    key: str
    members: list[_Member] = field(default_factory=list)

    def has(self, kind: str) -> bool:
        return any(member.kind == kind for member in self.members)

    @property
    def image(self) -> _Member | None:
        return next((m for m in self.members if m.kind in IMAGE_KINDS), None)

    def first(self, kind: str) -> _Member | None:
        return next((m for m in self.members if m.kind == kind), None)


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


def entries(stream: BinaryIO, limits: Limits) -> Iterator[Entry]:
    """Every item of a shard exactly once, accepted or refused, in the order of the tar.

    Args:
        stream: the shard's bytes from its start; gzip and zstd are known by their first bytes.
        limits: what one member may cost, and how far a compressed shard may grow.

    Yields:
        Entries with dense positions from 0. A damaged tail is one entry. In a compressed shard
        no entry has an offset.
    """
    plain = decompressed(stream, limits)
    for entry in _entries(plain, limits):
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


def _entries(stream: BinaryIO, limits: Limits) -> Iterator[Entry]:
    seen: dict[str, int] = {}
    position = 0
    group: _Group | None = None
    damage: _Damage | None = None
    for found in _members(stream, limits):
        if isinstance(found, _Damage):
            damage = found
            break
        if group is not None and (found.key != group.key or group.has(found.kind)):
            yield _judged(group, position, seen, limits)
            position += 1
            group = None
        group = group or _Group(found.key)
        group.members.append(found)
    if group is not None and not (damage and _is_cut(group, damage.info)):
        yield _judged(group, position, seen, limits)
        position += 1
        group = None
    if damage is not None:
        yield _tail(position, damage, group)


def _members(stream: BinaryIO, limits: Limits) -> Iterator[_Member | _Damage]:
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
                info = archive.next()
                member = _read(archive, info, limits) if info else None
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


def _damage(
    error: Exception, error_class: str, prefix: str = "", info: tarfile.TarInfo | None = None
) -> _Damage:
    if isinstance(error, EntryRefused):
        return _Damage(error.error_class, error.detail, info)
    return _Damage(error_class, f"{prefix}{said(error)}", info)


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo, limits: Limits) -> _Member | None:
    """The member with its bytes; null for a folder."""
    if info.isdir():
        return None
    content = None
    if info.isreg() and info.size <= limits.max_member_bytes:
        opened = archive.extractfile(info)
        assert opened is not None  # a regular member always opens
        content = opened.read()
        if len(content) < info.size:
            raise tarfile.ReadError(f"{len(content)} of {info.size} bytes are there")
    key, kind = key_and_kind(info.name)
    return _Member(
        name=info.name,
        key=key,
        kind=kind,
        offset_bytes=info.offset_data,
        size_bytes=info.size,
        is_file=info.isreg(),
        content=content,
    )


def _is_cut(group: _Group, damaged: tarfile.TarInfo | None) -> bool:
    """Whether the shard's damage fell into this item."""
    if damaged is not None and key_and_kind(damaged.name)[0] == group.key:
        return True
    return group.image is None or not (group.has("txt") or group.has("json"))


def _tail(position: int, damage: _Damage, group: _Group | None) -> Entry:
    info = damage.info
    key = group.key if group else (key_and_kind(info.name)[0] if info else None)
    return Entry(
        position=position,
        sample_key=None if key is None else printable(key),
        member=None if info is None else printable(info.name),
        shard_offset_bytes=info.offset_data if info else None,
        size_bytes=info.size if info else None,
        error_class=damage.error_class,
        detail=damage.detail,
    )


def _judged(group: _Group, position: int, seen: dict[str, int], limits: Limits) -> Entry:
    occurrence = seen.get(group.key, 0)
    seen[group.key] = occurrence + 1
    media = group.image or group.members[0]
    where = {
        "position": position,
        "sample_key": printable(group.key),
        "occurrence": occurrence,
        "member": printable(media.name),
        "shard_offset_bytes": media.offset_bytes,
        "size_bytes": media.size_bytes,
    }
    try:
        return Entry(**where, **_accepted(group, occurrence, limits))  # type: ignore[arg-type]
    except EntryRefused as refusal:
        return Entry(
            **where,  # type: ignore[arg-type]
            error_class=refusal.error_class,
            detail=refusal.detail,
        )


def _accepted(group: _Group, occurrence: int, limits: Limits) -> dict[str, object]:
    _refuse_unsafe(group, limits)
    if occurrence:
        raise EntryRefused("duplicate_key", f"occurrence {occurrence + 1} of its key in the shard")
    image = group.image
    if image is None:
        raise EntryRefused("missing_image", f"members: {_kinds(group)}")
    facts = _facts(group)
    caption = _caption(group, facts)
    assert image.content is not None  # `_refuse_unsafe` has seen to it
    return {
        **image_facts(image.content, image.name, limits),
        "content": image.content,
        "caption": caption,
        "url": facts.pop("url", None),
        "extra": facts,
    }


def _refuse_unsafe(group: _Group, limits: Limits) -> None:
    for member in group.members:
        parts = member.name.replace("\\", "/").split("/")
        if member.name.startswith(("/", "\\")) or ".." in parts or "\0" in member.name:
            raise EntryRefused("unsafe_member_name", "climbs out of the archive")
        if not member.is_file:
            raise EntryRefused("unsafe_member_type", f"{member.kind or 'member'} is no file")
        if member.content is None:
            raise EntryRefused(
                "member_too_large",
                f"{member.size_bytes} bytes, limit {limits.max_member_bytes}; "
                "raise ingest.max_member_bytes to take it",
            )


def _kinds(group: _Group) -> str:
    return printable(", ".join(sorted(member.kind or "(none)" for member in group.members)))


def _facts(group: _Group) -> dict[str, str]:
    """The side-car's facts as texts; one that cannot be read is said so, the item stays."""
    sidecar = group.first("json")
    if sidecar is None:
        return {}
    try:
        parsed = json.loads(sidecar.content or b"")
    except (ValueError, RecursionError) as error:
        return {"json_error": type(error).__name__}
    if not isinstance(parsed, dict):
        return {"json_error": "no object"}
    return {
        printable(str(name)): printable(value if isinstance(value, str) else json.dumps(value))
        for name, value in parsed.items()
        if value is not None and name not in PRIVATE_FACTS
    }


def _caption(group: _Group, facts: dict[str, str]) -> str:
    text = group.first("txt")
    if text is None:
        caption = facts.pop("caption", None)
        if caption is None:
            raise EntryRefused("missing_caption", f"members: {_kinds(group)}")
        return caption
    facts.pop("caption", None)
    try:
        return (text.content or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise EntryRefused("caption_not_utf8", f"{error.reason} at byte {error.start}") from None
