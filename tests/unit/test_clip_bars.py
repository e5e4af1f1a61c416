import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from udfs.clip_bars import bars

# Of the rocket the night sky is as dark as a bar.
SEEN = [0, 1, 2, 4, 5]


def clip(image: Image.Image, size: tuple[int, int], frames: int = 4) -> np.ndarray:
    """Frames of a slow pan over a photograph."""
    wide = image.convert("RGB").resize((size[0] + 8 * frames, size[1]))
    return np.stack(
        [np.asarray(wide.crop((8 * n, 0, 8 * n + size[0], size[1]))) for n in range(frames)]
    )


def framed(frames: np.ndarray, above: int, below: int, left: int, right: int) -> np.ndarray:
    return np.pad(frames, ((0, 0), (above, below), (left, right), (0, 0)), constant_values=16)


def encoded(frames: np.ndarray, crf: int) -> np.ndarray:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=2, options={"crf": str(crf)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_clips_without_bars_have_none(photographs) -> None:
    for image in photographs:
        frames = clip(image, (128, 72))
        assert bars(frames) == (0, 0, (0, 0, 128, 72))


@settings(deadline=None, max_examples=30)
@given(st.tuples(*[st.integers(0, 30)] * 4), st.sampled_from(SEEN))
def test_bars_are_found_to_the_pixel(photographs, sides, index) -> None:
    frames = framed(clip(photographs[index], (128, 72), 2), *sides)
    found = bars(frames)
    above, below, left, right = sides
    height, width = frames.shape[1:3]
    assert (
        np.abs(np.subtract(found.content, (left, above, width - right, height - below))).max() <= 1
    )
    assert found.letterbox_fraction == pytest.approx((above + below) / height, abs=2 / height)
    assert found.pillarbox_fraction == pytest.approx((left + right) / width, abs=2 / width)


@pytest.mark.parametrize("crf", [18, 28, 35])
def test_bars_of_an_encoded_clip_are_found_to_two_pixels(photographs, crf) -> None:
    for image in (photographs[index] for index in SEEN):
        for sides in [(45, 45, 0, 0), (0, 0, 60, 60), (22, 31, 10, 18)]:
            frames = framed(clip(image, (480, 270)), *sides)
            frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
            height, width = frames.shape[1:3]
            above, _, left, _ = sides
            expected = (left, above, min(left + 480, width), min(above + 270, height))
            found = bars(encoded(frames, crf)).content
            assert np.abs(np.subtract(found, expected)).max() <= 2


def test_a_dark_edge_of_a_part_of_the_clip_is_no_bar(photographs) -> None:
    frames = clip(photographs[0], (128, 72), 10)
    frames[:8, :20] = 0
    assert bars(frames).letterbox_fraction == 0


def test_one_frame_in_ten_may_show_something_in_the_bar(photographs) -> None:
    frames = framed(clip(photographs[0], (128, 72), 11), 12, 12, 0, 0)
    frames[3, -8:-4, 20:100] = 235
    assert bars(frames).content == (0, 12, 128, 84)


def test_black_frames_say_nothing(photographs) -> None:
    frames = framed(clip(photographs[0], (128, 72)), 12, 12, 0, 0)
    black = np.zeros_like(frames)
    assert bars(np.concatenate([black, frames, black])) == bars(frames)
    assert bars(black) == (0, 0, (0, 0, 128, 96))


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="frames got uint8 of shape"):
        bars(np.zeros((36, 64, 3), np.uint8))
