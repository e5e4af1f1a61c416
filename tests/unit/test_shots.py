import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2hsv

from tests import rendered_scenes
from udfs.content_cuts import adaptive_cuts, content_cuts, hsv
from udfs.frame_change import FLASH_FRAMES, FrameChange
from udfs.shots import DETECTORS, ShotConfig, boundaries


def found_by(name: str, frames) -> list[int]:
    detector = DETECTORS[name]()
    for frame in frames:
        detector.add(frame)
    return detector.boundaries()


def plain(*runs: tuple[int, int]) -> list[np.ndarray]:
    """Frames of one level each, of (level, how many)."""
    return [np.full((36, 64, 3), level, np.uint8) for level, n in runs for _ in range(n)]


@pytest.fixture(scope="module")
def textures() -> np.ndarray:
    canvas = rendered_scenes.canvas
    pictures = [canvas(np.random.default_rng(seed)) for seed in range(2)]
    return np.stack([p[:360:10, :640:10] for p in pictures])


@pytest.mark.parametrize("kind", rendered_scenes.KINDS)
def test_the_changes_of_rendered_scenes_are_found(kind) -> None:
    rendered = rendered_scenes.scenes(kind, seed=100)
    found = found_by("robust", rendered_scenes.small(rendered.frames))
    assert rendered_scenes.score(found, rendered.changes) == (len(rendered.changes), 0, 0)


def test_cuts_are_found_to_the_frame() -> None:
    rendered = rendered_scenes.scenes("noisy_cuts", seed=101)
    found = found_by("robust", rendered_scenes.small(rendered.frames))
    assert found == [first for first, _ in rendered.changes]


@pytest.mark.parametrize("n", [4, 12, 24, 48])
def test_a_dissolve_is_cut_in_its_middle(n, textures) -> None:
    ramp = (np.arange(1, n + 1) / (n + 1))[:, None, None, None]
    mixed = textures[0] * (1 - ramp) + textures[1] * ramp
    frames = np.concatenate([[textures[0]] * 40, mixed, [textures[1]] * 40]).astype(np.uint8)
    (found,) = found_by("robust", frames)
    assert abs(found - (40 + n / 2)) <= 1


def test_a_short_black_between_shots_is_one_boundary() -> None:
    assert found_by("robust", plain((90, 40), (0, 10), (200, 40))) == [45]
    assert found_by("robust", plain((90, 40), (0, 70), (200, 40))) == [40, 110]
    assert found_by("robust", plain((0, 20), (200, 40), (0, 20))) == []


@pytest.mark.parametrize("lasts", [1, 2, FLASH_FRAMES - 2])
def test_a_flash_is_no_cut(lasts, textures) -> None:
    frames = np.stack([textures[0]] * 80).astype(np.uint8)
    frames[40 : 40 + lasts] = 250
    assert found_by("robust", frames) == []
    frames[60:] = textures[1].astype(np.uint8)
    assert found_by("robust", frames) == [60]


def test_a_strobe_is_no_cut(textures) -> None:
    frames = np.stack([textures[0]] * 200).astype(np.uint8)
    frames[50:150:5] = 255
    frames[51:150:5] = 255
    assert found_by("robust", frames) == []


def test_videos_of_few_frames_have_no_boundary() -> None:
    for n in (0, 1, 2):
        assert found_by("robust", plain((50, n))) == []
        assert found_by("adaptive", plain((50, n))) == []
    assert found_by("robust", plain((20, 1), (200, 1))) == [1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.booleans())
def test_noise_alone_has_no_boundary(seed, frames, is_flat) -> None:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 255, (1, 1, 1) if is_flat else (36, 64, 3))
    # Two frames of noise are 2 sigma / sqrt(pi) apart: 11 of 255 is 0.049, just under the floor,
    # which alone decides where there are too few frames to tell what is usual.
    most = 11 if frames < 20 else 25
    noise = rng.normal(0, rng.uniform(0, most), (frames, 36, 64, 3))
    assert found_by("robust", np.clip(base + noise, 0, 255).astype(np.uint8)) == []


def test_only_numbers_are_kept_of_a_frame() -> None:
    change = FrameChange()
    for frame in plain((50, 100)):
        change.add(frame)
    assert change._last.shape == (25, 36 * 64 * 3)
    for series in (change.change, change.cut, change.gradual, change.light):
        assert (series.dtype, series.shape) == (np.float32, (100,))
    assert boundaries(change, ShotConfig(mads=0)) == []


def test_hue_saturation_and_value_are_as_defined() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    off = np.abs(hsv(rgb) - rgb2hsv(rgb) * (180, 255, 255))
    off[..., 0] = np.minimum(off[..., 0], 180 - off[..., 0])
    assert off.max() <= 0.51


def over(n: int, *at: int, level: float = 30.0) -> np.ndarray:
    values = np.zeros(n, np.float32)
    values[list(at)] = level
    return values


def test_content_detector_merges_what_follows_too_soon() -> None:
    assert content_cuts(over(100, 20, 60)) == [20, 60]
    assert content_cuts(over(100, 10)) == []  # before a first cut
    assert content_cuts(over(100, 20, 25)) == [20]
    assert content_cuts(over(100, 20, 30, 40, 50)) == [20, 50]
    assert content_cuts(over(100, 20, level=26.9)) == []
    assert content_cuts(over(100, 20, level=26.9), threshold=26) == [20]


def test_adaptive_detector_asks_for_more_than_there_is_around() -> None:
    assert adaptive_cuts(over(100, 20, 60)) == [20, 60]
    assert adaptive_cuts(over(100, 20, 30)) == [20]
    assert adaptive_cuts(over(100, 20) + 9) == [20]
    assert adaptive_cuts(over(100, 20) + 16) == []  # less than three times as much
    assert adaptive_cuts(over(100, 20, level=14)) == []
    assert adaptive_cuts(over(100, 10)) == []  # the first scene is too short
    assert adaptive_cuts(over(4, 2)) == []


@pytest.mark.parametrize("name", ["content", "adaptive"])
def test_the_peers_detectors_find_plain_cuts(name, textures) -> None:
    frames = np.concatenate([[textures[0]] * 40, [textures[1]] * 40]).astype(np.uint8)
    assert found_by(name, frames) == [40]
