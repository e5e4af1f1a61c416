"""Where a warehouse stands: tables, what is still to be processed, the last batches."""

import json
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import functions as F

from jobs import decontaminate
from jobs.cycle import Plan, clip_stages, stages
from jobs.report.measure import ask, clip_outcomes
from jobs.runtime import dumps
from jobs.runtime.streams import Stage
from jobs.runtime.tables import Warehouse
from schemas import batches, clip_pairs

LAST: Final = 10  # chosen: what fits a screen beside the tables


@dataclass(frozen=True)
class Status:
    """What `sluice status` shows.

    Attributes:
        tables: name, version, rows.
        behind: stage -> versions of its source that it has not processed.
        waiting: dump -> shards that lie there and are not in the manifest.
        last: the newest batches of the ledger.
        clips: recipe, outcome (kept, or the first reason) and clips as delivered.
    """

    tables: list[tuple[str, int, int]]
    behind: dict[str, int]
    waiting: dict[str, int]
    last: list[dict[str, Any]]
    clips: list[tuple[str, str, int]]


def status(planned: Plan) -> Status:
    """Look, change nothing."""
    warehouse = planned.warehouse
    existing = warehouse.tables()
    return Status(
        tables=[(name, warehouse.version(name), warehouse.read(name).count()) for name in existing],
        behind=_behind(planned) if batches.TABLE in existing else {},
        waiting=dumps.waiting(warehouse, planned.config.dumps),
        last=_last(warehouse) if batches.TABLE in existing else [],
        clips=_clips(planned) if clip_pairs.TABLE in existing else [],
    )


def _last(warehouse: Warehouse) -> list[dict[str, Any]]:
    rows = warehouse.read(batches.TABLE).orderBy(F.desc("started_at")).limit(LAST)
    return [row.asDict() for row in rows.collect()]


def _clips(planned: Plan) -> list[tuple[str, str, int]]:
    if not planned.clip_recipes:
        return []
    rows = ask(planned.warehouse, clip_outcomes(planned.clip_recipes)).rows
    return [(row["recipe"], row["outcome"], row["clips"]) for row in rows]


def _behind(planned: Plan) -> dict[str, int]:
    # Where nothing is registered there is nothing to be behind with.
    examining = decontaminate.stage(planned.warehouse, planned.scoring)
    known = {**stages(planned), **({examining.name: examining} if examining is not None else {})}
    if planned.warehouse.exists(clip_pairs.TABLE):
        known |= {f"{s.name} {recipe}": s for recipe, s in clip_stages(planned).items()}
    return {name: _versions_behind(planned.warehouse, stage) for name, stage in known.items()}


def _versions_behind(warehouse: Warehouse, stage: Stage) -> int:
    if not stage.is_fed(warehouse):
        return 0
    ledger = warehouse.read(batches.TABLE)
    row = (
        ledger.where((F.col("stage") == stage.name) & (F.col("checkpoint") == stage.checkpoint))
        .agg(F.max(F.col("input_versions")[stage.source]).alias("seen"))
        .first()
    )
    # Version 0 only creates the table.
    seen = row.seen if row is not None and row.seen is not None else 0
    return warehouse.version(stage.source) - int(seen)


def as_json(found: Status) -> str:
    """The same for machines."""
    return json.dumps(found.__dict__, default=str, indent=2)
