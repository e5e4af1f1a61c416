"""The lines of a stream, of bounded length, however long one of them claims to be."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO, Final

from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.texts import said

CHUNK_BYTES: Final = 1 << 16  # chosen: what is read at a time


class Lines:
    """The lines of a stream, from its start; a byte order mark of UTF-8 is passed over.

    What was read since the last `mark` is held in memory, so that `back_to` can return to it.

    Attributes:
        damage: why the stream ended before its end, if it did; known once it is met. What stands
            behind the last line break before the damage is no line.
        position: bytes from the start to the next line.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.damage: EntryRefused | None = None
        self.position = 0
        self._stream = stream
        self._held = bytearray()
        self._held_from = 0  # position of the first byte that is held
        self._is_drained = False
        self._fill()
        if self._held.startswith(codecs.BOM_UTF8):
            self.position = len(codecs.BOM_UTF8)

    def mark(self) -> None:
        """Hold what comes from here on; what came before is let go."""
        passed = self.position - self._held_from
        if passed >= CHUNK_BYTES:
            del self._held[:passed]
            self._held_from = self.position

    def back_to(self, position: int) -> None:
        """Go on at a position that was met since the mark."""
        self.position = position

    def at_end(self) -> bool:
        """Whether there is no further line."""
        return self._end_of_line(1) is None and self._rest() == 0

    def read(self, max_bytes: int) -> bytes | None:
        """The next line with its line break; null where it is longer, or there is none."""
        end = self._end_of_line(max_bytes)
        if end is None:
            return None
        start = self.position - self._held_from
        self.position += end - start
        return bytes(memoryview(self._held)[start:end])

    def skip(self) -> int | None:
        """Pass over the next line without holding it.

        Returns:
            How many bytes it had; null where it was no line, but cut by damage.
        """
        start = self.position
        while (found := self._held.find(b"\n", self.position - self._held_from)) < 0:
            self.position = self._held_from + len(self._held)
            self.mark()
            if not self._fill():
                return self.position - start if self.damage is None else None
        self.position = self._held_from + found + 1
        return self.position - start

    def _rest(self) -> int:
        """Bytes of the last, unfinished line; none where damage cut it."""
        held = len(self._held) - (self.position - self._held_from)
        return 0 if self._is_drained and self.damage is not None else held

    def _end_of_line(self, max_bytes: int) -> int | None:
        """Where the next line ends in what is held; null if not within so many bytes."""
        start = self.position - self._held_from
        searched = start
        while (found := self._held.find(b"\n", searched, start + max_bytes)) < 0:
            if len(self._held) - start > max_bytes:
                return None
            searched = len(self._held)
            if not self._fill():
                return len(self._held) if self._rest() else None
        return found + 1

    def _fill(self) -> bool:
        if self._is_drained:
            return False
        try:
            piece = self._stream.read(CHUNK_BYTES)
        except EntryRefused as refusal:
            self.damage, piece = refusal, b""
        except Exception as error:  # a filesystem raises whatever it likes
            self.damage, piece = EntryRefused("truncated_shard", said(error)), b""
        self._held += piece
        self._is_drained = not piece
        return bool(piece)


def lines(stream: BinaryIO, limits: Limits) -> Iterator[tuple[int, bytes | EntryRefused]]:
    r"""Every line with its number from 0 and its end; of one over the limit, why it is not there.

    Held in memory: one line of at most `max_member_bytes`, and a chunk.

    Args:
        stream: the plain bytes.
        limits: what one line may cost.

    Raises:
        EntryRefused: by the stream; what it had given of a line then is lost.

    >>> import io
    >>> limits = Limits(
    ...     max_member_bytes=4, max_pixels=1, max_decompression_ratio=1, max_decompressed_bytes=9
    ... )
    >>> list(lines(io.BytesIO(b"a\n\nbc"), limits))
    [(0, b'a\n'), (1, b'\n'), (2, b'bc')]
    """
    met = Lines(stream)
    number = 0
    while not met.at_end():
        met.mark()
        line = met.read(limits.max_member_bytes)
        if line is not None:
            yield number, line
        else:
            skipped_bytes = met.skip()
            if skipped_bytes is None:
                break
            yield number, _too_long(skipped_bytes, limits)
        number += 1
    if met.damage is not None:
        raise met.damage


def _too_long(size_bytes: int, limits: Limits) -> EntryRefused:
    return EntryRefused(
        "member_too_large",
        f"a line of {size_bytes} bytes, limit {limits.max_member_bytes}; "
        "raise ingest.max_member_bytes to take it",
    )
