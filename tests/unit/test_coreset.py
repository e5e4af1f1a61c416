import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.coreset import QUOTAS, Quota, quotas

SIZES = st.lists(st.integers(0, 10**6) | st.integers(0, 5), min_size=1, max_size=60)


@settings(max_examples=300, deadline=None)
@given(sizes=SIZES, share=st.floats(0, 1), quota=st.sampled_from(QUOTAS))
def test_the_budget_is_met_exactly_and_every_cluster_is_there(
    sizes: list[int], share: float, quota: Quota
) -> None:
    having = np.array(sizes)
    budget = int(share * having.sum())
    given_ = quotas(having, budget=budget, quota=quota)

    assert given_.sum() == budget
    assert (given_ <= having).all()
    assert (given_ >= 0).all()
    if budget >= (having > 0).sum():
        assert (given_[having > 0] >= 1).all()


@settings(max_examples=100, deadline=None)
@given(sizes=SIZES, share=st.floats(0, 1), quota=st.sampled_from(QUOTAS))
def test_a_larger_cluster_gives_no_less(sizes: list[int], share: float, quota: Quota) -> None:
    having = np.sort(sizes)[::-1]
    given_ = quotas(having, budget=int(share * having.sum()), quota=quota)

    assert (np.diff(given_) <= 0).all()


@given(sizes=SIZES)
def test_the_largest_budgets_are_met(sizes: list[int]) -> None:
    having = np.array(sizes)
    for budget in {int(having.sum()), max(0, int(having.sum()) - 1)}:
        assert quotas(having, budget=budget).sum() == budget


def test_shares_grow_as_the_quota_says() -> None:
    sizes = np.array([10_000, 2_500, 100])

    assert quotas(sizes, budget=1260, quota="proportional").tolist() == [1000, 250, 10]
    assert quotas(sizes, budget=160, quota="sqrt").tolist() == [100, 50, 10]
    assert quotas(sizes, budget=30, quota="uniform").tolist() == [10, 10, 10]


def test_what_a_cluster_lacks_goes_to_the_others_in_their_proportions() -> None:
    assert quotas(np.array([3, 900, 400]), budget=303, quota="uniform").tolist() == [3, 150, 150]
    assert quotas(np.array([4, 900, 400]), budget=254, quota="sqrt").tolist() == [4, 150, 100]


def test_largest_remainders_take_what_is_left_ties_the_first() -> None:
    assert quotas(np.array([6, 6, 6]), budget=8, quota="uniform").tolist() == [3, 3, 2]
    assert quotas(np.array([70, 20, 10]), budget=16, quota="proportional").tolist() == [11, 3, 2]


def test_of_too_many_clusters_the_largest_are_there() -> None:
    assert quotas(np.array([1, 9, 4]), budget=2).tolist() == [0, 1, 1]


def test_empty_clusters_give_nothing() -> None:
    assert quotas(np.array([0, 5, 0]), budget=3).tolist() == [0, 3, 0]
    assert quotas(np.array([], int), budget=0).tolist() == []


def test_billions_of_rows_are_exact() -> None:
    sizes = np.random.default_rng(0).integers(1, 10**7, 50_000)
    for quota in QUOTAS:
        assert quotas(sizes, budget=10**9 + 7, quota=quota).sum() == 10**9 + 7


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="budget got 6 rows; allowed 0 to 5"):
        quotas(np.array([2, 3]), budget=6)
    with pytest.raises(ValueError, match="budget got -1"):
        quotas(np.array([2, 3]), budget=-1)
    with pytest.raises(ValueError, match="allowed 0 to 0"):
        quotas(np.array([], int), budget=1)


def test_an_unknown_quota_and_a_negative_size_are_refused() -> None:
    with pytest.raises(ValueError, match="quota got cubic; allowed proportional, sqrt, uniform"):
        quotas(np.array([2]), budget=1, quota="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a cluster got -2 rows"):
        quotas(np.array([-2, 5]), budget=1)
