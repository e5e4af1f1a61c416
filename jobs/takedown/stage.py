"""Take down: what keys name leaves every table and every file, and no crawl brings it back.

What goes is found once and noted in a file, which is there until all is done: meanwhile every
other driver is refused, and the next takedown finishes what was begun. Tombstones come first and
the ledger last; all between can be done again: deletes of what is gone, appends that carry the
batch.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs import (
    curate,
    decontaminate,
    pair,
    pair_clips,
    score_images,
    score_text,
    score_videos,
)
from jobs.dedup import clips as dedup_clips
from jobs.dedup import departed
from jobs.dedup import stage as dedup
from jobs.fetch import stage as fetch
from jobs.judged_clips import Clips
from jobs.judged_pairs import Pairs
from jobs.runtime import streams
from jobs.runtime.config import Config
from jobs.runtime.errors import SluiceError
from jobs.runtime.streams import Batch, Outcome
from jobs.runtime.tables import Warehouse
from jobs.takedown import found as search
from jobs.takedown.found import Found
from jobs.takedown.keys import Key
from schemas import (
    captions,
    clip_pairs,
    decisions,
    duplicates,
    keyframes,
    media,
    pairs,
    samples,
    tombstones,
    urls,
)
from udfs.identity import digest

NAME: Final = "takedown"
_GENERATION: Final = digest(NAME)
# Stage -> the table that it follows.
FOLLOWED: Final[Mapping[str, str]] = {
    fetch.NAME: urls.TABLE,
    score_videos.NAME: media.TABLE,
    score_images.NAME: media.TABLE,
    score_images.OF_KEYFRAMES: keyframes.TABLE,
    score_text.NAME: samples.TABLE,
    score_text.OF_CAPTIONS: captions.TABLE,
    pair.NAME: samples.TABLE,
    pair_clips.NAME: samples.TABLE,
    dedup.NAME: pairs.TABLE,
    dedup_clips.NAME: clip_pairs.TABLE,
    decontaminate.NAME: pairs.TABLE,
    curate.NAME + Pairs.suffix: pairs.TABLE,
    curate.NAME + Clips.suffix: clip_pairs.TABLE,
}
_ASKED: Final = T.StructType(
    [T.StructField(name, T.StringType()) for name in ("sample_id", "value")]
)
# What they do once more for rows that they have seen, they would do twice; the others know.
_ONCE: Final = (fetch.NAME, pair.NAME, pair_clips.NAME)


@dataclass(frozen=True, kw_only=True)
class _Note:
    """A takedown from its beginning to its end, as it is kept.

    Attributes:
        batch_id: its number.
        stones: kind, digest and the key that was asked for, of each key that becomes a tombstone.
        reason: as told.
        found: what goes.
        passed: checkpoint -> table: those that have seen all of the table that they follow.
        behind: those that have not, and begin anew.
    """

    batch_id: int
    stones: Sequence[tuple[str, str, str]]
    reason: str | None
    found: Found
    passed: Mapping[str, str]
    behind: Sequence[str]

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> "_Note":
        said = json.loads(text)
        return cls(**said | {"found": Found.of(said["found"])})


def run(
    warehouse: Warehouse,
    config: Config,
    keys: Collection[Key],
    *,
    reason: str | None = None,
    run_id: str,
) -> Found:
    """Take down what keys name, after what was begun before; the same again changes nothing.

    Args:
        warehouse: the tables.
        config: by which duplicates are searched.
        keys: what is to go, and never to come.
        reason: why, for the record.
        run_id: names this act.

    Returns:
        what was found; of keys that were taken down before, nothing.

    Raises:
        CheckpointBusy: a live driver works on the warehouse.
        ConfigError: the indexes of duplicates were built by other rules; nothing was done.
        SluiceError: a stage has not seen all of the table that it follows; nothing was done.
    """
    with streams.alone(warehouse.root, streams.TAKEDOWN):
        begun = warehouse.read_text(streams.note(warehouse.root, streams.TAKEDOWN))
        if begun is not None:
            _carry_out(warehouse, config, _Note.of_text(begun), run_id)
        warehouse.create(tombstones.TABLE)
        asked = fresh(warehouse, keys)
        found = search.find(warehouse, asked)
        if not asked:
            return found
        departed.hold(warehouse, config, found.departed)
        passed, behind = _progress(warehouse, found.tables)
        stones = {(tombstones.SAMPLE, name): by for name, by in found.samples.items()}
        stones |= {(key.kind, key.digest): str(key) for key in asked}
        note = _Note(
            batch_id=_last(warehouse) + 1,
            stones=[(kind, key, by) for (kind, key), by in sorted(stones.items())],
            reason=reason,
            found=found,
            passed=passed,
            behind=behind,
        )
        warehouse.write_text(streams.note(warehouse.root, streams.TAKEDOWN), note.as_text())
        _carry_out(warehouse, config, note, run_id)
        return found


def fresh(warehouse: Warehouse, keys: Collection[Key]) -> list[Key]:
    """Of keys those that have no tombstone yet, in order."""
    if not warehouse.exists(tombstones.TABLE):
        return sorted(set(keys))
    return sorted(set(keys) - search.entombed(warehouse, keys))


def _last(warehouse: Warehouse) -> int:
    table = tombstones.TABLE
    return warehouse.last_append(table, f"{NAME}:{_GENERATION}:{table}")


def _progress(warehouse: Warehouse, tables: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Checkpoints that have seen all of their table, with its name; and those that have not.

    What they have not seen may lie in files that are about to be removed.

    Raises:
        SluiceError: one of these cannot begin anew.
    """
    root = f"{warehouse.root}/_checkpoints"
    passed, behind = {}, []
    for stage, followed in FOLLOWED.items():
        for name in warehouse.folders(f"{root}/{stage}"):
            checkpoint = f"{stage}/{name}"
            table = duplicates.TABLE if name.endswith(curate.REVISIONS) else followed
            if table not in tables or "progress" not in warehouse.folders(f"{root}/{checkpoint}"):
                continue
            if warehouse.read_text(_seen(warehouse, checkpoint)) == str(warehouse.version(table)):
                passed[checkpoint] = table
            elif stage in _ONCE:
                raise SluiceError(
                    f"takedown got rows of {table} that the checkpoint {checkpoint} has not seen;"
                    " allowed none, for their files are removed; `sluice run` with its"
                    f" configuration, or remove {root}/{checkpoint} if nobody is to, then take down"
                    " again; nothing was done"
                )
            else:
                behind.append(checkpoint)
    return passed, behind


