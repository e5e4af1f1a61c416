"""Captions that somebody else made, added to `silver.captions` under the name of who says so."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.pair_clips import AS_DELIVERED
from jobs.runtime import streams
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.held import held
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import Warehouse
from schemas import batches, captions, clips
from udfs.identity import digest
from udfs.subtitles import TITLE

NAME: Final = "captions"
_ANNOTATOR: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # as of benchmarks; none has a colon
_CHUNK_BYTES: Final = 16 * 2**20  # chosen: texts that the driver holds at a time
_NAMED: Final = 5  # chosen: refused ones that are told by their ids
_STAGED: Final = "position bigint, clip_id string, language string, text string, text_sha256 string"
_REFUSED: Final = ("unknown", "second")


class Given(NamedTuple):
    """A caption as it was made.

    Attributes:
        clip_id: of a clip of `silver.clips`.
        text: what it says.
        language: as its maker tells it.
    """

    clip_id: str
    text: str
    language: str | None = None


class Unreadable(NamedTuple):
    """A row that gives no caption: where it stands, and why."""

    place: str
    why: str


class Provider(Protocol):
    """Whoever has made captions: a file, or a model that was run elsewhere."""

    @property
    def provenance(self) -> str:
        """What the captions can be traced back to, such as a file's name and sha256."""
        ...

    def captions(self) -> Iterator[Given | Unreadable]:
        """All of them, one after the other; the same at every call."""
        ...


@dataclass
class Added:
    """What became of captions that were given: each is counted in one of these.

    Attributes:
        added: are in the table now.
        known: were there, or were given before, word by word.
        unknown: of no clip of the signal set.
        second: another text by the annotator for the clip came before it, and stands.
        empty: say nothing.
        unreadable: are no captions.
        named: outcome -> the first few that were refused for it.
    """

    added: int = 0
    known: int = 0
    unknown: int = 0
    second: int = 0
    empty: int = 0
    unreadable: int = 0
    named: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, outcome: str, name: str) -> None:
        """Count one that is not taken."""
        setattr(self, outcome, getattr(self, outcome) + 1)
        names = self.named.setdefault(outcome, [])
        if len(names) < _NAMED:
            names.append(name)


def add(
    warehouse: Warehouse, provider: Provider, *, annotator: str, signal_set: str, run_id: str
) -> Added:
    """Append the captions that are not there yet; the same ones again add nothing.

    Args:
        warehouse: holds the clips.
        provider: has the captions.
        annotator: the name under which they stand: a-z, 0-9, `.`, `_`, `-`.
        signal_set: of the clips.
        run_id: names this act.

    Raises:
        ConfigError: the annotator cannot be called so.
        NotFound: there are no clips.
        CheckpointBusy: another process adds captions of the annotator.
    """
    if not _ANNOTATOR.fullmatch(annotator) or annotator in (TITLE, AS_DELIVERED):
        raise ConfigError(
            f"--annotator got {annotator}; allowed a-z, 0-9, '.', '_' and '-', a letter or digit"
            f" first, at most 64, and neither {TITLE}, which is the video's own, nor"
            f" {AS_DELIVERED}, what it came with; choose another"
        )
    if not warehouse.exists(clips.TABLE):
        raise NotFound(f"no clips in {warehouse.root} yet; run `sluice run` first")
    warehouse.create(captions.TABLE)
    with streams.exclusive(f"{warehouse.root}/_checkpoints/{NAME}/{annotator}"):
        _finish_killed(warehouse, annotator, run_id)
        batch = _batch(warehouse, annotator, warehouse.read(captions.TABLE), run_id)
        added = Added()
        _stage(batch, provider, added)
        rows = held(
            _judged(batch, annotator, signal_set),
            **{fate: F.count_if(F.col("fate") == fate) for fate in ("added", "known", *_REFUSED)},
        )
        batch.warehouse.remove(batch.staging())
        added.added, added.known = rows.said["added"], rows.said["known"]
        for fate in _REFUSED:
            setattr(added, fate, rows.said[fate])
            if rows.said[fate]:
                refused = rows.frame.where(F.col("fate") == fate).orderBy("position")
                added.named[fate] = [row.clip_id for row in refused.limit(_NAMED).collect()]
        if added.added:
            fresh = rows.frame.where(F.col("fate") == "added").withColumns(
                {
                    "annotator": F.lit(annotator),
                    "signal_set": F.lit(signal_set),
                    "provenance": F.lit(provider.provenance),
                }
            )
            _process(_batch(warehouse, annotator, fresh, run_id))
    return added


