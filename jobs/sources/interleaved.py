"""Interleaved pages as data sets publish them: OBELICS and OmniCorpus, MMC4, PIN.

Each comes as a line of JSON per page; OBELICS and OmniCorpus as Parquet too, MMC4 in a zip.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from jobs.sources.entry import Document, Entry, EntryRefused, Item, Reading
from jobs.sources.facts import facts, key_of, parsed
from jobs.sources.numbered import UNNUMBERED, numbered, refused
from jobs.sources.occurrences import Occurrences
from jobs.sources.place import Place
from jobs.sources.records import Record, records
from jobs.sources.texts import printable

OBELICS: Final = "obelics"
MMC4: Final = "mmc4"
PIN: Final = "pin"
_LINES: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst")
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    OBELICS: (*_LINES, ".parquet"),
    MMC4: (*_LINES, ".jsonl.zip"),
    PIN: _LINES,
}

# An image of Markdown (CommonMark 0.31 §6.4) with a plain destination and an optional title.
# Every part is bounded, so that no text takes more than its length to search.
_IMAGE: Final = re.compile(
    r"!\[(?P<alt>[^\[\]]{0,2000})\]"
    r"\([ \t\n]{0,9}<?(?P<to>[^\s()<>]{1,4000})>?"
    r"(?:[ \t\n]{1,9}\"[^\"]{0,2000}\")?[ \t\n]{0,9}\)"
)
_WEB: Final = ("http://", "https://")


@dataclass(frozen=True, kw_only=True)
class _Page:
    """What a record says; the key is null where it has no id."""

    items: Sequence[Item]
    key: str | None = None
    url: str | None = None
    extra: dict[str, str] = field(default_factory=dict)


_Parse = Callable[[Record], _Page]


def obelics(place: Place, reading: Reading) -> Iterator[Entry]:
    """Pages of OBELICS and OmniCorpus: `images` and `texts` of one length, one in each slot.

    The key is `general_metadata.id` if there is one (OmniCorpus), else the row's number from 0.
    """
    return numbered(_pages(records(place, reading.limits), _obelics))


def mmc4(place: Place, reading: Reading) -> Iterator[Entry]:
    """Pages of MMC4: sentences, and images that are assigned to sentences.

    MMC4 does not say where in the page an image stood. Each is put directly before the sentence
    it is assigned to; several of one sentence keep their order. `similarity_matrix` is left
    out: it is CLIP's, of every image with every sentence, and as long as the page. The key is
    the row's number from 0.
    """
    return numbered(_pages(records(place, reading.limits), _mmc4))


def pin(place: Place, reading: Reading) -> Iterator[Entry]:
    """Pages of PIN: Markdown, split where its images stand; those are files of the dump.

    A path starts from the shard's folder; one that leads out of the dump refuses the page. The
    key is `id`, else the row's number from 0.
    """
    return numbered(_pages(records(place, reading.limits), partial(_pin, place)))


def _pages(found: Iterator[tuple[int, Record | EntryRefused]], parse: _Parse) -> Iterator[Entry]:
    seen = Occurrences()
    for number, record in found:
        key, occurrence = str(number), 0
        try:
            if isinstance(record, EntryRefused):
                raise record
            page = parse(record)
            key = page.key or key
            occurrence = seen.count(key)
            if occurrence:
                raise EntryRefused("duplicate_key", "the shard has a page of this id")
            if not any(item.kind == "image" or (item.text or "").strip() for item in page.items):
                raise EntryRefused("empty_document", "no text and no image")
            yield Entry(
                position=UNNUMBERED,
                sample_key=key,
                url=page.url,
                extra=page.extra,
                document=Document(items=tuple(page.items)),
            )
        except EntryRefused as refusal:
            yield refused(refusal, sample_key=key, occurrence=occurrence)


def _obelics(record: Record) -> _Page:
    images, texts = _list(record, "images"), _list(record, "texts")
    if len(images) != len(texts):
        raise EntryRefused("damaged_record", f"{len(images)} images, {len(texts)} texts")
    extra = facts(record, but=("images", "texts", "general_metadata"))
    items = []
    slots = zip(images, texts, _alts(record, images), strict=True)
    for slot, (image, text, alt) in enumerate(slots):
        if image is None and isinstance(text, str):
            items.append(Item(kind="text", text=printable(text)))
        elif text is None and isinstance(image, str):
            items.append(Item(kind="image", text=alt, url=printable(image)))
        else:
            raise EntryRefused("damaged_record", f"slot {slot} is not a text or else an image")
    try:
        general = _unpacked(record.get("general_metadata"))
    except EntryRefused as refusal:
        general = {"general_metadata_error": refusal.detail}
    if not isinstance(general, dict):
        return _Page(items=items, extra=extra)
    return _Page(
        items=items,
        key=key_of(general.get("id")),
        url=_text(general.get("url")),
        extra=extra | facts(general, but=("id", "url")),
    )


def _alts(record: Record, images: Sequence[object]) -> list[str | None]:
    """The alt text of each slot, as far as the metadata say."""
    try:
        metadata = _unpacked(record.get("metadata"))
    except EntryRefused:
        metadata = None  # it stays among the facts as it is
    if not isinstance(metadata, list):
        metadata = []
    if len(metadata) != len(images):
        # OmniCorpus has no metadata for texts.
        of_images = iter(metadata)
        metadata = [None if image is None else next(of_images, None) for image in images]
    return [_text(told.get("alt_text")) if isinstance(told, dict) else None for told in metadata]


def _mmc4(record: Record) -> _Page:
    sentences = _list(record, "text_list")
    before: dict[int, list[Item]] = {}
    for image in _list(record, "image_info"):
        if not isinstance(image, dict):
            raise EntryRefused("damaged_record", "image_info holds what is no object")
        index = image.get("matched_text_index")
        if type(index) is not int or not 0 <= index < len(sentences):
            raise EntryRefused("damaged_record", "an image is assigned to no sentence")
        before.setdefault(index, []).append(Item(kind="image", url=_text(image.get("raw_url"))))
    items = []
    for index, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            raise EntryRefused("damaged_record", f"sentence {index} is no text")
        items += [*before.get(index, ()), Item(kind="text", text=printable(sentence))]
    return _Page(
        items=items,
        url=_text(record.get("url")),
        # What the images were matched by stays; their places in the text cannot be had back.
        extra=facts(record, but=("text_list", "url", "similarity_matrix")),
    )


def _pin(place: Place, record: Record) -> _Page:
    markdown = record.get("md")
    if not isinstance(markdown, str):
        raise EntryRefused("damaged_record", "md is no text")
    items: list[Item] = []
    at = 0
    for found in _IMAGE.finditer(markdown):
        items += _texts(markdown[at : found.start()])
        items.append(_image(place, found["alt"], found["to"]))
        at = found.end()
    items += _texts(markdown[at:])
    return _Page(items=items, key=key_of(record.get("id")), extra=facts(record, but=("id", "md")))


def _texts(markdown: str) -> list[Item]:
    return [Item(kind="text", text=printable(markdown))] if markdown.strip() else []


def _image(place: Place, alt: str, to: str) -> Item:
    text = printable(alt) or None
    if to.lower().startswith(_WEB):
        return Item(kind="image", text=text, url=printable(to))
    # As Place has it, but without a look at the file: whoever opens it asks again.
    if to.startswith(("/", "\\")) or ".." in to.replace("\\", "/").split("/") or "\0" in to:
        raise EntryRefused("unsafe_member_name", "an image's path climbs out of the dump")
    return Item(kind="image", text=text, path=printable(posixpath.normpath(place.beside(to))))


def _list(record: Record, name: str) -> list[object]:
    found = record.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise EntryRefused("damaged_record", f"{name} is no list")
    return found


def _unpacked(value: object) -> object:
    """A value that may have been packed as JSON once more."""
    return parsed(value) if isinstance(value, str) else value


def _text(value: object) -> str | None:
    return printable(value) if isinstance(value, str) and value else None