def _seen(warehouse: Warehouse, checkpoint: str) -> str:
    return f"{warehouse.root}/_checkpoints/{checkpoint}/progress/seen"


def _carry_out(warehouse: Warehouse, config: Config, note: _Note, run_id: str) -> None:
    batch = Batch(
        warehouse=warehouse,
        stage=NAME,
        checkpoint="keys",
        generation=_GENERATION,
        batch_id=note.batch_id,
        run_id=run_id,
        frame=warehouse.read(tombstones.TABLE),
    )
    streams.process(
        batch,
        lambda batch: _take_down(batch, config, note),
        inputs=(tombstones.TABLE,),
        outputs=warehouse.tables(),
    )
    warehouse.remove(streams.note(warehouse.root, streams.TAKEDOWN))


def _take_down(batch: Batch, config: Config, note: _Note) -> Outcome:
    warehouse, found = batch.warehouse, note.found
    _entomb(batch, note)
    for removal in found.removals:
        for condition in removal.conditions():
            batch.delete(removal.table, condition)
    _supersede(batch, found)
    departed.judge_again(batch, config, found.departed)
    _settle(warehouse, note)
    if found.tables:
        _sweep(warehouse, found)
    stones = {Key(kind, key) for kind, key, _ in note.stones}
    return Outcome(
        rows_in=batch.count_written(tombstones.TABLE),
        rows_kept=0,
        rows_rejected=len(stones - search.left(warehouse, stones)),
    )


def _sweep(warehouse: Warehouse, found: Found) -> None:
    """Remove files that are of no table any more."""
    # The report shows thumbnails and captions; what is staged is of batches that nobody ends.
    for folder in ("_report", "_staging"):
        warehouse.remove(f"{warehouse.root}/{folder}")
    # Gold may have lost the rows before. Of what others follow they may not have seen all.
    others = {*FOLLOWED.values(), duplicates.TABLE} - found.tables
    for table in warehouse.tables():
        if table not in others:
            warehouse.vacuum(table)


def _entomb(batch: Batch, note: _Note) -> None:
    rows = [
        {"kind": kind, "key": key, "asked": by, "reason": note.reason}
        for kind, key, by in note.stones
    ]
    frame = batch.warehouse.local(rows, tombstones.SCHEMA).coalesce(1)
    batch.append(batch.stamped(frame, at="removed_at"), tombstones.TABLE)


def _supersede(batch: Batch, found: Found) -> None:
    """Every decision on what goes: not kept, and by which key."""
    if not found.samples:
        return
    rows = [{"sample_id": name, "value": by} for name, by in found.samples.items()]
    gone = F.broadcast(batch.warehouse.local(rows, _ASKED))
    held = batch.warehouse.current(decisions.TABLE).join(gone, "sample_id")
    told = {"reason": decisions.TAKEN_DOWN, "rule": NAME, "signal": "key"}
    reason = F.struct(
        *(F.lit(said).alias(name) for name, said in told.items()),
        "value",
        F.lit(None).cast("string").alias("threshold"),
    )
    superseding = held.withColumns(
        {
            "is_kept": F.lit(False),
            "first_reason": F.lit(decisions.TAKEN_DOWN),
            "reasons": F.array(reason),
            decisions.REVISION: F.col(decisions.REVISION) + 1,
        }
    ).localCheckpoint()
    if not superseding.isEmpty():
        batch.append(batch.stamped(superseding, at="decided_at"), decisions.TABLE)


def _settle(warehouse: Warehouse, note: _Note) -> None:
    """Bring the checkpoints up to tables that only lost rows; what was behind begins anew."""
    for checkpoint in note.behind:
        warehouse.remove(f"{warehouse.root}/_checkpoints/{checkpoint}/progress")
    is_revised = any(one.samples for one in note.found.departed)
    for checkpoint, table in note.passed.items():
        if table != duplicates.TABLE or not is_revised:
            warehouse.write_text(_seen(warehouse, checkpoint), str(warehouse.version(table)))
