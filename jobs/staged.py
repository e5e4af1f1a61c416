"""From shards of the manifest to staged entries: what a worker does."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
from pyspark.sql.types import IntegerType, LongType, StringType, StructType

from jobs.fetch import urls as web
from jobs.guard import Guard, Reject
from jobs.runtime import dumps
from jobs.runtime.staging import FILE, MediaFile, Staging
from jobs.sources.entry import Document, Entry, EntryRefused, Extent, Limits, Reading
from jobs.sources.formats import FORMATS
from jobs.sources.place import Place
from jobs.sources.texts import said
from schemas import documents, samples
from schemas.field import field
from schemas.samples import IMAGE_TEXT, VIDEO_TEXT
from udfs import exif
from udfs.arrow import record_batch
from udfs.identity import digest, sample_id

# The stage, as the ids of inputs name it.
STAGE: Final = "ingest"
# What one record batch to Spark may hold; Arrow and the JVM both keep a copy.
BATCH_BYTES: Final = 16 * 1024 * 1024
# Positions of one shard: 4 billion items, far more than a shard ever holds.
ORDINALS_PER_SHARD: Final = 1 << 32

# What becomes of an entry.
SAMPLE: Final = "sample"
URL: Final = "url"
RESPONSE: Final = "response"
DOCUMENT: Final = "document"
REJECTED: Final = "rejected"
QUARANTINED: Final = "quarantined"
# No entry, but the position of the next one that a later batch is to read.
CONTINUED: Final = "continued"

_FROM_SAMPLES: Final = [f for f in samples.SCHEMA if f.name not in samples.VOLATILE]
_NULLABLE: Final = StructType(
    [field(f.name, f.dataType, f.metadata["comment"], nullable=True) for f in _FROM_SAMPLES]
)
_OF_PAGES: Final = ("title", "crawled_at", "items", "image_count", "text_chars", "markdown")
STAGED: Final = StructType(
    [
        *_NULLABLE.fields,
        field("fate", StringType(), "what becomes of the entry"),
        field("cause", StringType(), "why its shard was read"),
        field("attempt", IntegerType(), "revision of the shard"),
        field("first_position", LongType(), "that its shard was read from"),
        field("position", LongType(), "in the shard, from 0"),
        field("host", StringType(), "of the url", nullable=True),
        field("md5", StringType(), "of the media", nullable=True),
        field("sha1", StringType(), "of the media", nullable=True),
        FILE,
        field("error_class", StringType(), "of the quarantined", nullable=True),
        field("reason", StringType(), "of the rejected", nullable=True),
        field("matched", StringType(), "what stands on a blocklist", nullable=True),
        field("detail", StringType(), "of the error or reason", nullable=True),
        field("input_id", StringType(), "the entry as quarantine and rejects name it"),
        *(
            field(f.name, f.dataType, f.metadata["comment"], nullable=True)
            for f in documents.SCHEMA
            if f.name in _OF_PAGES
        ),
    ]
)
SHARD_COLUMNS: Final = (
    "dump",
    "shard",
    "revision",
    "cause",
    "root",
    "format",
    "options",
    "size_bytes",
    "modified_at",
    "first_position",
    "shard_ordinal",
)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """How much of a shard one batch takes, and what of it is stored.

    Attributes:
        slice_bytes: media after which the rest is left to a later batch.
        slice_items: likewise, items.
        max_inline_bytes: media of more stay where they are, if they lie there as they are.
    """

    slice_bytes: int
    slice_items: int
    max_inline_bytes: int


def reader(
    limits: Limits, rules: Guard, staging: Staging, portion: Portion
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Arrow function from shard rows to staged entries, in bounded batches.

    Args:
        limits: what an entry may cost.
        rules: what is turned away.
        staging: which gets the media.
        portion: how much of a shard is read, and stored.
    """

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        media = MediaFile(staging)
        for batch in batches:
            for shard in batch.to_pylist():
                yield from _bounded(_without_media(_staged(shard, limits, rules, portion), media))
        media.close()

    return read


def _without_media(rows: Iterable[dict[str, Any]], media: MediaFile) -> Iterator[dict[str, Any]]:
    """The rows with the file that has their media, in place of the media."""
    for row in rows:
        kept = row.pop("kept", None)
        if kept is not None:
            row[FILE.name] = media.put({**row, **kept})
        yield row


