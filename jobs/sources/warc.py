"""WARC archives: the image-text pairs and the text of their pages, and their images.

Of a `response` of status 200, an HTML page gives its pairs, to be fetched, and then itself as an
interleaved document; an image is media for its URL. All else is no item of such a dump and gives
no entry: other statuses and types (styles, scripts, documents), pages that hold nothing, and the
records that speak of others (`request`, `metadata`, `warcinfo`, `revisit`). What is damaged is an
entry of its own, whatever it was.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import BinaryIO, Final
from urllib.parse import urlsplit

from jobs.sources import html, http_response
from jobs.sources.entry import PAGE_URL, Entry, EntryRefused, Limits, image_facts
from jobs.sources.html import absolute
from jobs.sources.occurrences import Occurrences
from jobs.sources.texts import printable
from jobs.sources.warc_records import Damage, Record, records

FORMAT: Final = "warc"
SUFFIXES: Final = (".warc", ".warc.gz", ".warc.zst")
OPTIONS: Final = frozenset({"main_text"})  # "false": trafilatura's main text is left out
_OK: Final = 200
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
# What servers say of files that they do not know; looked at for what it is.
_UNTYPED: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "text/plain", "unknown/unknown"}
)
_NO_IMAGE: Final = frozenset({"not_an_image", "empty_media"})
# MIME Sniffing Standard §7.1: how markup that is an HTML page starts.
_HTML_STARTS: Final = (b"<!doctype html", b"<html", b"<head", b"<body")
_SNIFFED_BYTES: Final = 1445  # MIME Sniffing Standard §5: the resource header


def entries(
    stream: BinaryIO, limits: Limits, options: Mapping[str, str] | None = None
) -> Iterator[Entry]:
    """Every item of an archive exactly once, accepted or refused, in the order of its records.

    Args:
        stream: the archive from its start; can be sought.
        limits: what one record may cost, and how far a compressed archive may grow.
        options: of `OPTIONS`.

    Yields:
        Entries with dense positions from 0: of a page its pairs, keyed `<record id>/<n>`, before
        its document. A damaged record costs itself; the next is sought.
    """
    with_main_text = (options or {}).get("main_text", "true").lower() != "false"
    seen = Occurrences()
    position = itertools.count()
    for record in records(stream, limits):
        if isinstance(record, Damage):
            yield damaged(record, next(position))
        elif record.type == "response":
            for entry in _of_response(record, seen, limits, with_main_text):
                yield replace(entry, position=next(position))


def damaged(damage: Damage, position: int) -> Entry:
    """The entry of a record that cannot be read."""
    return Entry(
        position=position,
        sample_key=damage.key,
        shard_offset_bytes=damage.offset_bytes,
        error_class=damage.error_class,
        detail=damage.detail,
    )


def crawled_at(date: str | None) -> datetime | None:
    """A WARC date in UTC; null if it is missing or none.

    >>> crawled_at("2024-02-29T12:00:00Z")
    datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        found = datetime.fromisoformat((date or "").strip())
        # ISO 28500 §5.4: always UTC; some writers leave the Z out.
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _of_response(
    record: Record, seen: Occurrences, limits: Limits, with_main_text: bool
) -> Iterator[Entry]:
    """The entries of a response, positions yet to be given."""
    where = Entry(
        position=0,
        sample_key=record.key,
        size_bytes=record.length_bytes,
        extra={"warc_record_id": record.key},
    )
    date = crawled_at(record.headers.get("WARC-Date"))
    if date is not None:
        where.extra["crawled_at"] = date.isoformat()
    if not _is_http(record):
        return
    try:
        head = http_response.head(record.block)
        if head.status != _OK or not _may_be_item(head):
            return
        where = replace(where, occurrence=seen.before(record.key))
        if record.length_bytes > limits.max_member_bytes:
            raise EntryRefused(
                "member_too_large",
                f"{record.length_bytes} bytes, limit {limits.max_member_bytes}; "
                "raise ingest.max_member_bytes to take it",
            )
        stored = record.block[head.size_bytes :]
        content = http_response.body(stored, head.headers, limits)
        media = _media(content, head, record.target_uri, limits)
        if media is None and not _is_html(content, head):
            return
        seen.count(record.key)
        if where.occurrence:
            raise EntryRefused(
                "duplicate_key", f"occurrence {where.occurrence + 1} of its record id"
            )
        if absolute("", record.target_uri) is None:
            raise EntryRefused("invalid_url", "a WARC-Target-URI that is not http or https")
        if media is None:
            yield from _of_page(content, head, record, where, date, with_main_text)
            return
        is_as_it_lies = record.offset_bytes is not None and content is stored
        offset = (record.offset_bytes or 0) + head.size_bytes if is_as_it_lies else None
        yield replace(
            where,
            content=content,
            url=record.target_uri,
            size_bytes=len(content),
            shard_offset_bytes=offset,
            is_response=True,
            **media,  # type: ignore[arg-type]
        )
    except EntryRefused as refusal:
        yield replace(where, error_class=refusal.error_class, detail=refusal.detail)


def _is_http(record: Record) -> bool:
    declared = (record.headers.get("Content-Type") or "").lower()
    return "application/http" in declared or (
        not declared and record.target_uri.startswith(("http://", "https://"))
    )


def _may_be_item(head: http_response.Head) -> bool:
    return head.mime in _HTML or head.mime in _UNTYPED or head.mime.startswith("image/")


def _media(
    content: bytes, head: http_response.Head, url: str, limits: Limits
) -> dict[str, object] | None:
    """What an image's bytes say; null where they are none and were not said to be."""
    try:
        return image_facts(content, _path(url), limits)
    except EntryRefused as refusal:
        if head.mime.startswith("image/") or refusal.error_class not in _NO_IMAGE:
            raise
        return None


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # brackets that make no address
        return ""


def _is_html(content: bytes, head: http_response.Head) -> bool:
    start = content[:_SNIFFED_BYTES].lstrip().lower()
    return head.mime in _HTML or (head.mime in _UNTYPED and start.startswith(_HTML_STARTS))


def _of_page(
    content: bytes,
    head: http_response.Head,
    record: Record,
    where: Entry,
    date: datetime | None,
    with_main_text: bool,
) -> Iterator[Entry]:
    page = html.page(content, record.target_uri, head.charset, with_main_text=with_main_text)
    truncated = record.headers.get("WARC-Truncated")
    if truncated:  # ISO 28500 §5.13: the crawler stopped there, as it does at its own limit
        where.extra["warc_truncated"] = printable(truncated)
    for number, pair in enumerate(page.pairs):
        yield replace(
            where,
            sample_key=f"{record.key}/{number}",
            size_bytes=None,
            url=printable(pair.url),
            caption=printable(pair.text),
            extra={**where.extra, PAGE_URL: record.target_uri, "caption_kind": pair.kind},
        )
    if page.document.items:
        facts = dict(where.extra)
        if page.images_without_url:
            facts["images_without_url"] = str(page.images_without_url)
        if page.main_text:
            facts["main_text"] = printable(page.main_text)
        yield replace(
            where,
            url=record.target_uri,
            document=replace(page.document, crawled_at=date),
            extra=facts,
        )
