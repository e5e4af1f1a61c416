"""SemDeDup's rule from embeddings to the table: complete, and one stays of those alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs import semdedup
from jobs.runtime.errors import ConfigError
from jobs.runtime.tables import Warehouse
from jobs.semdedup import Settings
from schemas import batches, pairs
from schemas import semdedup as table
from udfs.centroids import Centroids
from udfs.embedding import pack, unit, unpack
from udfs.semdedup import Keep

EMBEDDED = "sample_id string, clip_score float, embedding binary"
DIMENSION = 24
UNUSABLE = {"nan", "none", "short"}


def planted(n: int, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names out of order, embeddings with copies of many degrees, scores."""
    rng = np.random.default_rng(seed)
    base = unit(rng.standard_normal((n // 3, DIMENSION)))
    noise = rng.standard_normal((n, DIMENSION)) * rng.uniform(0, 0.15, (n, 1))
    vectors = unit(base[rng.integers(0, len(base), n)] + noise)
    names = [f"{place:06d}" for place in rng.permutation(n)]
    scores = np.where(rng.random(n) < 0.1, np.nan, rng.random(n)).astype(np.float32)
    return names, vectors, scores


def framed(
    spark: SparkSession, names: list[str], vectors: np.ndarray, scores: np.ndarray
) -> DataFrame:
    """The rows, with three that have no usable embedding."""
    packed = pack(vectors)
    rows: list[tuple[Any, ...]] = [
        (name, None if np.isnan(score) else float(score), embedding)
        for name, score, embedding in zip(names, scores, packed, strict=True)
    ]
    rows.append(("nan", 0.5, np.full(DIMENSION, np.nan, "<f2").tobytes()))
    rows.append(("none", 0.5, None))
    rows.append(("short", 0.5, packed[0][:-2]))
    return spark.createDataFrame(rows, EMBEDDED).repartition(3)


def by_a_script(
    names: list[str], vectors: np.ndarray, scores: np.ndarray, middles: np.ndarray, keep: Keep
) -> dict[str, tuple[int, int, float]]:
    """The rule written out, row by row: cell, rank and greatest cosine."""
    wide = vectors.astype(np.float64)
    cosine = wide @ middles.astype(np.float64).T
    cells = np.argsort(-cosine, axis=1)[:, :2]
    own = cells[:, 0]
    near = cosine[np.arange(len(own)), own]
    key = {
        "far": near,
        "middle": np.array(
            [
                abs(mine - np.quantile(near[own == cell], 0.5, method="lower"))
                for mine, cell in zip(near, own, strict=True)
            ]
        ),
        "best-score": -np.nan_to_num(scores, nan=-np.inf),
        "first": np.zeros(len(own)),
    }[keep]
    order = sorted(range(len(names)), key=lambda row: (key[row], names[row]))
    found, ranks = {}, dict.fromkeys(own.tolist(), 0)
    for place, row in enumerate(order):
        earlier = np.array(order[:place], int)
        meets = (cells[earlier][:, :, None] == cells[row]).any(axis=(1, 2))
        greatest = max([0.0, *(wide[earlier[meets]] @ wide[row])])
        ranks[own[row]] += 1
        found[names[row]] = (int(own[row]), ranks[own[row]], greatest)
    return found


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    made = Warehouse(spark, str(tmp_path / "warehouse"))
    for name in (pairs.TABLE, batches.TABLE):
        made.create(name)
    return made


@pytest.mark.parametrize(
    ("keep", "cells"), [("far", 1), ("far", 12), ("middle", 12), ("best-score", 12), ("first", 12)]
)
def test_equals_a_script_of_the_rule(spark: SparkSession, keep: Keep, cells: int) -> None:
    names, vectors, scores = planted(2400)
    stored = unpack(pack(vectors))
    middles = unit(np.random.default_rng(1).standard_normal((cells, DIMENSION)))
    settings = Settings(signal_set="s", keep=keep, eps=0.05)

    rows = framed(spark, names, vectors, scores)
    found = {
        row.sample_id: row
        for row in semdedup.scored(rows, Centroids(middles, 1.0, 1.0), settings).collect()
    }

    assert found.keys() == {*names, *UNUSABLE}
    for name in UNUSABLE:
        row = found[name]
        assert (row.cell, row["rank"], row.most_similar, row.nearest_id) == (None,) * 4
        assert row.is_kept
    at = {name: place for place, name in enumerate(names)}
    gone, differing = 0, 0
    for name, (cell, rank, greatest) in by_a_script(names, stored, scores, middles, keep).items():
        row = found[name]
        assert row.cell == cell
        assert row.is_kept == (row.most_similar <= 0.95)
        gone += not row.is_kept
        if row.nearest_id is not None:
            cosine = stored[at[name]] @ stored[at[row.nearest_id]]
            assert row.most_similar == pytest.approx(cosine, abs=1e-6)
        # Equal to the last bit of a float, two rows may change places.
        is_same = row["rank"] == rank and abs(row.most_similar - greatest) < 1e-5
        differing += not is_same
    assert differing <= 6
    assert gone > 400


def test_copies_across_a_border_are_found_and_one_of_them_stays(spark: SparkSession) -> None:
    # Two copies on both sides of the border between two centroids, each nearest to its own.
    middles = unit(np.eye(DIMENSION)[:3])
    pair = np.zeros((2, DIMENSION))
    pair[:, 0], pair[:, 1] = (0.71, 0.70), (0.70, 0.71)
    names, scores = ["a", "b"], np.array([0.1, 0.2], np.float32)
    rows = framed(spark, names, unit(pair), scores)

    for keep, stays in (("first", "a"), ("best-score", "b")):
        settings = Settings(signal_set="s", keep=keep)  # type: ignore[arg-type]
        found = semdedup.scored(rows, Centroids(middles, 1.0, 1.0), settings).where("cell >= 0")
        told = {row.sample_id: (row.cell, row.is_kept, row.nearest_id) for row in found.collect()}
        goes = {"a": "b", "b": "a"}[stays]
        assert told[stays][1:] == (True, None)
        assert told[goes][1:] == (False, stays)
        assert (told["a"][0], told["b"][0]) == (0, 1)


def test_the_same_again_writes_nothing_and_what_differs_is_replaced_in_one_commit(
    spark: SparkSession, warehouse: Warehouse
) -> None:
    name = table.table("c")
    names, vectors, scores = planted(600)
    rows = framed(spark, names, vectors, scores)
    # One cell, and an order that no centroid decides: one row more changes nothing of the others.
    settings = Settings(signal_set="s", keep="first", eps=0.05, clusters=1)
    assert semdedup.run(warehouse, "c", rows, settings, run_id="run")
    version = warehouse.version(name)

    assert not semdedup.run(warehouse, "c", rows.repartition(5), settings, run_id="run")
    assert warehouse.version(name) == version

    # A row comes to have an embedding, like no other's: nulls alone are other than before.
    lone = pack(unit(np.random.default_rng(5).standard_normal((1, DIMENSION))))
    mended = rows.where("sample_id <> 'none'").unionByName(
        spark.createDataFrame([("none", 0.5, lone[0])], EMBEDDED)
    )
    assert semdedup.run(warehouse, "c", mended, settings, run_id="run")
    assert warehouse.version(name) == version + 1
    (row,) = warehouse.read(name).where("sample_id = 'none'").collect()
    assert (row.cell, row.is_kept) == (0, True)
    assert 0 < row.most_similar < 0.95
    ledger = warehouse.read(batches.TABLE).orderBy("batch_id").select("rows_kept").collect()
    assert [row.rows_kept for row in ledger] == [603, 603]


def test_what_cannot_be_scored_is_refused(spark: SparkSession, warehouse: Warehouse) -> None:
    rows = framed(spark, *planted(30))
    settings = Settings(signal_set="s")
    with pytest.raises(ConfigError, match="0 pairs were chosen"):
        semdedup.run(warehouse, "c", rows.where("false"), settings, run_id="run")
    for which in ("'none'", "'none', 'nan'"):
        without = rows.where(f"sample_id IN ({which})")
        with pytest.raises(ConfigError, match=r"none of \d pairs has a usable embedding"):
            semdedup.run(warehouse, "c", without, settings, run_id="run")

    assert not warehouse.exists(table.table("c"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"keep": "near"}, "--keep got near; allowed far, middle, best-score, first"),
        ({"eps": 0.0}, "--eps got 0; allowed above 0 and below 1; e.g. 0.06"),
        ({"eps": 1.0}, "--eps got 1;"),
        ({"eps": float("nan")}, "--eps got nan"),
        ({"clusters": 0}, "--clusters got 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings(**{"signal_set": "s", **wrong}).check()
