"""A stored HTTP response (RFC 9112): its status, its headers and the body that it carries."""

import io
import re
import zlib
from dataclasses import dataclass
from typing import Final

from fastwarc.stream_io import BrotliReader
from fastwarc.warc import HeaderMap

from jobs.sources.compression import RATIO_FLOOR_BYTES
from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.texts import said

_STATUS: Final = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?=[ \t\r\n])")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_HEAD_BYTES: Final = 64 * 1024  # chosen: servers accept 8 to 32 KiB of headers, and send less
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.IGNORECASE)
_PLAIN_CODINGS: Final = frozenset({"", "identity", "none"})
_CODINGS: Final = 3  # chosen: more on top of each other is no server's work
_GZIP_MEMBERS: Final = 100  # chosen: a body is one member
# How a body starts that the crawler has stored decoded, under headers that it left as they were:
# markup, or the signatures of JPEG, PNG, GIF and WebP.
_PLAIN_STARTS: Final = (b"<", b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")


@dataclass(frozen=True)
class Head:
    """What stands before the body.

    Attributes:
        status: the code.
        headers: names without regard to case.
        size_bytes: where the body starts.
    """

    status: int
    headers: HeaderMap
    size_bytes: int

    @property
    def mime(self) -> str:
        """The declared type without parameters, in lower case; empty if there is none."""
        return (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """The declared charset."""
        match = _CHARSET.search(self.headers.get("Content-Type") or "")
        return match[1] if match else None


def head(block: bytes) -> Head:
    r"""The head of a response.

    Args:
        block: the response, or enough of its start.

    Raises:
        EntryRefused: it is none.

    >>> head(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=x\r\n\r\nbody").charset
    'x'
    """
    status = _STATUS.match(block)
    end = _HEAD_END.search(block, 0, _HEAD_BYTES)
    if status is None or end is None:
        what = "no status line" if status is None else "headers that do not end"
        raise EntryRefused("damaged_record", f"an HTTP response with {what}")
    headers = HeaderMap()
    try:
        headers.parse(io.BytesIO(block[: end.end()]), has_status_line=True)
    except OSError as error:  # a line longer than FastWARC reads
        detail = f"an HTTP response whose headers cannot be read: {said(error)}"
        raise EntryRefused("damaged_record", detail) from None
    return Head(status=int(status[1]), headers=headers, size_bytes=end.end())


def body(stored: bytes, headers: HeaderMap, limits: Limits) -> bytes:
    """The body as the server meant it: chunks joined, content codings undone.

    Returns:
        `stored` itself where nothing had to be undone; some crawlers have done so before.

    Raises:
        EntryRefused: an encoding is broken or unknown, or gives more than the limits allow.
    """
    plain = stored
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower() and not _is_plain(plain):
        plain = _joined(plain)
    names = (headers.get("Content-Encoding") or "").lower().split(",")
    codings = [name.strip() for name in names if name.strip() not in _PLAIN_CODINGS]
    if len(codings) > _CODINGS:
        raise EntryRefused("damaged_record", f"{len(codings)} content codings")
    for coding in reversed(codings):
        if plain and not _is_plain(plain):
            plain = _decoded(plain, coding, limits)
    return plain


def _is_plain(content: bytes) -> bool:
    return content[:64].lstrip().startswith(_PLAIN_STARTS)


def _joined(stored: bytes) -> bytes:
    """The chunks' contents: RFC 9112 §7.1."""
    pieces: list[bytes] = []
    position = 0
    while position < len(stored):
        size = _CHUNK_SIZE.match(stored, position)
        if size is None:
            raise EntryRefused("damaged_record", f"no size of a chunk at byte {position}")
        length, start = int(size[1], 16), size.end()
        if length == 0:
            return b"".join(pieces)
        position = start + length
        pieces.append(stored[start:position])
        position += len(b"\r\n") if stored[position : position + 1] == b"\r" else len(b"\n")
    if not stored:
        return b""
    raise EntryRefused("damaged_record", "the chunks end early")


def _decoded(content: bytes, coding: str, limits: Limits) -> bytes:
    """One content coding undone: RFC 9110 §8.4.1, and br of RFC 7932."""
    allowed = min(
        limits.max_member_bytes,
        max(RATIO_FLOOR_BYTES, limits.max_decompression_ratio * len(content)),
    )
    try:
        if coding in ("gzip", "x-gzip"):
            plain = _inflated(content, 31, allowed)
        elif coding == "deflate":
            # "deflate" is zlib's format (RFC 9110 §8.4.1.2), but some servers send it bare.
            has_header = content[0] & 0x0F == 8 and int.from_bytes(content[:2]) % 31 == 0
            plain = _inflated(content, 15 if has_header else -15, allowed)
        elif coding == "br":
            plain = BrotliReader(io.BytesIO(content)).read(allowed + 1)
        else:
            raise EntryRefused("damaged_record", "a content coding other than gzip, deflate, br")
    except (zlib.error, OSError) as error:
        raise EntryRefused("damaged_record", f"content coding {coding}: {said(error)}") from None
    if len(plain) > allowed:
        raise EntryRefused(
            "decompression_bomb",
            f"{len(content)} bytes of {coding} give more than {allowed}; "
            "raise ingest.max_member_bytes or ingest.max_decompression_ratio to take it",
        )
    return plain


def _inflated(content: bytes, window: int, allowed_bytes: int) -> bytes:
    """The plain bytes, or more than allowed; of several gzip members all."""
    plain = bytearray()
    for _ in range(_GZIP_MEMBERS):
        member = zlib.decompressobj(window)
        plain += member.decompress(content, allowed_bytes + 1 - len(plain))
        if len(plain) > allowed_bytes:
            return bytes(plain)
        if not member.eof:
            raise zlib.error("the data ends early")
        content = member.unused_data
        if not content.startswith(b"\x1f\x8b"):  # browsers too pass over what follows
            return bytes(plain)
    raise zlib.error("too many members")
