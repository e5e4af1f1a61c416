"""A suite judges one row of figures; what it finds is written down twice, content nowhere."""

import json

import pandas as pd
import pytest

from jobs.runtime import quality
from jobs.runtime.quality import Check

CHECKS = (
    Check("rows", "there are rows", "critical", low=1),
    Check("score_mean", "scores are high", "warning", low=0.5),
    Check("key_repeated", "key is unique", "critical", low=0, high=0),
)


@pytest.fixture
def judge(tmp_path):
    def validate(**figures):
        profile = pd.DataFrame([{"rows": 2, "score_mean": 0.7, "key_repeated": 0, **figures}])
        return quality._validate("gold.test", profile, CHECKS, tmp_path / "docs")

    return validate


def test_a_profile_within_every_bound_passes(judge):
    verdict = judge()
    assert verdict.is_passed
    assert all(result.is_met for result in verdict.results)


@pytest.mark.parametrize(
    ("figure", "value", "expectation"),
    [("rows", 0, "there are rows"), ("key_repeated", 1, "key is unique")],
)
def test_a_critical_failure_fails_the_suite_and_is_named(judge, figure, value, expectation):
    verdict = judge(**{figure: value})
    assert not verdict.is_passed
    (failure,) = verdict.failures
    assert (failure.expectation, failure.observed) == (expectation, value)


def test_a_warning_is_reported_and_fails_nothing(judge):
    verdict = judge(score_mean=0.2)
    assert verdict.is_passed
    (warning,) = [result for result in verdict.results if not result.is_met]
    assert (warning.severity, warning.observed, warning.bound) == ("warning", 0.2, ">= 0.5")


def test_a_figure_with_nothing_to_look_at_is_met_and_observed_as_none(judge):
    verdict = judge(score_mean=float("nan"))
    (result,) = [r for r in verdict.results if r.expectation == "scores are high"]
    assert result.is_met
    assert result.observed is None


def test_results_come_in_the_order_of_the_checks(judge):
    assert [r.expectation for r in judge().results] == [check.expectation for check in CHECKS]


def test_the_verdict_can_be_read_without_great_expectations(judge, tmp_path):
    judge(rows=0)
    stored = json.loads((tmp_path / "docs" / "gold.test.json").read_text())
    assert stored["suite"] == "gold.test"
    assert stored["is_passed"] is False
    assert stored["results"][0] == {
        "expectation": "there are rows",
        "severity": "critical",
        "is_met": False,
        "observed": 0.0,
        "bound": ">= 1",
    }


def test_data_docs_grow_by_one_page_per_validation(judge, tmp_path):
    judge()
    judge()
    site = tmp_path / "docs" / "gx" / "uncommitted" / "data_docs" / "local_site"
    assert (site / "index.html").is_file()
    assert len(list((site / "validations").rglob("*.html"))) == 2


@pytest.mark.parametrize(
    ("low", "high", "bound"),
    [(0, 0, "= 0"), (1, None, ">= 1"), (None, 0.2, "<= 0.2"), (-1, 1, "in [-1, 1]")],
)
def test_a_bound_reads_as_a_relation(low, high, bound):
    assert Check("x", "x", "warning", low=low, high=high).bound == bound