def _stage(batch: Batch, provider: Provider, added: Added) -> None:
    """Write what can be one into the batch's folder, part by part, so that no file is held."""
    warehouse = batch.warehouse
    warehouse.remove(batch.staging())  # of an attempt that was killed
    warehouse.spark.createDataFrame([], _STAGED).write.parquet(batch.staging())
    for part in _parts(_texts(provider.captions(), added)):
        frame = warehouse.spark.createDataFrame(pa.Table.from_pylist(part), _STAGED)
        frame.write.mode("append").parquet(batch.staging())


def _texts(given: Iterable[Given | Unreadable], added: Added) -> Iterator[dict[str, Any]]:
    for position, caption in enumerate(given):
        if isinstance(caption, Unreadable):
            added.refuse("unreadable", f"{caption.place}: {caption.why}")
            continue
        text = caption.text.strip()
        if not text:
            added.refuse("empty", caption.clip_id)
            continue
        yield {
            "position": position,
            "clip_id": caption.clip_id,
            "language": caption.language,
            "text": text,
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }


def _parts(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    size_bytes = 0
    for row in rows:
        part.append(row)
        size_bytes += 100 + len(row["text"])  # chosen: about what stands beside it
        if size_bytes >= _CHUNK_BYTES:
            yield part
            part, size_bytes = [], 0
    if part:
        yield part


def _judged(batch: Batch, annotator: str, signal_set: str) -> DataFrame:
    """Each staged caption with its `fate`, and its clip's `media_sha256`, `start_ms`, `end_ms`."""
    warehouse = batch.warehouse
    staged = warehouse.spark.read.schema(_STAGED).parquet(batch.staging())
    of_set = F.col("signal_set") == signal_set
    known_clips = (
        warehouse.read(clips.TABLE)
        .where(of_set)
        .select("clip_id", "media_sha256", "start_ms", "end_ms")
    )
    standing = (
        warehouse.read(captions.TABLE)
        .where(of_set & (F.col("annotator") == annotator))
        .select("clip_id", F.col("text_sha256").alias("standing"))
    )
    firsts = staged.groupBy("clip_id").agg(
        F.min("position").alias("first"), F.min_by("text_sha256", "position").alias("first_sha256")
    )
    fate = (
        F.when(F.col("media_sha256").isNull(), "unknown")
        .when(F.coalesce("standing", "first_sha256") != F.col("text_sha256"), "second")
        .when(F.col("standing").isNotNull() | (F.col("position") > F.col("first")), "known")
        .otherwise("added")
    )
    return (
        staged.join(firsts, "clip_id")
        .join(known_clips, "clip_id", "left")
        .join(standing, "clip_id", "left")
        .withColumn("fate", fate)
    )


def _finish_killed(warehouse: Warehouse, annotator: str, run_id: str) -> None:
    """Enter what an attempt that was killed has appended into the ledger."""
    batch = _batch(warehouse, annotator, warehouse.read(captions.TABLE), run_id)
    if batch.has_appended(captions.TABLE):
        streams.process(batch, _written, inputs=(), outputs=(captions.TABLE,))


def _process(batch: Batch) -> None:
    streams.process(batch, _append, inputs=(clips.TABLE,), outputs=(captions.TABLE,))


def _append(batch: Batch) -> Outcome:
    batch.append(batch.stamped(batch.frame, at="captioned_at"), captions.TABLE)
    return Outcome(rows_in=batch.frame.count(), rows_kept=batch.count_written(captions.TABLE))


def _written(batch: Batch) -> Outcome:
    written = batch.count_written(captions.TABLE)
    return Outcome(rows_in=written, rows_kept=written)


def _batch(warehouse: Warehouse, annotator: str, frame: DataFrame, run_id: str) -> Batch:
    ledger = warehouse.read(batches.TABLE)
    done = ledger.where((F.col("stage") == NAME) & (F.col("checkpoint") == annotator)).count()
    return Batch(
        warehouse=warehouse,
        stage=NAME,
        checkpoint=annotator,
        generation=digest(NAME, annotator),
        batch_id=done,
        run_id=run_id,
        frame=frame,
    )


def told(added: Added) -> Mapping[str, str]:
    """Outcome -> what a person is told of it, of the outcomes that were met.

    >>> told(Added(added=2, second=1, named={"second": ["c-1"]}))
    {'added': '2 added', 'second': '1 had another text by the annotator already: c-1'}
    """
    says = {
        "added": "added",
        "known": "were there already",
        "unknown": "are of no clip of this signal set",
        "second": "had another text by the annotator already",
        "empty": "say nothing",
        "unreadable": "are no captions",
    }
    lines = {}
    for outcome, says_so in says.items():
        count, names = getattr(added, outcome), added.named.get(outcome, [])
        if count or outcome == "added":
            listed = f": {', '.join(names)}{', …' if count > len(names) else ''}" if names else ""
            lines[outcome] = f"{count:,} {says_so}{listed}"
    return lines
