"""How far labels can be trusted that nobody gave: a uniform sample of them is reviewed too."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from scipy.stats import beta

AUDIT_SHARE: Final = 0.005  # of the propagated rows: seeds.md C16
# Chosen: no error in 60 still allows a rate of 6 %; fewer say next to nothing.
AUDIT_LEAST: Final = 60
# Chosen: no error in 2,000 allows 0.2 %. What is known depends on how many are reviewed and not
# on their share, so a set of 10**9 rows needs no more than one of 400,000.
AUDIT_MOST: Final = 2_000
CONFIDENCE: Final = 0.95


class ErrorRate(NamedTuple):
    """What an audit says of the labels it was drawn from.

    Attributes:
        checked: rows reviewed.
        errors: those whose review differs from the propagated label.
        rate: errors / checked; NaN if none was checked.
        low: lower end of the exact interval, in [0, 1].
        high: upper end.
    """

    checked: int
    errors: int
    rate: float
    low: float
    high: float


def audit_size(propagated: int, *, share: float = AUDIT_SHARE) -> int:
    """How many of some propagated rows to review.

    Args:
        propagated: rows, >= 0.
        share: of them, in [0, 1]; 0 asks for no audit.

    Raises:
        ValueError: `share` is not in its range.

    >>> audit_size(200_000), audit_size(1_000), audit_size(10), audit_size(10**9)
    (1000, 60, 10, 2000)
    """
    if not 0 <= share <= 1:
        raise ValueError(f"audit share got {share}; allowed 0 to 1; 0.005 is the default")
    if share == 0:
        return 0
    asked = min(max(math.ceil(propagated * share), AUDIT_LEAST), AUDIT_MOST)
    return min(asked, propagated)


def error_rate(errors: int, checked: int, *, confidence: float = CONFIDENCE) -> ErrorRate:
    """The exact interval of a rate, by Clopper and Pearson.

    It covers the true rate at least as often as it says, whatever that is: for rows drawn without
    replacement from few it is wider than it need be, never narrower.

    Args:
        errors: in [0, checked].
        checked: rows reviewed, drawn uniformly.
        confidence: in (0, 1).

    Raises:
        ValueError: there are more errors than rows.

    Source: Clopper, Pearson 1934, Biometrika 26.

    >>> found = error_rate(0, 60)
    >>> found.low, round(found.high, 4)
    (0.0, 0.0596)
    """
    if not 0 <= errors <= checked:
        raise ValueError(f"{errors} errors in {checked} rows; allowed 0 to {checked}; count again")
    if not checked:
        return ErrorRate(0, 0, math.nan, 0.0, 1.0)
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, errors, checked - errors + 1)) if errors else 0.0
    high = float(beta.isf(tail, errors + 1, checked - errors)) if errors < checked else 1.0
    return ErrorRate(checked, errors, errors / checked, low, high)


def audited(
    checked: Iterable[tuple[str, str]], *, confidence: float = CONFIDENCE
) -> tuple[ErrorRate, dict[str, ErrorRate]]:
    """The rate of errors among all propagated labels, and among those of each label.

    Rows that were drawn uniformly are, among those of one label, drawn uniformly too: each label's
    interval is exact without a sample of its own, wide where the label is rare.

    Args:
        checked: (propagated label, reviewed label) of each audited row.
        confidence: in (0, 1), of each interval by itself.

    >>> whole, by_label = audited([("good", "good"), ("bad", "good"), ("bad", "bad")])
    >>> whole.errors, whole.checked, sorted((k, v.errors, v.checked) for k, v in by_label.items())
    (1, 3, [('bad', 1, 2), ('good', 0, 1)])
    """
    pairs = Counter(checked)
    rows: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for (propagated, reviewed), count in pairs.items():
        rows[propagated] += count
        errors[propagated] += count if propagated != reviewed else 0
    whole = error_rate(errors.total(), rows.total(), confidence=confidence)
    by_label = {
        label: error_rate(errors[label], rows[label], confidence=confidence)
        for label in sorted(rows)
    }
    return whole, by_label
