"""What a dump says of an item beside its caption: JSON values, kept as texts."""

import json
from collections.abc import Mapping
from typing import Final

from jobs.sources.entry import EntryRefused
from jobs.sources.texts import printable, said

# Never kept: camera facts carry positions and serial numbers.
PRIVATE_FACTS: Final = frozenset({"exif"})


def parsed(content: bytes | str) -> object:
    """The value of a JSON text.

    Raises:
        EntryRefused: it is none, or is nested too deeply.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EntryRefused("damaged_record", said(error)) from None


def parsed_object(content: bytes | str) -> dict[str, object]:
    """The members of a JSON object.

    Raises:
        EntryRefused: it is none.
    """
    found = parsed(content)
    if not isinstance(found, dict):
        raise EntryRefused("damaged_record", f"{type(found).__name__} where an object should be")
    return found


def facts(found: Mapping[str, object], *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """The members of an object as texts: without nulls, what is private, and what is named.

    Raises:
        EntryRefused: a value is nested too deeply.

    >>> facts({"width": 30, "licence": "CC0", "exif": "{GPS}", "id": 1}, but=("id",))
    {'width': '30', 'licence': 'CC0'}
    """
    return {
        printable(name): as_text(value)
        for name, value in found.items()
        if value is not None and name not in PRIVATE_FACTS and name not in but
    }


def as_text(value: object) -> str:
    """A JSON value as a text: a string as it is, all else as JSON.

    Raises:
        EntryRefused: it is nested too deeply.
    """
    if isinstance(value, str):
        return printable(value)
    try:
        # A timestamp of a typed table is no JSON value: its own words stand for it.
        return printable(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError as error:
        raise EntryRefused("damaged_record", said(error)) from None


def key_of(value: object) -> str | None:
    """The key that an id gives: of a text or a whole number; null for all else.

    >>> key_of(37), key_of("37"), key_of(True), key_of("")
    ('37', '37', None, None)
    """
    if isinstance(value, str) and value:
        return printable(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def stored_text(value: str, what: str) -> str:
    """A caption or other text that must be storable as it is.

    Raises:
        EntryRefused: it is no valid Unicode.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EntryRefused(
            "caption_not_utf8", f"{what}: {error.reason} at character {error.start}"
        ) from None
    return value
