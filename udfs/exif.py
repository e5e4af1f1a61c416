"""What a camera says of place and owner is taken out of an image's bytes, and nothing else.

EXIF's positions, serial numbers and names of owners, and XMP packets that repeat them, are
overwritten where they stand. Length, pixels and orientation stay.
"""

import io
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Final

from udfs import xmp
from udfs.tiff_tags import replaced, without_private_tags

_EXIF: Final = b"Exif\0\0"  # EXIF 2.32 §4.7.2
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"  # XMP Part 3 §1.1.3
_MORE_XMP: Final = b"http://ns.adobe.com/xmp/extension/\0"  # XMP Part 3 §1.1.3.1
_MORE_XMP_HEADER_BYTES: Final = 32 + 4 + 4  # digest, length and offset: the same
_BEGINNINGS: Final = (_EXIF, b"II*\0", b"II\0*", b"MM\0*", b"MM*\0")  # of a block of EXIF
_APP1: Final = b"\xff\xe1"
# Segments or chunks that are looked into. Chosen: cameras write a few, hostile files millions.
_MAX_LOOKED_INTO: Final = 1 << 12
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_KINDS: Final = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")  # PNG §11.3.2, §11.3.3
_PROFILES: Final = frozenset(  # ImageMagick's: blocks of JPEG in hexadecimal digits
    {b"Raw profile type exif", b"Raw profile type APP1", b"Raw profile type xmp"}
)
_XMP_KEYWORD: Final = b"XML:com.adobe.xmp"  # XMP Part 3 §1.1.5
_MAX_TEXT_BYTES: Final = 1 << 20  # chosen: sixteen times what a JPEG's segment holds
_WORD: Final = re.compile(rb"\S+")

Edits = list[tuple[int, bytes]]


def scrub(content: bytes) -> bytes:
    """The image without what is private in its EXIF and XMP.

    Taken out: the GPS directory and `udfs.tiff_tags.PRIVATE_TAGS`; a packet of XMP as a whole if
    it names the like. Covered: JPEG, with the further pictures of an MPO; PNG; WebP; TIFF. IPTC
    stays, and so does what lies in embedded thumbnails.

    Args:
        content: bytes of an image, or any other.

    Returns:
        As many bytes; the same object if there is nothing to take out.
    """
    if content.startswith(b"\xff\xd8"):
        return replaced(content, _jpeg(content))
    if content.startswith(_PNG):
        return replaced(content, _png(content))
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return replaced(content, _webp(content))
    return without_private_tags(content)


def _jpeg(content: bytes) -> Edits:
    edits: Edits = []
    if _APP1 not in content:  # as of most: one search in place of three
        return edits
    # One EXIF may go over several segments (CIPA DC-008); a further picture begins its own.
    blocks: list[list[tuple[int, int]]] = []
    for start, end in _segments(content, _EXIF):
        if not blocks or content.startswith(_BEGINNINGS, start):
            blocks.append([])
        blocks[-1].append((start, end))
    for spans in blocks:
        block = b"".join(content[start:end] for start, end in spans)
        scrubbed = _block(block)
        for start, end in spans if scrubbed is not block else ():
            piece, scrubbed = scrubbed[: end - start], scrubbed[end - start :]
            edits.append((start, piece))
    packets = [*_segments(content, _XMP), *_segments(content, _MORE_XMP, _MORE_XMP_HEADER_BYTES)]
    if xmp.is_private(b"".join(content[start:end] for start, end in packets)):
        edits += [(start, xmp.empty(end - start)) for start, end in packets]
    return edits


def _segments(content: bytes, name: bytes, skip: int = 0) -> Iterator[tuple[int, int]]:
    """Where the APP1 segments of a name begin, behind it and what is skipped, and end.

    They are searched for rather than walked to: it is faster, and finds those of further
    pictures too. Compressed pixels hold no marker (ITU-T T.81 §B.1.1.2).
    """
    at = content.find(name)
    for _ in range(_MAX_LOOKED_INTO):
        if at < 0:
            return
        start = at + len(name) + skip
        end = min(at - 2 + int.from_bytes(content[at - 2 : at], "big"), len(content))
        if content[max(at - 4, 0) : at - 2] == _APP1 and start < end:
            yield start, end
        at = content.find(name, at + 1)


