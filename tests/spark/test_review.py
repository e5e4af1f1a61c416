"""A review from the pairs to the estimate of its error, and what stands between."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import review, themes
from jobs.chosen import chosen
from jobs.review import Settings
from jobs.runtime import streams
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import Warehouse
from schemas import batches, pairs, reviews
from udfs.embedding import pack, unit

EMBEDDED = "sample_id string, clip_score float, image_embedding binary, text_embedding binary"
SETTINGS = Settings(signal_set="s")
THEMES = 12
DIMENSION = 16
BROKEN = np.full(DIMENSION, np.nan, "<f2").tobytes()


def theme_of(sample_id: str) -> int:
    return int(sample_id.split("-")[1])


def label_of(sample_id: str) -> str:
    return "bad" if theme_of(sample_id) % 4 == 0 else "good"


def planted(spark: SparkSession, n: int, *, seed: int = 0, partitions: int = 3) -> DataFrame:
    """Rows near their themes, two that are near to none, two without usable embeddings."""
    rng = np.random.default_rng(seed)
    theme = np.arange(n) % THEMES

    def around() -> list[bytes]:
        middles = unit(rng.normal(size=(THEMES, DIMENSION)))
        return pack(unit(middles[theme] + 0.05 * rng.normal(size=(n, DIMENSION))))

    rows: list[tuple[Any, ...]] = [
        (f"{place:06d}-{theme[place]}", 0.2, image, text)
        for place, (image, text) in enumerate(zip(around(), around(), strict=True))
    ]
    far = pack(unit(rng.normal(size=(4, DIMENSION))))
    rows += [("far-0", 0.1, far[0], far[1]), ("far-1", 0.1, far[2], far[3])]
    rows += [("nan-0", None, BROKEN, far[0]), ("none-0", None, far[0], None)]
    return spark.createDataFrame(rows, EMBEDDED).repartition(partitions)


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    made = Warehouse(spark, str(tmp_path / "warehouse"))
    for table in (pairs.TABLE, batches.TABLE, reviews.TABLE):
        made.create(table)
    return made


def labels(warehouse: Warehouse, name: str) -> dict[str, str]:
    wanted = review.current(warehouse, name).where(F.col("role").isin(*review.ASKED))
    return {row.sample_id: label_of(row.sample_id) for row in wanted.collect()}


def rows_of(warehouse: Warehouse, name: str) -> dict[str, dict[str, Any]]:
    return {row.sample_id: row.asDict() for row in review.current(warehouse, name).collect()}


def test_a_review_labels_its_neighbourhood_and_says_how_well(
    spark: SparkSession, warehouse: Warehouse
) -> None:
    assert review.start(warehouse, "r", planted(spark, 2_000), SETTINGS, run_id="run")
    started = rows_of(warehouse, "r")
    told = review.report(warehouse, "r")

    assert len(started) == told.rows == 2_004
    assert told.representatives == THEMES + 2  # those that are far stand for themselves
    assert (told.audits, told.members, told.uncovered, told.unplaced) == (60, 1_988, 0, 2)
    assert told.error is None
    for row in started.values():
        if row["role"] != reviews.UNPLACED:
            chief = started[row["representative_id"]]
            assert chief["role"] == reviews.REPRESENTATIVE
            assert theme_of(chief["sample_id"]) == theme_of(row["sample_id"])
            assert row["distance"] <= 0.1 + 1e-6
    assert {started[key]["representative_id"] for key in ("nan-0", "none-0")} == {None}

    given = labels(warehouse, "r")
    assert review.apply(warehouse, "r", given, run_id="run") == 2_002
    told = review.report(warehouse, "r")

    assert told.error is not None
    assert (told.error.errors, told.error.checked) == (0, 60)
    assert told.reviewed == len(given) == 74
    for row in rows_of(warehouse, "r").values():
        if row["role"] == reviews.UNPLACED:
            assert (row["label"], row["label_source"]) == (None, None)
        else:
            assert row["label"] == label_of(row["sample_id"])
            is_asked = row["sample_id"] in given
            assert row["label_source"] == (reviews.REVIEWED if is_asked else reviews.PROPAGATED)


def test_only_what_changes_is_superseded(spark: SparkSession, warehouse: Warehouse) -> None:
    review.start(warehouse, "r", planted(spark, 300), SETTINGS, run_id="run")
    given = labels(warehouse, "r")
    review.apply(warehouse, "r", given, run_id="run")
    version = warehouse.version(reviews.TABLE)

    assert review.apply(warehouse, "r", given, run_id="run") == 0
    assert warehouse.version(reviews.TABLE) == version

    before = rows_of(warehouse, "r")
    chief = next(row["sample_id"] for row in before.values() if row["role"] == "representative")
    followers = {
        row["sample_id"]
        for row in before.values()
        if row["representative_id"] == chief and row["role"] != reviews.AUDIT
    }
    assert review.apply(warehouse, "r", given | {chief: "ugly"}, run_id="run") == len(followers)

    after = rows_of(warehouse, "r")
    assert {key for key, row in after.items() if row["label"] == "ugly"} == followers
    assert {row["revision"] for key, row in after.items() if key in followers} == {2}
    told = review.report(warehouse, "r")
    assert told.error is not None
    assert told.error.errors == sum(
        row["representative_id"] == chief for row in after.values() if row["role"] == reviews.AUDIT
    )


def test_order_and_partitions_change_nothing(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(themes, "TRAINING_ROWS", 200)
    columns = ("sample_id", "role", "representative_id", "distance")
    found = []
    for name, partitions in (("one", 1), ("seven", 7)):
        rows = planted(spark, 600, partitions=partitions)
        placed, learnt = review.cover(rows, themes.measured(rows), SETTINGS, most=40)
        told = review.with_audit(review.roles(placed, learnt, radius=0.9), name="same", share=0.01)
        found.append({row.sample_id: tuple(row) for row in told.select(*columns).collect()})
        assert len(found[-1]) == 604, name

    assert found[0] == found[1]


def test_what_a_sample_misses_is_found_in_what_it_leaves(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(themes, "TRAINING_ROWS", 20)
    rows = planted(spark, 600)
    shape = themes.measured(rows)
    monkeypatch.setattr(review, "ROUNDS", 1)
    first, _ = review.cover(rows, shape, SETTINGS, most=100)
    monkeypatch.setattr(review, "ROUNDS", 3)
    last, learnt = review.cover(rows, shape, SETTINGS, most=100)

    def beyond(placed: DataFrame) -> int:
        return placed.where(F.col("cosine") < 0.9).count()

    assert beyond(first) > 2
    assert beyond(last) <= 2
    assert len(learnt.sample_ids) <= THEMES + 4


def test_beyond_the_most_reviews_rows_are_uncovered(
    spark: SparkSession, warehouse: Warehouse
) -> None:
    few = Settings(signal_set="s", max_reviews=3, audit_share=0)
    review.start(warehouse, "few", planted(spark, 240), few, run_id="run")
    told = review.report(warehouse, "few")

    assert (told.representatives, told.audits, told.members) == (3, 0, 57)
    assert told.uncovered == 240 + 2 - 60
    assert review.apply(warehouse, "few", labels(warehouse, "few"), run_id="run") == 60
    assert sum(review.report(warehouse, "few").labels.values()) == 60


def test_a_review_is_started_once_and_takes_the_labels_it_asked_for(
    spark: SparkSession, warehouse: Warehouse
) -> None:
    rows = planted(spark, 60)
    assert review.start(warehouse, "r", rows, SETTINGS, run_id="run")
    version = warehouse.version(reviews.TABLE)

    assert not review.start(warehouse, "r", rows, SETTINGS, run_id="again")
    assert warehouse.version(reviews.TABLE) == version
    with pytest.raises(ConfigError, match="choose another name"):
        review.start(warehouse, "r", rows, Settings(signal_set="t"), run_id="again")

    given = labels(warehouse, "r")
    first = min(given)
    wrong = {
        "1 of .* rows have no label": {k: v for k, v in given.items() if k != first},
        f"no label, {first};": given | {first: "  "},
        "1 labels are of rows that were not asked, stranger": given | {"stranger": "good"},
        "longer than 100": given | {first: "x" * 101},
    }
    for said, refused in wrong.items():
        with pytest.raises(ConfigError, match=said):
            review.apply(warehouse, "r", refused, run_id="run")
    with pytest.raises(NotFound, match="no review other"):
        review.apply(warehouse, "other", given, run_id="run")
    assert warehouse.version(reviews.TABLE) == version


class Killed(Exception):
    """Stands for the end of the driver."""


@pytest.mark.parametrize("step", ["start", "apply"])
def test_a_kill_between_rows_and_ledger_leaves_each_row_once(
    spark: SparkSession, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    rows = planted(spark, 60)
    given: dict[str, str] = {}

    def start() -> object:
        return review.start(warehouse, "r", rows, SETTINGS, run_id="run")

    def apply() -> object:
        return review.apply(warehouse, "r", given, run_id="run")

    work: Callable[[], object] = start
    if step == "apply":
        start()
        given = labels(warehouse, "r")
        work = apply
    with monkeypatch.context() as patch:
        patch.setattr(streams.Outcome, "check", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            work()
    done = warehouse.read(batches.TABLE).count()
    work()

    assert warehouse.read(batches.TABLE).count() == done + 1
    written = warehouse.read(reviews.TABLE).groupBy("sample_id", "revision").count()
    assert written.where("count > 1").isEmpty()
    assert len(rows_of(warehouse, "r")) == 64


def test_no_rows_and_no_usable_rows_are_refused(spark: SparkSession, warehouse: Warehouse) -> None:
    empty = planted(spark, 12).where("false")
    with pytest.raises(ConfigError, match="0 pairs were chosen"):
        review.start(warehouse, "r", empty, SETTINGS, run_id="run")
    blank = planted(spark, 12).withColumn("text_embedding", F.lit(None).cast("binary"))
    with pytest.raises(ConfigError, match="none of 16 pairs has an embedding"):
        review.start(warehouse, "r", blank, SETTINGS, run_id="run")
    broken = planted(spark, 12).withColumn("text_embedding", F.lit(BROKEN))
    with pytest.raises(ConfigError, match="none of 16 pairs has usable embeddings"):
        review.start(warehouse, "r", broken, SETTINGS, run_id="run")

    assert warehouse.read(reviews.TABLE).isEmpty()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(signal_set="s", radius=0.0), "--radius got 0.0"),
        (Settings(signal_set="s", radius=float("nan")), "--radius got nan"),
        (Settings(signal_set="s", audit_share=2.0), "--audit-share got 2.0"),
        (Settings(signal_set="s", clusters=0), "--clusters got 0"),
        (Settings(signal_set="s", max_reviews=0), "--max-reviews got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: Settings, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings.check()


def test_a_condition_that_is_none_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigError, match="--where got colour = 1"):
        chosen(warehouse, pairs.TABLE, "s", "colour = 1")
    with pytest.raises(ConfigError, match="--where got AND"):
        chosen(warehouse, pairs.TABLE, "s", "AND")
    found = chosen(warehouse, pairs.TABLE, "s", "sample_id IN (SELECT sample_id FROM silver.pairs)")
    assert found.isEmpty()
