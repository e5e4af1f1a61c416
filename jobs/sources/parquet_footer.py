"""The footer of a Parquet file, as far as it must be known before Arrow may read it.

Arrow builds the schema by recursion: some ten thousand levels end the process without an
exception. So does pyarrow where it is asked for a row group or a column chunk whose facts Arrow
finds wrong: those calls let no exception through. Here the levels are counted first, and what
must be known of the chunks is read: the footer is a struct of Thrift's compact protocol.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.thrift import I32, I64, LIST, STRUCT, Compact

_MAGIC: Final = b"PAR1"  # Parquet's README, File format: ... footer, its length, magic
_TRAILER_BYTES: Final = 8
# chosen: no table nests so deep; Arrow follows 5,000 levels in a stack of 8 MiB
_MAX_DEPTH: Final = 100
_SCHEMA: Final = 2  # parquet.thrift: FileMetaData.schema, depth first
_NUM_CHILDREN: Final = 5  # parquet.thrift: SchemaElement.num_children
_ROW_GROUPS: Final = 4  # parquet.thrift: FileMetaData.row_groups
# parquet.thrift: Encoding
_ENCODINGS: Final[Mapping[int, str]] = {
    0: "PLAIN",
    2: "PLAIN_DICTIONARY",
    3: "RLE",
    4: "BIT_PACKED",
    5: "DELTA_BINARY_PACKED",
    6: "DELTA_LENGTH_BYTE_ARRAY",
    7: "DELTA_BYTE_ARRAY",
    8: "RLE_DICTIONARY",
    9: "BYTE_STREAM_SPLIT",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a footer says of a column's values in a row group; not trusted.

    Attributes:
        encodings: of its pages; `UNKNOWN` for one that Parquet has not.
        values: how many, with nulls.
        plain_bytes: of its pages, once decompressed.
        stored_bytes: of its pages.
        first_byte: where in the file its pages begin.
    """

    encodings: frozenset[str]
    values: int
    plain_bytes: int
    stored_bytes: int
    first_byte: int


@dataclass(frozen=True, slots=True)
class RowGroup:
    """What a footer says of a row group; not trusted, but nothing is less than zero.

    Attributes:
        rows: how many.
        plain_bytes: of all its pages, once decompressed.
        chunks: of each leaf of the schema.
    """

    rows: int
    plain_bytes: int
    chunks: tuple[Chunk, ...]


def row_groups(stream: BinaryIO, limits: Limits) -> tuple[RowGroup, ...]:
    """The row groups of a file that Arrow may read.

    Raises:
        EntryRefused: no Parquet, a footer over the limit, or columns that nest too deep.
    """
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size_bytes - _TRAILER_BYTES))
    trailer = stream.read(_TRAILER_BYTES)
    footer_bytes = int.from_bytes(trailer[:4], "little")
    if not trailer.endswith(_MAGIC) or footer_bytes > size_bytes - _TRAILER_BYTES:
        raise EntryRefused("unreadable_shard", "no Parquet: no footer at its end")
    if footer_bytes > limits.max_member_bytes:
        raise EntryRefused(
            "unreadable_shard", f"a footer of {footer_bytes} bytes, limit {limits.max_member_bytes}"
        )
    stream.seek(size_bytes - _TRAILER_BYTES - footer_bytes)
    try:
        depth, groups = _footer(Compact(stream.read(footer_bytes)))
    except (IndexError, RecursionError, ValueError) as error:
        raise EntryRefused(
            "unreadable_shard", f"no Parquet: its footer: {type(error).__name__}"
        ) from None
    if depth > _MAX_DEPTH:
        raise EntryRefused("unreadable_shard", f"columns nest {depth} deep, limit {_MAX_DEPTH}")
    return groups


def _footer(of: Compact) -> tuple[int, tuple[RowGroup, ...]]:
    """parquet.thrift: FileMetaData. How many levels its schema makes, and the row groups."""
    groups = of.listed(lambda: _row_group(of), STRUCT)
    found = of.struct({(_SCHEMA, LIST): lambda: _depth(of), (_ROW_GROUPS, LIST): groups})
    return found[_SCHEMA], found[_ROW_GROUPS]


def _row_group(of: Compact) -> RowGroup:
    """parquet.thrift: RowGroup."""
    chunks, total_byte_size, num_rows = 1, 2, 3
    found = of.struct(
        {
            (chunks, LIST): of.listed(lambda: _chunk(of), STRUCT),
            (total_byte_size, I64): lambda: _size(of),
            (num_rows, I64): lambda: _size(of),
        }
    )
    return RowGroup(found[num_rows], found[total_byte_size], found[chunks])


def _chunk(of: Compact) -> Chunk:
    """parquet.thrift: ColumnChunk and, in it, ColumnMetaData."""
    meta_data, encodings, num_values, plain_bytes, stored_bytes = 3, 2, 5, 6, 7
    data_at, dictionary_at = 9, 11
    sizes = (num_values, plain_bytes, stored_bytes, data_at)
    asked = {
        **{(n, I64): lambda: _size(of) for n in sizes},
        (encodings, LIST): of.listed(lambda: _encoding(of), I32),
    }
    optional = {(dictionary_at, I64): lambda: _size(of)}
    found = of.struct({(meta_data, STRUCT): lambda: of.struct(asked, optional)})[meta_data]
    return Chunk(
        encodings=frozenset(found[encodings]),
        values=found[num_values],
        plain_bytes=found[plain_bytes],
        stored_bytes=found[stored_bytes],
        # As Arrow does; zero says that there is no dictionary.
        first_byte=min(found[data_at], found.get(dictionary_at) or found[data_at]),
    )


def _size(of: Compact) -> int:
    return max(0, of.i64())


def _encoding(of: Compact) -> str:
    return _ENCODINGS.get(of.i32(), "UNKNOWN")


def _depth(of: Compact) -> int:
    count, _ = of.list_header()
    waiting: list[int] = []  # children still to come, of each element above
    deepest = 0
    for _ in range(count):
        children = 0
        for field, kind in of.fields():
            if (field, kind) == (_NUM_CHILDREN, I32):
                children = of.varint() >> 1  # zigzag
            else:
                of.skip(kind)
        while waiting and waiting[-1] == 0:
            waiting.pop()
        if waiting:
            waiting[-1] -= 1
        if children:
            waiting.append(children)
        deepest = max(deepest, len(waiting))
    return deepest
