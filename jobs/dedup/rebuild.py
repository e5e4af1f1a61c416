"""A search for duplicates begun anew: its indexes are emptied, and it sees every row again.

For other rules, another network, or centroids that have been outgrown. Verdicts stay as they are
until the search comes to their samples; only those that come out otherwise are superseded.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pyspark.sql import functions as F

from jobs.dedup import clips, schemes, stage
from jobs.dedup.verdicts import INDEXES
from jobs.runtime import streams
from jobs.runtime.errors import ConfigError
from jobs.runtime.session import setting
from jobs.runtime.tables import ON_DEMAND, Warehouse, contract
from schemas import duplicate_edges, duplicates, exact_index
from schemas.duplicate_kinds import CLIP_KINDS, EXACT_KINDS, KINDS, SAMPLE_KINDS

_STAGES: Final = {stage.NAME: SAMPLE_KINDS, clips.NAME: CLIP_KINDS}


@dataclass(frozen=True, kw_only=True)
class Emptied:
    """Rows of a table that go; they are found again.

    Attributes:
        table: its name.
        condition: which rows.
        rows: how many.
    """

    table: str
    condition: str
    rows: int


def chosen(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds that are begun anew when these are asked for, in their order; of none, all.

    Raises:
        ConfigError: a kind that is not known, or an exact one: the others compare its contents, so
            that it is begun anew with all.
    """
    near = tuple(kind for kind in KINDS if kind not in EXACT_KINDS)
    unknown = [kind for kind in kinds if kind not in near]
    if unknown:
        raise ConfigError(
            f"rebuild got kind {', '.join(unknown)}; allowed {', '.join(near)}, or none, which"
            " begins all anew, the exact ones too"
        )
    return tuple(kind for kind in near if kind in kinds) if kinds else KINDS


def look(warehouse: Warehouse, kinds: Iterable[str]) -> list[Emptied]:
    """What is emptied when kinds are begun anew; changes nothing."""
    asked = tuple(kinds)
    named = ", ".join(f"'{kind}'" for kind in asked)
    tables = [
        duplicate_edges.TABLE,
        *([exact_index.TABLE] if set(asked) & set(EXACT_KINDS) else []),
        *(table for kind in asked for table in INDEXES.get(kind, ())),
    ]
    found = []
    for table in tables:
        if table in ON_DEMAND and not warehouse.exists(table):
            continue
        condition = f"kind IN ({named})" if "kind" in contract(table).SCHEMA.names else "true"
        rows = warehouse.read(table).where(condition).count()
        found.append(Emptied(table=table, condition=condition, rows=rows))
    return found


def begin(warehouse: Warehouse, kinds: Sequence[str], *, run_id: str) -> list[Emptied]:
    """Begin the search for kinds anew; the next run of the stages finds them.

    Args:
        warehouse: the tables.
        kinds: as `chosen`.
        run_id: names this act.

    Returns:
        what was emptied.

    Raises:
        CheckpointBusy: a live driver works on the warehouse.
    """
    path = streams.note(warehouse.root, streams.REBUILD)
    with streams.alone(warehouse.root, streams.REBUILD):
        begun = warehouse.read_text(path)
        asked = {*kinds, *(json.loads(begun) if begun is not None else ())}
        warehouse.write_text(path, json.dumps(sorted(asked)))
        found = look(warehouse, [kind for kind in KINDS if kind in asked])
        said = json.dumps({"run_id": run_id, "stage": streams.REBUILD}, sort_keys=True)
        with setting(warehouse.spark, streams.USER_METADATA, said):
            schemes.begin(warehouse, asked, _now(warehouse))
            for emptied in found:
                warehouse.delete(emptied.table, emptied.condition)
                schemes.forget(warehouse, emptied.table)
        for name, of_stage in _STAGES.items():
            if asked & set(of_stage):
                warehouse.remove(f"{warehouse.root}/_checkpoints/{name}")
        warehouse.remove(path)
        return found


def _now(warehouse: Warehouse) -> datetime:
    """Not before the last verdict, whose driver's clock may be ahead of ours."""
    last = F.date_format(F.max("decided_at"), "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX")
    (said,) = warehouse.read(duplicates.TABLE).agg(last).collect()[0]
    now = datetime.now(UTC)
    return now if said is None else max(now, datetime.fromisoformat(said))
