"""Bytes of a larger file that are hashed while somebody else reads them, in whatever order."""

import hashlib
import io
from typing import BinaryIO, Final

_PIECE_BYTES: Final = 1 << 20  # chosen: what is read at a time of what nobody asked for


class VerifiedStream:
    """A window of a file, and the sha256 of all of it for about one reading.

    What is read at or across the end of what is hashed so far is hashed at once: demuxers read
    nearly everything, nearly in order. The rest is read when ``matches`` asks. It ends at its first
    error, which ``matches`` raises, since FFmpeg's callbacks lose what is raised in them.
    """

    def __init__(self, stream: BinaryIO, *, offset_bytes: int, size_bytes: int) -> None:
        """A window that begins at ``offset_bytes`` and is ``size_bytes`` long."""
        self._stream = stream
        self._start = offset_bytes
        self._size = size_bytes
        self._at = 0
        self._hashed = 0
        self._digest = hashlib.sha256()
        self._error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes, none at the end of the window or after an error."""
        rest = max(0, self._size - self._at)
        content = self._read(self._at, rest if size < 0 else min(size, rest))
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position from the start of the window; -1 where there is no such."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        if whence not in starts or starts[whence] + offset < 0:
            return -1
        self._at = starts[whence] + offset
        return self._at

    def tell(self) -> int:
        """The position from the start of the window."""
        return self._at

    def seekable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True

    def matches(self, sha256: str) -> bool:
        """Whether the whole window has this digest; reads what has not been read.

        Raises:
            Exception: what the file raised, now or before.
        """
        while self._hashed < self._size and self._read(
            self._hashed, min(_PIECE_BYTES, self._size - self._hashed)
        ):
            pass
        if self._error is not None:
            raise self._error
        return self._hashed == self._size and self._digest.hexdigest() == sha256

    def _read(self, at: int, size: int) -> bytes:
        if self._error is not None or not size:
            return b""
        try:
            self._stream.seek(self._start + at)
            content = self._stream.read(size)
        except Exception as error:
            self._error = error
            return b""
        if at <= self._hashed < at + len(content):
            self._digest.update(memoryview(content)[self._hashed - at :])
            self._hashed = at + len(content)
        return content
