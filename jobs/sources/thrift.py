"""Structs of Thrift's compact protocol, as far as Parquet has them.

The numbers are those of the protocol's own "Struct encoding" and "List and Set".
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET = range(1, 11)
STRUCT: Final = 12
_FIXED_BYTES: Final = {BYTE: 1, DOUBLE: 8}
_LONG_LIST: Final = 15  # the count follows
_MAX_FIELD: Final = 2**15 - 1  # a field's number is an i16
_VARINT_BITS: Final = 70  # 64 bits by sevens


class Compact:
    """A reader of bytes that are a struct.

    Its methods raise IndexError where the bytes end early, and RecursionError or ValueError where
    they are no such struct.

    Attributes:
        at: how many of the bytes are read.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def struct(
        self,
        asked: Mapping[tuple[int, int], Callable[[], Any]],
        optional: Mapping[tuple[int, int], Callable[[], Any]] = MappingProxyType({}),
    ) -> dict[int, Any]:
        """The values of the fields, by number, that are asked for by number and type.

        Args:
            asked: what reads the value of each field that must be there.
            optional: likewise of each that may be there.
        """
        found: dict[int, Any] = {}
        for field, kind in self.fields():
            read = asked.get((field, kind)) or optional.get((field, kind))
            if read is None:
                self.skip(kind)
            elif field in found:
                # Which of them Arrow takes is not said.
                raise ValueError("a field that comes twice")
            else:
                found[field] = read()
        if not {field for field, _ in asked} <= found.keys():
            raise ValueError("a field that is not there")
        return found

    def listed(self, element: Callable[[], Any], kind: int) -> Callable[[], tuple[Any, ...]]:
        """Reads a list whose elements are of a type."""

        def read() -> tuple[Any, ...]:
            count, of = self.list_header()
            if count and of != kind:
                raise ValueError(f"a list of type {of}")
            return tuple(element() for _ in range(count))

        return read

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field; who asks passes over its value before the next."""
        field = 0
        while header := self._byte():
            delta, kind = header >> 4, header & 0xF
            field = field + delta if delta else self.varint() >> 1
            if field > _MAX_FIELD:  # Arrow would take it for another
                raise ValueError(f"field {field}")
            yield field, kind

    def skip(self, kind: int, *, is_element: bool = False) -> None:
        """Passes over a value."""
        if kind in (TRUE, FALSE):
            self.at += is_element  # as a field, the type is the value
        elif kind in (I16, I32, I64):
            self.varint()
        elif kind in _FIXED_BYTES:
            self.at += _FIXED_BYTES[kind]
        elif kind == BINARY:
            size = self.varint()
            self.at += size
        elif kind in (LIST, SET):
            count, of = self.list_header()
            for _ in range(count):
                self.skip(of, is_element=True)
        elif kind == STRUCT:
            for _, of in self.fields():
                self.skip(of)
        else:
            raise ValueError(f"type {kind}")  # Parquet has no maps
        if self.at > len(self._content):  # before the next of a great many that are not there
            raise IndexError(f"{self.at} bytes")

    def list_header(self) -> tuple[int, int]:
        """How many elements follow, and their type."""
        header = self._byte()
        count, kind = header >> 4, header & 0xF
        return (self.varint() if count == _LONG_LIST else count), kind

    def _byte(self) -> int:
        self.at += 1
        return self._content[self.at - 1]

    def i32(self) -> int:
        """A number of type I32; ValueError where it is longer, which Arrow would cut."""
        return self._signed(32)

    def i64(self) -> int:
        """Likewise of type I64."""
        return self._signed(64)

    def _signed(self, bits: int) -> int:
        zigzag = self.varint()
        if zigzag >> bits:
            raise ValueError(f"a number of more than {bits} bits")
        return zigzag >> 1 ^ -(zigzag & 1)

    def varint(self) -> int:
        """A number without a sign; of one that has a sign, its zigzag."""
        value = 0
        for shift in range(0, _VARINT_BITS, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number that does not end")
