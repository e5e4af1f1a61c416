"""The formats there are: how each finds its shards in a folder, and reads one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.sources import (
    coco,
    folder,
    img2dataset,
    interleaved,
    llava,
    table,
    warc,
    wat,
    webdataset,
)
from jobs.sources.entry import Entry, Reading
from jobs.sources.place import File, Place, Shards

Read = Callable[[Place, Reading], Iterator[Entry]]


@dataclass(frozen=True)
class Format:
    """One way in which dumps come.

    Attributes:
        shards: of a folder's files and the paths of its folders, those that are shards.
        read: every item of a shard exactly once, with dense positions from 0.
        options: what a configuration may say of such a dump.
    """

    shards: Shards
    read: Read
    options: frozenset[str] = frozenset()


def by_suffix(*suffixes: str) -> Shards:
    """Every file whose name ends so is a shard."""

    def shards(files: Sequence[File], _folders: Sequence[str]) -> Iterator[File]:
        return (file for file in files if file.path.endswith(suffixes))

    return shards


def _webdataset(place: Place, reading: Reading) -> Iterator[Entry]:
    with place.open() as stream:
        yield from webdataset.entries(stream, reading.limits, first=reading.first)


def _warc(place: Place, reading: Reading) -> Iterator[Entry]:
    with place.open() as stream:
        yield from warc.entries(stream, reading.limits, reading.options)


def _wat(place: Place, reading: Reading) -> Iterator[Entry]:
    with place.open() as stream:
        yield from wat.entries(stream, reading.limits)


FORMATS: Final[Mapping[str, Format]] = {
    webdataset.FORMAT: Format(by_suffix(*webdataset.SUFFIXES), _webdataset),
    table.FORMAT: Format(by_suffix(*table.SUFFIXES), table.entries, table.OPTIONS),
    img2dataset.FORMAT: Format(img2dataset.shards, img2dataset.entries, img2dataset.OPTIONS),
    warc.FORMAT: Format(by_suffix(*warc.SUFFIXES), _warc, warc.OPTIONS),
    wat.FORMAT: Format(by_suffix(*wat.SUFFIXES), _wat),
    folder.FORMAT: Format(folder.shards, folder.entries),
    coco.FORMAT: Format(by_suffix(*coco.SUFFIXES), coco.entries, coco.OPTIONS),
    llava.FORMAT: Format(by_suffix(*llava.SUFFIXES), llava.entries, llava.OPTIONS),
    interleaved.OBELICS: Format(
        by_suffix(*interleaved.SUFFIXES[interleaved.OBELICS]), interleaved.obelics
    ),
    interleaved.MMC4: Format(by_suffix(*interleaved.SUFFIXES[interleaved.MMC4]), interleaved.mmc4),
    interleaved.PIN: Format(by_suffix(*interleaved.SUFFIXES[interleaved.PIN]), interleaved.pin),
}