def _bounded(rows: Iterable[dict[str, Any]]) -> Iterator[pa.RecordBatch]:
    """Batches of `BATCH_BYTES` at most; a row that is larger is one alone."""
    held: list[dict[str, Any]] = []
    held_bytes = 0
    for row in rows:
        row_bytes = _size_bytes(row)
        if held and held_bytes + row_bytes > BATCH_BYTES:
            yield record_batch(held, STAGED)
            held, held_bytes = [], 0
        held.append(row)
        held_bytes += row_bytes
    if held:
        yield record_batch(held, STAGED)


def _size_bytes(value: object) -> int:
    """About what a value takes in Arrow.

    >>> _size_bytes({"caption": "caf\u00e9", "content": None})
    27
    """
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(map(_size_bytes, value.values())) + sum(len(str(key)) for key in value)
    if isinstance(value, list):
        return sum(map(_size_bytes, value))
    return 8  # a number, a time, or the place of what is not there


def _staged(
    shard: Mapping[str, Any], limits: Limits, rules: Guard, portion: Portion
) -> Iterator[dict[str, Any]]:
    first = int(shard["shard_ordinal"]) * ORDINALS_PER_SHARD
    of_shard = {
        **dict.fromkeys(STAGED.names),
        "dump": shard["dump"],
        "shard": shard["shard"],
        "cause": shard["cause"],
        "attempt": shard["revision"],
        "first_position": shard["first_position"],
    }
    taken_bytes = 0
    for count, entry in enumerate(entries(shard, limits)):
        where = {"position": entry.position, "ingest_ordinal": first + entry.position}
        if taken_bytes >= portion.slice_bytes or count >= portion.slice_items:
            yield {**of_shard, **where, "fate": CONTINUED, "input_id": ""}
            return
        taken_bytes += len(entry.content or b"")
        row = {
            **of_shard,
            **{name: getattr(entry, name) for name in _ENTRY_COLUMNS},
            **where,
            "input_id": digest(
                STAGE,
                str(shard["dump"]),
                str(shard["shard"]),
                entry.sample_key or "",
                entry.occurrence,
                entry.position,
                int(shard["revision"]),
            ),
            **_judged(entry, str(shard["dump"]), str(shard["shard"]), rules),
        }
        if row["fate"] in (SAMPLE, RESPONSE):
            row["kept"] = _kept(entry, shard, portion.max_inline_bytes)
        yield row


_ENTRY_COLUMNS: Final = [name for name in STAGED.names if name in Entry.__dataclass_fields__]


def entries(shard: Mapping[str, Any], limits: Limits) -> Iterator[Entry]:
    """All that a shard holds from `first_position` on, and one entry for what stops the reading.

    Args:
        shard: columns of `SHARD_COLUMNS`.
        limits: what an entry may cost.
    """
    place = Place(str(shard["root"]), str(shard["shard"]))
    position = first = int(shard["first_position"])
    try:
        _refuse_changed(shard, place)
        reading = Reading(limits=limits, options=dict(shard["options"] or ()), first=first)
        for entry in FORMATS[str(shard["format"])].read(place, reading):
            if entry.position >= first:
                position = entry.position + 1
                yield entry
    except EntryRefused as refusal:
        yield _stopped(position, refusal.error_class, refusal.detail)
    except OSError as error:
        detail = f"cannot be read: {type(error).__name__}"
        yield _stopped(position, "truncated_shard" if position else "unreadable_shard", detail)
    except Exception as error:  # hostile bytes raise whatever they like
        yield _stopped(position, "truncated_shard" if position else "unreadable_shard", said(error))


def _stopped(position: int, error_class: str, detail: str) -> Entry:
    return Entry(position=position, sample_key=None, error_class=error_class, detail=detail)


def _refuse_changed(shard: Mapping[str, Any], place: Place) -> None:
    """Nothing, for a shard that is what the manifest says.

    Times are compared as the filesystem gives them: what an object store writes twice within its
    second, of one size, is not noticed; what it dates anew without a change is read by a retry.

    Raises:
        EntryRefused: it is not.
    """
    if shard["cause"] == dumps.CHANGED:
        raise EntryRefused(
            "shard_changed",
            f"{shard['size_bytes']} bytes now, of {shard['modified_at']};"
            " what it held before stays; `sluice retry --class shard_changed` takes what is new",
        )
    now = place.info()
    if now is None:  # gone, which the reading says; or a folder, whose files may come and go
        return
    if now.size_bytes != shard["size_bytes"]:
        raise EntryRefused(
            "shard_changed",
            f"{shard['size_bytes']} bytes when it was discovered, {now.size_bytes} now;"
            " `sluice retry --class shard_changed` reads it",
        )
    then = _utc(shard["modified_at"])
    if now.modified_at != then:
        raise EntryRefused(
            "shard_changed",
            f"of {then} when it was discovered, of {now.modified_at} now, of the same size;"
            " `sluice retry --class shard_changed` reads it",
        )


