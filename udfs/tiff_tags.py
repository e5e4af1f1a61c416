"""TIFF directories, which EXIF is made of: private tags are taken out in place.

An entry that goes is closed over by those behind it, and its value is overwritten with zeros:
the block keeps its length and stays valid TIFF, and every other offset stays right.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, Literal

from udfs import xmp

_GPS: Final = 0x8825
PRIVATE_TAGS: Final = frozenset(
    {
        _GPS,  # GPSInfo, a directory of its own: EXIF 2.32 §4.6.3
        0x927C,  # MakerNote, holds serials: EXIF 2.32 §4.6.5, as all up to 0xA435
        0xA420,  # ImageUniqueID
        0xA430,  # CameraOwnerName
        0xA431,  # BodySerialNumber
        0xA435,  # LensSerialNumber
        0xC62F,  # CameraSerialNumber: DNG 1.6
        0xC634,  # DNGPrivateData, a MakerNote: the same
        0xC65D,  # RawDataUniqueID: the same
        0xFDE8,  # OwnerName, as Adobe Camera Raw writes it
        0xFDE9,  # SerialNumber: the same
    }
)
_DIRECTORIES: Final = frozenset({0x014A, 0x8769, 0xA005})  # SubIFDs, Exif, Interoperability
_XMP: Final = 0x02BC  # XMP Part 3 §3.2
_SIZES: Final = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1))  # TIFF 6.0 §2
_SIZES.update({16: 8, 17: 8, 18: 8})  # BigTIFF
_MAX_ENTRIES: Final = 1 << 16  # chosen: thousands of pages; a loop ends far earlier
_MAX_POINTERS: Final = 1 << 10  # chosen: the most directories that one entry may lead to


Span = tuple[int, int]  # start and end


@dataclass(frozen=True)
class _Layout:
    """How a block writes its directories."""

    byteorder: Literal["little", "big"]
    count: Struct
    entry: Struct  # tag, type, count, value or its offset
    offset_bytes: int
    first: int  # where the offset of the first directory stands

    def number(self, digits: bytes) -> int:
        return int.from_bytes(digits, self.byteorder)


@dataclass(frozen=True)
class _Entry:
    tag: int
    type_bytes: int  # 0: a type that nobody knows
    value: Span
    raw: bytes


@dataclass(frozen=True)
class _Directory:
    start: int
    end: int  # of its entries
    is_private: bool
    entries: tuple[_Entry, ...]
    link: bytes  # what stands behind them: the offset of the next directory


def without_private_tags(block: bytes) -> bytes:
    """The block, as long as before, without `PRIVATE_TAGS`; the same object if it has none.

    A packet of XMP among the tags is emptied if it is private.

    Args:
        block: TIFF or BigTIFF from its first byte, cut or damaged as it may be. What is no TIFF
            has no tags.
    """
    layout = _layout(block)
    if layout is None:
        return block
    zeros: list[Span] = []
    packets: list[Span] = []
    rewritten: list[tuple[int, bytes]] = []
    for directory in _directories(block, layout):
        kept = []
        for entry in directory.entries:
            if directory.is_private or entry.tag in PRIVATE_TAGS:
                zeros.append(entry.value)
            else:
                kept.append(entry.raw)
                packets += [entry.value] if entry.tag == _XMP else []
        if len(kept) < len(directory.entries):
            link = b"" if directory.is_private else directory.link
            written = layout.count.pack(len(kept)) + b"".join(kept) + link
            size = directory.end - directory.start
            rewritten.append((directory.start, written.ljust(size, b"\0")))
    edits = [(start, bytes(end - start)) for start, end in _merged(zeros)]
    edits += [
        (start, xmp.empty(end - start))
        for start, end in _merged(packets)
        if xmp.is_private(block[start:end])
    ]
    return replaced(block, edits + rewritten)


def replaced(content: bytes, edits: Sequence[tuple[int, bytes]]) -> bytes:
    """The content with pieces of it written over; the same object if there are none.

    >>> replaced(b"abcdef", [(1, b"--"), (4, b"-")])
    b'a--d-f'
    """
    if not edits:
        return content
    edited = bytearray(content)
    for start, piece in edits:
        edited[start : start + len(piece)] = piece
    return bytes(edited)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Spans that do not overlap: hostile ones would otherwise cost their sum."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _layout(block: bytes) -> _Layout | None:
    if block[:2] not in (b"II", b"MM"):
        return None
    byteorder: Literal["little", "big"] = "little" if block[:2] == b"II" else "big"
    order = "<" if byteorder == "little" else ">"
    match block[2:4].strip(b"\0"):  # in either order: readers take both
        case b"*":  # TIFF 6.0 §2
            return _Layout(byteorder, Struct(f"{order}H"), Struct(f"{order}HHI4s"), 4, 4)
        case b"+":  # BigTIFF
            return _Layout(byteorder, Struct(f"{order}Q"), Struct(f"{order}HHQ8s"), 8, 8)
    return None


def _directories(block: bytes, layout: _Layout) -> Iterator[_Directory]:
    """Every directory that can be reached, each once."""
    first = block[layout.first : layout.first + layout.offset_bytes]
    waiting = [(layout.number(first), False)]
    seen = {0}  # the end of a chain
    left = _MAX_ENTRIES
    while waiting:
        start, is_private = waiting.pop()
        begin = start + layout.count.size
        if start in seen or begin > len(block):
            continue
        seen.add(start)
        (declared,) = layout.count.unpack_from(block, start)
        count = min(declared, (len(block) - begin) // layout.entry.size)
        left -= count + 1
        if left < 0:
            return
        end = begin + count * layout.entry.size
        places = range(begin, end, layout.entry.size)
        entries = tuple(_entry(block, layout, place) for place in places)
        for entry in entries:
            if entry.tag == _GPS or entry.tag in _DIRECTORIES:
                pointers = _pointers(block, layout, entry, min(left, _MAX_POINTERS))
                left -= len(pointers)
                waiting += [(pointer, is_private or entry.tag == _GPS) for pointer in pointers]
        link = block[end : end + layout.offset_bytes]
        if not is_private:  # GPS has none: what stands there may be anything
            waiting.append((layout.number(link), False))
        yield _Directory(start, end, is_private, entries, link)


def _entry(block: bytes, layout: _Layout, place: int) -> _Entry:
    tag, kind, count, inline = layout.entry.unpack_from(block, place)
    end = place + layout.entry.size
    type_bytes = _SIZES.get(kind, 0)
    start = end - len(inline)
    if type_bytes * count > len(inline):
        start = min(layout.number(inline), len(block))
    value = (start, min(start + type_bytes * count, len(block)))
    return _Entry(tag, type_bytes, value, block[place:end])


def _pointers(block: bytes, layout: _Layout, entry: _Entry, limit: int) -> list[int]:
    start, end = entry.value
    size = max(1, entry.type_bytes)
    places = range(start, end, size)[:limit]
    return [layout.number(block[place : place + size]) for place in places]
