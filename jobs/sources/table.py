"""Tables of urls and captions, or of images: Parquet, CSV, TSV and JSON Lines."""

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import BinaryIO, Final

from jobs.sources import delimited, json_lines, parquet
from jobs.sources.entry import Entry, EntryRefused, Limits, Reading, image_facts
from jobs.sources.facts import PRIVATE_FACTS
from jobs.sources.occurrences import Occurrences
from jobs.sources.place import Place
from jobs.sources.row import Damage, Row
from jobs.sources.texts import printable
from jobs.sources.web_url import is_web_url

FORMAT: Final = "table"
# `header: none`: the columns are called 0, 1, ...; `quoting: none`: a quote is a character.
OPTIONS: Final = frozenset({"url", "caption", "key", "image", "header", "quoting"})

_Rows = Callable[[Callable[[], BinaryIO], Reading], Iterator[Row | Damage]]
_CSV: Final[_Rows] = partial(delimited.rows, delimiter=",")
_TSV: Final[_Rows] = partial(delimited.rows, delimiter="\t")
_PLAIN: Final[Mapping[str, _Rows]] = {
    ".csv": _CSV,
    ".tsv": _TSV,
    ".jsonl": json_lines.rows,
    ".ndjson": json_lines.rows,
    ".json": json_lines.rows,
}
_READERS: Final[Mapping[str, _Rows]] = {
    ".parquet": parquet.rows,
    **{kind + packed: read for kind, read in _PLAIN.items() for packed in ("", ".gz", ".zst")},
}
SUFFIXES: Final = tuple(_READERS)


def entries(place: Place, reading: Reading) -> Iterator[Entry]:
    """Every row of a table exactly once, accepted or refused, in the order of the file.

    A row's key is what its key column holds; where there is none, its number in the file, from 0.

    Args:
        place: of a file whose name ends in one of `SUFFIXES`.
        reading: how; its options are `OPTIONS`.

    Yields:
        Entries with dense positions from 0, rows before `reading.first` left out. Rows of a
        damaged row group of Parquet, and a damaged tail, are one entry each.
    """
    read = next(_READERS[suffix] for suffix in SUFFIXES if place.shard.endswith(suffix))
    seen = Occurrences()
    for position, found in enumerate(_rows(read, place, reading)):
        if isinstance(found, Damage):
            yield Entry(
                position=position,
                sample_key=None,
                error_class=found.error_class,
                detail=found.detail,
            )
        else:
            key, occurrence = _counted(found, seen)
            if position >= reading.first:
                yield _judged(found, position, key, occurrence, reading.limits)


def _rows(read: _Rows, place: Place, reading: Reading) -> Iterator[Row | Damage]:
    try:
        yield from read(place.open, reading)
    except EntryRefused as refusal:
        yield Damage(refusal.error_class, refusal.detail)
    except OSError as error:
        # Its words name the path.
        yield Damage("unreadable_shard", f"cannot be opened: {type(error).__name__}")


def _counted(row: Row, seen: Occurrences) -> tuple[str, int]:
    """The key of a row, and how often it came before."""
    number = str(row.number)
    if row.roles.key is None:
        return number, 0
    key = _text(row.values.get(row.roles.key)) or number
    return key, seen.count(key)


def _judged(row: Row, position: int, key: str, occurrence: int, limits: Limits) -> Entry:
    content, member = _image(row, key)
    where = {
        "position": position,
        "sample_key": key,
        "occurrence": occurrence,
        "member": member,
        "size_bytes": None if content is None else len(content),
    }
    try:
        if occurrence:
            raise EntryRefused(
                "duplicate_key", f"occurrence {occurrence + 1} of its key in the shard"
            )
        return Entry(**where, **_accepted(row, content, member, limits))  # type: ignore[arg-type]
    except EntryRefused as refusal:
        return Entry(
            **where,  # type: ignore[arg-type]
            error_class=refusal.error_class,
            detail=refusal.detail,
        )