def _utc(moment: datetime) -> datetime:
    """A time of the manifest; one without a zone is UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _judged(entry: Entry, dump: str, shard: str, rules: Guard) -> dict[str, Any]:
    """The columns that depend on what becomes of the entry."""
    if entry.error_class is not None:
        return {"fate": QUARANTINED}
    assert entry.sample_key is not None
    columns: dict[str, Any] = {
        "sample_id": sample_id(dump, shard, entry.sample_key, entry.occurrence)
    }
    target = None
    if entry.url is not None:
        try:
            target = web.parse(entry.url)
            columns |= {"url_sha256": target.url_sha256, "host": target.host}
        except EntryRefused as refusal:
            if not entry.has_media and entry.document is None:
                refused = {"error_class": "invalid_url", "detail": refusal.detail}
                return {"fate": QUARANTINED, **refused}
    keys = [("url_sha256", target.url_sha256), ("domain", target.host)] if target else []
    if entry.has_media:
        columns |= _digests(entry)
        digests = (("md5", columns["md5"]), ("sha1", columns["sha1"]))
        keys += [*digests, ("sha256", str(entry.media_sha256))]
    against = rules.listed(keys)
    if against is None and entry.has_media:
        against = rules.size(
            columns["size_bytes"],
            int(entry.header_width_px or 0),
            int(entry.header_height_px or 0),
        )
    if against is not None:
        return _rejected(against, columns)
    if entry.document is not None:
        return {"fate": DOCUMENT, **columns, **_page(entry.document)}
    if entry.caption is not None:
        text = entry.caption.encode("utf-8", "surrogatepass")
        columns |= {"text_sha256": hashlib.sha256(text).hexdigest(), "modality": IMAGE_TEXT}
    if entry.video is not None:
        columns["modality"] = VIDEO_TEXT
    if not entry.has_media:
        return {"fate": URL, **columns}
    return {"fate": RESPONSE if entry.is_response else SAMPLE, **columns}


def _digests(entry: Entry) -> dict[str, Any]:
    if entry.video is not None:
        return {"md5": entry.video.md5, "sha1": entry.video.sha1, "size_bytes": entry.size_bytes}
    assert entry.content is not None
    return {
        "md5": hashlib.md5(entry.content, usedforsecurity=False).hexdigest(),
        "sha1": hashlib.sha1(entry.content, usedforsecurity=False).hexdigest(),
        "size_bytes": len(entry.content),
    }


def _kept(entry: Entry, shard: Mapping[str, Any], max_inline_bytes: int) -> dict[str, Any]:
    """What is stored of media: their bytes, or where they lie; of a video, its header too."""
    extent = entry.extent
    if extent is None and entry.shard_offset_bytes is not None:
        extent = Extent(path=str(shard["shard"]), offset_bytes=entry.shard_offset_bytes)
    content = entry.content
    if content is not None and (extent is None or len(content) <= max_inline_bytes):
        return {"content": exif.scrub(content)}
    assert extent is not None  # of a video, or its reader has refused it
    video = None if entry.video is None else asdict(entry.video.header)
    there = {"root": shard["root"], "path": extent.path, "offset_bytes": extent.offset_bytes}
    return {**there, "video": video}


def _rejected(against: Reject, columns: Mapping[str, Any]) -> dict[str, Any]:
    said = {"reason": against.reason, "detail": against.detail, "matched": against.matched}
    row = {"fate": REJECTED, "sample_id": columns["sample_id"], **said}
    if against.matched is None:
        return row
    # Of what stands on a blocklist nothing is kept but the list, the hash and the time.
    nothing = ("url", "caption", "extra", "member", "sample_key", "media_sha256", "mime")
    return row | dict.fromkeys(nothing)


def _page(document: Document) -> dict[str, Any]:
    items = [
        {
            "position": position,
            "kind": item.kind,
            "text": item.text,
            "url": item.url,
            "url_sha256": _url_sha256(item.url),
            "xpath": item.xpath,
        }
        for position, item in enumerate(document.items)
    ]
    texts = [item.text or "" for item in document.items if item.kind == "text"]
    return {
        "title": document.title,
        "crawled_at": document.crawled_at,
        "items": items,
        "image_count": len(items) - len(texts),
        "text_chars": sum(map(len, texts)),
        "markdown": document.markdown(),
    }


def _url_sha256(url: str | None) -> str | None:
    try:
        return None if url is None else web.parse(url).url_sha256
    except EntryRefused:
        return None
