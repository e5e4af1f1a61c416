import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter

from udfs.clip_frames import grey_frames
from udfs.clip_picture import clip_picture
from udfs.exposure import exposure
from udfs.sharpness import sharpness


def stacked(*images: Image.Image) -> np.ndarray:
    return np.stack([np.asarray(image.convert("RGB").resize((128, 72))) for image in images])


@settings(deadline=None)
@given(arrays(np.uint8, (2, 5, 7, 3)))
def test_grey_is_pillows(frames) -> None:
    for frame, grey in zip(frames, grey_frames(frames), strict=True):
        assert (np.asarray(Image.fromarray(frame).convert("L")) == grey).all()


def test_values_are_those_of_the_images(photographs) -> None:
    frames = stacked(*photographs)
    images = [Image.fromarray(frame) for frame in frames]
    found = clip_picture(frames)
    sharp = [sharpness(image) for image in images]
    assert found.sharpness_mean == pytest.approx(np.mean(sharp))
    assert found.sharpness_min == min(sharp)
    lights = [exposure(np.array(image.convert("L").histogram())) for image in images]
    assert found.luminance_mean == pytest.approx(np.mean([x.luminance_mean for x in lights]))
    assert found.luminance_min == min(x.luminance_mean for x in lights)
    assert found[-3:] == pytest.approx(np.mean([x[1:] for x in lights], axis=0))


def test_a_ladder_of_blur_is_monotone(photographs) -> None:
    values = [
        clip_picture(stacked(*(p.filter(ImageFilter.GaussianBlur(r)) for p in photographs)))
        for r in (0, 2, 4, 8, 16)
    ]
    for name in ("sharpness_mean", "sharpness_min"):
        ladder = [getattr(value, name) for value in values]
        assert ladder == sorted(ladder, reverse=True)
        assert len(set(ladder)) == len(ladder)


def test_a_frame_is_black_with_98_of_100_pixels_under_32() -> None:
    frames = np.full((4, 10, 100, 3), 31, np.uint8)
    frames[0, 0, :20] = 255
    frames[1, 0, :21] = 255
    frames[2] = 32
    assert clip_picture(frames).black_fraction == 0.5


def test_frozen_frames_are_the_same_to_the_bit(photographs) -> None:
    frames = np.repeat(stacked(photographs[0]), 5, axis=0)
    assert clip_picture(frames).frozen_fraction == 1
    frames[2, 3, 4, 1] ^= 1
    assert clip_picture(frames).frozen_fraction == 0.5


def test_one_frame_has_all_values() -> None:
    assert clip_picture(np.zeros((1, 36, 64, 3), np.uint8)) == (1, 0, 0, 0, 0, 0, 0, 1, 0)


@settings(deadline=None, max_examples=50)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.just(3)),
    )
)
def test_any_frames_have_finite_values_in_range(frames) -> None:
    found = clip_picture(frames)
    assert np.isfinite(found).all()
    shares = (found.black_fraction, found.frozen_fraction, found.dark_fraction)
    assert all(0 <= share <= 1 for share in (*shares, found.bright_fraction, found.luminance_mean))
    assert 0 <= found.sharpness_min <= found.sharpness_mean * (1 + 1e-9)
    assert found.luminance_min <= found.luminance_mean + 1e-9


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="frames got int64 of shape"):
        clip_picture(np.zeros((1, 36, 64, 3), np.int64))
