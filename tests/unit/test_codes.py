import io
import pickle
import time

import numpy as np
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from udfs.codes import Codes, codes
from udfs.image_codec import decode

SECRET = "https://example.org/whom-it-concerns"
KINDS = {"QRCode": SECRET, "EAN13": "5901234123457", "UPCA": "012345678905", "Code128": "AB-12"}


def code(kind: str = "QRCode", side_px: int = 160) -> Image.Image:
    made = zxingcpp.create_barcode(KINDS[kind], getattr(zxingcpp.BarcodeFormat, kind))
    image = Image.fromarray(np.array(made.to_image(scale=4)))
    return ImageOps.contain(image, (side_px, side_px), Image.Resampling.BOX).convert("RGB")


def with_codes(image, *places, of=None) -> Image.Image:
    image = image.resize((512, 384))
    for place in places:
        image.paste(of or code(), place)
    return image


def test_photographs_have_none(photographs) -> None:
    for image in photographs:
        assert codes(image) == (0, 0)


def test_a_qr_code_is_found_with_its_area(photographs) -> None:
    quiet = 4 / 37 * 160  # four modules around 29, QR code version 3: ISO/IEC 18004 §9.1
    share = (160 - 2 * quiet) ** 2 / (512 * 384)
    for image in photographs:
        found = codes(with_codes(image, (200, 100)))
        assert found.code_count == 1
        assert found.code_fraction == pytest.approx(share, rel=0.06)


@pytest.mark.parametrize("kind", ["EAN13", "UPCA", "Code128"])
def test_bar_codes_are_found(photographs, kind) -> None:
    for image in photographs:
        found = codes(with_codes(image, (40, 60), of=code(kind, 300)))
        assert found.code_count == 1
        assert 0.02 < found.code_fraction < 0.4


def test_two_codes_cover_twice_as_much(photographs) -> None:
    one = codes(with_codes(photographs[0], (10, 10)))
    two = codes(with_codes(photographs[0], (10, 10), (300, 200)))
    assert two.code_count == 2
    assert two.code_fraction == pytest.approx(2 * one.code_fraction, rel=0.05)


@pytest.mark.parametrize("angle", [90, 180, 270, 10])
def test_turned_inverted_and_large_pictures_have_the_same_share(photographs, angle) -> None:
    picture = with_codes(photographs[0], (200, 100))
    expected = pytest.approx(codes(picture).code_fraction, rel=0.05)
    assert codes(picture.rotate(angle, Image.Resampling.BICUBIC)).code_fraction == expected
    assert codes(ImageOps.invert(picture)).code_fraction == expected
    assert codes(picture.resize((2000, 1500))).code_fraction == expected


def test_a_jpeg_keeps_its_code(photographs) -> None:
    for image in photographs:
        file = io.BytesIO()
        with_codes(image, (200, 100), of=code(side_px=100)).save(file, "JPEG", quality=50)
        assert codes(Image.open(file)).code_count == 1


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 300), (20000, 1), (640, 480)])
def test_pictures_of_any_shape_are_looked_at(size) -> None:
    assert codes(Image.new("RGB", size, "white")) == (0, 0)


@settings(deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_values_lie_in_their_ranges(pixels) -> None:
    found = codes(Image.fromarray(pixels))
    assert 0 <= found.code_fraction <= 1
    assert found.code_count >= 0


def hostile() -> dict[str, np.ndarray]:
    rows, columns = np.indices((512, 512))
    bits = np.random.default_rng(5).integers(0, 2, (512, 512))
    mark = np.pad(np.ones((3, 3), int), ((1, 1), (1, 1)))
    mark = np.pad(np.pad(mark, 1, constant_values=1), 1)  # a QR code's finder pattern
    return {
        "noise": bits,
        "checks": (rows + columns) % 2,
        "stripes": columns % 2,
        "bars": np.tile(bits[0], (512, 1)),
        "marks": np.tile(mark, (57, 57))[:512, :512],
        "large marks": np.tile(np.kron(mark, np.ones((3, 3), int)), (19, 19))[:512, :512],
    }


@pytest.mark.parametrize(("name", "pattern"), hostile().items())
def test_patterns_that_look_like_codes_take_bounded_time(name, pattern) -> None:
    image = Image.fromarray((pattern * 255).astype(np.uint8)).resize((2048, 2048), 0)
    start = time.process_time()
    codes(image)
    assert time.process_time() - start < 5, name  # 0.1 s, on a machine that others use too


def test_what_a_code_says_goes_nowhere(photographs) -> None:
    file = io.BytesIO()
    with_codes(photographs[0], (200, 100)).save(file, "PNG")
    decoded = decode(file.getvalue(), max_pixels=10**7)
    signal = pickle.loads(pickle.dumps(Codes()))
    signal.load()
    prepared = signal.prepare(decoded)
    assert SECRET.encode() not in pickle.dumps(prepared)
    assert signal.finish([prepared, prepared]) == {
        "code_fraction": [prepared.code_fraction] * 2,
        "code_count": [1, 1],
    }
