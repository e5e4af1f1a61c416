from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from udfs.elders import Elders, elders

NODES = (-(2**63), -3, 0, 1, 2, 3, 5, 8, 2**40, 2**63 - 1)
SIMILARITIES = (0.0, 0.5, 0.75, 0.875, 1.0)  # few, so that ties are frequent
SCORES = (float("-inf"), 0.0, 1.0, float("nan"))

Link = tuple[int, int, float]

scores = st.tuples(*[st.sampled_from(SCORES) for _ in NODES]).map(
    lambda drawn: dict(zip(NODES, drawn, strict=True))
)
links = st.lists(
    st.tuples(st.sampled_from(NODES), st.sampled_from(NODES), st.sampled_from(SIMILARITIES)).filter(
        lambda link: link[0] != link[1]
    ),
    max_size=25,
)


def judged(drawn: Sequence[Link], score: dict[int, float]) -> Elders:
    a, b = (np.array([link[end] for link in drawn], np.int64) for end in (0, 1))
    similarity = np.array([link[2] for link in drawn], np.float32)
    of = [np.array([score[int(node)] for node in ends], np.float64) for ends in (a, b)]
    return elders(a, b, similarity, *of)


def rows(found: Elders) -> list[tuple[object, ...]]:
    columns = (found.node, found.cluster, found.elder, found.similarity, found.is_duplicate)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def forest(drawn: Sequence[Link], score: dict[int, float]) -> list[Link]:
    return [drawn[index] for index in judged(drawn, score).link.tolist() if index >= 0]


def partition(drawn: Sequence[Link], floor: float) -> list[set[int]]:
    parts = [{node} for node in {node for link in drawn for node in link[:2]}]
    for a, b, similarity in drawn:
        if similarity >= floor:
            joined = [part for part in parts if part & {a, b}]
            parts = [part for part in parts if part not in joined] + [set().union(*joined)]
    return parts


def first_kept(part: set[int], score: dict[int, float]) -> int:
    def order(node: int) -> tuple[float, int]:
        return (np.inf if np.isnan(score[node]) else -score[node], node)

    return min(part, key=order)


@settings(deadline=None)  # the first call compiles
@given(links, scores, st.sampled_from(SIMILARITIES))
def test_at_every_threshold_the_duplicates_are_all_but_the_first_kept_of_each_component(
    drawn: list[Link], score: dict[int, float], floor: float
) -> None:
    found = judged(drawn, score)

    is_duplicate = found.is_duplicate & (found.similarity >= floor)
    parts = partition(drawn, floor)
    survivors = {first_kept(part, score) for part in parts}
    assert set(found.node[is_duplicate].tolist()) == set().union(*parts) - survivors
    # Elders lead to the survivor.
    elder = dict(zip(found.node[is_duplicate], found.elder[is_duplicate], strict=True))
    for part in parts:
        for node in part:
            while node in elder:
                node = elder[node]
            assert node == first_kept(part, score)


@settings(deadline=None)  # the first call compiles
@given(links, scores)
def test_a_cluster_is_named_by_the_least_node_of_its_component(
    drawn: list[Link], score: dict[int, float]
) -> None:
    found = judged(drawn, score)

    named = {node: min(part) for part in partition(drawn, 0.0) for node in part}
    assert dict(zip(found.node.tolist(), found.cluster.tolist(), strict=True)) == named


@settings(deadline=None)  # the first call compiles
@given(links, scores, st.randoms(use_true_random=False))
def test_order_ends_and_copies_change_nothing(
    drawn: list[Link], score: dict[int, float], random: Random
) -> None:
    turned = [(b, a, s) if random.random() < 0.5 else (a, b, s) for a, b, s in [*drawn, *drawn]]
    random.shuffle(turned)

    assert rows(judged(turned, score)) == rows(judged(drawn, score))
    assert {(*sorted(link[:2]), link[2]) for link in forest(turned, score)} == {
        (*sorted(link[:2]), link[2]) for link in forest(drawn, score)
    }


@settings(deadline=None)  # the first call compiles
@given(links, links, scores)
def test_a_batch_and_the_forest_of_history_give_what_all_links_give(
    old: list[Link], new: list[Link], score: dict[int, float]
) -> None:
    kept = forest(old, score)

    assert rows(judged(kept, score)) == rows(judged(old, score))
    assert rows(judged(kept + new, score)) == rows(judged(old + new, score))


def test_the_forest_has_the_greatest_sum() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 300, (2, 2000))
    a, b = a[a != b], b[a != b]
    similarity = rng.permutation(len(a)).astype(np.float32) / 2000

    found = elders(a, b, similarity, np.zeros(len(a)), np.zeros(len(a)))

    count, label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(300, 300)))
    chosen = found.link[found.link >= 0]
    assert len(chosen) == len(found.node) - (count - (300 - len(found.node)))
    # Cycle property: a link left out is the weakest of the cycle that it closes.
    left_out = np.setdiff1d(np.arange(len(a)), chosen)
    for index in left_out[:200]:
        stronger = chosen[similarity[chosen] > similarity[index]]
        _, label = connected_components(
            coo_array((np.ones(len(stronger)), (a[stronger], b[stronger])), shape=(300, 300))
        )
        assert label[a[index]] == label[b[index]]


def test_the_highest_of_several_scores_counts() -> None:
    a, b = np.array([1, 1]), np.array([2, 3])
    ones = np.ones(2, np.float32)

    found = elders(a, b, ones, np.array([np.nan, 9.0]), np.array([5.0, 7.0]))

    assert found.node[~found.is_duplicate].tolist() == [1]


def test_no_links_have_no_clusters() -> None:
    none = np.array([], np.int64)

    found = elders(none, none, none.astype(np.float32), none.astype(float), none.astype(float))

    assert rows(found) == []


def test_a_chain_of_a_hundred_thousand() -> None:
    ends = np.random.default_rng(1).permutation(100_000)
    rising = np.linspace(0, 1, 100_000, dtype=np.float32)[ends]

    found = elders(ends, ends + 1, rising, np.zeros(100_000), np.zeros(100_000))

    assert (found.cluster == 0).all()
    assert found.node[~found.is_duplicate].tolist() == [0]
    # Node n + 1 hangs on n; the link above was taken before, so n is its elder.
    assert (found.elder[1:] == np.arange(100_000)).all()


@pytest.mark.parametrize("similarity", [-0.25, 1.5, np.nan])
def test_what_is_no_similarity_is_refused(similarity: float) -> None:
    with pytest.raises(ValueError, match=r"link 1 got the similarity .*; allowed 0 to 1"):
        elders(
            np.array([1, 1]), np.array([2, 3]), np.float32([1, similarity]), np.ones(2), np.ones(2)
        )


def test_a_node_is_not_its_own_duplicate() -> None:
    with pytest.raises(ValueError, match="link 0 got the ends 4, 4; allowed two nodes"):
        elders(np.array([4]), np.array([4]), np.ones(1, np.float32), np.ones(1), np.ones(1))


def test_columns_are_of_one_length() -> None:
    with pytest.raises(ValueError, match=r"lengths \[1, 2, 1, 1, 1\]; allowed one length"):
        elders(np.array([4]), np.array([5, 6]), np.ones(1, np.float32), np.ones(1), np.ones(1))
