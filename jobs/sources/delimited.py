"""CSV and TSV as RFC 4180 has them: quotes, line breaks within quotes, one count of fields."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, Self

from jobs.sources.columns import Roles, distinct, refuse_useless, roles
from jobs.sources.compression import decompressed
from jobs.sources.entry import EntryRefused, Reading
from jobs.sources.lines import Lines
from jobs.sources.row import Damage, Row, as_read
from jobs.sources.texts import printable

# Python's own limit on a field holds for the whole process; the limit here is on a record,
# exact, and holds before the record is parsed.
csv.field_size_limit(2**31 - 1)


def rows(
    open_shard: Callable[[], BinaryIO], reading: Reading, *, delimiter: str
) -> Iterator[Row | Damage]:
    """Every record below the header; a blank line is none.

    A record that breaks the rules costs its first line, so that a quote that nobody closes takes
    nothing along.

    Raises:
        EntryRefused: there is no header, or it names no url as it is configured.
    """
    options = reading.options
    with open_shard() as stream:
        lines = Lines(decompressed(stream, reading.limits))
        records = _records(lines, reading, delimiter)
        names: list[str] = []
        found = Roles()
        if options.get("header") != "none":
            names = _header(next(records, None))
            found = _useful(names, options)
        for number, record in enumerate(records):
            if isinstance(record, Damage):
                yield record
                continue
            if not names:
                names = [str(i) for i in range(len(record))]
                found = _useful(names, options)
            if len(record) != len(names):
                yield Damage("damaged_record", f"{len(record)} fields; allowed {len(names)}")
                continue
            yield Row(number, found, dict(zip(names, map(as_read, record), strict=True)))
        if lines.damage is not None:
            yield Damage(lines.damage.error_class, lines.damage.detail)


def _useful(names: Sequence[str], options: Mapping[str, str]) -> Roles:
    found = roles(names, options)
    refuse_useless(names, found, options)
    return found


def _header(record: list[str] | Damage | None) -> list[str]:
    if record is None:
        raise EntryRefused("unreadable_shard", "no header")
    if isinstance(record, Damage):
        raise EntryRefused("unreadable_shard", f"the header: {record.detail}")
    return distinct([printable(name) for name in record])


class _Feed:
    """The lines of one record for `csv.reader`, as far as a record may go."""

    def __init__(self, lines: Lines, max_bytes: int) -> None:
        self._lines = lines
        self._max_bytes = max_bytes
        self._left_bytes = max_bytes
        self.first_line_end: int | None = None

    def begin(self) -> None:
        """What comes next belongs to another record."""
        self._lines.mark()
        self._left_bytes = self._max_bytes
        self.first_line_end = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._lines.read(self._left_bytes)
        if line is None:
            raise StopIteration
        self._left_bytes -= len(line)
        if self.first_line_end is None:
            self.first_line_end = self._lines.position
        return line.decode("utf-8", "surrogateescape")


def _records(lines: Lines, reading: Reading, delimiter: str) -> Iterator[list[str] | Damage]:
    limit = reading.limits.max_member_bytes
    is_quoted = reading.options.get("quoting") != "none"
    feed = _Feed(lines, limit)
    reader = csv.reader(
        feed,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        strict=True,
    )
    while not lines.at_end():
        feed.begin()
        try:
            record = next(reader, None)
        except csv.Error as error:
            assert feed.first_line_end is not None  # there was something to refuse
            lines.back_to(feed.first_line_end)
            yield Damage("damaged_record", f"not as RFC 4180 has it: {error}")
            continue
        if record is None:
            size_bytes = lines.skip()
            if size_bytes is not None:
                yield Damage("damaged_record", f"a line of {size_bytes} bytes, limit {limit}")
        elif record:
            yield record
