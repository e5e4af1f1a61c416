"""The records of a WARC archive (ISO 28500:2017), within limits and past damage.

An archive is a sequence of records, plain or each in a gzip member of its own; writers that put
several into one member, or one into several, are read too. FastWARC reads the headers; the frames
are read here, since it takes a cut record for an empty one and stops at the first damaged one.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from fastwarc.warc import HeaderMap

from jobs.sources.compression import RATIO_FLOOR_BYTES, decompressed
from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.texts import printable, said

_MAGIC: Final = b"WARC/"  # ISO 28500 §5.2: how a record starts
_VERSION: Final = re.compile(rb"WARC/\d\.\d\r?\n")
_VERSION_BYTES: Final = 10
# How one is known where it need not stand: it may follow a cut one in the middle of a line.
_START: Final = re.compile(rb"WARC/1\.\d\r?\n(?=WARC-|Content-)", re.IGNORECASE)
_START_BYTES: Final = 20  # of the longest text that is looked at
# What ends the headers, or the next record where they are cut: what is looked at ends there too.
_HEAD_END: Final = re.compile(rb"(?P<end>\r?\n\r?\n)|WARC/\d\.\d\r?\n")
_HEAD_BYTES: Final = 64 * 1024  # chosen: the longest heads seen have a URL of some KiB
_PIECE_BYTES: Final = 64 * 1024  # chosen: what is read at a time, and of a large block
_PIECES_BYTES: Final = 256 * _PIECE_BYTES
_GZIP: Final = b"\x1f\x8b\x08"  # RFC 1952 §2.3.1, method deflate
_GZIP_WINDOW: Final = 31  # zlib: a window of 32 KiB, a gzip header and checksum
_WRONG_CHECKSUM: Final = ("incorrect data check", "incorrect length check")  # as zlib says it
# What one feed gives is lost where it meets damage: chosen, a small part of a page.
_FEED_BYTES: Final = 4096
_TRIAL_BYTES: Final = 4096  # chosen: a gzip header with a file's name, and the first plain bytes
# A wrong length is found where the record should end, and the next one is sought from its start.
# chosen: seconds of reading; past it the search goes on from where the damage was found.
_REREAD_BYTES: Final = 2**30


@dataclass(frozen=True, kw_only=True)
class Record:
    """A whole record.

    Attributes:
        headers: names without regard to case.
        block: what it holds; only its start where it is longer than `max_member_bytes`.
        length_bytes: of the whole block.
        offset_bytes: of the block; null in a compressed archive.
    """

    headers: HeaderMap
    block: bytes
    length_bytes: int
    offset_bytes: int | None

    @property
    def type(self) -> str:
        """The kind of record, in lower case."""
        return (self.headers.get("WARC-Type") or "").strip().lower()

    @property
    def key(self) -> str:
        """The record's id without what all ids share; never empty."""
        return _key(self.headers)

    @property
    def target_uri(self) -> str:
        """The URL it is about; some writers put it in brackets."""
        return printable((self.headers.get("WARC-Target-URI") or "").strip().strip("<>"))


@dataclass(frozen=True, kw_only=True)
class Damage:
    """A record that cannot be read, or what stands where one should start.

    Attributes:
        error_class: one of `schemas.error_classes`.
        detail: what is wrong.
        key: of the record, if its headers can be read.
        offset_bytes: where it starts; null in a compressed archive.
        is_cut: it ends too early.
        is_start: the archive starts with it, and it is nothing like a record.
    """

    error_class: str
    detail: str
    key: str | None = None
    offset_bytes: int | None = None
    is_cut: bool = False
    is_start: bool = False


def _key(headers: HeaderMap) -> str:
    found = (headers.get("WARC-Record-ID") or "").strip().strip("<>")
    return printable(found.removeprefix("urn:uuid:")) or "none"


class _WrongChecksum(EntryRefused):
    """What came before it is not what was written."""


