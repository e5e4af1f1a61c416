"""A table beside the images of a folder: `metadata.jsonl` or `metadata.csv`, a row per image."""

import csv
from collections.abc import Iterator
from typing import BinaryIO, Final

from jobs.sources.entry import EntryRefused, Limits
from jobs.sources.facts import parsed_object
from jobs.sources.lines import lines
from jobs.sources.texts import said

NAMES: Final = ("metadata.jsonl", "metadata.csv")  # of two, the first is read
FILE_NAME: Final = "file_name"

Row = dict[str, object] | EntryRefused


def rows(stream: BinaryIO, name: str, limits: Limits) -> Iterator[Row]:
    """Every row of the table, or why it cannot be read.

    Args:
        stream: the table's bytes from their start.
        name: one of `NAMES`.
        limits: what a row may cost.

    Raises:
        EntryRefused: nothing more can be had of the table.
    """
    return _jsonl(stream, limits) if name.endswith(".jsonl") else _csv(stream, limits)


def _jsonl(stream: BinaryIO, limits: Limits) -> Iterator[Row]:
    for _, line in lines(stream, limits):
        if isinstance(line, EntryRefused):
            yield line
        elif line.strip():
            try:
                yield parsed_object(line)
            except EntryRefused as refusal:
                yield refusal


def _csv(stream: BinaryIO, limits: Limits) -> Iterator[Row]:
    # Strict: else a quote that is never closed takes all that follows without a word.
    reader = csv.reader(_texts(stream, limits), strict=True)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield EntryRefused("damaged_record", said(error))
            continue
        if cells is None:
            return
        if header is None:
            header = cells
            if FILE_NAME not in header:
                raise EntryRefused("damaged_record", f"the table has no column {FILE_NAME}")
        elif cells and len(cells) != len(header):
            yield EntryRefused("damaged_record", f"{len(cells)} cells, {len(header)} columns")
        elif cells:
            # A table of texts has no other way to say null.
            yield {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _texts(stream: BinaryIO, limits: Limits) -> Iterator[str]:
    for number, line in lines(stream, limits):
        if isinstance(line, EntryRefused):
            raise line
        # What is not UTF-8 is known by its surrogates, and refused with its row.
        text = line.decode("utf-8", "surrogateescape")
        yield text if number else text.removeprefix("\ufeff")
