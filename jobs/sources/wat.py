"""WAT archives: what Common Crawl says of the images of each page, as JSON in `metadata` records.

`Links` of the `HTML-Metadata` hold each image (`IMG@/src`) with its alt text; pages themselves are
not in a WAT. Records without such images, or about a response of another status, give no entry.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, Final

from jobs.sources.entry import PAGE_URL, Entry, EntryRefused, Limits
from jobs.sources.html import absolute, collapsed
from jobs.sources.occurrences import Occurrences
from jobs.sources.texts import printable
from jobs.sources.warc import crawled_at, damaged
from jobs.sources.warc_records import Damage, Record, records

FORMAT: Final = "wat"
SUFFIXES: Final = (".wat", ".wat.gz")
_IMAGE: Final = "IMG@/src"  # IIPC webarchive-commons: element, attribute


def entries(stream: BinaryIO, limits: Limits) -> Iterator[Entry]:
    """Every image-text pair of an archive exactly once, to be fetched, in the order of its records.

    Args:
        stream: the archive from its start; can be sought.
        limits: what one record may cost, and how far a compressed archive may grow.

    Yields:
        Entries with dense positions from 0, keyed `<record id>/<n>`; of each record a (url, text)
        once. A damaged record, or one whose JSON cannot be read, costs itself.
    """
    seen = Occurrences()
    position = itertools.count()
    for record in records(stream, limits):
        if isinstance(record, Damage):
            yield damaged(record, next(position))
        elif record.type == "metadata":
            for entry in _of_metadata(record, seen, limits):
                yield replace(entry, position=next(position))


def _of_metadata(record: Record, seen: Occurrences, limits: Limits) -> Iterator[Entry]:
    where = Entry(
        position=0, sample_key=record.key, occurrence=seen.before(record.key), size_bytes=None
    )
    try:
        envelope = _envelope(record, limits)
        pairs = _pairs(envelope, record)
        if not pairs:
            return
        seen.count(record.key)
        if where.occurrence:
            raise EntryRefused(
                "duplicate_key", f"occurrence {where.occurrence + 1} of its record id"
            )
    except EntryRefused as refusal:
        yield replace(
            where,
            size_bytes=record.length_bytes,
            error_class=refusal.error_class,
            detail=refusal.detail,
        )
        return
    extra = _extra(envelope, record)
    for number, (url, text) in enumerate(pairs):
        yield replace(
            where, sample_key=f"{record.key}/{number}", url=url, caption=text, extra=dict(extra)
        )


def _envelope(record: Record, limits: Limits) -> dict[str, object]:
    if record.length_bytes > limits.max_member_bytes:
        raise EntryRefused(
            "member_too_large",
            f"{record.length_bytes} bytes, limit {limits.max_member_bytes}; "
            "raise ingest.max_member_bytes to take it",
        )
    try:
        parsed = json.loads(record.block)
    except (ValueError, RecursionError) as error:
        raise EntryRefused("damaged_record", f"no JSON: {type(error).__name__}") from None
    envelope = parsed.get("Envelope") if isinstance(parsed, dict) else None
    if not isinstance(envelope, dict):
        raise EntryRefused("damaged_record", "JSON without an Envelope")
    return envelope


def _pairs(envelope: dict[str, object], record: Record) -> list[tuple[str, str]]:
    """Each (url, text) once, in the order of the page."""
    response = _inside(envelope, "Payload-Metadata", "HTTP-Response-Metadata")
    if str(_inside(response, "Response-Message").get("Status", "200")) != "200":
        return []
    links = _inside(response, "HTML-Metadata").get("Links")
    base = _page_url(envelope, record)
    head = _inside(response, "HTML-Metadata", "Head").get("Base")
    base = absolute(base, head if isinstance(head, str) else None) or base
    found: dict[tuple[str, str], None] = {}
    for link in links if isinstance(links, list) else []:
        if not isinstance(link, dict) or link.get("path") != _IMAGE:
            continue
        url, alt = link.get("url"), link.get("alt")
        if isinstance(url, str) and isinstance(alt, str):
            resolved, text = absolute(base, url), printable(collapsed(alt))
            if resolved is not None and text:
                found[printable(resolved), text] = None
    return list(found)


def _extra(envelope: dict[str, object], record: Record) -> dict[str, str]:
    extra = {
        PAGE_URL: _page_url(envelope, record),
        "warc_record_id": record.key,
        "caption_kind": "alt",
    }
    date = _inside(envelope, "WARC-Header-Metadata").get("WARC-Date")
    date = date if isinstance(date, str) else record.headers.get("WARC-Date")
    crawled = crawled_at(date)
    return extra if crawled is None else {**extra, "crawled_at": crawled.isoformat()}


def _page_url(envelope: dict[str, object], record: Record) -> str:
    found = _inside(envelope, "WARC-Header-Metadata").get("WARC-Target-URI")
    return printable(found) if isinstance(found, str) else record.target_uri


def _inside(value: dict[str, object], *names: str) -> dict[str, object]:
    """The object under these names; an empty one where there is none."""
    for name in names:
        inner = value.get(name)
        value = inner if isinstance(inner, dict) else {}
    return value
