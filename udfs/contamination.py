"""Samples against the items of benchmarks: equal or near texts and images, whatever their names."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, FloatType, StringType, StructType

from schemas.contamination import COSINE, EXACT_IMAGE, METHODS, PHASH
from udfs.ngram_overlap import Hits, NgramIndex, spread, words
from udfs.phash import hamming

VERSION: Final = "contamination/1"  # raised whenever the same items would give other hits
# Copies that were resized or re-encoded mostly stay within 3 of 64 bits (measured by the demo
# dump's own truth: the radius that dedup began with).
RADIUS: Final = 3
# Of a picture that varies in one direction only, 8 of the 64 frequencies are not nought, so that
# its hash has at most 8 bits; one with detail has 32. What has fewer than half of those says too
# little: every page's white square would be a hit.
MIN_BITS: Final = 16
MIN_COSINE: Final = 0.97  # chosen: above it a network that tells pictures apart sees copies
# Items that a sample is said to have met, by each method in each benchmark (chosen: a report needs
# no more, and a registry of like items costs no memory).
MOST_ITEMS: Final = 100
_CELLS: Final = 1 << 22  # chosen: rows x items compared at a time, 16 MiB of cosines
_GATHERED_ROWS: Final = 1024  # chosen: a product of matrices of that many rows is at full speed
_GATHERED_BYTES: Final = 16 << 20  # chosen: like ingest's own batches

HIT: Final = (
    StructType()
    .add("benchmark", StringType())
    .add("item_id", StringType())
    .add("method", StringType())
    .add("score", FloatType())
)
COLUMNS: Final = ("sample_id", "caption", "media_sha256", "phash", "embedding")
EXAMINED: Final = StructType().add("sample_id", StringType()).add("hits", ArrayType(HIT))
_SCHEMA: Final = to_arrow_schema(EXAMINED)
_HIT: Final = to_arrow_schema(HIT)

_Numbers = NDArray[np.int64]
_Vectors = NDArray[np.float32]


@dataclass(frozen=True, order=True)
class Item:
    """What a benchmark's item is known by; null: not known by that.

    Attributes:
        benchmark: name.
        item_id: of the item in it.
        text: any text; one without words counts as none.
        media_sha256: of the image's bytes.
        phash: signed 64-bit hash of the image.
        embedding: packed unit vector, by the network that gives those of the samples.
    """

    benchmark: str
    item_id: str
    text: str | None = None
    media_sha256: str | None = None
    phash: int | None = None
    embedding: bytes | None = None


@dataclass(frozen=True)
class _Owners:
    """Which items have a content: the first `MOST_ITEMS` of each benchmark.

    Attributes:
        starts: (c,) int64, where a content's items begin.
        counts: (c,) int64.
        items: (o,) int64.
    """

    starts: _Numbers
    counts: _Numbers
    items: _Numbers

    @classmethod
    def of(cls, contents: Sequence[int | None], codes: _Numbers, count: int) -> Self:
        items = np.array([i for i, content in enumerate(contents) if content is not None], np.int64)
        of_items = np.array([content for content in contents if content is not None], np.int64)
        order = np.lexsort((items, codes[items], of_items))
        items, of_items = items[order], of_items[order]
        kept = _rank(of_items, codes[items]) < MOST_ITEMS
        counts = np.bincount(of_items[kept], minlength=count)
        return cls(np.cumsum(counts) - counts, counts, items[kept])

    def spread(self, met: Hits) -> Hits:
        """Hits on contents as hits on the items that have them."""
        counts = self.counts[met.items]
        items = self.items[spread(self.starts[met.items], counts)]
        return Hits(np.repeat(met.rows, counts), items, np.repeat(met.scores, counts))


def _rank(*keys: _Numbers) -> _Numbers:
    """Number of each row among those before it that have the same keys; equal ones are together."""
    numbers = np.arange(len(keys[0]))
    is_first = np.ones(len(numbers), bool)
    is_first[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    rank: _Numbers = numbers - np.maximum.accumulate(np.where(is_first, numbers, 0))
    return rank


@dataclass(frozen=True)
class Registry:
    """The items of all benchmarks, ready to be met; picklable, for every worker holds it.

    Equal contents of several items are held and compared once. What it costs: an embedding's
    bytes twice over and some 100 bytes an item, 8 bytes a word; of each row 2 x items x dimension
    operations for the cosines.

    Attributes:
        items: names of benchmark and item, in their order.
        codes: (m,) int64 number of each item's benchmark.
        texts: distinct texts.
        media: sha256 -> number of the distinct image.
        hashes: (h,) int64 hashes that say enough, and whose they are.
        vectors: (e, d) float32 unit vectors, and whose they are.
    """

    items: tuple[tuple[str, str], ...]
    codes: _Numbers
    texts: NgramIndex
    text_owners: _Owners
    media: dict[str, int]
    media_owners: _Owners
    hashes: tuple[_Numbers, _Numbers]
    vectors: tuple[_Vectors, _Numbers]

    @classmethod
    def of(cls, items: Iterable[Item]) -> Self:
        """The registry of some items, in any order.

        Raises:
            ValueError: two have one name; or embeddings differ in length.
        """
        ordered = sorted(items, key=lambda item: (item.benchmark, item.item_id))
        names = tuple((item.benchmark, item.item_id) for item in ordered)
        if len(set(names)) < len(names):
            raise ValueError(
                f"{len(names)} items have {len(set(names))} names; allowed one name for each:"
                " drop the copies"
            )
        benchmarks = {name: code for code, name in enumerate(dict.fromkeys(b for b, _ in names))}
        codes = np.array([benchmarks[benchmark] for benchmark, _ in names], np.int64)
        texts: dict[str, int] = {}
        media: dict[str, int] = {}
        of_texts: list[int | None] = []
        of_media: list[int | None] = []
        hashes: dict[int, int] = {}
        packed: dict[int, bytes] = {}
        for item in ordered:
            joined = " ".join(words(item.text or ""))
            of_texts.append(texts.setdefault(joined, len(texts)) if joined else None)
            sha256 = item.media_sha256
            number = None if sha256 is None else media.setdefault(sha256, len(media))
            of_media.append(number)
            if number is not None and item.phash is not None:
                hashes.setdefault(number, item.phash)
            if number is not None and item.embedding is not None:
                packed.setdefault(number, item.embedding)
        return cls(
            items=names,
            codes=codes,
            texts=NgramIndex.of(list(texts)),
            text_owners=_Owners.of(of_texts, codes, len(texts)),
            media=media,
            media_owners=_Owners.of(of_media, codes, len(media)),
            hashes=_telling(list(hashes.values()), np.array(list(hashes), np.int64)),
            vectors=_directed(packed),
        )

    def met(
        self,
        texts: Sequence[str | None],
        media: Sequence[str | None],
        hashes: Sequence[int | None],
        embeddings: Sequence[bytes | None],
    ) -> dict[str, Hits]:
        """What samples share with items, by method, at most `MOST_ITEMS` of a benchmark each.

        Args:
            texts: n captions.
            media: n digests of images.
            hashes: n perceptual hashes.
            embeddings: n packed embeddings. One of another dimension, not finite or all zeros
                has no direction and meets nothing.
        """
        by_text = self.texts.met([text or "" for text in texts])
        found = {method: self.text_owners.spread(hits) for method, hits in by_text.items()}
        same = np.array([self.media.get(sha256 or "", -1) for sha256 in media], np.int64)
        rows = np.flatnonzero(same >= 0)
        equal = Hits(rows, same[rows], np.ones(len(rows), np.float32))
        found[EXACT_IMAGE] = self.media_owners.spread(equal)
        found[PHASH] = self._near(_telling(hashes, np.arange(len(hashes))), self._hashes_near)
        vectors = _unpacked(embeddings, self.vectors[0].shape[1])
        found[COSINE] = self._near(vectors, self._vectors_near)
        return {method: self._first(hits) for method, hits in found.items()}

    def _near(
        self, given: tuple[NDArray[Any], _Numbers], near: Callable[[NDArray[Any]], Hits]
    ) -> Hits:
        """Some rows at a time, so that what is compared stays small."""
        values, rows = given
        step = max(1, _CELLS // max(1, len(self.items)))
        parts = []
        for start in range(0, len(values), step):
            hits = self._first(self.media_owners.spread(near(values[start : start + step])))
            parts.append(Hits(rows[hits.rows + start], hits.items, hits.scores))
        return Hits.joined(parts)

    def _hashes_near(self, hashes: _Numbers) -> Hits:
        known, media = self.hashes
        distances = hamming(hashes[:, None], known[None, :])
        rows, at = np.nonzero(distances <= RADIUS)
        return Hits(rows, media[at], (1 - distances[rows, at] / 64).astype(np.float32))

    def _vectors_near(self, vectors: _Vectors) -> Hits:
        known, media = self.vectors
        cosines = vectors @ known.T
        rows, at = np.nonzero(cosines >= MIN_COSINE)
        return Hits(rows, media[at], np.minimum(cosines[rows, at], 1))

    def _first(self, hits: Hits) -> Hits:
        """The best `MOST_ITEMS` of each row and benchmark; of equal ones the first."""
        codes = self.codes[hits.items]
        order = np.lexsort((hits.items, -hits.scores, codes, hits.rows))
        hits = hits.only(order)
        return hits.only(_rank(hits.rows, codes[order]) < MOST_ITEMS)


def _telling(hashes: Sequence[int | None], numbers: _Numbers) -> tuple[_Numbers, _Numbers]:
    """The hashes that say enough, and their numbers."""
    is_there = np.array([value is not None for value in hashes], bool)
    values = np.array([value or 0 for value in hashes], np.int64)
    kept = is_there & (np.bitwise_count(values.view(np.uint64)) >= MIN_BITS)
    return values[kept], numbers[kept]


def says_little(phash: int) -> bool:
    """Whether so many pictures have a hash like this that it is not compared.

    >>> says_little(-(2**63)), says_little(0x5555555555555555)  # a white square; half the bits
    (True, False)
    """
    return not len(_telling([phash], np.zeros(1, np.int64))[0])


def _directed(packed: dict[int, bytes]) -> tuple[_Vectors, _Numbers]:
    sizes = {len(row) for row in packed.values()}
    if len(sizes) > 1:
        raise ValueError(f"embeddings of {sorted(sizes)} bytes differ; give one network's")
    vectors, at = _unpacked(list(packed.values()), sizes.pop() // 2 if sizes else 0)
    return vectors, np.array(list(packed), np.int64)[at]


def _unpacked(packed: Sequence[bytes | None], dimension: int) -> tuple[_Vectors, _Numbers]:
    """Unit vectors of the rows that have a direction, and which rows those are."""
    at = [i for i, row in enumerate(packed) if row is not None and len(row) == 2 * dimension]
    joined = b"".join(packed[i] or b"" for i in at)
    vectors = np.frombuffer(joined, "<f2").reshape(len(at), dimension).astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    kept = np.isfinite(norms) & (norms > 0)
    return vectors[kept] / norms[kept, None], np.array(at, np.int64)[kept]


def contamination_udf(
    registry: Registry,
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Function for ``mapInArrow``: samples in, each with its hits out.

    Args:
        registry: what they are compared with.

    Returns:
        batches of `COLUMNS`, all but the first of which may be null -> batches of `EXAMINED`: one
        row a sample, in order, `hits` empty where it met nothing.
    """
    benchmarks = pa.array([benchmark for benchmark, _ in registry.items], pa.string())
    names = pa.array([item for _, item in registry.items], pa.string())

    def examine(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in _gathered(batches):
            met = registry.met(*(batch[name].to_pylist() for name in COLUMNS[1:]))
            hits = Hits.joined(met[name] for name in METHODS)
            sizes = [len(met[name].rows) for name in METHODS]
            methods = np.repeat(np.arange(len(METHODS)), sizes)
            order = np.lexsort((hits.items, methods, hits.rows))
            items = pa.array(hits.items[order])
            columns = [
                benchmarks.take(items),
                names.take(items),
                pa.array(METHODS).take(pa.array(methods[order])),
                pa.array(hits.scores[order]),
            ]
            ends = np.cumsum(np.bincount(hits.rows, minlength=batch.num_rows))
            told = pa.ListArray.from_arrays(
                pa.array(np.concatenate([[0], ends]), pa.int32()),
                pa.StructArray.from_arrays(columns, fields=list(_HIT)),
                type=_SCHEMA.field("hits").type,
            )
            yield pa.RecordBatch.from_arrays([batch["sample_id"], told], schema=_SCHEMA)

    return examine


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Fewer and larger batches, bounded in rows and bytes; none is empty."""
    held: list[pa.RecordBatch] = []
    rows = size_bytes = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size_bytes += batch.nbytes
        if rows >= _GATHERED_ROWS or size_bytes >= _GATHERED_BYTES:
            yield pa.concat_batches(held)
            held, rows, size_bytes = [], 0, 0
    if rows:
        yield pa.concat_batches(held)
