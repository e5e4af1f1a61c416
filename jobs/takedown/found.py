"""What a takedown removes: found once, before anything changes, and kept until all is done."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.dedup.departed import Departed, departed
from jobs.fetch import urls as web
from jobs.runtime.tables import ON_DEMAND, Warehouse, contract
from jobs.sources.entry import EntryRefused
from jobs.takedown.keys import Key
from schemas import (
    captions,
    clip_pairs,
    clips,
    contamination,
    documents,
    duplicate_edges,
    duplicates,
    exact_index,
    fetches,
    image_signals,
    keyframes,
    media,
    pairs,
    samples,
    text_signals,
    tombstones,
    urls,
    video_signals,
)
from schemas.tombstones import MEDIA, SAMPLE, URL

# Keys of one condition: chosen, so that the text of a statement stays below some 4 MB.
_KEYS: Final = 50_000
Keys = Collection[str] | Collection[int]


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Rows of a table that go.

    Attributes:
        table: its name.
        column: that has the keys.
        keys: digests, ids or ordinals.
        of: a condition more, on the kind of duplicates; empty: none.
        rows: how many there were.
    """

    table: str
    column: str
    keys: Sequence[str | int]
    of: str = ""
    rows: int = 0

    def conditions(self) -> Iterator[str]:
        """By which the rows are deleted, some keys each."""
        for start in range(0, len(self.keys), _KEYS):
            # Digests, uuids and numbers: nothing to be quoted.
            some = ", ".join(
                str(key) if isinstance(key, int) else f"'{key}'"
                for key in self.keys[start : start + _KEYS]
            )
            yield f"{self.column} IN ({some})" + (f" AND {self.of}" if self.of else "")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Everything that goes.

    Attributes:
        samples: id of each sample, page or clip that goes -> the key that named it.
        unknown: keys that no table knows.
        removals: in their order: what people see goes first.
        departed: what of duplicates is to be judged again.
        references: bytes in dumps that are not ours to remove.
    """

    samples: Mapping[str, str]
    unknown: Sequence[str]
    removals: Sequence[Removal]
    departed: Sequence[Departed]
    references: Sequence[str]

    @property
    def tables(self) -> set[str]:
        """Tables that lose rows."""
        return {removal.table for removal in self.removals}

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Found":
        """As it was before it was written down."""
        removals = [Removal(**row) for row in said["removals"]]
        departing = [Departed(**row) for row in said["departed"]]
        return cls(**{**said, "removals": removals, "departed": departing})


def known(warehouse: Warehouse, keys: Iterable[Key]) -> set[Key]:
    """Of keys of media and URLs those that some table knows."""
    asked, look = _by_kind(keys), _Look(warehouse)
    found = {
        Key(kind, digest)
        for kind, tables in {
            MEDIA: (media.TABLE, keyframes.TABLE),
            URL: (samples.TABLE, urls.TABLE, fetches.TABLE),
        }.items()
        for table in tables
        for digest in look.values(table, kind, asked[kind])
    }
    return found | entombed(warehouse, keys)


def entombed(warehouse: Warehouse, keys: Iterable[Key]) -> set[Key]:
    """Of keys those that have a tombstone."""
    asked = set(keys)
    digests = {key.digest for key in asked}
    rows = _Look(warehouse).rows(tombstones.TABLE, "key", digests, "kind", "key")
    return asked & {Key(row.kind, row.key) for row in rows}


def find(warehouse: Warehouse, keys: Collection[Key]) -> Found:
    """What goes when keys are taken down; changes nothing."""
    asked, look = _by_kind(keys), _Look(warehouse)
    items = _items(look, asked)
    named = {row.sample_id: _named_by(row, asked) for row in items}
    of_clips = look.rows(
        clip_pairs.TABLE, "video_sample_id", named, "video_sample_id", "sample_id", "ingest_ordinal"
    )
    judged = named | {row.sample_id: named[row.video_sample_id] for row in of_clips}
    pages = _pages(look, asked)
    all_urls = asked[URL] | {row.url_sha256 for row in items if row.url_sha256}
    gone = _gone_media(look, asked, items, named, all_urls)
    departing = departed(warehouse, look.frame("sample_id", judged)) if judged else []
    ordinals = {row.ingest_ordinal for row in (*items, *of_clips)}
    gold = [table for table in warehouse.tables() if table.startswith("gold.")]
    removals = [
        *(_removal(table, "sample_id", judged) for table in gold),
        _removal(pairs.TABLE, "sample_id", named),
        _removal(clip_pairs.TABLE, "video_sample_id", named),
        _removal(contamination.TABLE, "sample_id", judged),
        _removal(duplicates.TABLE, "sample_id", judged),
        _removal(exact_index.TABLE, "survivor", ordinals),
        *_indexed(warehouse, departing),
        _removal(image_signals.TABLE, MEDIA, gone | _gone_stills(look, named, gone)),
        _removal(text_signals.TABLE, "text_sha256", _gone_texts(look, items, named, gone)),
        *(_removal(table, MEDIA, gone) for table in (video_signals.TABLE, clips.TABLE)),
        _removal(captions.TABLE, MEDIA, gone),
        _removal(keyframes.TABLE, "video_sha256", gone),
        _removal(keyframes.TABLE, MEDIA, asked[MEDIA]),
        _removal(documents.TABLE, "document_id", pages),
        _removal(fetches.TABLE, URL, asked[URL]),
        _removal(fetches.TABLE, MEDIA, gone),
        _removal(urls.TABLE, "sample_id", named),
        _removal(media.TABLE, MEDIA, gone),
        _removal(samples.TABLE, "sample_id", named),
    ]
    there = [replace(removal, rows=look.count(removal)) for removal in removals]
    met = {*judged.values(), *pages.values(), *map(str, known(warehouse, keys))}
    return Found(
        samples=judged | pages,
        unknown=sorted({str(key) for key in keys} - met),
        removals=[removal for removal in there if removal.rows],
        departed=departing,
        references=_references(look, gone),
    )


def left(warehouse: Warehouse, keys: Collection[Key]) -> set[Key]:
    """Of keys those by which something is still to be found among the samples and their media."""
    asked, look = _by_kind(keys), _Look(warehouse)
    return {
        Key(kind, digest)
        for kind in tombstones.KINDS
        for table in (samples.TABLE, media.TABLE, urls.TABLE)
        if kind in contract(table).SCHEMA.names
        for digest in look.values(table, kind, asked[kind])
    }


def _by_kind(keys: Iterable[Key]) -> dict[str, set[str]]:
    given = list(keys)
    return {kind: {key.digest for key in given if key.kind == kind} for kind in tombstones.KINDS}


def _removal(table: str, column: str, keys: Keys, of: str = "") -> Removal:
    return Removal(table=table, column=column, keys=sorted(keys), of=of)


@dataclass(frozen=True)
class _Look:
    """Rows of tables by keys; of a table that is not there, none."""

    warehouse: Warehouse

    def matching(self, table: str, column: str, keys: Keys) -> DataFrame | None:
        """The rows that have one of the keys."""
        if not keys or (table in ON_DEMAND and not self.warehouse.exists(table)):
            return None
        rows = self.warehouse.read(table)
        return rows.join(F.broadcast(self.frame(column, keys)), column, "left_semi")

    def frame(self, column: str, keys: Keys) -> DataFrame:
        """Keys, at least one, as a column."""
        is_text = isinstance(next(iter(keys)), str)
        dtype = T.StringType() if is_text else T.LongType()
        schema = T.StructType([T.StructField(column, dtype)])
        return self.warehouse.local([{column: key} for key in keys], schema)

    def rows(self, table: str, column: str, keys: Keys, *columns: str) -> list[Row]:
        """Columns of those rows."""
        found = self.matching(table, column, keys)
        return [] if found is None else found.select(*columns).distinct().collect()

    def values(
        self,
        table: str,
        column: str,
        keys: Keys,
        wanted: str | None = None,
        *,
        but: tuple[str, Keys] | None = None,
    ) -> set[str]:
        """What stands in a column of those rows, the key's own if none is named.

        Args:
            table: its name.
            column: that has the keys.
            keys: digests or ids.
            wanted: column.
            but: a column, and values of it with which rows do not count.
        """
        found = self.matching(table, column, keys)
        if found is None:
            return set()
        if but is not None and but[1]:
            found = found.join(F.broadcast(self.frame(*but)), but[0], "left_anti")
        rows = found.select(wanted or column).distinct().collect()
        return {row[0] for row in rows if row[0] is not None}

    def count(self, removal: Removal) -> int:
        """How many rows a removal would remove."""
        found = self.matching(removal.table, removal.column, removal.keys)  # type: ignore[arg-type]
        if found is None:
            return 0
        return (found.where(removal.of) if removal.of else found).count()


def _items(look: _Look, asked: Mapping[str, set[str]]) -> list[Row]:
    """The samples that the keys name, and what is listed to be fetched."""
    columns = ("sample_id", "ingest_ordinal", "text_sha256", URL)
    found = [
        row
        for kind in tombstones.KINDS
        for row in look.rows(samples.TABLE, kind, asked[kind], *columns, MEDIA)
    ]
    for kind in (SAMPLE, URL):
        listed = look.rows(urls.TABLE, kind, asked[kind], *columns)
        found += [Row(**row.asDict(), media_sha256=None) for row in listed]
    return found


def _named_by(row: Row, asked: Mapping[str, set[str]]) -> str:
    return next(str(Key(kind, row[kind])) for kind in tombstones.KINDS if row[kind] in asked[kind])


def _pages(look: _Look, asked: Mapping[str, set[str]]) -> dict[str, str]:
    """Pages of a key or a URL, or that show what is at one; they go whole."""
    found = {
        name: str(Key(SAMPLE, name))
        for name in look.values(documents.TABLE, "document_id", asked[SAMPLE])
    }
    if not asked[URL]:
        return found
    own = F.udf(_url_sha256, "string")(F.col("url"))
    shown = F.explode(F.array_append(F.transform("items", lambda item: item[URL]), own))
    pages = look.warehouse.read(documents.TABLE).select("document_id", shown.alias(URL))
    wanted = pages.join(F.broadcast(look.frame(URL, asked[URL])), URL, "left_semi")
    return {row.document_id: str(Key(URL, row[URL])) for row in wanted.collect()} | found


def _url_sha256(url: str | None) -> str | None:
    try:
        return None if url is None else web.parse(url).url_sha256
    except EntryRefused:
        return None


def _gone_media(
    look: _Look, asked: Mapping[str, set[str]], items: Iterable[Row], named: Keys, all_urls: Keys
) -> set[str]:
    """Contents that were asked for, and those that nothing else has."""
    theirs = {row.media_sha256 for row in items if row.media_sha256}
    theirs |= look.values(fetches.TABLE, URL, asked[URL], MEDIA)
    others = look.values(samples.TABLE, MEDIA, theirs, but=("sample_id", named))
    others |= look.values(fetches.TABLE, MEDIA, theirs, but=(URL, all_urls))
    return asked[MEDIA] | (theirs - others)


def _gone_stills(look: _Look, named: Keys, gone: Keys) -> set[str]:
    """Key frames of videos that go, and of no other, and that are no sample's image."""
    theirs = look.values(keyframes.TABLE, "video_sha256", gone, MEDIA)
    others = look.values(keyframes.TABLE, MEDIA, theirs, but=("video_sha256", gone))
    others |= look.values(samples.TABLE, MEDIA, theirs, but=("sample_id", named))
    return theirs - others


