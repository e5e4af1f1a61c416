from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jobs.dedup.components import clusters, components
from udfs.elders import elders

SCORED = "a long, b long, similarity float, a_score double, b_score double"
REMEMBERED = f"{SCORED}, was long, revision int"


def linked(spark: SparkSession, a: np.ndarray, b: np.ndarray) -> DataFrame:
    return spark.createDataFrame(pd.DataFrame({"a": a, "b": b})).repartition(3)


def found(components: DataFrame) -> dict[int, int]:
    rows = components.toPandas()
    assert not rows["node"].duplicated().any()
    return dict(zip(rows["node"].tolist(), rows["component"].tolist(), strict=True))


def truth(a: np.ndarray, b: np.ndarray) -> dict[int, int]:
    node, ends = np.unique(np.concatenate([a, b]), return_inverse=True)
    x, y = ends[: len(a)], ends[len(a) :]
    _, label = connected_components(coo_array((np.ones(len(a)), (x, y)), shape=(len(node),) * 2))
    least = pd.Series(node).groupby(label).transform("min")
    return dict(zip(node.tolist(), least.tolist(), strict=True))


# Limits make two to four tasks: one costs 0.2 s of CPU however little it does.


def test_a_chain_is_one_component(spark: SparkSession) -> None:
    ends = np.random.default_rng(0).permutation(3_000)

    # Four tasks, three rounds.
    assert found(components(linked(spark, ends, ends + 1), limit=800)) == truth(ends, ends + 1)


def test_a_star_is_one_component(spark: SparkSession) -> None:
    rays = np.arange(6_000)
    hub = np.full(6_000, 6_000)

    assert found(components(linked(spark, hub, rays), limit=2_000)) == truth(hub, rays)


@pytest.mark.parametrize(("nodes", "count"), [(500, 6_000), (6_000, 6_000), (50_000, 6_000)])
def test_random_links_have_the_components_that_scipy_finds(
    spark: SparkSession, nodes: int, count: int
) -> None:
    rng = np.random.default_rng(nodes)
    ids = rng.integers(-(2**63), 2**63 - 1, nodes)
    a, b = ids[rng.integers(0, nodes, (2, count))]
    is_link = a != b

    assert found(components(linked(spark, a, b), limit=2_000)) == truth(a[is_link], b[is_link])


def test_rows_that_are_no_links_have_no_component(spark: SparkSession) -> None:
    rows = [(1, 2), (3, 3), (None, 4), (5, None), (2, 1)]

    assert found(components(spark.createDataFrame(rows, "a long, b long"))) == {1: 1, 2: 1}
    assert found(components(spark.createDataFrame([], "a long, b long"))) == {}


