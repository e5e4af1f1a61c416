"""Images in a folder, their captions in files of the same stem or in one table beside them.

As trainers keep them: `cat.png` with `cat.txt`, `cat.caption` or `cat.json`; or a
`metadata.jsonl` or `metadata.csv` with a row per image (`file_name`, `text`). A folder is a
shard: held in memory is its listing, never the bytes of more than one item.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from jobs.sources import caption_table, media_file
from jobs.sources.entry import Entry, EntryRefused, Extent, Limits, Reading, Video
from jobs.sources.facts import facts, stored_text
from jobs.sources.members import CAPTION_KINDS, FACTS_KIND, IMAGE_KINDS, Group, Member, judged
from jobs.sources.numbered import UNNUMBERED, numbered, refused
from jobs.sources.occurrences import Occurrences
from jobs.sources.place import File, Place
from jobs.sources.texts import printable
from jobs.sources.video_file import VIDEO_KINDS

FORMAT: Final = "folder"
# chosen: what systems, downloaders and publishers leave beside images; all else is an entry
LITTER: Final = frozenset(
    {
        ".directory",
        ".ds_store",
        ".gitattributes",
        ".gitignore",
        "desktop.ini",
        "ehthumbs.db",
        "license",
        "license.md",
        "readme.md",
        "thumbs.db",
    }
)
_LITTER_START: Final = "._"  # macOS writes one for each file on foreign filesystems
_LITTER_END: Final = "_stats.json"  # img2dataset's report of a folder
# Captions go by either name: trainers of diffusion models ask for `text`.
_CAPTION_COLUMNS: Final = ("text", "caption")


def shards(files: Sequence[File], _folders: Sequence[str]) -> Iterator[File]:
    """The folder of these files, if one of them is an image or a caption."""
    if any(_is_wanted(file) for file in files):
        yield File(
            path=posixpath.dirname(files[0].path) or ".",
            size_bytes=sum(file.size_bytes for file in files),
            modified_at=max(file.modified_at for file in files),
        )


def entries(place: Place, reading: Reading) -> Iterator[Entry]:
    """Every item of a folder exactly once: rows of its table in their order, then by stem.

    Of several images of one stem the first has the captions, the others are `duplicate_key`.
    The key of a table's row is the file's name, else it is the stem. An image without a row is
    judged by the files beside it. A row leads to files of the same folder only, so that no
    other folder delivers them a second time.
    """
    return numbered(_entries(place, reading.limits))


def stem_and_kind(name: str) -> tuple[str, str]:
    """The item that a file belongs to, and what it is of it.

    Other than in a tar the last dot counts: the names of one day share all before the first.

    >>> stem_and_kind("2023.05.01 cat.PNG")
    ('2023.05.01 cat', 'png')
    """
    stem, suffix = posixpath.splitext(name)
    return stem, suffix[1:].lower()


def _is_wanted(file: File) -> bool:
    name = posixpath.basename(file.path)
    return name in caption_table.NAMES or (not _is_litter(name) and _is_known(name))


def _is_known(name: str) -> bool:
    kind = stem_and_kind(name)[1]
    return kind in IMAGE_KINDS | VIDEO_KINDS or kind in CAPTION_KINDS or kind == FACTS_KIND


def _is_image(name: str) -> bool:
    return stem_and_kind(name)[1] in IMAGE_KINDS


def _is_video(name: str) -> bool:
    return stem_and_kind(name)[1] in VIDEO_KINDS


def _is_media(name: str) -> bool:
    return _is_image(name) or _is_video(name)


def _is_litter(name: str) -> bool:
    lower = name.lower()
    return lower in LITTER or lower.startswith(_LITTER_START) or lower.endswith(_LITTER_END)


def _entries(place: Place, limits: Limits) -> Iterator[Entry]:
    listed = {posixpath.basename(file.path): file for file in place.files()}
    files = {name: file for name, file in listed.items() if not _is_litter(name)}
    table = next((name for name in caption_table.NAMES if name in files), None)
    source = files.pop(table) if table is not None else None
    folder = _Folder(place, limits, files)
    if source is not None:
        yield from folder.rows(source)
    yield from folder.rest()


@dataclass
class _Folder:
    """The files that no entry has taken yet, by name."""

    place: Place
    limits: Limits
    files: dict[str, File]
    seen: Occurrences = field(default_factory=Occurrences)

    def rest(self) -> Iterator[Entry]:
        """The items that files of one stem make."""
        by_stem = sorted(self.files, key=lambda name: (stem_and_kind(name)[0], name))
        for stem, names in groupby(by_stem, key=lambda name: stem_and_kind(name)[0]):
            for members in _items(list(names)):
                group = Group(stem, self.members(stem, members))
                yield judged(group, UNNUMBERED, self.occurrence(stem), self.limits)

    def rows(self, table: File) -> Iterator[Entry]:
        """The items of a table's rows; what they name, and what belongs to it, is taken."""
        name = posixpath.basename(table.path)
        sides: dict[str, list[str]] = {}
        for side in self.files:
            if not _is_media(side):
                sides.setdefault(stem_and_kind(side)[0], []).append(side)
        taken: set[str] = set()
        try:
            with self.place.open(table.path) as stream:
                for row in caption_table.rows(stream, name, self.limits):
                    if isinstance(row, EntryRefused):
                        yield refused(row, member=name)
                        continue
                    image = _named(row)
                    beside = sides.get(stem_and_kind(image)[0], [])
                    taken |= {image, *beside} & self.files.keys()
                    yield self.row(image, beside, row)
        except EntryRefused as refusal:
            yield refused(refusal, member=name)
        except OSError as error:
            detail = f"cannot be read: {type(error).__name__}"
            yield refused(EntryRefused("truncated_shard", detail), member=name)
        for name in taken:
            del self.files[name]

    def row(self, image: str, beside: Iterable[str], row: Mapping[str, object]) -> Entry:
        """The item of one row."""
        occurrence = self.occurrence(image) if image else 0
        try:
            if image not in self.files:
                raise self.absent(image)
            told = _facts(row)
            # Its own caption goes before a file's.
            sides = () if "caption" in told else filter(_is_known, beside)
            group = Group(image, self.members(image, [image, *sides]), told)
        except EntryRefused as refusal:
            key = printable(image) or None
            return refused(refusal, sample_key=key, occurrence=occurrence, member=key)
        return judged(group, UNNUMBERED, occurrence, self.limits)

    def absent(self, image: str) -> EntryRefused:
        """Why a row that names no file of the folder is refused."""
        if not image:
            return EntryRefused("damaged_record", f"no {caption_table.FILE_NAME}")
        try:
            found = media_file.find(self.place, _below(self.place.shard, image))
        except EntryRefused as refusal:
            return refusal
        if found is None:
            return media_file.missing()
        detail = "the row names no image of its own folder; put the table beside its images"
        return EntryRefused("missing_image", detail)

    def occurrence(self, key: str) -> int:
        """How often the key came before."""
        return self.seen.count(key)

    def members(self, key: str, names: Iterable[str]) -> list[Member]:
        """The files of an item, read."""
        return [self.member(key, name, self.files[name]) for name in names]

    def member(self, key: str, name: str, file: File) -> Member:
        """A file, read if it can be of use."""
        content: bytes | Video | EntryRefused = b""
        kind = stem_and_kind(name)[1]
        if _is_known(name):
            try:
                content = media_file.taken(self.place, file, kind, self.limits)
            except EntryRefused as refusal:
                content = refusal
                if refusal.error_class == "missing_image" and not _is_media(name):
                    content = EntryRefused("missing_caption", refusal.detail)
        return Member(
            name=name,
            key=key,
            kind=kind,
            size_bytes=file.size_bytes,
            content=content,
            extent=Extent(path=file.path),
        )


def _items(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The files of one stem as items: a video or else an image each, the first with the others."""
    videos = [name for name in names if _is_video(name)]
    media = videos or [name for name in names if _is_image(name)]
    sides = [name for name in names if name not in media]
    # What trainers cache beside an image is not read; where nothing else is, it is the item.
    yield [*media[:1], *filter(_is_known, sides)] or sides
    yield from ([name] for name in media[1:])


def _named(row: Mapping[str, object]) -> str:
    """The file that a row names; empty where it names none."""
    name = row.get(caption_table.FILE_NAME)
    return name.removeprefix("./") if isinstance(name, str) else ""


def _below(folder: str, name: str) -> str:
    return name if folder == "." else posixpath.join(folder, name)


def _facts(row: Mapping[str, object]) -> dict[str, str]:
    """What a row says of its image; the caption under `caption`, if there is one."""
    told = facts(row, but=(caption_table.FILE_NAME, *_CAPTION_COLUMNS))
    name = next((name for name in _CAPTION_COLUMNS if row.get(name) is not None), None)
    if name is None:
        return told
    caption = row[name]
    if not isinstance(caption, str):
        raise EntryRefused("damaged_record", f"{name} is no text")
    return told | {"caption": stored_text(caption, name)}
