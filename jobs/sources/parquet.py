"""Parquet: row group by row group, in batches of bounded size; a damaged one costs only itself."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import BinaryIO, Final, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.sources.columns import Roles, distinct, refuse_useless, roles
from jobs.sources.compression import growth
from jobs.sources.entry import EntryRefused, Limits, Reading
from jobs.sources.parquet_footer import RowGroup, row_groups
from jobs.sources.parquet_pages import VALUE_BYTES, pages
from jobs.sources.row import Damage, Row, decoded
from jobs.sources.texts import printable, said

_BATCH_BYTES: Final = 16 * 2**20  # chosen: like ingest's own batches
_BATCH_CELLS: Final = 1 << 15  # chosen: 2,048 rows of 16 columns
_BUFFER_BYTES: Final = 1 << 16  # chosen: read ahead in each column
_BINARY: Final = frozenset({"BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"})
# Parquet's Encodings.md: a value is as long as what is stored of it ...
_STORED_ALIKE: Final = frozenset({"PLAIN", "RLE", "BIT_PACKED", "DELTA_LENGTH_BYTE_ARRAY"})
# ... or stands in a dictionary, which is read as one, so that a value that many rows share is held
# once. Of the others Arrow makes no dictionary. Measured: 6 us for each short text, but 4 ms for an
# image, so that images are read in small batches instead.
_DICTIONARY: Final = frozenset({"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"})


@dataclass(frozen=True)
class _Table:
    """A file, and what of it is read.

    Attributes:
        stream: its bytes.
        groups: as the footer has them; pyarrow's own may end the process.
        size_bytes: of the file.
        columns: names of those that are read.
        leaves: of the schema, by number, that are read.
        growing: paths of leaves whose values may be far longer than what is stored of each.
    """

    file: pq.ParquetFile
    stream: BinaryIO
    groups: Sequence[RowGroup]
    size_bytes: int
    found: Roles
    columns: tuple[str, ...]
    leaves: tuple[int, ...]
    growing: frozenset[str]


def rows(open_shard: Callable[[], BinaryIO], reading: Reading) -> Iterator[Row | Damage]:
    """Every row; of a row group, those that cannot be read are one damage.

    Raises:
        EntryRefused: it is no Parquet, or no column holds a url or image as it is configured.
    """
    with open_shard() as stream:
        table = _opened(stream, reading)
        first = 0
        for index, group in enumerate(table.groups):
            yield from _group(table, index, first, reading.limits)
            first += group.rows


def _opened(stream: BinaryIO, reading: Reading) -> _Table:
    groups = row_groups(stream, reading.limits)
    try:
        size_bytes = stream.seek(0, os.SEEK_END)
        file = pq.ParquetFile(stream)
        fields = list(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
    except Exception as error:  # hostile bytes raise whatever they like
        raise EntryRefused("unreadable_shard", f"no Parquet: {said(error)}") from None
    names = distinct([printable(name) for name, _ in fields])
    images = [name for name, (_, of) in zip(names, fields, strict=True) if _is_image(of)]
    found = roles(names, reading.options, images)
    refuse_useless(names, found, reading.options)
    taken = (found.url, found.caption, found.key, found.image)
    read = {  # name in the file -> whether its texts are read as a dictionary
        written: name != found.image and not pa.types.is_nested(of)
        for name, (written, of) in zip(names, fields, strict=True)
        if name in taken or not _is_binary(of)
    }
    try:
        leaves = _leaves(file.metadata.schema, groups, read.keys())
        encodings = _encodings(file.metadata.schema, groups, leaves)
        shared = {p for p, used in encodings.items() if read.get(p) and used <= _DICTIONARY}
        file = pq.ParquetFile(
            stream,
            metadata=file.metadata,
            read_dictionary=shared,
            pre_buffer=False,
            buffer_size=_BUFFER_BYTES,
            page_checksum_verification=True,
        )
    except Exception as error:  # likewise
        raise EntryRefused("unreadable_shard", f"no Parquet: {said(error)}") from None
    growing = {p for p, used in encodings.items() if p not in shared and not used <= _STORED_ALIKE}
    return _Table(file, stream, groups, size_bytes, found, tuple(read), leaves, frozenset(growing))


def _leaves(
    schema: pq.ParquetSchema, groups: Sequence[RowGroup], columns: Collection[str]
) -> tuple[int, ...]:
    """Numbers of the leaves of the columns."""
    if any(len(group.chunks) != len(schema) for group in groups):
        raise ValueError("a row group with other columns than the file")

    def is_within(path: str) -> bool:
        above = accumulate(path.split("."), lambda path, part: f"{path}.{part}")
        return any(each in columns for each in above)

    return tuple(i for i in range(len(schema)) if is_within(schema.column(i).path))


def _encodings(
    schema: pq.ParquetSchema, groups: Sequence[RowGroup], leaves: Iterable[int]
) -> dict[str, frozenset[str]]:
    """Path of each of the leaves that holds bytes -> encodings of its pages."""
    found = {}
    for index in leaves:
        leaf = schema.column(index)
        if leaf.physical_type in _BINARY:
            used = (group.chunks[index].encodings for group in groups)
            found[leaf.path] = frozenset[str]().union(*used)
    return found


def _is_binary(of: pa.DataType) -> bool:
    if pa.types.is_dictionary(of):
        return _is_binary(of.value_type)
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(is_kind(of) for is_kind in (*kinds, pa.types.is_fixed_size_binary))


def _is_text(of: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(of) for is_kind in kinds)


def _is_image(of: pa.DataType) -> bool:
    """Bytes, or bytes beside the path they had, as Hugging Face `datasets` write them."""
    if not pa.types.is_struct(of):
        return _is_binary(of)
    at = of.get_field_index("bytes")
    return bool(at >= 0 and _is_binary(of.field(at).type))


def _group(table: _Table, index: int, first: int, limits: Limits) -> Iterator[Row | Damage]:
    group = table.groups[index]
    try:
        group = _within(table, group, limits)
    except EntryRefused as refusal:
        yield _lost(index, group.rows, group, refusal)
        return
    read = 0
    why = "the pages end early"
    try:
        batches = table.file.iter_batches(
            batch_size=_batch_rows(table, group),
            row_groups=[index],
            columns=table.columns,
            use_threads=False,
        )
        for batch in batches:
            for values in _rows(batch, table.found.image):
                yield Row(first + read, table.found, values)
                read += 1
    except Exception as error:  # likewise
        why = said(error)
    if read != group.rows:
        yield _lost(index, group.rows - read, group, EntryRefused("damaged_record", why))


def _lost(index: int, rows: int, group: RowGroup, why: EntryRefused) -> Damage:
    return Damage(
        why.error_class,
        f"row group {index}: {rows} of its {group.rows} rows cannot be read: {why.detail}",
    )


def _within(table: _Table, group: RowGroup, limits: Limits) -> RowGroup:
    """The row group with the bytes that it will take, whatever its footer says.

    Raises:
        EntryRefused: they are over the limit, or its pages cannot be told from each other.
    """
    found = pages(table.stream, [group.chunks[leaf] for leaf in table.leaves])
    group = replace(group, plain_bytes=max(group.plain_bytes, found.plain_bytes))
    # Runs cost nothing in the file and are no part of the bytes it declares.
    values = max(found.values, sum(chunk.values for chunk in group.chunks))
    stored_bytes = sum(chunk.stored_bytes for chunk in group.chunks)
    refusal = growth(
        max(group.plain_bytes, VALUE_BYTES * values), min(stored_bytes, table.size_bytes), limits
    )
    if refusal is not None:
        raise refusal
    return group


def _batch_rows(table: _Table, group: RowGroup) -> int:
    """Rows of which the bytes are about `_BATCH_BYTES`, or the cells `_BATCH_CELLS`."""
    rows = max(1, group.rows)
    row_bytes: float = max(1, group.plain_bytes) / rows
    schema = table.file.metadata.schema
    for index, chunk in enumerate(group.chunks):
        if schema.column(index).path in table.growing:
            row_bytes += chunk.plain_bytes * max(1, chunk.values / rows)
    by_cells: int = _BATCH_CELLS // max(1, len(group.chunks))
    return max(1, min(int(_BATCH_BYTES / row_bytes), by_cells))


def _rows(batch: pa.RecordBatch, image: str | None) -> Iterator[dict[str, object]]:
    names = distinct([printable(name) for name in batch.schema.names])
    columns = {
        name: _images(column) if name == image else _values(column)
        for name, column in zip(names, batch.columns, strict=True)
    }
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _images(column: pa.Array) -> list[object]:
    if not pa.types.is_struct(column.type):
        return _bytes(column)
    contents = _bytes(pc.struct_field(column, "bytes"))
    if column.type.get_field_index("path") < 0:
        return contents
    paths = _values(pc.struct_field(column, "path"))
    return [{"bytes": c, "path": p} for c, p in zip(contents, paths, strict=True)]


def _bytes(column: pa.Array) -> list[object]:
    if pa.types.is_dictionary(column.type):
        held = _bytes(column.dictionary)
        return [None if i is None else held[i] for i in column.indices.to_pylist()]
    # Arrow does not ask whether a text is UTF-8, and would fail for the whole column.
    return cast(list[object], column.cast(pa.large_binary()).to_pylist())


def _values(column: pa.Array) -> list[object]:
    of = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if _is_text(of) or _is_binary(of):
        if pa.types.is_dictionary(column.type):
            held = _values(column.dictionary)
            return [None if i is None else held[i] for i in column.indices.to_pylist()]
        return [None if c is None else decoded(cast(bytes, c)) for c in _bytes(column)]
    if not pa.types.is_nested(of):
        try:
            return cast(list[object], column.cast(pa.string()).to_pylist())
        except pa.ArrowException:
            pass  # a type that Arrow does not write out
    return [_value(column[at]) for at in range(len(column))]


def _value(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except Exception as error:  # a date that Python has not, a text that is not UTF-8
        return f"unreadable: {type(error).__name__}"
