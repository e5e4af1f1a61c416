"""Links between hashes; the arithmetic is in tests/unit/test_near_hashes.py."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jobs.dedup import phash
from jobs.runtime.table_scan import Streamed
from udfs.phash import hamming

Rows = list[tuple[int, int, int | None]]  # node, hash, hash of the mirror image
Links = dict[tuple[int, int], float]
SCHEMA = "node long, phash long, mirrored_phash long"


@pytest.fixture
def rng() -> np.random.Generator:
    seed = np.random.SeedSequence().entropy
    print(f"seed {seed}")  # shown where a test fails
    return np.random.default_rng(seed)


def crowded(rng: np.random.Generator, rows: int) -> Rows:
    """A few pictures, their copies, equal and up to 12 bits off; a third shares one hash."""
    hashes = rng.integers(-(2**63), 2**63, rows // 10)[rng.integers(0, rows // 10, rows)]
    flips = rng.random((rows, 64)).argsort(axis=1) < rng.integers(0, 7, rows)[:, None]
    masks = (flips * (np.uint64(1) << np.arange(64, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)
    hashes = np.where(rng.random(rows) < 1 / 3, 42, hashes ^ masks.view(np.int64))
    nodes = np.sort(rng.choice(10 * rows, rows, replace=False))
    return [(int(n), int(h), None) for n, h in zip(nodes, hashes, strict=True)]


def linked(spark: SparkSession, fresh: Rows, index: Rows = [], radius: int = 6) -> Links:  # noqa: B006
    def frame(rows: Rows) -> DataFrame:
        made = spark.createDataFrame(rows, SCHEMA)
        return made if any(row[2] is not None for row in rows) else made.drop("mirrored_phash")

    rows = phash.links(frame(fresh), Streamed.of(frame(index)), radius).collect()
    found = {(row.a, row.b): row.similarity for row in rows}
    assert len(found) == len(rows), "a pair is linked twice"
    assert all(a < b for a, b in found)
    return found


def expected(rows: Rows, radius: int) -> Links:
    """Stars of equal hashes, and the oldest of the classes within the radius."""
    classes: dict[int, list[int]] = defaultdict(list)
    for node, value, _ in sorted(rows):
        classes[value].append(node)
    found = {(oldest, node): 1.0 for oldest, *rest in classes.values() for node in rest}
    values = np.array(list(classes))
    distances = hamming(values[:, None], values)
    for i, j in np.argwhere(np.triu(distances <= radius, 1)):
        a, b = sorted((classes[int(values[i])][0], classes[int(values[j])][0]))
        found[a, b] = 1 - int(distances[i, j]) / 64
    return found


def forest(found: Links) -> Links:
    """The maximum spanning forest; of equal links the older first."""
    group = {node: {node} for pair in found for node in pair}
    taken: Links = {}
    for (a, b), similarity in sorted(found.items(), key=lambda link: (-link[1], link[0])):
        if group[a] is not group[b]:
            taken[a, b] = similarity
            group[a] |= group[b]
            group |= dict.fromkeys(group[b], group[a])
    return taken


def clusters(nodes: Iterable[int], found: Mapping[tuple[int, int], float]) -> set[frozenset[int]]:
    numbers = {node: n for n, node in enumerate(sorted(nodes))}
    ends = np.array([[numbers[a], numbers[b]] for a, b in found]).reshape(-1, 2).T
    graph = coo_array((np.ones(len(found)), tuple(ends)), shape=(len(numbers),) * 2)
    groups: dict[int, set[int]] = defaultdict(set)
    for node, label in zip(numbers, connected_components(graph)[1].tolist(), strict=True):
        groups[label].add(node)
    return {frozenset(group) for group in groups.values()}


def test_links_equal_brute_force_and_batches_give_the_same_forest(spark, rng) -> None:
    rows = crowded(rng, 300)
    radius = int(rng.integers(1, 11))
    truth = expected(rows, radius)
    assert linked(spark, rows, radius=radius) == truth
    found = linked(spark, rows[:90], radius=radius)
    found |= linked(spark, rows[90:200], rows[:90], radius)
    found |= linked(spark, rows[200:], rows[:200], radius)
    assert forest(found) == forest(truth)


def test_batches_out_of_order_give_the_same_clusters(spark, rng) -> None:
    rows = crowded(rng, 200)
    nodes = [row[0] for row in rows]
    rng.shuffle(rows)
    found = linked(spark, rows[:120]) | linked(spark, rows[120:], rows[:120])
    assert clusters(nodes, found) == clusters(nodes, expected(sorted(rows), 6))


def test_slices_of_the_batch_find_what_the_whole_finds(spark, rng, monkeypatch) -> None:
    monkeypatch.setattr(phash, "SLICE_ROWS", 40)
    name = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(name)
    rows = crowded(rng, 200)
    assert linked(spark, rows) == expected(rows, 6)
    assert spark.conf.get(name) == before, "the session's setting was not given back"


def test_mirror_images_are_linked_whichever_way_they_come(spark, rng) -> None:
    (one, other, third) = (int(v) for v in rng.integers(-(2**63), 2**63, 3))
    # What is mirrored twice is near, not equal; a symmetric picture is its own mirror image.
    rows: Rows = [(1, one, other), (2, other ^ 1, one ^ 2), (3, third, third), (4, one, None)]
    truth = {(1, 2): 1 - 1 / 64, (1, 4): 1.0, (2, 4): 1 - 1 / 64}
    # One and four have one hash: the older links their class to the others.
    assert linked(spark, rows, radius=3) == {pair: truth[pair] for pair in ((1, 2), (1, 4))}
    for split in ([0], [1, 2, 3]):
        index = [rows[n] for n in split]
        fresh = [row for row in rows if row not in index]
        found = linked(spark, index, radius=3) | linked(spark, fresh, index, radius=3)
        assert found.items() <= truth.items()
        assert clusters(range(1, 5), found) == {frozenset({1, 2, 4}), frozenset({3})}


def test_nothing_fresh_links_nothing(spark) -> None:
    assert linked(spark, [], [(1, 5, None)]) == {}


def test_a_radius_out_of_range_is_refused_at_once(spark) -> None:
    with pytest.raises(ValueError, match="radius got 11; allowed 0 to 10"):
        linked(spark, [(1, 5, None)], radius=11)
