import pickle
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageFont

from jobs.runtime.cards import CardFile, model_file
from jobs.runtime.strict_yaml import parse
from udfs.image_codec import Decoded
from udfs.onnx_session import Placement
from udfs.text_area import TextArea, text_area

CARDS = Path(__file__).parents[2] / "jobs" / "cards"
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
LINE = "The quick brown fox jumps over"


@pytest.fixture(scope="module")
def signal() -> TextArea:
    card = parse((CARDS / "pp-ocr-detector.yaml").read_bytes(), origin="the card")
    return TextArea(model_file(CardFile(**card["files"]["model"]), CARDS), Placement("cpu"))


def decoded(image: Image.Image) -> Decoded:
    return Decoded(image, "PNG", "RGB", *image.size, 1, False, False, 1)


def measured(signal: TextArea, *images: Image.Image) -> dict[str, list]:
    return signal.finish([signal.prepare(decoded(image)) for image in images])


def written(picture: Image.Image, text: str, size_px: int, lines: int) -> tuple[Image.Image, float]:
    """The picture with lines of text on it, and the share that the lines' boxes cover."""
    picture, covered = picture.copy(), np.zeros(picture.size[::-1], bool)
    font = ImageFont.truetype(FONT, size_px)
    pen = ImageDraw.Draw(picture)
    for line in range(lines):
        at = (20, 20 + line * size_px * 2)
        pen.text(at, text, "white", font, stroke_width=1, stroke_fill="black")
        left, top, right, bottom = (round(edge) for edge in pen.textbbox(at, text, font))
        covered[top:bottom, left:right] = True
    return picture, float(covered.mean())


@pytest.mark.parametrize(("size_px", "lines"), [(12, 1), (12, 6), (24, 3), (24, 7), (30, 5)])
@pytest.mark.parametrize("background", [None, 1, 4, 5])
def test_the_share_is_that_of_the_rendered_lines(
    signal, photographs, size_px, lines, background
) -> None:
    plain = Image.new("RGB", (512, 384), "teal")
    picture = plain if background is None else photographs[background].resize(plain.size)
    picture, truth = written(picture, LINE, size_px, lines)
    found = measured(signal, picture)
    assert found["text_fraction"] == [pytest.approx(truth, rel=0.35)]
    assert found["text_regions"] == [lines]


def test_turned_lines_cover_as_much(signal) -> None:
    picture, truth = written(Image.new("RGB", (512, 512), "teal"), LINE, 24, 6)
    for angle in (90, 12):
        turned = picture.rotate(angle, fillcolor="teal")
        assert measured(signal, turned)["text_fraction"] == [pytest.approx(truth, rel=0.35)]


def test_a_larger_picture_has_the_same_share(signal) -> None:
    small, _ = written(Image.new("RGB", (512, 384), "teal"), LINE, 24, 6)
    large, truth = written(Image.new("RGB", (2048, 1536), "teal"), LINE, 96, 6)
    assert measured(signal, small, large)["text_fraction"] == pytest.approx([truth] * 2, rel=0.35)


def test_a_scanned_page_is_text_and_photographs_are_none(signal, photographs) -> None:
    page = Image.fromarray(skimage.data.page()).convert("RGB")
    found = measured(signal, page, *photographs)
    assert found["text_regions"] == [7] + [0] * len(photographs)
    assert found["text_fraction"][0] > 0.4
    assert found["text_fraction"][1:] == [0] * len(photographs)


def test_round_objects_are_no_letters(signal) -> None:
    round_ones = [skimage.data.coffee(), skimage.data.moon(), skimage.data.logo()[..., :3]]
    found = measured(signal, *(Image.fromarray(pixels).convert("RGB") for pixels in round_ones))
    assert found["text_fraction"] == [0, 0, 0]


def test_it_loads_travels_and_has_a_value_for_any_size(signal) -> None:
    travelled = pickle.loads(pickle.dumps(signal))
    assert travelled.load() == "CPUExecutionProvider"
    assert travelled.version == f"text_area/1:{signal.model.sha256}"
    found = measured(signal, *(Image.new("RGB", size) for size in [(1, 1), (9000, 3)]))
    assert found == {"text_fraction": [0, 0], "text_regions": [0, 0]}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.1])
def test_a_map_of_no_probabilities_is_an_error(signal, monkeypatch, wrong) -> None:
    map_ = np.zeros((1, 1, 32, 32), np.float32)
    map_[0, 0, 3, 3] = wrong
    monkeypatch.setattr("udfs.text_area.infer", lambda *_: map_)
    with pytest.raises(ValueError, match="no probabilities"):
        signal.finish([np.zeros((32, 32, 3), np.uint8)])


def core(height: int, width: int, probability: float = 0.9) -> np.ndarray:
    """A map with one core in it, its corner at (40, 50)."""
    map_ = np.zeros((160, 320))
    map_[40 : 40 + height, 50 : 50 + width] = probability
    return map_


def test_a_core_is_grown_by_its_area_over_its_perimeter() -> None:
    share, regions = text_area(core(11, 101))  # 10 x 100 between the outermost centres
    distance = 10 * 100 / (2 * (10 + 100))
    assert share * 160 * 320 == pytest.approx((10 + 2 * distance) * (100 + 2 * distance), rel=0.1)
    assert regions == 1


@pytest.mark.parametrize(
    ("map_", "regions"),
    [
        (core(10, 100), 1),
        (core(100, 10), 1),  # a line may stand
        (core(10, 100, 0.59), 0),  # too unlikely
        (core(3, 100), 0),  # thinner than three between the outermost centres
        (core(4, 100), 1),
        (core(20, 30), 0),  # one glyph or two
        (core(10, 60) + core(10, 140)[:, ::-1], 2),
    ],
)
def test_what_counts_as_a_line(map_, regions) -> None:
    assert text_area(map_)[1] == regions


def test_a_hollow_region_is_no_line() -> None:
    frame = core(40, 120)
    frame[42:78, 52:168] = 0
    assert text_area(frame) == (0, 0)


def test_a_map_that_is_all_text_is_covered_once() -> None:
    assert text_area(np.ones((32, 640))) == (1, 1)


def test_the_most_hostile_map_takes_its_time_alone() -> None:
    map_ = np.zeros((640, 640))
    map_[::4, 0::9] = map_[1::4, 0::9] = map_[2::4, 0::9] = 0.9
    comb = np.kron(np.ones((128, 64)), np.pad(np.full((4, 9), 0.9), ((0, 1), (0, 1))))
    start = time.process_time()
    assert text_area(map_) == (0, 0)
    assert text_area(comb)[1] == 1000
    assert time.process_time() - start < 5  # measured: 0.3


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.just(32), st.just(64)),
        elements=st.floats(0, 1, width=32, allow_subnormal=False),
    )
)
def test_any_map_has_a_share(map_) -> None:
    share, regions = text_area(map_)
    assert 0 <= share <= 1
    assert (share > 0) == (regions > 0)


def test_the_network_is_fed_standardised_blue_first(signal, monkeypatch) -> None:
    fed = []

    def infer(_, feeds, __) -> np.ndarray:
        fed.append(feeds["x"])
        return np.zeros((1, 1, 32, 64), np.float32)

    monkeypatch.setattr("udfs.text_area.infer", infer)
    measured(signal, Image.new("RGB", (64, 32), (255, 51, 0)))
    expected = [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert fed[0].shape == (1, 3, 32, 64)
    assert fed[0][0, :, 5, 5] == pytest.approx(expected, abs=1e-5)
