import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.dedup import semantic, stored_centroids
from jobs.runtime.config import Dedup
from jobs.runtime.errors import ConfigError
from jobs.runtime.table_scan import Streamed
from tests.dedup_warehouse import DedupWarehouse, Item, elders
from udfs.centroids import ASSIGNMENTS, Centroids, readable
from udfs.embedding import pack, unit, unpack

THRESHOLD = 0.95
DIMENSION = 64


def planted(rows: int, seed: int) -> list[bytes]:
    """Embeddings in groups of up to a handful of copies, about the threshold."""
    rng = np.random.default_rng(seed)
    topic = unit(rng.standard_normal((12, DIMENSION)))[rng.integers(0, 12, rows)]
    base = unit(topic + unit(rng.standard_normal((rows, DIMENSION))))
    of = base[rng.integers(0, rows // 3, rows)]
    noise = unit(rng.standard_normal((rows, DIMENSION)))
    return pack(unit(of + rng.uniform(0, 0.4, (rows, 1)) * noise))


def frame(spark: SparkSession, packed: Sequence[bytes | None], first: int = 0) -> DataFrame:
    rows = [(node, embedding) for node, embedding in enumerate(packed, first)]
    return spark.createDataFrame(rows, "node long, embedding binary")


def streamed(assigned: DataFrame) -> Streamed:
    return Streamed.of(assigned.select("node", "cell", "code").where("cell IS NOT NULL"))


def brute(packed: Sequence[bytes], threshold: float = THRESHOLD) -> dict[tuple[int, int], float]:
    vectors = unpack(packed)
    near = vectors @ vectors.T
    return {
        (int(a), int(b)): float(near[a, b]) for a, b in np.argwhere(np.triu(near >= threshold, 1))
    }


def found(links: DataFrame) -> dict[tuple[int, int], float]:
    rows = links.collect()
    pairs = {(row.a, row.b): row.similarity for row in rows}
    assert len(pairs) == len(rows)
    return pairs


@pytest.fixture(scope="module")
def packed() -> list[bytes]:
    return planted(1200, seed=0)


@pytest.fixture(scope="module")
def centroids(spark: SparkSession, packed: list[bytes]) -> Centroids:
    found = semantic.train(frame(spark, packed), k=12)
    assert found is not None
    return found


def test_training_does_not_depend_on_partitions_or_order(
    spark: SparkSession, packed: list[bytes], centroids: Centroids
) -> None:
    rows = frame(spark, [*packed, None, b"\x00" * 2 * DIMENSION])

    shuffled = semantic.train(rows.repartition(3).orderBy("embedding"), k=12)
    fewer = semantic.train(rows, most=600)

    assert shuffled is not None
    assert fewer is not None
    assert len(centroids.vectors) == 12
    assert shuffled.digest == centroids.digest
    assert fewer.digest != centroids.digest
    assert 0 < len(fewer.vectors) <= 600 // 39 + 2


def test_an_embedding_has_two_cells_and_a_bad_one_none(
    spark: SparkSession, packed: list[bytes], centroids: Centroids
) -> None:
    broken = np.ones(DIMENSION, "<f2")
    broken[3] = np.nan
    bad = [None, b"", b"\x00" * 2 * DIMENSION, broken.tobytes(), packed[0][:-2]]
    rows = semantic.assigned(frame(spark, [*bad, packed[7]]), centroids).collect()

    assert [tuple(row) for row in rows if row.node < len(bad)] == [
        (node, None, None, None) for node in range(len(bad))
    ]
    good = [row for row in rows if row.node == len(bad)]
    every = (unpack([packed[7]]) @ centroids.vectors.T)[0]
    assert [row.cell for row in good] == np.argsort(-every)[:ASSIGNMENTS].tolist()
    assert good[0].centroid_cosine == pytest.approx(every.max(), abs=1e-6)
    assert good[0].code == good[1].code
    assert len(good[0].code) == 64


def test_links_are_those_of_exact_search(
    spark: SparkSession, packed: list[bytes], centroids: Centroids
) -> None:
    vectors = frame(spark, packed).cache()
    assigned = semantic.assigned(vectors, centroids).cache()
    bounds = [0, 700, len(packed)]
    asked = []

    def vectors_of(nodes: DataFrame) -> DataFrame:
        asked.append(nodes.count())
        return vectors.join(nodes, "node", "left_semi")

    links: dict[tuple[int, int], float] = {}
    for first, last in pairwise(bounds):
        fresh = assigned.where(f"node >= {first} and node < {last}")
        history = streamed(assigned.where(f"node < {first}"))
        new = found(semantic.links(fresh, history, THRESHOLD, vectors_of))
        assert all(a < b and first <= b < last for a, b in new)
        links |= new
    vectors.unpersist()
    assigned.unpersist()

    truth = brute(packed)
    assert len(truth) > 500
    assert links.keys() <= {*brute(packed, THRESHOLD - 1e-6)}
    assert len(links.keys() & truth.keys()) >= 0.99 * len(truth)
    assert all(links[pair] == pytest.approx(truth[pair], abs=1e-6) for pair in links)
    # Only of candidates are embeddings fetched.
    assert 0 < max(asked) < len(packed)


def test_slices_and_blocks_change_nothing(
    spark: SparkSession,
    packed: list[bytes],
    centroids: Centroids,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = packed[:400]
    vectors = frame(spark, some).localCheckpoint()
    few = Centroids(centroids.vectors[:4], centroids.mean_cosine, centroids.low_cosine)
    assigned = semantic.assigned(vectors, few).localCheckpoint()
    nothing = streamed(assigned.where("false"))

    def links() -> pd.DataFrame:
        pairs = semantic.links(assigned, nothing, THRESHOLD, lambda _: vectors)
        return pairs.toPandas().sort_values(["a", "b"], ignore_index=True)

    whole = links()
    monkeypatch.setattr(semantic, "SLICE", 180)  # less than the largest cell has rows
    monkeypatch.setattr(semantic, "BLOCK", 20)
    monkeypatch.setattr(semantic, "_PAIRS", 2)
    cut = links()

    assert assigned.groupBy("cell").count().agg({"count": "max"}).first()[0] > 180
    assert len(whole) > 20
    pd.testing.assert_frame_equal(whole, cut)


def test_what_cannot_be_linked_is_not(
    spark: SparkSession, packed: list[bytes], centroids: Centroids
) -> None:
    zero = b"\x00" * 2 * DIMENSION
    vectors = frame(spark, [packed[0], packed[0], packed[0], zero, zero, None]).localCheckpoint()
    assigned = semantic.assigned(vectors, centroids).localCheckpoint()
    nothing = streamed(assigned.where("false"))

    # Node 2 was taken down: its codes are in the index still, its embedding is gone.
    links = semantic.links(
        assigned.where("node > 0"),
        streamed(assigned),
        THRESHOLD,
        lambda nodes: vectors.join(nodes, "node", "left_semi").where("node != 2"),
    )
    assert found(links) == {(0, 1): pytest.approx(1)}
    assert (
        found(
            semantic.links(
                assigned.where("false"), streamed(assigned), THRESHOLD, lambda _: vectors
            )
        )
        == {}
    )
    short = spark.createDataFrame([(9, 1, b"\x00")], "node long, cell int, code binary")
    with pytest.raises(ValueError, match="codes of 1 rows differ from 64 bytes"):
        semantic.links(short, nothing, THRESHOLD, lambda _: vectors)


def of_stage() -> list[Item]:
    """Images with near ones at known cosines, a chain, and all kinds of broken embeddings."""
    rng = np.random.default_rng(3)
    frames = [np.linalg.qr(rng.standard_normal((DIMENSION, 2)))[0].T for _ in range(60)]
    vectors = [frame[0] for frame in frames]
    for i, cosine in [(0, 0.99), (1, 0.93), (2, 0.96), (3, 0.999), (40, 0.97)]:
        vectors.append(cosine * frames[i][0] + np.sqrt(1 - cosine**2) * frames[i][1])
    angles = 0.25, 0.5  # 0.969 from one to the next, 0.878 over two
    vectors += [np.cos(x) * frames[4][0] + np.sin(x) * frames[4][1] for x in angles]
    packed: list[bytes | None] = [*pack(unit(np.array(vectors)[rng.permutation(len(vectors))]))]
    broken = np.full(DIMENSION, np.nan, "<f2").tobytes()
    zero = bytes(2 * DIMENSION)
    for place, bad in enumerate([broken, zero, None, broken, zero, None]):
        packed.insert(12 * place, bad)
    return [
        Item(ordinal=i, media=f"m{i}", caption=f"t{i}", embedding=e) for i, e in enumerate(packed)
    ]


def test_the_stage_says_the_same_in_one_batch_killed_and_in_two(
    spark: SparkSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="sluice")
    items = of_stage()
    # One more sample of an image that has an elder, and of one that is broken.
    _, is_good = readable([item.embedding for item in items], DIMENSION)
    good = [item for item, has_direction in zip(items, is_good, strict=True) if has_direction]
    names = [item.sample_id for item in good]
    near = brute([item.embedding for item in good if item.embedding])
    links = [(names[a], names[b], similarity) for (a, b), similarity in near.items()]
    every = [item.sample_id for item in items]
    expected = elders(every, links, {name: (0.0, i) for i, name in enumerate(every)})
    again = next(i for i in items if expected[i.sample_id][0])
    items += [
        Item(ordinal=100, media=again.media, caption="u", embedding=again.embedding),
        Item(ordinal=101, media=items[0].media, caption="v", embedding=items[0].embedding),
    ]
    expected["s00100"] = expected[again.sample_id]
    settings = Dedup(kinds=("exact_media", "semantic"))

    def said(tables: DedupWarehouse) -> dict[str, tuple[object, ...]]:
        return {
            name: (
                row["is_duplicate"],
                row["representative_id"],
                pytest.approx(row["similarity"], abs=1e-6),
                row["cluster_id"],
            )
            for name, row in tables.verdicts("semantic").items()
        }

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    whole = DedupWarehouse(spark, tmp_path / "whole", settings)
    whole.put(items)
    with monkeypatch.context() as killed:
        killed.setattr(semantic, "links", die)
        with pytest.raises(RuntimeError, match="killed"):
            whole.search(items, label="test")
    with monkeypatch.context() as replayed:
        replayed.setattr(semantic, "train", die)
        whole.search(items, label="test")
    halves = DedupWarehouse(spark, tmp_path / "halves", settings)
    halves.arrive(*items[:40])
    halves.arrive(*items[40:])

    found = said(whole)
    assert said(halves) == found
    assert len(links) >= 6
    assert found.pop("s00101") == (False, "s00101", 1.0, "s00000")
    assert found == {name: (*told[:3], min(told[3])) for name, told in expected.items()}
    for tables in (whole, halves):
        read = tables.warehouse.read
        assert read("silver.centroids").count() == 1
        assert read("silver.semantic_vectors").count() == len(every)
    assert read("silver.semantic_index").select("node").distinct().count() == len(names)
    assert "images without an embedding" in caplog.text
    assert "lie at a mean cosine of" in caplog.text

    held = stored_centroids.read(halves.warehouse)
    assert held is not None
    with pytest.raises(ConfigError, match=r"semantic.clip_model other; .* was built with model"):
        stored_centroids.hold(halves.warehouse, held, "other")