def records(stream: BinaryIO, limits: Limits) -> Iterator[Record | Damage]:
    """Every record of an archive and every damage, in their order.

    Args:
        stream: the archive from its start; can be sought. gzip and zstd are known by their bytes.
        limits: `max_member_bytes` of one block, and how far a compressed archive may grow.

    Yields:
        Records that are whole. After damage the next record is sought; of the bytes between, the
        damage is all that is said. What has no record at all is one damage `unreadable_shard`.
    """
    held: Damage | None = None
    is_empty = True
    for found in _all(stream, limits):
        if isinstance(found, Damage) and found.is_start and is_empty:
            held, is_empty = found, False
            continue
        if held is not None:
            yield held
        held, is_empty = None, False
        yield found
    if held is not None:
        yield replace(held, error_class="unreadable_shard")
    if is_empty:
        yield Damage(error_class="unreadable_shard", detail="an archive without a record")


def _all(stream: BinaryIO, limits: Limits) -> Iterator[Record | Damage]:
    magic = stream.read(len(_GZIP))
    stream.seek(0)
    if magic == _GZIP:
        for number, stretch in enumerate(_Members(stream, limits).stretches()):
            yield from _frames(stretch, limits, is_first=number == 0, is_whole=False)
        return
    plain = decompressed(stream, limits)
    source = _Bytes(plain.read, stream if plain is stream else None)
    yield from _frames(source, limits, is_first=True, is_whole=True)


class _Bytes:
    """Bytes to be taken from the front; what ends them early is remembered, never raised."""

    def __init__(self, read: Callable[[int], bytes], plain: BinaryIO | None = None) -> None:
        self.position = 0
        self.error: EntryRefused | None = None
        self.is_error_said = False
        self.is_plain = plain is not None
        self._read = read
        self._plain = plain
        self._size = 0
        if plain is not None:
            self._size = plain.seek(0, io.SEEK_END)
            plain.seek(0)
        self._buffer = bytearray()
        self._reread_bytes = 0

    def peek(self, size_bytes: int) -> bytes:
        """The next bytes, fewer only at the end."""
        while len(self._buffer) < size_bytes and self.error is None:
            missing_bytes = size_bytes - len(self._buffer)
            try:
                piece = self._read(min(max(missing_bytes, _PIECE_BYTES), _PIECES_BYTES))
            except EntryRefused as refusal:
                self.error = refusal
                break
            except Exception as error:  # a filesystem raises what it likes
                self.error = EntryRefused("truncated_shard", said(error))
                break
            if not piece:
                break
            self._buffer += piece
        return bytes(self._buffer[:size_bytes])

    def take(self, size_bytes: int) -> bytes:
        """The next bytes, which are then past."""
        found = self.peek(size_bytes)
        del self._buffer[: len(found)]
        self.position += len(found)
        return found

    def skip(self, size_bytes: int) -> int:
        """Past so many bytes; how many there were."""
        start = self.position
        if self._plain is not None and size_bytes > len(self._buffer):
            self._go(min(start + size_bytes, self._size))
        while self.position < start + size_bytes:
            if not self.take(min(_PIECE_BYTES, start + size_bytes - self.position)):
                break
        return self.position - start

    def back(self, position: int, taken: bytes) -> None:
        """Back to where `taken` was taken, if that can be had again."""
        self._reread_bytes += self.position - position
        if self._reread_bytes > _REREAD_BYTES:
            return
        if self._plain is not None:
            self._go(position)
        elif len(taken) == self.position - position:
            self._buffer[:0] = taken
            self.position = position

    def find_record(self) -> bool:
        """On to where a record starts; false where none does any more."""
        while True:
            window = self.peek(_PIECE_BYTES)
            match = _START.search(window)
            if match is not None:
                self.take(match.start())
                return True
            if len(window) < _PIECE_BYTES:
                return False
            self.take(_PIECE_BYTES - _START_BYTES)

    def _go(self, position: int) -> None:
        assert self._plain is not None
        self._plain.seek(position)
        self._buffer.clear()
        self.position = position


