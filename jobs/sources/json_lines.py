"""JSON Lines: an object a line."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import BinaryIO, Final

from jobs.sources.columns import refuse_useless, roles
from jobs.sources.compression import decompressed
from jobs.sources.entry import Reading
from jobs.sources.lines import Lines
from jobs.sources.row import Damage, Row, as_read

# chosen: a writer that leaves nulls out may name a column late, but hardly later
_LOOKED_AT: Final = 1000


def rows(open_shard: Callable[[], BinaryIO], reading: Reading) -> Iterator[Row | Damage]:
    """Every object of the file; a blank line is none.

    Raises:
        EntryRefused: none of the first objects has a url as it is configured.
    """
    with open_shard() as stream:
        _refuse_useless(_objects(stream, reading), reading.options)
    names: tuple[str, ...] = ()
    found = roles(names, reading.options)
    with open_shard() as stream:
        for number, value in enumerate(_objects(stream, reading)):
            if isinstance(value, Damage):
                yield value
                continue
            if tuple(value) != names:
                names = tuple(value)
                found = roles(names, reading.options)
            yield Row(number, found, value)


def _refuse_useless(
    objects: Iterator[dict[str, object] | Damage], options: Mapping[str, str]
) -> None:
    seen: dict[str, None] = {}
    for value in islice(objects, _LOOKED_AT):
        if isinstance(value, Damage):
            continue
        if roles(tuple(value), options).can_deliver:
            return
        seen |= dict.fromkeys(value)
    if seen:
        names = list(seen)
        refuse_useless(names, roles(names, options), options)


def _objects(stream: BinaryIO, reading: Reading) -> Iterator[dict[str, object] | Damage]:
    limit = reading.limits.max_member_bytes
    lines = Lines(decompressed(stream, reading.limits))
    while not lines.at_end():
        lines.mark()
        line = lines.read(limit)
        if line is None:
            size_bytes = lines.skip()
            if size_bytes is not None:
                yield Damage("damaged_record", f"a line of {size_bytes} bytes, limit {limit}")
        elif line.strip():
            yield _object(line)
    if lines.damage is not None:
        yield Damage(lines.damage.error_class, lines.damage.detail)


def _object(line: bytes) -> dict[str, object] | Damage:
    try:
        parsed = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        # The error's own words would quote the line.
        return Damage("damaged_record", f"no JSON: {type(error).__name__}")
    if not isinstance(parsed, dict):
        return Damage("damaged_record", f"JSON, but no object: {type(parsed).__name__}")
    return {name: as_read(value) for name, value in parsed.items()}
