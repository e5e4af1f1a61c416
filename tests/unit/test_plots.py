"""Figures say in text what they show, and equal data gives equal files."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from jobs.report import plots

BINS = [
    {"bin": 0.1, "is_kept": False, "samples": 3},
    {"bin": 0.2, "is_kept": False, "samples": 1},
    {"bin": 0.2, "is_kept": True, "samples": 5},
]


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def bars(svg, colour):
    """(left, right, bottom, height) of the bars of a colour; y grows downwards."""
    found = []
    for path in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        if f"fill: {colour}" in path.get("style", "") and path.get("clip-path"):
            corners = [
                tuple(map(float, point.split()))
                for point in path.get("d").replace("M", "L").replace("z", "").split("L")
                if point.strip()
            ]
            xs, ys = zip(*corners, strict=True)
            found.append((min(xs), max(xs), max(ys), max(ys) - min(ys)))
    return sorted(found)


def histogram(**changes):
    settings = {"width": 0.1, "thresholds": {"kept: >= 0.2": 0.2}, **changes}
    return plots.histogram("clip_score", BINS, **settings)


def test_a_funnel_names_every_step_with_its_rows_from_the_top():
    svg = plots.funnel([("met", 12345, "#111111"), ("kept", 678, "#0072b2")])
    said = texts(svg)
    assert {"met", "kept", "12,345", "678"} <= set(said)
    ((_, _, top, _),) = bars(svg, "#111111")
    ((_, _, lower, _),) = bars(svg, "#0072b2")
    assert top < lower


def test_the_bars_of_a_funnel_are_as_long_as_their_rows():
    svg = plots.funnel([("met", 200, "#111111"), ("kept", 50, "#222222")])
    ((left, right, _, _),) = bars(svg, "#111111")
    ((left_kept, right_kept, _, _),) = bars(svg, "#222222")
    assert (right_kept - left_kept) / (right - left) == pytest.approx(0.25)


def test_an_empty_funnel_can_be_drawn():
    assert "met" in texts(plots.funnel([("met", 0, "#111111")]))


def test_a_histogram_stacks_rejected_on_kept():
    svg = histogram()
    ((left, _, base, height),) = bars(svg, plots.KEPT_COLOUR)
    low, high = bars(svg, plots.REJECTED_COLOUR)
    assert low[2] == pytest.approx(base, abs=0.01)
    assert high[0] == pytest.approx(left, abs=0.01)
    assert high[2] == pytest.approx(base - height, abs=0.01)
    assert low[3] / high[3] == pytest.approx(3, rel=0.01)
    assert height / high[3] == pytest.approx(5, rel=0.01)


def test_neighbouring_bins_touch():
    edges = [(left, right) for left, right, _, _ in bars(histogram(), plots.REJECTED_COLOUR)]
    assert all(left[1] == pytest.approx(right[0], abs=0.01) for left, right in pairwise(edges))


def test_a_threshold_is_a_labelled_line():
    assert "kept: >= 0.2" in texts(histogram())
    assert "kept: >= 0.2" not in texts(histogram(thresholds={}))


def test_a_histogram_of_nothing_can_be_drawn():
    svg = plots.histogram("nsfw_score", [], width=0.1, thresholds={"kept: < 0.5": 0.5})
    assert "nsfw_score" in texts(svg)


def test_a_logarithmic_axis_says_so():
    assert "clip_score (log10)" in texts(histogram(is_log10=True))


def test_equal_data_gives_equal_files():
    assert histogram() == histogram()
