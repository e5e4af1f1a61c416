"""The elements of the arrays in a large JSON document, one at a time and none of them trusted.

Where an element ends is found by its brackets and quotes alone, so that one that is broken
inside, nested without end or too long costs itself only, and memory holds one element.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.facts import parsed
from jobs.sources.lines import CHUNK_BYTES

# A whole string, or one character of structure (RFC 8259 §2, §7); a lone quote is a string
# that goes on past what is held.
_OPEN_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_TOKEN: Final = re.compile(_OPEN_STRING + rb'"|["\[\]{},:]', re.DOTALL)
# Inside of brackets only these count; a run of them is one step.
_NESTED: Final = re.compile(_OPEN_STRING + rb'"|"|[\[{]++|[\]}]++', re.DOTALL)
_CUT_STRING: Final = re.compile(_OPEN_STRING, re.DOTALL)
_SPACE: Final = b" \t\n\r"  # RFC 8259 §2
_NO_SPACE: Final = re.compile(rb"[^ \t\n\r]")
BOM: Final = b"\xef\xbb\xbf"  # RFC 8259 §8.1: a reader may pass over it


def elements(stream: BinaryIO, limits: Limits) -> Iterator[tuple[str | None, bytes | EntryRefused]]:
    """The elements of the array that a document is, or of the arrays that its object holds.

    What else the object holds is passed over.

    Args:
        stream: the plain bytes.
        limits: what one element may cost.

    Yields:
        The name of the array in the object, null where the document is the array itself; and
        the element's bytes, not yet parsed, or why they are not there.

    Raises:
        EntryRefused: the document is neither, or ends early; what came before was given.

    >>> import io
    >>> limits = Limits(
    ...     max_member_bytes=9, max_pixels=1, max_decompression_ratio=1, max_decompressed_bytes=99
    ... )
    >>> list(elements(io.BytesIO(b'{"info": {}, "images": [{"id": 1}, 2]}'), limits))
    [('images', b'{"id": 1}'), ('images', b'2')]
    """
    text = _Text(stream, limits)
    first = text.take()
    if first == b"[":
        yield from _array(text, None)
    elif first == b"{":
        yield from _object(text)
    else:
        raise EntryRefused("unreadable_shard", "no JSON array or object")
    if text.peek():
        raise EntryRefused("truncated_shard", "more follows the end of the document")


def _object(text: "_Text") -> Iterator[tuple[str | None, bytes | EntryRefused]]:
    if text.peek() == b"}":
        text.take()
        return
    mark = b","
    while mark == b",":
        name, mark = text.value(b":,}]")
        if mark != b":":
            raise EntryRefused("truncated_shard", "a name without a value")
        if text.peek() == b"[":
            text.take()
            yield from _array(text, _plain(name))
            rest, mark = text.value(b",}]")
            if rest:
                raise EntryRefused("truncated_shard", "something stands behind an array")
        else:
            _, mark = text.value(b",}]")
    if mark != b"}":
        raise EntryRefused("truncated_shard", "brackets do not match")


def _array(text: "_Text", name: str | None) -> Iterator[tuple[str | None, bytes | EntryRefused]]:
    if text.peek() == b"]":
        text.take()
        return
    mark = b","
    while mark == b",":
        value, mark = text.value(b",]}")
        if mark == b"}":
            raise EntryRefused("truncated_shard", "brackets do not match")
        yield name, value


def _plain(name: bytes | EntryRefused) -> str:
    """The name that stands there; one that is none gives a name that nobody asks for."""
    try:
        return str(parsed(name)) if isinstance(name, bytes) else ""
    except EntryRefused:
        return ""


class _Text:
    """What a stream holds from here on; as little as is needed of it."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._held = b""
        self._at = 0
        while len(self._held) < len(BOM) and self._fill():
            pass
        if self._held.startswith(BOM):
            self._at = len(BOM)

    def peek(self) -> bytes:
        """The next byte that is no space; none at the end."""
        while (found := _NO_SPACE.search(self._held, self._at)) is None:
            self._at = len(self._held)
            if not self._fill():
                return b""
        self._at = found.start()
        return found[0]

    def take(self) -> bytes:
        """The same, passing it."""
        found = self.peek()
        self._at += len(found)
        return found

    def value(self, ends: bytes) -> tuple[bytes | EntryRefused, bytes]:
        """All up to the first of these marks outside of brackets, trimmed; and that mark."""
        depth = 0
        dropped_bytes = 0
        seen = self._at
        while True:
            found = (_NESTED if depth else _TOKEN).search(self._held, seen)
            if found is None or found[0] == b'"':
                until = len(self._held) if found is None else found.start()
                if dropped_bytes or len(self._held) - self._at > self._limits.max_member_bytes:
                    dropped_bytes += self._drop(until)
                    until = self._at
                seen = until - self._at
                if not self._fill():
                    raise EntryRefused("truncated_shard", "the document ends inside of a value")
                continue
            seen = found.end()
            mark = found[0]
            if not depth and mark in ends:
                value = self._held[self._at : found.start()].strip(_SPACE)
                self._at = seen
                return self._bounded(value, dropped_bytes), mark
            if mark[0] in b"[{":
                depth += len(mark)
            elif mark[0] in b"]}":
                closed = min(depth, len(mark))
                depth -= closed
                seen = found.start() + closed

    def _drop(self, until: int) -> int:
        """Pass over all that is held; of a string that goes on, its quote stays; bytes dropped."""
        cut = _CUT_STRING.match(self._held, until)
        if cut is None:
            dropped_bytes = until - self._at
            self._at = until
            return dropped_bytes
        # What stands behind the match is a backslash whose character is still to come.
        dropped_bytes = cut.end() - self._at - 1
        self._held, self._at = b'"' + self._held[cut.end() :], 0
        return dropped_bytes

    def _bounded(self, value: bytes, dropped_bytes: int) -> bytes | EntryRefused:
        size_bytes = dropped_bytes + len(value)
        if not dropped_bytes and size_bytes <= self._limits.max_member_bytes:
            return value
        return EntryRefused(
            "member_too_large",
            f"a record of {size_bytes} bytes, limit {self._limits.max_member_bytes}; "
            "raise ingest.max_member_bytes to take it",
        )

    def _fill(self) -> bool:
        """Hold what is not passed yet and more; whether there was more."""
        rest = self._held[self._at :]
        # As much again as is held: a long string is looked through a few times, not often.
        more = self._stream.read(max(CHUNK_BYTES, len(rest)))
        self._held, self._at = rest + more, 0
        return bool(more)
