"""How many rows each cluster gives to a coreset of an exact size."""

from typing import Final, Literal, get_args

import numpy as np

Quota = Literal["proportional", "sqrt", "uniform"]
QUOTAS: Final[tuple[Quota, ...]] = get_args(Quota)
# A cluster of weight w gets w ** exponent of a share.
_EXPONENTS: Final = {"proportional": 1.0, "sqrt": 0.5, "uniform": 0.0}


def quotas(sizes: np.ndarray, *, budget: int, quota: Quota = "sqrt") -> np.ndarray:
    """Rows that each cluster gives: together the budget, no cluster more than it has.

    Shares go by size, its square root or none of it. A share that is more than the cluster has, or
    less than 1 where every cluster can have 1, is cut to that, and the others take up the rest in
    their proportions. What is left of a row goes to the largest remainders, ties to the first.

    Args:
        sizes: (k,) int, rows of each cluster, >= 0.
        budget: rows of the coreset, in [0, sum of sizes].
        quota: how a share grows with its cluster.

    Returns:
        (k,) int64 with sum `budget`; at least 1 a cluster that has rows, if `budget` is enough.

    Raises:
        ValueError: an argument is not in its range.

    Source: seeds.md C17; largest remainder: Hamilton's method of apportionment.

    >>> quotas(np.array([100, 4, 1]), budget=12).tolist()
    [9, 2, 1]
    """
    sizes = np.asarray(sizes, np.int64)
    if quota not in QUOTAS:
        raise ValueError(f"quota got {quota}; allowed {', '.join(QUOTAS)}; sqrt is the default")
    if len(sizes) and sizes.min() < 0:
        raise ValueError(f"a cluster got {sizes.min()} rows; allowed 0 or more; count again")
    if not 0 <= budget <= sizes.sum():
        raise ValueError(
            f"budget got {budget} rows; allowed 0 to {sizes.sum()}, the rows there are; lower it, "
            "or choose from more rows"
        )
    filled = np.flatnonzero(sizes)
    given = np.zeros(len(sizes), np.int64)
    if budget:
        least = 1 if budget >= len(filled) else 0
        given[filled] = _rounded(_shares(sizes[filled], budget, quota, least), budget)
    return given


def _shares(sizes: np.ndarray, budget: int, quota: Quota, least: int) -> np.ndarray:
    """Real shares clip(level * weight, least, size) with the level at which they sum to budget.

    Their sum grows with the level and is straight between the levels at which a share meets one of
    its bounds: those are searched, and the rest is a proportion.
    """
    weights = sizes ** _EXPONENTS[quota]

    def shares(level: float) -> np.ndarray:
        clipped: np.ndarray = np.clip(level * weights, least, sizes)
        return clipped

    levels = np.unique(np.concatenate([[0.0], least / weights, sizes / weights]))
    low, high = 0, len(levels) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if shares(levels[middle]).sum() <= budget else (low, middle)
    below, above = shares(levels[low]).sum(), shares(levels[high]).sum()
    part = (budget - below) / (above - below) if above > below else 0.0
    return shares(levels[low] + part * (levels[high] - levels[low]))


def _rounded(shares: np.ndarray, budget: int) -> np.ndarray:
    """Whole numbers with sum budget, each at most one from its share."""
    # A share that is whole but for its last bit is whole.
    whole = np.floor(shares + 1e-9).astype(np.int64)
    remainder = np.maximum(shares - whole, 0)
    more = np.argsort(-remainder, kind="stable")[: budget - whole.sum()]
    whole[more] += 1
    return whole