def scored(a: np.ndarray, b: np.ndarray, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = pd.Series(rng.integers(0, 4, 1 + max(a.max(), b.max())).astype(float))
    score[score == 0] = np.nan
    similarity = (rng.integers(90, 100, len(a)) / np.float32(100)).astype(np.float32)
    return pd.DataFrame(
        {
            "a": a,
            "b": b,
            "similarity": similarity,
            "a_score": score[a].to_numpy(),
            "b_score": score[b].to_numpy(),
        }
    )


def by_one_kernel(links: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    judged = elders(*(links[name].to_numpy() for name in links.columns))
    nodes = pd.DataFrame(
        {
            name: getattr(judged, name)
            for name in ("node", "cluster", "elder", "similarity", "is_duplicate")
        }
    )
    return nodes, links.iloc[judged.link[judged.link >= 0]]


def pairs(forest: pd.DataFrame) -> set[tuple[Any, ...]]:
    turned = forest["a"] > forest["b"]
    least, greatest = forest[["a", "b"]].min(axis=1), forest[["a", "b"]].max(axis=1)
    scores = [
        forest[one].where(~turned, forest[other]).fillna(-1)
        for one, other in (("a_score", "b_score"), ("b_score", "a_score"))
    ]
    return set(zip(least, greatest, forest["similarity"], *scores, strict=True))


@pytest.mark.parametrize(
    ("nodes", "limit"), [(100, 3_000), (4_000, 100_000), (4_000, 3_000), (40_000, 3_000)]
)
def test_clusters_are_those_of_one_kernel_over_all_links(
    spark: SparkSession, nodes: int, limit: int
) -> None:
    rng = np.random.default_rng(nodes)
    a, b = rng.integers(0, nodes, (2, 8_000))
    links = scored(a[a != b], b[a != b], seed=1)

    judged, forest = clusters(spark.createDataFrame(links).repartition(3), limit=limit)

    expected, kept = by_one_kernel(links)
    rows = judged.toPandas().sort_values("node", ignore_index=True)[expected.columns]
    pd.testing.assert_frame_equal(rows, expected)
    remembered = forest.toPandas()
    assert (remembered["a"] < remembered["b"]).all()
    assert pairs(remembered) == pairs(kept)
    cluster = dict(zip(expected["node"], expected["cluster"], strict=True))
    assert (remembered["cluster"] == remembered["a"].map(cluster)).all()


def test_a_component_that_no_task_may_hold_is_thinned_by_parts(spark: SparkSession) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 200, (2, 8_000))  # 40 links a node
    apart = np.arange(1_000, 2_000, 2)  # and pairs
    a, b = np.concatenate([a[a != b], apart]), np.concatenate([b[a != b], apart + 1])
    links = scored(a, b, seed=3)

    judged, forest = clusters(spark.createDataFrame(links).repartition(3), limit=2_000)

    expected, kept = by_one_kernel(links)
    rows = judged.toPandas().sort_values("node", ignore_index=True)[expected.columns]
    pd.testing.assert_frame_equal(rows, expected)
    assert pairs(forest.toPandas()) == pairs(kept)


def test_links_from_before_are_told_though_their_component_is_thinned(spark: SparkSession) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 200, (2, 8_000))
    links = scored(a[a != b], b[a != b], seed=5)
    chain = np.arange(199)
    before = scored(chain, chain + 1, seed=5).assign(was=0, revision=3)
    is_known = {*zip(chain, chain + 1, strict=True), *zip(chain + 1, chain, strict=True)}
    links = links[[pair not in is_known for pair in zip(links["a"], links["b"], strict=True)]]
    rows = pd.concat([before, links]).astype({"was": "Int64", "revision": "Int32"})

    judged, remembered = clusters(
        spark.createDataFrame(rows.astype(object).where(rows.notna(), None), REMEMBERED),
        limit=1_000,
    )

    expected, _ = by_one_kernel(pd.concat([before, links])[links.columns])
    former, _ = by_one_kernel(before[links.columns])
    found = judged.toPandas().sort_values("node", ignore_index=True)
    pd.testing.assert_frame_equal(found[expected.columns], expected)
    were = found[["node", *(f"was_{name}" for name in expected.columns[1:])]]
    pd.testing.assert_frame_equal(
        were.set_axis(expected.columns, axis=1), former, check_dtype=False
    )
    known = remembered.where("was = 0 and revision = 3").toPandas()
    assert {*zip(known["a"], known["b"], strict=True)} == {*zip(chain, chain + 1, strict=True)}
    assert 0 < known["is_forest"].sum() < len(chain)
    assert remembered.where("is_forest").count() == len(expected) - 1


def test_rows_that_are_no_links_have_no_cluster(spark: SparkSession) -> None:
    nan = float("nan")
    rows = [
        (2, 1, 0.5, 9.0, None),
        (3, 3, 1.0, 0.0, 0.0),
        (4, 5, nan, 0.0, 0.0),
        (4, 5, None, 0.0, 0.0),
        (4, 5, 1.5, 0.0, 0.0),
        (4, None, 1.0, 0.0, 0.0),
    ]

    judged, forest = clusters(spark.createDataFrame(rows, SCORED))

    nothing = (None,) * 4
    assert sorted(map(tuple, judged.collect())) == [
        (1, 1, 2, 0.5, True, *nothing),
        (2, 1, 2, 1.0, False, *nothing),
    ]
    assert list(map(tuple, forest.collect())) == [(1, 2, 0.5, None, 9.0, 1, True, None, None)]


def test_no_links_have_no_clusters(spark: SparkSession) -> None:
    judged, forest = clusters(spark.createDataFrame([], SCORED))

    assert judged.count() == forest.count() == 0


def test_the_sessions_batches_stay_as_they_were(spark: SparkSession) -> None:
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)

    components(spark.createDataFrame([(1, 2)], "a long, b long"))

    assert spark.conf.get(name) == before