def _frames(
    source: _Bytes, limits: Limits, *, is_first: bool, is_whole: bool
) -> Iterator[Record | Damage]:
    """The records of a stretch of plain bytes.

    Args:
        source: the bytes.
        limits: what is kept of a record.
        is_first: whether the archive starts here.
        is_whole: whether the archive ends where the bytes do.
    """
    while True:
        while source.peek(1) in (b"\r", b"\n"):
            source.take(1)
        if not source.peek(1):
            break
        found, restart = _frame(source, limits, is_first)
        is_first = False
        has_more = True
        if restart is not None:
            source.back(*restart)
            has_more = source.find_record()
        if isinstance(found, Damage) and found.is_cut and is_whole and not has_more:
            found = replace(found, error_class="truncated_shard")
        yield found
        if not has_more:
            break
    if source.error is not None and not source.is_error_said:
        offset = source.position if source.is_plain else None
        yield Damage(
            error_class=source.error.error_class, detail=source.error.detail, offset_bytes=offset
        )


def _frame(
    source: _Bytes, limits: Limits, is_first: bool
) -> tuple[Record | Damage, tuple[int, bytes] | None]:
    """What stands at the front; of damage, from where the next record is sought."""
    start = source.position
    window = source.peek(_HEAD_BYTES)
    end = _HEAD_END.search(window, 1)
    is_record = _VERSION.match(window) is not None
    if not is_record or end is None or end["end"] is None:
        detail = "a record whose headers do not end" if is_record else "no record starts here"
        is_start = len(window) < _VERSION_BYTES and b"WARC/1.".startswith(window[:7])
        is_cut = len(window) < _HEAD_BYTES and (is_record or is_start)
        damage = _damage(source, start, detail, is_cut=is_cut)
        source.take(1)  # not to be found again
        return replace(damage, is_start=is_first and not is_record), (source.position, b"")
    headers = HeaderMap()
    head = source.take(end.end())
    body = source.position
    try:
        headers.parse(io.BytesIO(head), has_status_line=True)
    except OSError as error:  # a line longer than FastWARC reads
        return _damage(source, start, f"headers that cannot be read: {said(error)}"), (body, b"")
    length = _length(headers)
    if length is None:
        return _damage(source, start, "a record without a length", headers), (body, b"")
    is_kept = length <= limits.max_member_bytes
    block = source.take(length if is_kept else min(length, _HEAD_BYTES))
    present = len(block) if is_kept else len(block) + source.skip(length - len(block))
    if present < length:
        detail = f"{present} of {length} bytes are there"
        return _damage(source, start, detail, headers, is_cut=True), (body, block)
    tail = source.take(4)
    # The checksum of a gzip member stands behind its last byte.
    if not source.peek(1) and isinstance(source.error, _WrongChecksum):
        return _damage(source, start, "a wrong checksum", headers, is_cut=True), None
    if tail.strip(b"\r\n"):  # ISO 28500 §5.2: two line ends after the block
        detail = f"it does not end after the {length} bytes that it declares"
        return _damage(source, start, detail, headers), (body, block + tail)
    offset = body if source.is_plain else None
    return Record(headers=headers, block=block, length_bytes=length, offset_bytes=offset), None


def _length(headers: HeaderMap) -> int | None:
    declared = (headers.get("Content-Length") or "").strip()
    # A number of more digits is no size, and Python would refuse to read it.
    return int(declared) if re.fullmatch(r"[0-9]{1,18}", declared) else None


def _damage(
    source: _Bytes,
    start: int,
    detail: str,
    headers: HeaderMap | None = None,
    *,
    is_cut: bool = False,
) -> Damage:
    """The damage of the record that starts there; what ended the bytes explains a cut."""
    error = source.error if is_cut else None
    source.is_error_said |= error is not None
    return Damage(
        error_class=error.error_class if error else "damaged_record",
        detail=f"{detail}: {error.detail}" if error else detail,
        key=_key(headers) if headers is not None else None,
        offset_bytes=start if source.is_plain else None,
        is_cut=is_cut and error is None,
    )


