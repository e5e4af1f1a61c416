import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from udfs.clip_motion import motion

HEIGHT, WIDTH = 180, 320


def shown(pictures: list[np.ndarray], height: int = 64) -> np.ndarray:
    """Frames as a decoder gives them: small, by areas."""
    size = (round(WIDTH * height / HEIGHT), height)
    return np.stack(
        [np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in pictures]
    )


def moving_square(speed: int, side: int, down: bool, levels: tuple[int, int]) -> np.ndarray:
    pictures = []
    for step in range(5):
        picture = np.full((HEIGHT, WIDTH, 3), levels[0], np.uint8)
        x, y = (20, 10 + speed * step) if down else (20 + speed * step, 30)
        picture[y : y + side, x : x + side] = levels[1]
        pictures.append(picture)
    return shown(pictures)


def panned(image: Image.Image, speed: float, height: int = 64) -> np.ndarray:
    wide = image.resize((1600, 800))
    views = [
        wide.transform(
            (WIDTH, HEIGHT),
            Image.Transform.AFFINE,
            (1, 0, 100 + speed * step, 0, 1, 200),
            Image.Resampling.BICUBIC,
        )
        for step in range(6)
    ]
    return shown([np.asarray(view) for view in views], height)


@settings(deadline=None, max_examples=30)
@given(
    speed=st.integers(3, 8),
    side=st.integers(24, 50),
    down=st.booleans(),
    levels=st.sampled_from([(40, 200), (220, 30), (90, 160)]),
)
def test_a_square_that_moves_faster_scores_higher(speed, side, down, levels) -> None:
    scores = [motion(moving_square(speed * n, side, down, levels)).score for n in (1, 2, 4)]
    assert 0 < scores[0] < scores[1] < scores[2]


@pytest.mark.parametrize("height", [36, 64, 90])
def test_a_pan_scores_its_speed_at_any_size(photographs, height) -> None:
    for image in photographs[:3] + photographs[4:]:  # the fourth is a night sky with a rocket
        scores = []
        for speed in (2, 4, 8, 16):
            score = motion(panned(image, speed, height)).score
            assert 0.3 < score / (speed * 2 / np.hypot(WIDTH, HEIGHT)) < 2.5
            scores.append(score)
        assert scores == sorted(scores)
        assert not motion(panned(image, 4, height)).is_static


def test_the_rate_is_in_the_unit(photographs) -> None:
    frames = panned(photographs[0], 4)
    assert motion(frames, fps=4).score == pytest.approx(2 * motion(frames, fps=2).score)


def test_what_is_faster_than_can_be_found_still_moves(photographs) -> None:
    frames = panned(photographs[1], 110)
    assert 0.1 < motion(frames).score < 1
    assert motion(frames).static_fraction == 0


def test_a_still_picture_is_static_under_noise(photographs) -> None:
    rng = np.random.default_rng(7)
    for image in photographs:
        still = np.asarray(image.convert("RGB").resize((WIDTH, HEIGHT)), np.int16)
        for sigma, most in ((5, 0), (20, 0.002)):
            noisy = [np.clip(still + rng.normal(0, sigma, still.shape), 0, 255) for _ in range(4)]
            found = motion(shown([picture.astype(np.uint8) for picture in noisy]))
            assert found.score <= most
            assert found.is_static


def test_a_clip_is_static_if_it_moves_in_less_than_a_tenth(photographs) -> None:
    moving = panned(photographs[0], 20)
    frames = np.concatenate([np.repeat(moving[:1], 28, axis=0), moving[:3]])
    found = motion(frames)
    assert found.static_fraction == pytest.approx(28 / 30)
    assert found.is_static
    assert not motion(frames[10:]).is_static
    assert found.score < found.score_max


def test_one_frame_is_static() -> None:
    assert motion(np.full((1, 36, 64, 3), 9, np.uint8)) == (0, 0, 1, True)


@settings(deadline=None, max_examples=50)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.just(3)),
    )
)
def test_any_frames_have_finite_values_in_range(frames) -> None:
    found = motion(frames)
    assert np.isfinite(found).all()
    assert 0 <= found.score <= found.score_max
    assert 0 <= found.static_fraction <= 1


@pytest.mark.parametrize("shape", [(0, 36, 64, 3), (2, 36, 64), (2, 36, 64, 4), (2, 0, 64, 3)])
def test_other_arrays_are_refused(shape) -> None:
    with pytest.raises(ValueError, match="frames got uint8 of shape"):
        motion(np.zeros(shape, np.uint8))


def test_other_types_and_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="frames got float32"):
        motion(np.zeros((2, 36, 64, 3), np.float32))
    with pytest.raises(ValueError, match="frames a second got 0; allowed above 0"):
        motion(np.zeros((2, 36, 64, 3), np.uint8), fps=0)
