"""A warehouse made by hand that the stage dedup runs over, and what it must say by brute force."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from pyspark.sql import SparkSession

from jobs.dedup import stage
from jobs.runtime import streams
from jobs.runtime.config import Dedup
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse, contract
from jobs.sources.entry import PAGE_URL
from schemas import (
    batches,
    crop_index,
    crop_segments,
    duplicate_edges,
    duplicates,
    exact_index,
    image_signals,
    minhash_index,
    page_index,
    pairs,
    phash_index,
    samples,
    semantic_vectors,
    shingles,
    text_signals,
)
from tests.told_rows import append
from udfs.embedding import pack, unit
from udfs.identity import digest

SIGNAL_SET: Final = "set"
TABLES: Final = (
    samples.TABLE,
    pairs.TABLE,
    image_signals.TABLE,
    text_signals.TABLE,
    batches.TABLE,
    duplicates.TABLE,
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """A sample as the test gives it; `media` and `caption` say what it holds."""

    ordinal: int
    media: str
    caption: str = ""
    url: str | None = None
    phash: int = 0
    mirrored_phash: int | None = None
    crop_hash: tuple[int, ...] | None = None
    dump: str = "dump"
    page: str | None = None
    clip_score: float | None = None
    embedding: bytes | None = None
    clip_model: str = "model"

    @property
    def sample_id(self) -> str:
        """Its name."""
        return f"s{self.ordinal:05d}"


class DedupWarehouse:
    """Tables with the few columns that matter filled in."""

    def __init__(self, spark: SparkSession, root: Path, settings: Dedup) -> None:
        self.warehouse = Warehouse(spark, str(root))
        self.settings = settings
        self._batches = 0
        for table in TABLES:
            self.warehouse.create(table)

    def arrive(self, *items: Item, label: str = "test") -> None:
        """One batch: the items become pairs, and the stage runs over them."""
        self.put(items)
        self.search(items, label=label)

    def put(self, items: Sequence[Item]) -> None:
        """Write samples, signals and pairs."""
        text = {item: sha256(item.caption) for item in items}
        media = {item: sha256(item.media) for item in items}
        rows = [
            {
                "sample_id": item.sample_id,
                "ingest_ordinal": item.ordinal,
                "caption": item.caption,
                "dump": item.dump,
                "url": item.url,
                "extra": None if item.page is None else {PAGE_URL: item.page},
                "media_sha256": media[item],
                "text_sha256": text[item],
                "clip_score": item.clip_score,
                "signal_set": SIGNAL_SET,
                "image_signal_set": SIGNAL_SET,
                "text_signal_set": SIGNAL_SET,
                "phash": item.phash,
                "mirrored_phash": item.mirrored_phash,
                "crop_hash": item.crop_hash,
                "clip_embedding": item.embedding,
                "clip_dimension": len(item.embedding) // 2 if item.embedding else None,
                "clip_model": item.clip_model if item.embedding else None,
                "status": "ok",
            }
            for item in items
        ]
        for table in (samples.TABLE, pairs.TABLE):
            append(self.warehouse, table, *rows)
        of_media = {row["media_sha256"]: row for row in rows}
        append(self.warehouse, image_signals.TABLE, *of_media.values())

    def search(self, items: Sequence[Item], *, label: str) -> None:
        """Run the stage over these samples as one batch."""
        wanted = [item.sample_id for item in items]
        frame = self.warehouse.read(pairs.TABLE).where("sample_id IS NOT NULL")
        frame = frame.where(frame.sample_id.isin(wanted)).select(
            "sample_id", "ingest_ordinal", "media_sha256", "text_sha256"
        )
        built = stage.stage(self.settings)
        batch = Batch(
            warehouse=self.warehouse,
            stage=built.name,
            checkpoint=built.checkpoint,
            generation=digest(label, built.checkpoint),
            batch_id=self._batches,
            run_id="run",
            frame=frame,
        )
        streams.process(batch, built.process, inputs=(built.source,), outputs=built.outputs)
        self._batches += 1

    def verdicts(self, kind: str) -> dict[str, dict[str, Any]]:
        """The verdicts of a kind that hold, by sample."""
        rows = self.warehouse.current(duplicates.TABLE).where(f"kind = '{kind}'").collect()
        found = {row.sample_id: row.asDict() for row in rows}
        assert len(found) == len(rows)
        return found


_WORDS: Final = [f"word{number}" for number in range(400)]


def of_all_kinds(seed: int) -> list[Item]:
    """Copies, and chains of near copies: hashes few bits apart, texts and embeddings alike."""
    rng = np.random.default_rng(seed)
    bases = [int(base) for base in rng.integers(-(2**62), 2**62, 6)]
    segments = np.random.default_rng([seed, 1]).integers(-(2**62), 2**62, (6, 2)).tolist()
    topics = unit(rng.standard_normal((6, 64)))
    made = []
    for ordinal in range(40):
        if ordinal % 10 == 9:  # a copy of all that the sample has
            made.append(replace(made[ordinal - 9], ordinal=ordinal))
            continue
        media, text, url = (int(drawn) for drawn in rng.integers(0, (24, 18, 30)))
        family, step = media % 6, media // 6
        words = _WORDS[40 * (text % 6) : 40 * (text % 6) + 40]
        words[(text // 6) * 3] = "other"
        noise = unit(np.random.default_rng(media).standard_normal((1, 64)))
        vector = unit(topics[[family]] + 0.1 * noise)
        made.append(
            Item(
                ordinal=ordinal,
                media=f"media {media}",
                caption=" ".join(words),
                url=f"https://example.org/{url}",
                page=f"https://example.org/page/{ordinal % 3}",
                phash=bases[family] ^ ((1 << 3 * step) - 1),
                crop_hash=(media, *(base ^ ((1 << 6 * step) - 1) for base in segments[family])),
                embedding=pack(vector)[0],
            )
        )
    return made


def held(tables: DedupWarehouse) -> dict[str, Counter[str]]:
    """What holds: newest rows, whatever their number; links of the forest; the indexes."""
    warehouse, found = tables.warehouse, {}
    for table in (
        duplicates.TABLE,
        duplicate_edges.TABLE,
        exact_index.TABLE,
        phash_index.TABLE,
        crop_index.TABLE,
        crop_segments.TABLE,
        minhash_index.TABLE,
        shingles.TABLE,
        semantic_vectors.TABLE,
        page_index.TABLE,
    ):
        if not warehouse.exists(table):
            continue
        revised = hasattr(contract(table), "REVISION")
        rows = warehouse.current(table).drop("revision") if revised else warehouse.read(table)
        if table == duplicate_edges.TABLE:
            rows = rows.where("is_forest")
        rows = rows.drop(*contract(table).VOLATILE)
        found[table] = Counter(
            json.dumps(row.asDict(), sort_keys=True, default=repr) for row in rows.collect()
        )
    return found


def duplicates_of(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Of verdicts by sample, the duplicates and what stands for each."""
    return {name: row["representative_id"] for name, row in found.items() if row["is_duplicate"]}


