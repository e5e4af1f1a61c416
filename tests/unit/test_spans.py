import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.spans import Span, SpanConfig, spans, strided


def edges(found: list[Span]) -> list[tuple[int, int]]:
    return [(span.start_ms, span.end_ms) for span in found]


def tiles(found: list[Span], times: np.ndarray, end_ms: int) -> bool:
    frames = [frame for span in found for frame in range(span.first, span.end)]
    whole = [0, *(span.end_ms for span in found)]
    return (
        frames == list(range(len(times)))
        and [span.start_ms for span in found] == whole[:-1]
        and whole[-1] == end_ms
        and all(span.start_ms == times[span.first] for span in found)
    )


@st.composite
def videos(draw):
    gaps = draw(st.lists(st.integers(1, draw(st.sampled_from([40, 300, 9000]))), max_size=300))
    times = np.concatenate([[0], np.cumsum(gaps, dtype=np.int64)]).astype(np.int64)
    end_ms = int(times[-1]) + draw(st.integers(1, 100))
    cuts = sorted(draw(st.sets(st.integers(0, len(times) - 1))))
    is_key = np.array(draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times))))
    least = draw(st.integers(0, 3000))
    config = SpanConfig(least, max(1, 2 * least) + draw(st.integers(0, 9000)))
    return times, end_ms, cuts, draw(st.sampled_from([None, is_key])), config


@settings(max_examples=300, deadline=None)
@given(videos())
def test_spans_tile_and_keep_their_lengths(video) -> None:
    times, end_ms, cuts, is_key, config = video
    found = spans(cuts, times, end_ms, is_key=is_key, config=config)
    assert tiles(found, times, end_ms)
    places = np.arange(len(times)) if is_key is None else np.flatnonzero(is_key)
    gaps = np.diff(np.append(times[np.union1d(places, [0])], end_ms))
    for span in found:
        inside = places[(places > span.first) & (places < span.end)]
        length = span.end_ms - span.start_ms
        assert length <= config.max_ms or not len(inside)
        assert span.first == 0 or span.first in places
        if gaps.max() <= config.max_ms / 2 - config.min_ms - 1:
            assert length >= config.min_ms or len(found) == 1
    assert found == spans(cuts, times, end_ms, is_key=is_key, config=config)
    assert tiles(strided(times, end_ms, is_key=is_key, config=config), times, end_ms)


TIMES = np.arange(1000, dtype=np.int64) * 100


def test_a_sliver_joins_the_shorter_neighbour() -> None:
    found = edges(spans([50, 60, 200], TIMES, 100_000))
    assert found == [(0, 6000), (6000, 20000), (20000, 60000), (60000, 100000)]
    assert edges(spans([150, 160, 200], TIMES[:300], 30_000)) == [
        (0, 15000),
        (15000, 20000),
        (20000, 30000),
    ]
    assert edges(spans([5, 290], TIMES[:300], 30_000)) == [(0, 30000)]


def test_many_slivers_become_one_piece() -> None:
    found = edges(spans(list(range(0, 300, 5)), TIMES[:300], 30_000))
    assert all(2000 <= end - start <= 4000 for start, end in found)


def test_a_video_shorter_than_the_least_is_one_piece() -> None:
    assert edges(spans([3], TIMES[:10], 1000)) == [(0, 1000)]
    assert spans([], TIMES[:0], 0) == []


def test_a_long_shot_is_split_evenly() -> None:
    assert edges(spans([], TIMES, 100_000)) == [(0, 50000), (50000, 100000)]
    found = edges(spans([], np.arange(5000) * 40, 200_000))
    assert [end - start for start, end in found] == [50_000] * 4


def test_boundaries_go_to_the_nearest_keyframe() -> None:
    is_key = np.arange(1000) % 70 == 0
    found = spans([100, 300], TIMES[:500], 50_000, is_key=is_key[:500])
    assert [span.first for span in found] == [0, 70, 280]
    assert [span.first for span in spans([105], TIMES[:500], 50_000, is_key=is_key[:500])] == [
        0,
        70,
    ]


def test_without_a_keyframe_a_long_shot_stays_whole() -> None:
    assert edges(spans([500], TIMES, 100_000, is_key=np.zeros(1000, bool))) == [(0, 100000)]
    is_key = np.arange(1000) == 900
    assert edges(spans([500], TIMES, 100_000, is_key=is_key)) == [(0, 90000), (90000, 100000)]


def test_a_fixed_stride_ignores_shots() -> None:
    assert edges(strided(TIMES[:215], 21_500)) == [(0, 10000), (10000, 21500)]
    assert edges(strided(TIMES[:225], 22_500)) == [(0, 10000), (10000, 20000), (20000, 22500)]


@pytest.mark.parametrize("lengths", [(-1, 10), (6, 10), (0, 0), (0, 1, 0)])
def test_lengths_that_contradict_each_other_are_refused(lengths) -> None:
    with pytest.raises(ValueError, match=r"span lengths got .*; allowed"):
        SpanConfig(*lengths)