def _gone_texts(look: _Look, items: Iterable[Row], named: Keys, gone: Keys) -> set[str]:
    """Texts of what goes, and of nothing else."""
    key = "text_sha256"
    theirs = {row.text_sha256 for row in items} | look.values(captions.TABLE, MEDIA, gone, key)
    others = look.values(captions.TABLE, key, theirs, but=(MEDIA, gone))
    for table in (samples.TABLE, urls.TABLE):
        others |= look.values(table, key, theirs, but=("sample_id", named))
    return theirs - others


def _indexed(warehouse: Warehouse, departing: Iterable[Departed]) -> Iterator[Removal]:
    """Rows of the indexes, and links."""
    for one in departing:
        of_kind = f"kind = '{one.kind}'"
        for table in one.tables(warehouse):
            has_kinds = "kind" in contract(table).SCHEMA.names
            yield _removal(table, "node", one.nodes, of_kind if has_kinds else "")
        yield _removal(duplicate_edges.TABLE, "a", one.nodes, of_kind)


def _references(look: _Look, gone: Keys) -> list[str]:
    """Where bytes lie that go, in dumps."""
    place = ("root", "path", "offset_bytes", "size_bytes")
    return sorted(
        f"{row.root}/{row.path} bytes {row.offset_bytes}-{row.offset_bytes + row.size_bytes - 1}"
        for row in look.rows(media.TABLE, MEDIA, gone, *place)
        if row.path is not None
    )
