"""Coresets from embeddings to the table: exact, complete, and better than chance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from sklearn.linear_model import LogisticRegression

from jobs import coreset
from jobs.coreset import Settings
from jobs.runtime.errors import ConfigError
from jobs.runtime.tables import Warehouse
from schemas import batches, pairs
from schemas import coreset as table
from udfs.coreset import quotas
from udfs.embedding import pack, unit
from udfs.joint_embedding import nearest
from udfs.review_clusters import centroids

EMBEDDED = "sample_id string, clip_score float, image_embedding binary, text_embedding binary"
PLACED = "sample_id string, cluster int, distance float, score float"
DIMENSION = 16


def zipf(rng: np.random.Generator, n: int, classes: int) -> np.ndarray:
    """Classes of which the k-th has 1 / k of the rows of the first."""
    share = 1 / np.arange(1, classes + 1)
    return rng.choice(classes, n, p=share / share.sum())


def planted(spark: SparkSession, n: int, *, partitions: int = 3) -> DataFrame:
    """Zipf-imbalanced themes, one row with NaN and one without a text."""
    rng = np.random.default_rng(0)
    theme = zipf(rng, n, 10)
    middles = unit(rng.normal(size=(10, DIMENSION)))
    image, text = (
        pack(unit(middles[theme] + 0.05 * rng.normal(size=(n, DIMENSION)))) for _ in range(2)
    )
    scores = rng.random(n).tolist()
    rows: list[tuple[Any, ...]] = [
        (f"{place:06d}", scores[place], image[place], text[place]) for place in range(n)
    ]
    rows.append(("nan", None, np.full(DIMENSION, np.nan, "<f2").tobytes(), text[0]))
    rows.append(("none", None, image[0], None))
    return spark.createDataFrame(rows, EMBEDDED).repartition(partitions)


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    made = Warehouse(spark, str(tmp_path / "warehouse"))
    for name in (pairs.TABLE, batches.TABLE):
        made.create(name)
    return made


def test_a_coreset_is_exact_and_holds_every_cluster(
    spark: SparkSession, warehouse: Warehouse
) -> None:
    rows = planted(spark, 400)
    settings = Settings(budget=57, signal_set="s", clusters=10)

    assert coreset.run(warehouse, "small", rows, settings, run_id="run")
    found = warehouse.read("gold.coreset_small").toPandas()
    assert len(found) == found["sample_id"].nunique() == 57
    assert not set(found["sample_id"]) & {"nan", "none"}
    assert set(found["rule"]) == {"middle"}
    every = coreset.choose(rows, Settings(budget=400, signal_set="s", clusters=10)).toPandas()
    assert set(found["cluster"]) == set(every["cluster"])
    for _, part in found.groupby("cluster"):
        assert sorted(part["rank"]) == list(range(1, len(part) + 1))


def test_the_same_again_writes_nothing_and_another_replaces_in_one_commit(
    spark: SparkSession, warehouse: Warehouse
) -> None:
    name = table.table("c")
    settings = Settings(budget=20, signal_set="s")
    coreset.run(warehouse, "c", planted(spark, 200), settings, run_id="run")
    version = warehouse.version(name)

    again = planted(spark, 200, partitions=5)
    assert not coreset.run(warehouse, "c", again, settings, run_id="run")
    assert warehouse.version(name) == version

    larger = Settings(budget=33, signal_set="s", rule="far")
    assert coreset.run(warehouse, "c", again, larger, run_id="run")
    assert warehouse.version(name) == version + 1
    assert warehouse.read(name).count() == 33
    kept = warehouse.read(batches.TABLE).orderBy("batch_id").select("rows_kept").collect()
    assert [row.rows_kept for row in kept] == [20, 33]


def test_what_cannot_be_given_is_refused(spark: SparkSession, warehouse: Warehouse) -> None:
    rows = planted(spark, 40)
    with pytest.raises(ConfigError, match=r"--budget got 41; allowed up to 40, .* of 42"):
        coreset.run(warehouse, "c", rows, Settings(budget=41, signal_set="s"), run_id="run")
    with pytest.raises(ConfigError, match="0 pairs were chosen"):
        coreset.choose(rows.where("false"), Settings(budget=1, signal_set="s"))
    nan = rows.where("sample_id = 'nan'")
    with pytest.raises(ConfigError, match="--budget got 1; allowed up to 0"):
        coreset.choose(nan, Settings(budget=1, signal_set="s"))

    assert not warehouse.exists(table.table("c"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"budget": 0}, "--budget got 0"),
        ({"clusters": 0}, "--clusters got 0"),
        ({"quota": "cubic"}, "--quota got cubic; allowed proportional, sqrt, uniform"),
        ({"rule": "best"}, "--rule got best; allowed middle, near, far, score"),
        ({"band": (0.5, 0.2)}, "--band got 50-20"),
        ({"band": (float("nan"), 0.2)}, "--band got nan-20"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings(**{"budget": 1, "signal_set": "s", **wrong}).check()


def test_each_rule_ranks_as_it_says(spark: SparkSession) -> None:
    rows = [(str(place), 0, place / 10, (place * 7 % 9) / 10) for place in range(9)]
    rows += [("x", 1, 0.5, None)]
    placed = spark.createDataFrame(rows, PLACED)

    def order(**options: Any) -> str:
        found = coreset.ranked(placed, **options).where("cluster = 0").orderBy("rank")
        return "".join(row.sample_id for row in found.collect())

    assert order(rule="near") == "012345678"
    assert order(rule="far") == "876543210"
    assert order(rule="middle") == "435261708"
    # Scores: 0 7 5 3 1 8 6 4 2 of the rows 0 to 8.
    by_score = sorted(range(9), key=lambda place: -(place * 7 % 9))
    assert order(rule="score") == "".join(map(str, by_score))
    in_band = order(rule="score", band=(0.15, 0.55))
    # Middles of ranks 2 to 5 lie in it: (2 - 0.5) / 9 = 0.17 to (5 - 0.5) / 9 = 0.5.
    assert in_band[:4] == "".join(map(str, by_score[1:5]))
    assert sorted(in_band) == sorted(order(rule="score"))
    assert coreset.ranked(placed).where("sample_id = 'x'").collect()[0]["rank"] == 1


def test_rows_without_a_score_come_last_in_the_rule_of_scores(spark: SparkSession) -> None:
    rows = [("a", 0, 0.1, None), ("b", 0, 0.2, -0.5), ("c", 0, 0.3, 0.5)]
    found = coreset.ranked(spark.createDataFrame(rows, PLACED), rule="score").orderBy("rank")

    assert [row.sample_id for row in found.collect()] == ["c", "b", "a"]


def test_a_probe_learns_more_from_a_coreset_than_from_as_many_random_rows(
    spark: SparkSession,
) -> None:
    seeds, classes, clusters, n, budget = 10, 20, 60, 4_000, 200
    rows: list[tuple[Any, ...]] = []
    given = np.zeros(seeds * clusters, np.int64)
    toys = {}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        label = zipf(rng, n, classes)
        middles = unit(rng.normal(size=(classes, 2 * DIMENSION)))

        def drawn(
            label: np.ndarray, middles: np.ndarray = middles, rng: np.random.Generator = rng
        ) -> np.ndarray:
            noise = rng.normal(size=(len(label), 2 * DIMENSION))
            return unit(middles[label] + 0.17 * noise)

        features = drawn(label)
        fair = np.repeat(np.arange(classes), 50)
        toys[seed] = features, label, drawn(fair), fair
        centres = centroids(features, clusters=clusters)
        cluster, cosine = nearest(features, centres)
        sizes = np.bincount(cluster, minlength=clusters)
        given[seed * clusters :][:clusters] = quotas(sizes, budget=budget)
        rows += [
            (
                f"{seed}-{place}",
                int(seed * clusters + cluster[place]),
                float(1 - cosine[place]),
                0.0,
            )
            for place in range(n)
        ]
    # All seeds in one go: each has clusters of its own.
    placed = spark.createDataFrame(rows, PLACED)
    chosen = coreset.best(coreset.ranked(placed), given).select("sample_id").collect()

    def accuracy(seed: int, places: np.ndarray) -> float:
        features, label, held_out, fair = toys[seed]
        probe = LogisticRegression(max_iter=500).fit(features[places], label[places])
        return float(probe.score(held_out, fair))

    won = []
    for seed in range(seeds):
        places = np.array(
            [int(r.sample_id.split("-")[1]) for r in chosen if r.sample_id.startswith(f"{seed}-")]
        )
        assert len(places) == budget
        by_chance = np.random.default_rng(100 + seed).choice(n, budget, replace=False)
        won.append(accuracy(seed, places) - accuracy(seed, by_chance))
    print(f"coreset over random, by seed: {np.round(won, 3)}, mean {np.mean(won):.3f}")

    assert np.mean(won) > 0.02