class _Members:
    """The plain bytes of gzip members, in stretches that each start a record."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._given_bytes = 0  # of the stream
        self._plain_bytes = 0  # of the archive
        self._input = b""
        self._pending = b""  # of what follows the member's start
        self._open()

    def stretches(self) -> Iterator[_Bytes]:
        """Each is to be read to its end before the next is asked for."""
        is_there = True
        while is_there:
            self._is_next = self._is_damaged = self._is_over = False
            yield _Bytes(self._read)
            is_there = self._is_next or (self._is_damaged and self._find())

    def _read(self, size_bytes: int) -> bytes:
        while not (self._is_next or self._is_damaged or self._is_over):
            if self._pending:
                found, self._pending = self._pending[:size_bytes], self._pending[size_bytes:]
                return found
            if self._member.eof:
                self._advance()
                continue
            found = self._inflate(size_bytes)
            if found:
                return found
        return b""

    def _advance(self) -> None:
        """Past the end of a member: on in the same stretch unless the next starts a record."""
        self._fill(len(_GZIP))
        if self._input[:1] == b"\0":  # padding, as tapes leave it
            while self._input and not self._input.strip(b"\0"):
                self._input = b""
                self._fill(len(_GZIP))
            self._input = self._input.lstrip(b"\0")
            self._fill(len(_GZIP))
        if not self._input:
            self._is_over = True
            return
        self._open()
        if len(self._input) < len(_GZIP) and _GZIP.startswith(self._input):
            self._is_over = True
            raise EntryRefused("truncated_shard", "the archive ends within a gzip member")
        if not self._input.startswith(_GZIP):
            raise self._refused("damaged_record", f"no gzip member at byte {self._start}")
        while len(self._pending) < len(_MAGIC) and not self._member.eof:
            self._pending += self._inflate(len(_MAGIC) - len(self._pending))
        if self._pending == _MAGIC:
            self._is_next = True

    def _open(self) -> None:
        self._start = self._given_bytes - len(self._input)
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._member_bytes = 0

    def _inflate(self, size_bytes: int) -> bytes:
        self._fill(1)
        is_end = not self._input
        try:
            found = self._member.decompress(self._input, size_bytes)
        except zlib.error as error:
            refused = self._refused("damaged_record", said(error))
            if str(error).endswith(_WRONG_CHECKSUM):
                raise _WrongChecksum(refused.error_class, refused.detail) from None
            raise refused from None
        self._input = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        if is_end and not found and not self._member.eof:
            self._is_over = True
            raise EntryRefused("truncated_shard", "the archive ends within a gzip member")
        self._count(len(found))
        return found

    def _count(self, size_bytes: int) -> None:
        limits = self._limits
        self._plain_bytes += size_bytes
        self._member_bytes += size_bytes
        if self._plain_bytes > limits.max_decompressed_bytes:
            self._is_over = True
            raise EntryRefused(
                "decompression_bomb",
                f"more than {limits.max_decompressed_bytes} bytes once decompressed; "
                "raise ingest.max_decompressed_bytes to take it",
            )
        fed_bytes = self._given_bytes - len(self._input) - self._start
        if self._member_bytes > max(RATIO_FLOOR_BYTES, limits.max_decompression_ratio * fed_bytes):
            raise self._refused(
                "decompression_bomb",
                f"{fed_bytes} bytes gave {self._member_bytes}, "
                f"limit {limits.max_decompression_ratio} to 1; "
                "raise ingest.max_decompression_ratio to take it",
            )

    def _refused(self, error_class: str, detail: str) -> EntryRefused:
        self._is_damaged = True
        return EntryRefused(error_class, detail)

    def _find(self) -> bool:
        """On to the next member that starts a record, behind the start of the damaged one."""
        self._given_bytes, self._input = self._start + 1, b""
        self._stream.seek(self._given_bytes)
        while True:
            self._fill(_PIECE_BYTES)
            is_end = len(self._input) < _PIECE_BYTES
            last = len(self._input) - (0 if is_end else _TRIAL_BYTES)
            at = self._input.find(_GZIP)
            while 0 <= at <= last:
                if _starts_record(self._input[at : at + _TRIAL_BYTES]):
                    self._input, self._pending = self._input[at:], b""
                    self._open()
                    return True
                at = self._input.find(_GZIP, at + 1)
            if is_end:
                return False
            self._input = self._input[last:]

    def _fill(self, size_bytes: int) -> None:
        """So many bytes of input, if there are so many."""
        while len(self._input) < size_bytes:
            piece = self._stream.read(_FEED_BYTES)
            if not piece:
                break
            self._given_bytes += len(piece)
            self._input += piece


def _starts_record(member: bytes) -> bool:
    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(member, len(_MAGIC)) == _MAGIC
    except zlib.error:
        return False
