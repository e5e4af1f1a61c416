from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import curate, cycle, pair, publish, score_images, score_text
from jobs.cycle import Plan
from jobs.dedup import near
from jobs.judged_pairs import Pairs
from jobs.runtime import streams
from jobs.runtime.errors import LedgerMismatch
from jobs.runtime.tables import create_all


def without_one(real: Callable[..., DataFrame], key: str) -> Callable[..., DataFrame]:
    """The same function, that loses all rows of one key."""

    def losing(*args: Any, **named: Any) -> DataFrame:
        frame = real(*args, **named)
        (lost,) = frame.select(F.min(key)).head(1)[0]
        return frame.where(F.col(key) != lost)

    return losing


@pytest.mark.parametrize(
    ("stage", "transform", "key"),
    [
        (score_images, (score_images, "transform"), "media_sha256"),
        (score_text, (score_text, "transform"), "text_sha256"),
        (pair, (pair, "transform"), "sample_id"),
        (curate, (curate, "transform"), "sample_id"),
        (publish, (Pairs, "published"), "sample_id"),
    ],
    ids=lambda value: getattr(value, "NAME", ""),
)
def test_a_transform_that_loses_a_row_is_refused_by_the_ledger(
    stage: Any,
    transform: tuple[Any, str],
    key: str,
    resumed: Callable[[str], Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned = resumed(stage.NAME)
    entered = planned.warehouse.version("ops.batches")
    monkeypatch.setattr(*transform, without_one(getattr(*transform), key))

    with pytest.raises(LedgerMismatch, match="are accounted for"):
        cycle.run_stage(planned, stage.NAME, run_id="loses")

    assert planned.warehouse.version("ops.batches") == entered


def test_a_verdict_that_is_lost_is_refused_by_the_ledger(
    resumed: Callable[[str], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = resumed("dedup")
    entered = planned.warehouse.version("ops.batches")
    monkeypatch.setattr(near, "verdicts", without_one(near.verdicts, "sample_id"))

    with pytest.raises(LedgerMismatch, match="are accounted for"):
        cycle.run_stage(planned, "dedup", run_id="loses")

    assert planned.warehouse.version("ops.batches") == entered


def test_a_row_lost_on_the_way_into_a_table_is_refused_by_the_ledger(
    resumed: Callable[[str], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = resumed("ingest")
    create_all(planned.warehouse, planned.recipe.name)
    real = streams.conform

    def losing(frame: DataFrame, table: str) -> DataFrame:
        conformed = real(frame, table)
        return conformed.offset(1) if table == "bronze.samples" else conformed

    monkeypatch.setattr(streams, "conform", losing)

    with pytest.raises(LedgerMismatch, match="8 rows came in, 7 are accounted for"):
        cycle.run_stage(planned, "ingest", run_id="loses")
