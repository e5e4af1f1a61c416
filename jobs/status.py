"""Where a warehouse stands: tables, what is still to be processed, the last batches."""

import json
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import functions as F

from jobs import decontaminate
from jobs.cycle import Plan, stages
from jobs.runtime import dumps
from jobs.runtime.tables import Warehouse
from schemas import batches

LAST: Final = 10  # chosen: what fits a screen beside the tables


@dataclass(frozen=True)
class Status:
    """What `sluice status` shows.

    Attributes:
        tables: name, version, rows.
        behind: stage -> versions of its source that it has not processed.
        waiting: dump -> shards that lie there and are not in the manifest.
        last: the newest batches of the ledger.
    """

    tables: list[tuple[str, int, int]]
    behind: dict[str, int]
    waiting: dict[str, int]
    last: list[dict[str, Any]]


def status(planned: Plan) -> Status:
    """Look, change nothing."""
    warehouse = planned.warehouse
    existing = warehouse.tables()
    return Status(
        tables=[(name, warehouse.version(name), warehouse.read(name).count()) for name in existing],
        behind=_behind(planned) if batches.TABLE in existing else {},
        waiting=dumps.waiting(warehouse, planned.config.dumps),
        last=_last(warehouse) if batches.TABLE in existing else [],
    )


def _last(warehouse: Warehouse) -> list[dict[str, Any]]:
    rows = warehouse.read(batches.TABLE).orderBy(F.desc("started_at")).limit(LAST)
    return [row.asDict() for row in rows.collect()]


def _behind(planned: Plan) -> dict[str, int]:
    ledger = planned.warehouse.read(batches.TABLE)
    behind = {}
    # Where nothing is registered there is nothing to be behind with.
    examining = decontaminate.stage(planned.warehouse, planned.scoring)
    for stage in (*stages(planned).values(), *((examining,) if examining is not None else ())):
        row = (
            ledger.where((F.col("stage") == stage.name) & (F.col("checkpoint") == stage.checkpoint))
            .agg(F.max(F.col("input_versions")[stage.source]).alias("seen"))
            .first()
        )
        # Version 0 only creates the table.
        seen = row.seen if row is not None and row.seen is not None else 0
        behind[stage.name] = planned.warehouse.version(stage.source) - seen
    return behind


def as_json(found: Status) -> str:
    """The same for machines."""
    return json.dumps(found.__dict__, default=str, indent=2)
