import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from udfs.propagation import audit_size, audited, error_rate


@given(checked=st.integers(1, 2_000), share=st.floats(0, 1))
def test_the_interval_is_that_of_scipys_exact_test(checked: int, share: float) -> None:
    errors = round(share * checked)
    found = error_rate(errors, checked)
    expected = binomtest(errors, checked).proportion_ci(method="exact")

    assert found.low == pytest.approx(expected.low, abs=1e-9)
    assert found.high == pytest.approx(expected.high, abs=1e-9)
    assert found.low <= found.rate <= found.high


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.3, 0.9])
@pytest.mark.parametrize("checked", [20, 300])
def test_it_covers_any_rate_as_often_as_it_says(rate: float, checked: int) -> None:
    often = sum(
        binom.pmf(errors, checked, rate)
        for errors in range(checked + 1)
        if error_rate(errors, checked).low <= rate <= error_rate(errors, checked).high
    )

    assert often >= 0.95


def test_nothing_checked_says_nothing() -> None:
    said, by_label = audited([])

    assert (said.checked, said.low, said.high) == (0, 0.0, 1.0)
    assert math.isnan(said.rate)
    assert by_label == {}


def test_all_wrong_reaches_one() -> None:
    assert error_rate(5, 5).high == 1.0
    assert error_rate(5, 5).low > 0.4


@pytest.mark.parametrize(("errors", "checked"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(errors: int, checked: int) -> None:
    with pytest.raises(ValueError, match=f"{errors} errors in {checked} rows"):
        error_rate(errors, checked)


def test_each_propagated_label_has_its_own_rate() -> None:
    checked = [("keep", "keep")] * 90 + [("drop", "keep")] * 4 + [("drop", "drop")] * 6
    whole, by_label = audited(checked)

    assert (whole.errors, whole.checked) == (4, 100)
    assert {label: (r.errors, r.checked) for label, r in by_label.items()} == {
        "drop": (4, 10),
        "keep": (0, 90),
    }
    assert by_label["drop"].high > by_label["keep"].high


@given(propagated=st.integers(0, 10**10), share=st.floats(0.001, 1))
def test_an_audit_is_neither_nothing_nor_endless(propagated: int, share: float) -> None:
    size = audit_size(propagated, share=share)

    assert size <= min(propagated, 2_000)
    assert size >= min(propagated, 60)


def test_an_audit_can_be_left_out_and_its_share_is_checked() -> None:
    assert audit_size(1_000, share=0) == 0
    with pytest.raises(ValueError, match=r"audit share got 1\.5"):
        audit_size(1_000, share=1.5)
