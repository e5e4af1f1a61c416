import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from udfs.image_codec import decode
from udfs.sharpness import Sharpness, sharpness


def test_it_is_the_variance_of_the_laplacian_of_the_grey_picture(photographs) -> None:
    image = photographs[0].resize((256, 200))
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    expected = ndimage.laplace(grey, mode="nearest").var()
    assert sharpness(image) == pytest.approx(expected, rel=1e-6)


def test_blur_lowers_it(photographs) -> None:
    for image in photographs:
        blurred = image.filter(ImageFilter.GaussianBlur(6))
        assert sharpness(blurred) < sharpness(image) / 2


def test_extreme_contrast_does_not_overflow() -> None:
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    assert sharpness(Image.fromarray(board.astype(np.uint8))) == pytest.approx(1020**2, rel=0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 2)])
def test_thin_and_tiny_pictures_have_one_too(size) -> None:
    assert sharpness(Image.new("RGB", size, "red")) == 0


def test_the_signal_measures_the_decoded_picture(photographs, tmp_path) -> None:
    path = tmp_path / "a.png"
    photographs[0].save(path)
    signal = Sharpness()
    signal.load()
    prepared = signal.prepare(decode(path.read_bytes(), max_pixels=10**7))
    assert signal.finish([prepared]) == {"sharpness": [sharpness(photographs[0])]}


@pytest.mark.parametrize("size", [(900, 601), (256, 100), (255, 40), (30, 20), (4000, 1), (1, 1)])
def test_the_thumbnail_that_signals_share_is_as_sharp_as_the_picture(photographs, size) -> None:
    file = io.BytesIO()
    image = photographs[1].resize(size)
    image.save(file, "PNG")
    decoded = decode(file.getvalue(), max_pixels=10**7)
    assert Sharpness().prepare(decoded) == sharpness(image)