def _image(row: Row, key: str) -> tuple[bytes | None, str | None]:
    """The bytes and what they are called, if the row has any."""
    if row.roles.image is None:
        return None, None
    value, kind = row.values.get(row.roles.image), f".{row.roles.image}"
    if isinstance(value, dict):
        path = _text(value.get("path")) or ""
        value, kind = value.get("bytes"), posixpath.splitext(path)[1] or kind
    return (value, f"{key}{kind}") if isinstance(value, bytes) else (None, None)


def _accepted(
    row: Row, content: bytes | None, member: str | None, limits: Limits
) -> dict[str, object]:
    texts = (value for name, value in row.values.items() if name != row.roles.image)
    _refuse_long(texts, limits)  # before anything long is made of them
    url = _text(row.values.get(row.roles.url)) if row.roles.url is not None else None
    if content is None:
        _refuse_unfetchable(row, url)
    caption = _caption(row)
    facts = _facts(row)
    _refuse_long(facts.values(), limits)  # those that are nested
    accepted: dict[str, object] = {"url": url, "caption": caption, "extra": facts}
    if content is None or member is None:
        return accepted
    if len(content) > limits.max_member_bytes:
        raise EntryRefused(
            "member_too_large",
            f"{len(content)} bytes, limit {limits.max_member_bytes}; "
            "raise ingest.max_member_bytes to take it",
        )
    return {**image_facts(content, member, limits), "content": content, **accepted}


def _refuse_long(texts: Iterable[object], limits: Limits) -> None:
    size = sum(len(text) for text in texts if isinstance(text, str | bytes))
    if size > limits.max_member_bytes:
        raise EntryRefused(
            "damaged_record", f"texts of {size} characters, limit {limits.max_member_bytes}"
        )


def _refuse_unfetchable(row: Row, url: str | None) -> None:
    if row.roles.url is None and row.roles.image is not None:
        raise EntryRefused("missing_image", "no bytes, and the table has no column for a url")
    if not url:
        raise EntryRefused("invalid_url", f"no url; columns: {_columns(row)}")
    if not is_web_url(url):
        raise EntryRefused("invalid_url", "cannot be parsed, or is not http or https")


def _columns(row: Row) -> str:
    return printable(", ".join(row.values))


def _caption(row: Row) -> str:
    value = row.values.get(row.roles.caption) if row.roles.caption is not None else None
    if value is None:
        raise EntryRefused("missing_caption", f"null or no such column; columns: {_columns(row)}")
    if isinstance(value, dict | list):
        raise EntryRefused("missing_caption", f"a {type(value).__name__}, no text")
    if isinstance(value, bytes):
        try:
            value.decode("utf-8")
        except UnicodeDecodeError as error:
            detail = f"{error.reason} at byte {error.start}"
            raise EntryRefused("caption_not_utf8", detail) from None
    return _text(value) or ""


def _facts(row: Row) -> dict[str, str]:
    """What the other columns say, as texts."""
    roles = row.roles
    taken = {roles.url, roles.caption, roles.key, roles.image} | PRIVATE_FACTS
    texts = {
        printable(name): _text(value) for name, value in row.values.items() if name not in taken
    }
    return {name: text for name, text in texts.items() if text is not None}


def _text(value: object) -> str | None:
    """A value as text; null where there is nothing."""
    if value is None:
        return None
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    try:
        return printable(json.dumps(_public(value), default=_plain))
    except (ValueError, TypeError, RecursionError) as error:
        return f"unreadable: {type(error).__name__}"


def _public(value: object) -> object:
    """The value without what is never kept."""
    if isinstance(value, dict):
        return {str(n): _public(v) for n, v in value.items() if n not in PRIVATE_FACTS}
    if isinstance(value, list):
        return [_public(each) for each in value]
    return value


def _plain(value: object) -> str | None:
    """What JSON has no type for; bytes are not kept."""
    return None if isinstance(value, bytes) else str(value)
