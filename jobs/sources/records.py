"""The records of a shard that is lines of JSON, plain, compressed or zipped, or is Parquet."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, cast

import pyarrow.parquet as pq

from jobs.sources.compression import RATIO_FLOOR_BYTES, decompressed
from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.facts import parsed_object
from jobs.sources.lines import lines
from jobs.sources.media_file import too_large
from jobs.sources.parquet_footer import RowGroup, row_groups
from jobs.sources.parquet_pages import VALUE_BYTES, pages
from jobs.sources.place import Place
from jobs.sources.texts import said

Record = Mapping[str, object]

_PARQUET: Final = b"PAR1"  # Parquet format, "File format"
_ZIP: Final = b"PK"  # APPNOTE 6.3.10 §4.3.7, §4.3.16: a file comes first, or the end does
_BATCH_ROWS: Final = 16  # chosen: pages are read a few at a time; one may be large


def records(place: Place, limits: Limits) -> Iterator[tuple[int, Record | EntryRefused]]:
    """Every record with its number from 0, or why it cannot be read; blank lines are none.

    Raises:
        EntryRefused: nothing more can be had of the shard.
        OSError: it cannot be opened.
    """
    with place.open() as stream:
        magic = stream.read(4)
        stream.seek(0)
        if magic == _PARQUET:
            yield from _parquet(stream, limits)
        elif magic.startswith(_ZIP):
            yield from _zipped(stream, limits)
        else:
            yield from _json_lines(decompressed(stream, limits), limits)


def _json_lines(stream: BinaryIO, limits: Limits) -> Iterator[tuple[int, Record | EntryRefused]]:
    for number, line in lines(stream, limits):
        try:
            if isinstance(line, EntryRefused):
                raise line
            if line.strip():
                yield number, parsed_object(line)
        except EntryRefused as refusal:
            yield number, refusal


def _zipped(stream: BinaryIO, limits: Limits) -> Iterator[tuple[int, Record | EntryRefused]]:
    """The lines of the one file in a zip."""
    try:
        archive = zipfile.ZipFile(stream)
        files = [info for info in archive.infolist() if not info.is_dir()]
    except Exception as error:  # hostile bytes raise whatever they like
        raise EntryRefused("unreadable_shard", said(error)) from None
    with archive:
        if len(files) != 1:
            raise EntryRefused("unreadable_shard", f"{len(files)} files in the zip, not one")
        _refuse_bomb(files[0].file_size, _size_bytes(stream), limits)
        try:
            # A zip's reader gives no more bytes than were declared.
            with archive.open(files[0]) as plain:
                yield from _json_lines(cast(BinaryIO, plain), limits)
        except EntryRefused:
            raise
        except Exception as error:  # likewise
            raise EntryRefused("truncated_shard", said(error)) from None


def _parquet(stream: BinaryIO, limits: Limits) -> Iterator[tuple[int, Record | EntryRefused]]:
    groups = row_groups(stream, limits)
    try:
        file = pq.ParquetFile(stream)
    except Exception as error:  # likewise
        raise EntryRefused("unreadable_shard", said(error)) from None
    plain_bytes = sum(group.plain_bytes for group in groups)
    size_bytes = _size_bytes(stream)
    _refuse_bomb(plain_bytes, size_bytes, limits)
    first = 0
    for index, group in enumerate(groups):
        number, error_class, why = first, "damaged_record", "the pages end early"
        try:
            _refuse_bomb(_held_bytes(stream, group), size_bytes, limits)
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[index]):
                for row in range(batch.num_rows):
                    yield number, _row(batch.slice(row, 1), limits)
                    number += 1
        except EntryRefused as refusal:
            error_class, why = refusal.error_class, refusal.detail
        except Exception as error:  # likewise
            why = said(error)
        first += group.rows
        if number != first:
            lost = f"{first - number} rows of row group {index}: {why}"
            yield number, EntryRefused(error_class, lost)


def _held_bytes(stream: BinaryIO, group: RowGroup) -> int:
    found = pages(stream, group.chunks)
    return max(found.plain_bytes, VALUE_BYTES * found.values)


def _row(row: Any, limits: Limits) -> Record | EntryRefused:
    if row.nbytes > limits.max_member_bytes:
        return too_large(row.nbytes, limits)
    try:
        (found,) = row.to_pylist()
    except Exception as error:  # likewise: text that is not UTF-8, a date out of range
        return EntryRefused("damaged_record", said(error))
    return cast(Record, found)


def _refuse_bomb(plain_bytes: int, packed_bytes: int, limits: Limits) -> None:
    allowed = min(
        max(RATIO_FLOOR_BYTES, limits.max_decompression_ratio * packed_bytes),
        limits.max_decompressed_bytes,
    )
    if plain_bytes > allowed:
        raise EntryRefused(
            "decompression_bomb",
            f"{packed_bytes} bytes declare {plain_bytes}, limit {allowed}; raise "
            "ingest.max_decompressed_bytes or ingest.max_decompression_ratio to take it",
        )


def _size_bytes(stream: BinaryIO) -> int:
    at = stream.tell()
    size_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(at)
    return size_bytes
