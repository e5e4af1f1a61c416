from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.frame_selection import FrameBank, budget, distinct, select, uniform

COLOURS = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0.3, 0.3, 0.3]], np.float64
)
BLUE = 2
# A hundred frames of six shots; the blue one is three of them.
LENGTHS = (25, 20, 3, 22, 18, 12)


def coloured_shots(noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of shots of one colour each, in a narrow cone as CLIP's are; the shots."""
    shots = np.repeat(np.arange(6), LENGTHS)
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(6, 64))
    cone = rng.normal(size=64) * 1.5
    return axes[shots] + cone + rng.normal(size=(100, 64)) * noise, shots


def cosines_with_blue(features: np.ndarray) -> np.ndarray:
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    blue = features[np.repeat(np.arange(6), LENGTHS) == BLUE].mean(0)
    return 0.3 * units @ blue / np.linalg.norm(blue)  # a text lies apart from all pictures


TIMES = np.arange(100) * 500


@pytest.mark.parametrize("noise", [0, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_a_short_shot_that_the_query_names_is_chosen_at_budget_two(noise, seed) -> None:
    features, shots = coloured_shots(noise, seed)
    found = select(features, TIMES, 2, relevance=cosines_with_blue(features))
    assert len(found.chosen) == 2
    named = [chosen for chosen in found.chosen if shots[chosen.frame] == BLUE]
    assert len(named) == 1
    assert named[0].reason == "relevance"
    assert BLUE not in shots[uniform(100, 2)]


@pytest.mark.parametrize("noise", [0, 0.05, 0.15, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_without_a_query_there_is_one_frame_a_shot(noise, seed) -> None:
    features, shots = coloured_shots(noise, seed)
    found = select(features, TIMES, 6)
    assert shots[[chosen.frame for chosen in found.chosen]].tolist() == list(range(6))
    assert {chosen.reason for chosen in found.chosen} == {"coverage"}


def test_merging_is_reported() -> None:
    features, _ = coloured_shots(0.05)
    found = select(features, TIMES, 6)
    assert found.candidates == 6
    assert found.saved_fraction == 0.94
    assert distinct(features).tolist() == [0, *np.cumsum(LENGTHS)[:-1]]


def test_slow_change_ends_a_run() -> None:
    angles = np.linspace(0, np.pi / 2, 100)
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    kept = distinct(features)
    assert 4 <= len(kept) <= 10
    assert (np.diff(angles[kept]) > np.arccos(0.97)).all()


def test_what_looks_alike_is_spread_over_time() -> None:
    rng = np.random.default_rng(1)
    features = 5 + rng.normal(size=(60, 64)) * 2
    found = select(features, np.arange(60) * 500, 4, same=0.99)
    frames = [chosen.frame for chosen in found.chosen]
    assert min(np.diff(frames)) >= 6


def test_the_sharpest_frame_of_a_shot_is_shown() -> None:
    features, shots = coloured_shots(0.05)
    sharpness = np.random.default_rng(2).uniform(size=100)
    found = select(features, TIMES, 6, sharpness=sharpness)
    for shot, chosen in enumerate(found.chosen):
        of_shot = np.flatnonzero(shots == shot)
        assert chosen.frame == of_shot[np.argmax(sharpness[of_shot])]


def test_a_query_that_every_frame_fits_leaves_coverage() -> None:
    features, shots = coloured_shots(0.05)
    found = select(features, TIMES, 6, relevance=np.full(100, 0.25))
    assert shots[[chosen.frame for chosen in found.chosen]].tolist() == list(range(6))


@settings(deadline=None, max_examples=60)
@given(
    frames=st.integers(0, 40),
    most=st.integers(0, 12),
    seed=st.integers(0, 99),
    with_query=st.booleans(),
    with_sharpness=st.booleans(),
    noise=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_any_choice_is_sorted_bounded_and_the_same_again(
    frames, most, seed, with_query, with_sharpness, noise
) -> None:
    rng = np.random.default_rng(seed)
    features = COLOURS[rng.integers(0, 6, frames)] + noise * rng.normal(size=(frames, 3))
    times = np.arange(frames) * 500
    query = rng.uniform(-1, 1, frames) if with_query else None
    sharpness = rng.uniform(size=frames) if with_sharpness else None
    found = select(features, times, most, relevance=query, sharpness=sharpness)
    chosen = [each.frame for each in found.chosen]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(most, found.candidates)
    assert all(0 <= frame < frames for frame in chosen)
    assert 0 <= found.saved_fraction <= 1
    assert select(features, times, most, relevance=query, sharpness=sharpness) == found


def test_the_greedy_choice_has_most_of_the_best_ones_coverage() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(12, 4))
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = units @ units.T
    alike = np.clip((cosines - cosines.min()) / (0.97 - cosines.min()), 0, 1)
    found = select(features, np.arange(12) * 500, 3)
    best = max(alike[list(three)].max(0).mean() for three in combinations(range(12), 3))
    assert alike[[chosen.frame for chosen in found.chosen]].max(0).mean() > 0.9 * best


def test_more_frames_than_fit_are_merged_down() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(1500, 16))
    found = select(features, np.arange(1500) * 500, 32, sharpness=rng.uniform(size=1500))
    assert found.candidates == 512
    assert len(found.chosen) == 32


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 99))
def test_the_bank_never_exceeds_its_size_and_counts_every_frame(most, frames, seed) -> None:
    rng = np.random.default_rng(seed)
    bank = FrameBank(most)
    for frame in range(frames):
        bank.add(frame, rng.normal(size=3), float(rng.uniform()))
        assert len(bank.frames) == len(bank.sizes) == len(bank.features) <= most
        assert bank.frames == sorted(set(bank.frames))
    assert sum(bank.sizes) == frames


def test_the_bank_merges_the_neighbours_that_are_most_alike() -> None:
    features, shots = coloured_shots(0.2)
    bank = FrameBank(6)
    for frame, feature in enumerate(features):
        bank.add(frame, feature)
    assert shots[bank.frames].tolist() == list(range(6))
    assert tuple(bank.sizes) == LENGTHS


def test_the_bank_shows_the_sharper_frame() -> None:
    bank = FrameBank(1)
    for frame, sharpness in enumerate([1, 3, 3, 2]):
        bank.add(frame, np.ones(2), sharpness)
    assert bank.frames == [1]


def test_a_row_of_zeros_is_like_nothing() -> None:
    features = np.array([[0, 0], [1, 0], [0, 0], [1, 0.0]])
    assert distinct(features).tolist() == [0, 1, 2, 3]
    assert len(select(features, np.arange(4), 4).chosen) == 4


def test_what_does_not_fit_is_refused() -> None:
    features = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"frames got columns of \[3, 2\] rows"):
        select(features, np.arange(2), 1)
    with pytest.raises(ValueError, match="frames got numbers that are not finite"):
        select(features * np.nan, np.arange(3), 1)
    with pytest.raises(ValueError, match="frames in the bank got 0; allowed 1 or more"):
        FrameBank(0)


def test_the_budget_goes_by_the_duration() -> None:
    assert [budget(ms) for ms in (0, 10_000, 10_001, 60_000, 60_001)] == [8, 8, 16, 16, 32]


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(0, 40))
def test_the_baseline_is_evenly_spread(frames, most) -> None:
    chosen = uniform(frames, most)
    assert len(chosen) == min(frames, most)
    assert chosen == sorted(set(chosen))
    assert all(0 <= frame < frames for frame in chosen)
    if len(chosen) > 1:
        assert np.ptp(np.diff(chosen)) <= 1
