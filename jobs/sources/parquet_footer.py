"""The footer of a Parquet file, as far as it must be known before Arrow may read it.

Arrow builds the schema by recursion: some ten thousand levels end the process without an
exception. So does pyarrow where it is asked for a row group or a column chunk whose facts Arrow
finds wrong: those calls let no exception through. Here the levels are counted first, and what
must be known of the chunks is read: the footer is a struct of Thrift's compact protocol.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from jobs.sources.entry import EntryRefused, Limits

_MAGIC: Final = b"PAR1"  # Parquet's README, File format: ... footer, its length, magic
_TRAILER_BYTES: Final = 8
# chosen: no table nests so deep; Arrow follows 5,000 levels in a stack of 8 MiB
_MAX_DEPTH: Final = 100
# Thrift's compact protocol, "Struct encoding" and "List and Set".
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET = range(1, 11)
_STRUCT: Final = 12
_FIXED_BYTES: Final = {_BYTE: 1, _DOUBLE: 8}
_LONG_LIST: Final = 15  # the count follows
_VARINT_BITS: Final = 70  # 64 bits by sevens
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
    """

    encodings: frozenset[str]
    values: int
    plain_bytes: int
    stored_bytes: int


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
        depth, groups = _Compact(stream.read(footer_bytes)).footer()
    except (IndexError, RecursionError, ValueError) as error:
        raise EntryRefused(
            "unreadable_shard", f"no Parquet: its footer: {type(error).__name__}"
        ) from None
    if depth > _MAX_DEPTH:
        raise EntryRefused("unreadable_shard", f"columns nest {depth} deep, limit {_MAX_DEPTH}")
    return groups


class _Compact:
    """A reader of Thrift's compact protocol that keeps what is asked of a footer."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def footer(self) -> tuple[int, tuple[RowGroup, ...]]:
        """How many levels the elements of the schema make, and the row groups.

        Raises:
            IndexError, RecursionError, ValueError: it is no such struct.
        """
        groups = self._listed(self._row_group, _STRUCT)
        found = self._struct({(_SCHEMA, _LIST): self._depth, (_ROW_GROUPS, _LIST): groups})
        return found[_SCHEMA], found[_ROW_GROUPS]

    def _row_group(self) -> RowGroup:
        """parquet.thrift: RowGroup."""
        chunks, total_byte_size, num_rows = 1, 2, 3
        found = self._struct(
            {
                (chunks, _LIST): self._listed(self._chunk, _STRUCT),
                (total_byte_size, _I64): self._size,
                (num_rows, _I64): self._size,
            }
        )
        return RowGroup(found[num_rows], found[total_byte_size], found[chunks])

    def _chunk(self) -> Chunk:
        """parquet.thrift: ColumnChunk and, in it, ColumnMetaData."""
        meta_data, encodings, num_values, plain_bytes, stored_bytes = 3, 2, 5, 6, 7
        sizes = {(field, _I64): self._size for field in (num_values, plain_bytes, stored_bytes)}
        asked = {**sizes, (encodings, _LIST): self._listed(self._encoding, _I32)}
        found = self._struct({(meta_data, _STRUCT): lambda: self._struct(asked)})[meta_data]
        return Chunk(
            frozenset(found[encodings]), found[num_values], found[plain_bytes], found[stored_bytes]
        )

    def _encoding(self) -> str:
        return _ENCODINGS.get(self._varint() >> 1, "UNKNOWN")

    def _size(self) -> int:
        zigzag = self._varint()
        return 0 if zigzag & 1 else zigzag >> 1

    def _struct(self, asked: Mapping[tuple[int, int], Callable[[], Any]]) -> dict[int, Any]:
        """The values of the fields, by number, that are asked for by number and type."""
        found: dict[int, Any] = {}
        for field, kind in self._fields():
            read = asked.get((field, kind))
            if read is None:
                self._skip(kind)
            elif field in found:
                raise ValueError(
                    "a field that comes twice"
                )  # which of them Arrow takes is not said
            else:
                found[field] = read()
        if len(found) < len(asked):
            raise ValueError("a field that is not there")
        return found

    def _listed(self, element: Callable[[], Any], kind: int) -> Callable[[], tuple[Any, ...]]:
        """Reads a list whose elements are of a type."""

        def read() -> tuple[Any, ...]:
            count, of = self._list()
            if count and of != kind:
                raise ValueError(f"a list of type {of}")
            return tuple(element() for _ in range(count))

        return read

    def _depth(self) -> int:
        count, _ = self._list()
        waiting: list[int] = []  # children still to come, of each element above
        deepest = 0
        for _ in range(count):
            children = 0
            for field, kind in self._fields():
                if (field, kind) == (_NUM_CHILDREN, _I32):
                    children = self._varint() >> 1  # zigzag
                else:
                    self._skip(kind)
            while waiting and waiting[-1] == 0:
                waiting.pop()
            if waiting:
                waiting[-1] -= 1
            if children:
                waiting.append(children)
            deepest = max(deepest, len(waiting))
        return deepest

    def _fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field; who asks passes over its value before the next."""
        field = 0
        while header := self._byte():
            delta, kind = header >> 4, header & 0xF
            field = field + delta if delta else self._varint() >> 1
            yield field, kind

    def _skip(self, kind: int, *, is_element: bool = False) -> None:
        if kind in (_TRUE, _FALSE):
            self._at += is_element  # as a field, the type is the value
        elif kind in (_I16, _I32, _I64):
            self._varint()
        elif kind in _FIXED_BYTES:
            self._at += _FIXED_BYTES[kind]
        elif kind == _BINARY:
            size = self._varint()
            self._at += size
        elif kind in (_LIST, _SET):
            count, of = self._list()
            for _ in range(count):
                self._skip(of, is_element=True)
        elif kind == _STRUCT:
            for _, of in self._fields():
                self._skip(of)
        else:
            raise ValueError(f"type {kind}")  # Parquet has no maps

    def _list(self) -> tuple[int, int]:
        header = self._byte()
        count, kind = header >> 4, header & 0xF
        return (self._varint() if count == _LONG_LIST else count), kind

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, _VARINT_BITS, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number that does not end")
