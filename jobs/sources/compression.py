"""Shards that are compressed as a whole: known by their first bytes, read within limits."""

from typing import BinaryIO, Final, cast

import pyarrow as pa

from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.texts import said

_CODECS: Final = {  # first bytes -> codec
    b"\x1f\x8b\x08": "gzip",  # RFC 1952 §2.3.1, method deflate
    b"\x28\xb5\x2f\xfd": "zstd",  # RFC 8878 §3.1.1
    # A skippable frame may stand first, as parallel compressors write: RFC 8878 §3.1.2.
    **{bytes((first,)) + b"\x2a\x4d\x18": "zstd" for first in range(0x50, 0x60)},
}
_MAGIC_BYTES: Final = 4
# What a read had found when it meets damage is lost. In units of a tar's block (POSIX.1 pax) a
# cut costs no whole block. Measured, with the next: 2 s of CPU for each GB.
_UNIT_BYTES: Final = 512
# Likewise for what one feed of the decompressor had given when a code or checksum is wrong.
_FEED_BYTES: Final = 4096  # chosen: a small part of an image
# chosen: no ratio is asked of less; a tar of a few texts is mostly padding and shrinks 100-fold
RATIO_FLOOR_BYTES: Final = 16 * 2**20


def decompressed(stream: BinaryIO, limits: Limits) -> BinaryIO:
    """The plain bytes of a shard: the stream itself where it is not compressed.

    Args:
        stream: the shard's bytes from its start; can be sought.
        limits: how much the bytes may grow.

    Returns:
        A stream to be read on from its start. Past damage or a limit its `read` raises
        `EntryRefused` of class `truncated_shard` or `decompression_bomb`; all before is given.
    """
    magic = stream.read(_MAGIC_BYTES)
    stream.seek(0)
    codec = next((name for first, name in _CODECS.items() if magic.startswith(first)), None)
    return stream if codec is None else cast(BinaryIO, _Decompressed(stream, codec, limits))


class _Feed:
    """The compressed bytes in small pieces, counted."""

    closed = False  # Arrow asks; the stream is closed by who opened it

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.given_bytes = 0

    def read(self, size_bytes: int) -> bytes:
        """Up to so many bytes, rather fewer; none at the end."""
        piece = self._stream.read(min(size_bytes, _FEED_BYTES))
        self.given_bytes += len(piece)
        return piece

    def close(self) -> None:
        """Nothing of its own."""


class _Decompressed:
    """The little of a stream that a tar's reader needs."""

    def __init__(self, stream: BinaryIO, codec: str, limits: Limits) -> None:
        self._feed = _Feed(stream)
        self._plain = pa.CompressedInputStream(pa.PythonFile(self._feed, "r"), codec)
        self._limits = limits
        self._read_bytes = 0
        self._refusal: EntryRefused | None = None

    def read(self, size_bytes: int) -> bytes:
        """Up to so many bytes; none at the end."""
        if self._refusal is not None:
            raise self._refusal
        found = bytearray()
        while len(found) < size_bytes:
            try:
                unit = self._plain.read(min(_UNIT_BYTES, size_bytes - len(found)))
            except Exception as error:  # hostile bytes raise whatever they like
                self._refusal = EntryRefused("truncated_shard", said(error))
                break
            if not unit:
                break
            found += unit
        self._read_bytes += len(found)
        self._refusal = self._refusal or self._growth()
        if not found and self._refusal is not None:
            raise self._refusal
        return bytes(found)

    def _growth(self) -> EntryRefused | None:
        return growth(self._read_bytes, self._feed.given_bytes, self._limits)


def growth(plain_bytes: int, compressed_bytes: int, limits: Limits) -> EntryRefused | None:
    """Why so many bytes are too much to come out of so few compressed ones; null if they are not.

    Returns:
        A refusal of class `decompression_bomb`.
    """
    if plain_bytes > limits.max_decompressed_bytes:
        return EntryRefused(
            "decompression_bomb",
            f"more than {limits.max_decompressed_bytes} bytes once decompressed; "
            "raise ingest.max_decompressed_bytes to take it",
        )
    if plain_bytes > max(RATIO_FLOOR_BYTES, limits.max_decompression_ratio * compressed_bytes):
        return EntryRefused(
            "decompression_bomb",
            f"{compressed_bytes} bytes gave {plain_bytes}, "
            f"limit {limits.max_decompression_ratio} to 1; "
            "raise ingest.max_decompression_ratio to take it",
        )
    return None
