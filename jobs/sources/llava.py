"""LLaVA's conversations about images: a JSON list, or a line of JSON each.

The caption is the first answer; the whole conversation stays with the sample, as JSON.
"""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Final

from jobs.sources.compression import decompressed
from jobs.sources.entry import Entry, EntryRefused, Limits, Reading
from jobs.sources.facts import facts, key_of, parsed_object, stored_text
from jobs.sources.json_arrays import BOM, elements
from jobs.sources.lines import lines
from jobs.sources.named_image import folder_of, media
from jobs.sources.numbered import UNNUMBERED, numbered, refused
from jobs.sources.occurrences import Occurrences
from jobs.sources.place import Place
from jobs.sources.texts import printable

FORMAT: Final = "llava"
SUFFIXES: Final = tuple(
    f"{name}{codec}" for name in (".json", ".jsonl") for codec in ("", ".gz", ".zst")
)
OPTIONS: Final = frozenset({"images"})
_ANSWER: Final = "gpt"  # who speaks the answers; the questions are `human`
_LOOK_BYTES: Final = 4096  # chosen: a list shows its bracket among the first


def entries(place: Place, reading: Reading) -> Iterator[Entry]:
    """Every record of a shard once, in its order.

    The key is the record's id, or its number from 0. An id may come again: LLaVA's own lists
    have several conversations of an image under one, so the next is another occurrence.

    Args:
        place: the list or the lines.
        reading: option `images` is the folder that images' paths start from, relative to the
            dump's root; the shard's own unless said.
    """
    folder = folder_of(place, reading.options.get("images"))
    return numbered(_entries(place, folder, reading.limits))


def _entries(place: Place, folder: str, limits: Limits) -> Iterator[Entry]:
    seen = Occurrences()
    for number, line in _records(place, limits):
        key, occurrence, member = str(number), 0, None
        try:
            record = _object(line)
            key = key_of(record.get("id")) or key
            occurrence = seen.count(key)
            name = record.get("image")
            member = printable(name) if isinstance(name, str) else None
            yield Entry(
                position=UNNUMBERED,
                sample_key=key,
                occurrence=occurrence,
                member=member,
                caption=_caption(record.get("conversations")),
                extra=facts(record, but=("id", "image")),
                **media(place, folder, _name(name), None, limits),  # type: ignore[arg-type]
            )
        except EntryRefused as refusal:
            yield refused(refusal, sample_key=key, occurrence=occurrence, member=member)


def _records(place: Place, limits: Limits) -> Iterator[tuple[int, bytes | EntryRefused]]:
    """The records as they stand, with their numbers; blank lines are none."""
    with place.open() as stream:
        first = decompressed(stream, limits).read(_LOOK_BYTES).removeprefix(BOM).lstrip()[:1]
        stream.seek(0)
        plain = decompressed(stream, limits)
        # By its name where that says so: the first line may be broken, and look like a list.
        if first == b"[" and ".jsonl" not in posixpath.basename(place.shard):
            for number, (_, element) in enumerate(elements(plain, limits)):
                yield number, element
            return
        for number, line in lines(plain, limits):
            if isinstance(line, EntryRefused) or line.strip():
                yield number, line


def _object(line: bytes | EntryRefused) -> Mapping[str, object]:
    if isinstance(line, EntryRefused):
        raise line
    return parsed_object(line)


def _name(image: object) -> object:
    """The path of the one image that a record is about."""
    if isinstance(image, list):
        if len(image) > 1:
            raise EntryRefused("damaged_record", f"{len(image)} images, one can have the caption")
        return image[0] if image else None
    return image


def _caption(turns: object) -> str:
    """The first answer of a conversation."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise EntryRefused("damaged_record", "conversations is no list of turns")
    answer = next((turn for turn in turns if turn.get("from") == _ANSWER), None)
    if answer is None or answer.get("value") is None:
        raise EntryRefused("missing_caption", "a conversation without an answer")
    if not isinstance(answer["value"], str):
        raise EntryRefused("damaged_record", "the answer is no text")
    return stored_text(answer["value"], "answer")
