"""Exact duplicates: equal fingerprints of a sample's URL, bytes, text, or bytes and text.

A clip's is its name, which its video's bytes and its first and last frame make.

Of equal contents one sample stands for all: the first, or the one of the best score. The index
holds a row for each content, and one more each time a better sample takes its place.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.duplicate_kinds import EXACT_CLIP, EXACT_MEDIA, EXACT_PAIR, EXACT_TEXT, EXACT_URL
from udfs.canonical_url import url_fingerprint
from udfs.identity import FINGERPRINT_BYTES, fingerprint
from udfs.normalised_text import text_fingerprints

_CARRIED: Final = ("sample_id", "ingest_ordinal", "score")


def fingerprints(
    samples: DataFrame, kinds: Sequence[str], *, is_by_dump: bool = False
) -> DataFrame:
    """The fingerprint of each sample by each kind; of what has none, such as no URL, a null.

    Args:
        samples: `sample_id`, `ingest_ordinal`, `score` (null: none), and what the kinds read: of
            samples `url`, `caption`, `dump`, `media_sha256`, `text_sha256`; of clips `clip_id`.
        kinds: of `EXACT_KINDS`.
        is_by_dump: texts of different dumps are never equal.

    Returns:
        `kind`, `high`, `low` (128 bits as two signed integers), `sample_id`, `ingest_ordinal`,
        `score`.
    """
    of_kind = {**_OF_KIND, EXACT_TEXT: _WITHIN_DUMP} if is_by_dump else _OF_KIND
    used = {kind: of_kind[kind] for kind in kinds}
    read = sorted({name for exact in used.values() for name in exact.reads})
    halves = ", ".join(f"{kind}_high long, {kind}_low long" for kind in kinds)
    wide = samples.select(*_CARRIED, *read).mapInArrow(
        _fingerprinted({kind: exact.prints for kind, exact in used.items()}),
        f"sample_id string, ingest_ordinal long, score double, {halves}",
    )
    by_kind = F.array(
        *(
            F.struct(
                F.lit(kind).alias("kind"),
                F.col(f"{kind}_high").alias("high"),
                F.col(f"{kind}_low").alias("low"),
            )
            for kind in kinds
        )
    )
    return wide.select(*_CARRIED, F.explode(by_kind).alias("print")).select("print.*", *_CARRIED)


def _fingerprinted(
    prints: Mapping[str, "_Prints"],
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = {name: batch[name] for name in _CARRIED}
            for kind, of_kind in prints.items():
                columns[f"{kind}_high"], columns[f"{kind}_low"] = halves(of_kind(batch))
            yield pa.RecordBatch.from_pydict(columns)

    return work


def _of_urls(batch: pa.RecordBatch) -> Sequence[bytes | None]:
    return [None if url is None else url_fingerprint(url) for url in batch["url"].to_pylist()]


def _of_media(batch: pa.RecordBatch) -> Sequence[bytes | None]:
    return [
        None if name is None else bytes.fromhex(name[: 2 * FINGERPRINT_BYTES])
        for name in batch["media_sha256"].to_pylist()
    ]


def _of_texts(batch: pa.RecordBatch) -> Sequence[bytes | None]:
    found: list[bytes | None] = text_fingerprints(batch["caption"]).to_pylist()
    return found


def _of_texts_of_dumps(batch: pa.RecordBatch) -> Sequence[bytes | None]:
    texts = zip(_of_texts(batch), batch["dump"].to_pylist(), strict=True)
    return [None if text is None else fingerprint(text + dump.encode()) for text, dump in texts]


def _of_pairs(batch: pa.RecordBatch) -> Sequence[bytes | None]:
    names = zip(batch["text_sha256"].to_pylist(), batch["media_sha256"].to_pylist(), strict=True)
    return [
        None
        if text is None or media is None
        else fingerprint(bytes.fromhex(text) + bytes.fromhex(media))
        for text, media in names
    ]


def _of_clips(batch: pa.RecordBatch) -> Sequence[bytes | None]:
    return [uuid.UUID(name).bytes for name in batch["clip_id"].to_pylist()]


_Prints = Callable[[pa.RecordBatch], Sequence[bytes | None]]


class _Exact(NamedTuple):
    """Columns that a kind's fingerprint is made of, and how."""

    reads: tuple[str, ...]
    prints: _Prints


_OF_KIND: Final = {
    EXACT_URL: _Exact(("url",), _of_urls),
    EXACT_MEDIA: _Exact(("media_sha256",), _of_media),
    EXACT_TEXT: _Exact(("caption",), _of_texts),
    EXACT_PAIR: _Exact(("media_sha256", "text_sha256"), _of_pairs),
    EXACT_CLIP: _Exact(("clip_id",), _of_clips),
}
_WITHIN_DUMP: Final = _Exact(("caption", "dump"), _of_texts_of_dumps)


