"""COCO captions: a JSON object whose `annotations` say what its `images` show.

An item is an annotation: an image of five captions makes five. The document is read twice, an
element at a time: in memory are the records of the images and the ids of the annotations
(COCO's largest, 118,287 images: some 100 MB), never the text of the document.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from jobs.sources.compression import decompressed
from jobs.sources.entry import Entry, EntryRefused, Limits, Reading
from jobs.sources.facts import facts, key_of, parsed_object, stored_text
from jobs.sources.json_arrays import elements
from jobs.sources.named_image import folder_of, media
from jobs.sources.numbered import UNNUMBERED, numbered, refused
from jobs.sources.occurrences import Occurrences
from jobs.sources.place import Place
from jobs.sources.texts import printable

FORMAT: Final = "coco"
SUFFIXES: Final = (".json", ".json.gz", ".json.zst")
OPTIONS: Final = frozenset({"images"})

_Record = Mapping[str, object]


def entries(place: Place, reading: Reading) -> Iterator[Entry]:
    """Every annotation once; then every image that none of them was about.

    The key of an annotation is its id, that of an image `image/<id>`. An image that is not in
    the dump is a row to be fetched if its record has a URL.

    Args:
        place: the JSON document.
        reading: option `images` is the folder that file names start from, relative to the
            dump's root; the document's own unless said.
    """
    folder = folder_of(place, reading.options.get("images"))
    return numbered(_entries(_Document(place, folder, reading.limits)))


@dataclass
class _Document:
    """Where the document lies, and what it says of its images.

    Attributes:
        place: the document.
        folder: that file names start from, relative to the dump's root.
        limits: what an item may cost.
        images: the record of each, by id.
        waiting: those that no annotation was about yet, in their order.
        licences: name or address, by id.
    """

    place: Place
    folder: str
    limits: Limits
    images: dict[str, _Record] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)


def _entries(document: _Document) -> Iterator[Entry]:
    is_empty = True
    ended: EntryRefused | None = None
    for read in (_collected, _annotated):  # the same damage is met twice, and told at the end
        try:
            for entry in read(document):
                is_empty = False
                yield entry
        except EntryRefused as refusal:
            ended = refusal
    for key in document.waiting:
        is_empty = False
        alone = EntryRefused("missing_caption", "no annotation is about the image")
        yield refused(alone, sample_key=f"image/{key}", member=_member(document.images[key]))
    if ended is None and is_empty:
        ended = EntryRefused("unreadable_shard", "neither images nor annotations")
    if ended is not None:
        raise ended


def _records(document: _Document, *names: str) -> Iterator[tuple[str, _Record | EntryRefused]]:
    """The elements of these arrays of the document, parsed."""
    limits = document.limits
    with document.place.open() as stream:
        for name, element in elements(decompressed(stream, limits), limits):
            if name is None:
                raise EntryRefused("unreadable_shard", "an array where an object should be")
            if name not in names:
                continue
            try:
                if isinstance(element, EntryRefused):
                    raise element
                yield name, parsed_object(element)
            except EntryRefused as refusal:
                yield name, refusal


def _collected(document: _Document) -> Iterator[Entry]:
    """Fill in the images; those that cannot be are entries."""
    for name, record in _records(document, "images", "licenses"):
        if name == "licenses":
            _license(record, document)
            continue
        if isinstance(record, EntryRefused):
            yield refused(record)
            continue
        key = key_of(record.get("id"))
        if key is None:
            yield refused(EntryRefused("damaged_record", "an image without an id"))
        elif key in document.images:
            refusal = EntryRefused("duplicate_key", "the document has an image of this id")
            yield refused(refusal, sample_key=f"image/{key}", occurrence=1)
        else:
            document.images[key] = record
            document.waiting[key] = None


def _license(record: _Record | EntryRefused, document: _Document) -> None:
    if isinstance(record, EntryRefused):
        return  # the images keep their number of it
    key, name = key_of(record.get("id")), record.get("url") or record.get("name")
    if key is not None and isinstance(name, str):
        document.licences[key] = printable(name)


def _annotated(document: _Document) -> Iterator[Entry]:
    seen = Occurrences()
    for _, record in _records(document, "annotations"):
        key = None if isinstance(record, EntryRefused) else key_of(record.get("id"))
        occurrence = 0
        if key is not None:
            occurrence = seen.count(key)
        yield _judged(record, key, occurrence, document)


def _judged(
    record: _Record | EntryRefused, key: str | None, occurrence: int, document: _Document
) -> Entry:
    member = None
    try:
        if isinstance(record, EntryRefused):
            raise record
        about = key_of(record.get("image_id")) or ""
        image = document.images.get(about)
        document.waiting.pop(about, None)
        member = None if image is None else _member(image)
        if key is None:
            raise EntryRefused("damaged_record", "an annotation without an id")
        if occurrence:
            raise EntryRefused("duplicate_key", "the document has an annotation of this id")
        if image is None:
            raise EntryRefused("missing_image", "no image of the document has its image_id")
        caption = _caption(record)
        url = image.get("coco_url") or image.get("flickr_url")
        found = media(document.place, document.folder, image.get("file_name"), url, document.limits)
        return Entry(
            position=UNNUMBERED,
            sample_key=key,
            member=member,
            caption=caption,
            extra=_extra(image, record, document),
            **found,  # type: ignore[arg-type]
        )
    except EntryRefused as refusal:
        return refused(refusal, sample_key=key, occurrence=occurrence, member=member)


def _caption(annotation: _Record) -> str:
    caption = annotation.get("caption")
    if caption is None:
        raise EntryRefused("missing_caption", "an annotation without a caption")
    if not isinstance(caption, str):
        raise EntryRefused("damaged_record", "the caption is no text")
    return stored_text(caption, "caption")


def _member(image: _Record) -> str | None:
    name = image.get("file_name")
    return printable(name) if isinstance(name, str) else None


def _extra(image: _Record, annotation: _Record, document: _Document) -> dict[str, str]:
    told = facts(image, but=("id", "file_name", "coco_url"))
    licence = document.licences.get(told.get("license", ""))
    if licence is not None:
        told["license_name"] = licence
    return told | facts(annotation, but=("id", "caption"))