def _png(content: bytes) -> Edits:
    edits: Edits = []
    for kind, start, end in islice(_png_chunks(content), _MAX_LOOKED_INTO):
        data = content[start:end]
        scrubbed = _block(data) if kind == b"eXIf" else _text_chunk(kind, data)
        if scrubbed != data:
            checksum = zlib.crc32(kind + scrubbed).to_bytes(4, "big")
            edits.append((start, scrubbed + checksum))
    return edits


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the data of every whole chunk that may hold EXIF or XMP."""
    start = len(_PNG)
    while start + 12 <= len(content):  # length, type and checksum: PNG §5.3
        kind = content[start + 4 : start + 8]
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        if kind == b"IEND" or end + 4 > len(content):
            return
        if kind in _PNG_KINDS:
            yield kind, start + 8, end
        start = end + 4


def _webp(content: bytes) -> Edits:
    edits: Edits = []
    for kind, start, end in islice(_webp_chunks(content), _MAX_LOOKED_INTO):
        data = content[start:end]
        scrubbed = _block(data) if kind == b"EXIF" else _packet(data)
        if scrubbed is not data:
            edits.append((start, scrubbed))
    return edits


def _webp_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    start = 12  # behind the header of RIFF: RFC 9649 §2.4
    while start + 8 <= len(content):
        kind = content[start : start + 4]
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        if kind in (b"EXIF", b"XMP "):
            yield kind, start + 8, min(start + 8 + size, len(content))
        start += 8 + size + size % 2


def _block(block: bytes) -> bytes:
    """EXIF, with the name of its segment or without."""
    start = 0
    while block.startswith(_EXIF, start):
        start += len(_EXIF)
    tags = block[start:]
    scrubbed = without_private_tags(tags)
    return block if scrubbed is tags else block[:start] + scrubbed


def _packet(packet: bytes) -> bytes:
    return xmp.empty(len(packet)) if xmp.is_private(packet) else packet


def _text_chunk(kind: bytes, data: bytes) -> bytes:
    keyword = data.partition(b"\0")[0]
    start = len(keyword) + 1
    is_compressed = kind == b"zTXt"
    if kind == b"zTXt":
        start += 1
    elif kind == b"iTXt":
        is_compressed = data[start : start + 1] == b"\1"
        texts = data[start + 2 :].split(b"\0", 2)  # language, translated keyword, text
        start = len(data) - len(texts[2]) if len(texts) == 3 else len(data)
    stored = data[start:]
    text = _inflated(stored) if is_compressed else stored
    scrubbed = _text(keyword, text)
    if scrubbed is text:
        return data
    if is_compressed:
        # Zeros compress well; what does not fit all the same is given up.
        scrubbed = zlib.compress(scrubbed, 9)
        scrubbed = scrubbed if len(scrubbed) <= len(stored) else zlib.compress(b"")
    return data[:start] + scrubbed.ljust(len(stored), b"\0")[: len(stored)]


def _inflated(stored: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(stored, _MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _text(keyword: bytes, text: bytes) -> bytes:
    if keyword in _PROFILES:
        return _profile(text)
    if keyword == _XMP_KEYWORD:
        return _packet(text)
    # ImageMagick writes single properties so: exif:GPSLatitude.
    if xmp.is_private(b":" + keyword) and text.strip():
        return b" " * len(text)
    return text


def _profile(text: bytes) -> bytes:
    """A block in hexadecimal digits, behind an empty line, its name and its length."""
    lines = text.split(b"\n", 3)
    try:
        block = bytes.fromhex(b"".join(lines[3].split()).decode("ascii"))
    except (IndexError, ValueError):
        return text
    if block.startswith(_XMP):
        scrubbed = _XMP + _packet(block[len(_XMP) :])
    elif block.startswith(_BEGINNINGS):
        scrubbed = _block(block)
    else:
        scrubbed = _packet(block)
    if scrubbed == block:
        return text
    digits = io.BytesIO(scrubbed.hex().encode())
    lines[3] = _WORD.sub(lambda word: digits.read(len(word[0])), lines[3])
    return b"\n".join(lines)