def halves(found: Sequence[bytes | None]) -> tuple[pa.Array, pa.Array]:
    """Fingerprints as two columns of signed 64-bit integers; of none, nulls."""
    blank = bytes(FINGERPRINT_BYTES)
    whole = np.frombuffer(b"".join(print_ or blank for print_ in found), dtype=">i8")
    is_null = np.array([print_ is None for print_ in found], dtype=bool)
    halves = whole.astype(np.int64).reshape(-1, 2)
    return (
        pa.array(halves[:, 0], mask=is_null),
        pa.array(halves[:, 1], mask=is_null),
    )


_PRINT: Final = ("kind", "high", "low")


def contents(prints: DataFrame, index: DataFrame) -> DataFrame:
    """What the batch's fingerprints stand for, after the batch.

    Args:
        prints: as `fingerprints` gives them.
        index: rows of `silver.exact_index` before the batch.

    Returns:
        `kind`, `high`, `low`, `node`, `survivor`, `score` (the survivor's), and `former`: the
        survivor before the batch, null of a content that is new.
    """
    of_batch = (
        prints.where("high IS NOT NULL")
        .groupBy(*_PRINT)
        .agg(
            F.min("ingest_ordinal").alias("first"),
            _best("ingest_ordinal").alias("best"),
        )
    )
    asked = of_batch.select(*_PRINT)
    known = (
        # By one number first, which is a quick look-up for each row of the index.
        index.join(F.broadcast(asked.select("high")), "high", "left_semi")
        .join(F.broadcast(asked), [*_PRINT], "left_semi")
        .groupBy(*_PRINT)
        .agg(F.min("node").alias("node"), _best("survivor").alias("held"))
    )
    held_score, best_score = (_comparable(F.col(f"{side}.score")) for side in ("held", "best"))
    # Of equal scores the lesser ordinal; under the rule "first" what was there is never replaced.
    is_better = F.col("held").isNull() | (best_score > held_score)
    is_tied = F.col("best.score").isNotNull() & (best_score == held_score)
    is_better = is_better | (is_tied & (F.col("best.ordinal") < F.col("held.ordinal")))
    survivor = F.when(is_better, F.col("best")).otherwise(F.col("held"))
    return (
        of_batch.join(known, [*_PRINT], "left")
        .withColumn("stands", survivor)
        .select(
            *_PRINT,
            F.coalesce("node", "first").alias("node"),
            F.col("stands.ordinal").alias("survivor"),
            F.col("stands.score").alias("score"),
            F.col("held.ordinal").alias("former"),
        )
    )


def _best(ordinal: str) -> Column:
    held = F.struct(F.col(ordinal).alias("ordinal"), "score")
    return F.max_by(held, F.struct(_comparable(F.col("score")), -F.col(ordinal)))


def _comparable(score: Column) -> Column:
    """Scores with none, and NaN, below all others."""
    return F.when(score.isNull() | F.isnan(score), F.lit(float("-inf"))).otherwise(score)


def verdicts(prints: DataFrame, found: DataFrame) -> DataFrame:
    """The verdict of each kind on each sample; one without a fingerprint is like no other.

    Args:
        prints: as `fingerprints` gives them.
        found: as `contents` gives them.

    Returns:
        `kind`, `sample_id`, `ingest_ordinal`, `node`, `is_duplicate`, `representative` and
        `cluster` (ordinals of samples), `similarity`, `revision`.
    """
    of_print = found.select(*_PRINT, "node", "survivor")
    return prints.join(of_print, [*_PRINT], "left").select(
        "kind",
        "sample_id",
        "ingest_ordinal",
        F.coalesce("node", "ingest_ordinal").alias("node"),
        F.coalesce(F.col("survivor") != F.col("ingest_ordinal"), F.lit(False)).alias(
            "is_duplicate"
        ),
        F.coalesce("survivor", "ingest_ordinal").alias("representative"),
        F.coalesce("node", "ingest_ordinal").alias("cluster"),
        F.lit(1.0).cast("float").alias("similarity"),
        F.lit(0).alias("revision"),
    )


def deposed(found: DataFrame) -> DataFrame:
    """Samples that stood for a content until the batch brought a better one.

    Args:
        found: as `contents` gives them.

    Returns:
        `kind`, `ingest_ordinal`, `representative`.
    """
    return found.where("former <> survivor").select(
        "kind",
        F.col("former").alias("ingest_ordinal"),
        F.col("survivor").alias("representative"),
    )
