import pytest
from PIL import Image

from udfs.bounded_picture import bounded


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((512, 384), (384, 512)),  # as it is
        ((500, 390), (384, 512)),  # rounded, either way
        ((4000, 3000), (480, 640)),  # bounded
        ((1, 1), (32, 32)),
        ((1, 20_000), (640, 32)),
        ((20_000, 1), (32, 640)),
    ],
)
def test_any_size_gives_one_that_a_detector_takes(size, shape) -> None:
    assert bounded(Image.new("RGB", size), 640).shape == (*shape, 3)


def test_it_shows_the_whole_picture() -> None:
    image = Image.new("RGB", (1000, 700))
    image.paste("red", (500, 0, 1000, 350))
    pixels = bounded(image, 640)
    rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
    assert (pixels[: rows - 1, columns + 1 :] == (255, 0, 0)).all()
    assert not pixels[rows + 1 :].any()
    assert not pixels[:, : columns - 1].any()