def sha256(text: str) -> str:
    """Hex digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


Link = tuple[str, str, float]


def elders(
    names: Sequence[str], links: Iterable[Link], better: Mapping[str, tuple[float, int]]
) -> dict[str, tuple[bool, str, float, frozenset[str]]]:
    """The elder rule in so many words: name -> duplicate, representative, similarity, cluster.

    Args:
        names: of contents.
        links: verified.
        better: what the least of stands for a cluster.
    """
    group = {name: {name} for name in names}
    demoted: dict[str, tuple[str, float]] = {}
    for a, b, similarity in sorted(links, key=lambda link: (-link[2], link[:2])):
        if group[a] is group[b]:
            continue
        first, second = (
            min((n for n in group[end] if n not in demoted), key=lambda n: better[n])
            for end in (a, b)
        )
        winner, loser = sorted((first, second), key=lambda n: better[n])
        demoted[loser] = (winner, similarity)
        merged = group[a] | group[b]
        for name in merged:
            group[name] = merged
    return {
        name: (
            name in demoted,
            demoted.get(name, (name, 1.0))[0],
            demoted.get(name, (name, 1.0))[1],
            frozenset(group[name]),
        )
        for name in names
    }


def hash_links(items: Sequence[Item], radius: int) -> list[Link]:
    """All pairs of distinct images within the radius, by brute force."""
    first = {item.media: item for item in reversed(sorted(items, key=lambda i: i.ordinal))}
    return [
        (a.sample_id, b.sample_id, 1 - distance / 64)
        for a, b in itertools.combinations(sorted(first.values(), key=lambda i: i.ordinal), 2)
        if (distance := ((a.phash ^ b.phash) & (2**64 - 1)).bit_count()) <= radius
    ]
