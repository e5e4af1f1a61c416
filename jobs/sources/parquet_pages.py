"""The headers of the pages of a Parquet file, read before Arrow reads the pages.

Arrow takes as much memory as a header declares, up to 2 GiB for each size in it, before it looks
whether there is so much. What the footer declares says nothing about it.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from jobs.sources.entry import EntryRefused
from jobs.sources.parquet_footer import Chunk
from jobs.sources.thrift import I32, STRUCT, Compact

# chosen: what Arrow holds at least for a value of most types: a number, an offset
VALUE_BYTES: Final = 8
# parquet.thrift: PageType -> the field of PageHeader that holds the header of such a page
_HEADERS: Final[Mapping[int, int]] = {0: 5, 2: 7, 3: 8}
_DICTIONARY: Final = 2
_NUM_VALUES: Final = 1  # parquet.thrift: of each of these headers
_PADDING_BYTES: Final = 100  # PARQUET-816: Arrow reads so far past the chunks of old writers
_WINDOW_BYTES: Final = 1 << 10  # chosen: most headers take less than 100 bytes
_MAX_HEADER_BYTES: Final = 16 * 2**20  # as Arrow has it


@dataclass(frozen=True, slots=True)
class Pages:
    """What the headers of some pages declare.

    Attributes:
        values: how many, with nulls and with those of dictionaries.
        plain_bytes: once decompressed.
    """

    values: int
    plain_bytes: int


@dataclass(frozen=True, slots=True)
class _Header:
    header_bytes: int
    stored_bytes: int
    plain_bytes: int
    values: int
    is_data: bool


def pages(stream: BinaryIO, chunks: Iterable[Chunk]) -> Pages:
    """What Arrow will hold of the pages of some chunks, at most.

    Raises:
        EntryRefused: a header that cannot be read, or a page that ends after its chunk.
    """
    values = plain_bytes = 0
    for chunk in chunks:
        for header in _headers(stream, chunk):
            values += header.values
            plain_bytes += header.plain_bytes
    return Pages(values, plain_bytes)


def _headers(stream: BinaryIO, chunk: Chunk) -> Iterable[_Header]:
    """Of the pages that Arrow would read: until it has all values."""
    at = chunk.first_byte
    end = min(at + chunk.stored_bytes + _PADDING_BYTES, stream.seek(0, os.SEEK_END))
    missing = chunk.values
    while missing > 0 and at < end:
        header = _header(stream, at, end)
        at += header.header_bytes
        if header.stored_bytes > end - at:
            raise EntryRefused(
                "damaged_record", f"a page of {header.stored_bytes} bytes, of which {end - at} fit"
            )
        yield header
        at += header.stored_bytes
        missing -= header.values if header.is_data else 0


def _header(stream: BinaryIO, at: int, end: int) -> _Header:
    window_bytes = _WINDOW_BYTES
    while True:
        stream.seek(at)
        content = stream.read(min(window_bytes, end - at))
        try:
            return _parsed(Compact(content))
        except (IndexError, RecursionError, ValueError) as error:
            is_cut = isinstance(error, IndexError) and len(content) == window_bytes
            if not is_cut or window_bytes >= _MAX_HEADER_BYTES:
                raise EntryRefused(
                    "damaged_record", f"the header of a page: {type(error).__name__}"
                ) from None
        window_bytes *= 16


def _parsed(of: Compact) -> _Header:
    """parquet.thrift: PageHeader."""
    page_type, plain_bytes, stored_bytes = 1, 2, 3
    asked = {(field, I32): of.i32 for field in (page_type, plain_bytes, stored_bytes)}
    values = {(_NUM_VALUES, I32): of.i32}
    inner = {(field, STRUCT): lambda: of.struct(values) for field in _HEADERS.values()}
    found = of.struct(asked, inner)
    header = found.get(_HEADERS.get(found[page_type], -1), {_NUM_VALUES: 0})
    if min(found[plain_bytes], found[stored_bytes], header[_NUM_VALUES]) < 0:
        raise ValueError("a size less than zero")
    return _Header(
        header_bytes=of.at,
        stored_bytes=found[stored_bytes],
        plain_bytes=found[plain_bytes],
        values=header[_NUM_VALUES],
        is_data=found[page_type] != _DICTIONARY,
    )
