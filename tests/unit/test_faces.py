import pickle
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from jobs.runtime.cards import CardFile, model_file
from jobs.runtime.strict_yaml import parse
from udfs.faces import Faces, find_faces
from udfs.image_codec import Decoded
from udfs.onnx_session import Placement

CARDS = Path(__file__).parents[2] / "jobs" / "cards"


@pytest.fixture(scope="module")
def signal() -> Faces:
    card = parse((CARDS / "centerface.yaml").read_bytes(), origin="the card")
    return Faces(model_file(CardFile(**card["files"]["model"]), CARDS), Placement("cpu"))


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut())


def decoded(image: Image.Image) -> Decoded:
    return Decoded(image, "PNG", "RGB", *image.size, 1, False, False, 1)


def measured(signal: Faces, *images: Image.Image) -> dict[str, list]:
    return signal.finish([signal.prepare(decoded(image)) for image in images])


def test_faces_are_counted_and_other_photographs_have_none(signal, photographs) -> None:
    hopper = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    cameraman = Image.fromarray(skimage.data.camera()).convert("RGB")
    found = measured(signal, Image.open(hopper).convert("RGB"), cameraman, *photographs)
    assert found["faces"] == [1, 1, 1, 0, 0, 0, 0, 0]  # of photographs the first is a portrait
    assert min(found["face_confidence"][:3]) > 0.7
    assert max(found["face_confidence"][3:]) < 0.3
    assert found["face_fraction"] == found["largest_face_fraction"]
    assert found["face_fraction"][0] > found["face_fraction"][2] > found["face_fraction"][1] > 0
    assert found["face_fraction"][3:] == [0] * 5


def test_small_cuts_of_faces_and_of_anything_else_are_told_apart(signal) -> None:
    cuts = np.load(Path(skimage.__file__).parent / "data" / "lfw_subset.npy")  # 100 and 100
    pictures = []
    for cut in np.concatenate([cuts[:20], cuts[100:120]]):
        picture = Image.new("RGB", (192, 192), "gray")
        picture.paste(Image.fromarray((cut * 255).astype(np.uint8)).resize((100, 100)), (46, 46))
        pictures.append(picture)
    assert measured(signal, *pictures)["faces"] == [1] * 20 + [0] * 20


def test_the_face_is_where_it_is(signal, astronaut) -> None:
    face = (180, 58, 270, 178)
    share = (270 - 180) * (178 - 58) / 512**2
    without = astronaut.copy()
    without.paste("gray", face)
    found = measured(signal, astronaut, without)
    assert found["faces"] == [1, 0]
    assert found["face_fraction"][0] == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_the_share_does_not_depend_on_the_size(signal, astronaut, side) -> None:
    found = measured(signal, astronaut, astronaut.resize((side, side)))
    assert found["face_fraction"][1] == pytest.approx(found["face_fraction"][0], rel=0.15)


def test_many_faces_are_summed(signal, astronaut) -> None:
    head = astronaut.crop((100, 0, 356, 256))
    row = Image.new("RGB", (640, 256))
    for n, side in enumerate((160, 160, 160, 128)):
        row.paste(head.resize((side, side)), (n * 160, 20))
    found = measured(signal, row)
    (largest,), (total,) = found["largest_face_fraction"], found["face_fraction"]
    assert found["faces"] == [4]
    assert total == pytest.approx(largest * (3 + 0.8**2), rel=0.15)


def test_it_loads_travels_and_has_a_value_for_any_size(signal) -> None:
    travelled = pickle.loads(pickle.dumps(signal))
    assert travelled.load() == "CPUExecutionProvider"
    assert travelled.version == f"faces/1:{signal.model.sha256}"
    found = measured(signal, *(Image.new("RGB", size) for size in [(1, 1), (9000, 3)]))
    assert found["faces"] == [0, 0]
    assert tuple(found) == signal.columns


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.1])
@pytest.mark.parametrize("map_", [0, 1, 2])
def test_maps_that_are_no_faces_are_an_error(signal, monkeypatch, map_, wrong) -> None:
    maps = [np.zeros((1, channels, 8, 8), np.float32) for channels in (1, 2, 2)]
    maps[map_][0, 0, 3, 3] = wrong
    monkeypatch.setattr("udfs.faces.infer_all", lambda *_: maps)
    if map_ and np.isfinite(wrong):  # a size or an offset may be any number
        assert signal.finish([np.zeros((32, 32, 3), np.uint8)])["faces"] == [0]
    else:
        with pytest.raises(ValueError, match=r"no probabilities|not finite"):
            signal.finish([np.zeros((32, 32, 3), np.uint8)])


def maps(side: int, *faces: tuple[int, int, float, float, float]) -> tuple[np.ndarray, ...]:
    """The network's maps with faces (row, column, confidence, height, width) in them."""
    confidence, size = np.zeros((side, side)), np.zeros((2, side, side))
    for row, column, score, height, width in faces:
        confidence[row, column] = score
        size[:, row, column] = np.log((height, width))
    return confidence, size, np.zeros((2, side, side))


def test_boxes_are_decoded_and_the_most_confident_is_first() -> None:
    confidence, size, offset = maps(16, (2, 12, 0.6, 2, 4), (8, 4, 0.9, 4, 2))
    offset[:, 8, 4] = 0.5, -0.5  # down, left
    boxes = find_faces(confidence, size, offset) * 16
    assert boxes.tolist() == [pytest.approx([3, 7, 5, 11]), pytest.approx([10.5, 1.5, 14.5, 3.5])]


def test_boxes_end_at_the_picture() -> None:
    boxes = find_faces(*maps(8, (0, 7, 0.9, 4, np.exp(80))))
    assert boxes.tolist() == [[0, 0, 1, 2.5 / 8]]


@pytest.mark.parametrize(("apart", "count"), [(1, 1), (5, 1), (6, 2), (12, 2)])
def test_boxes_of_one_face_become_one(apart, count) -> None:
    # 10 cells wide, 5 apart: a third is common; 6 apart: a quarter
    assert len(find_faces(*maps(40, (20, 10, 0.9, 10, 10), (20, 10 + apart, 0.8, 10, 10)))) == count


def test_a_doubtful_face_is_none() -> None:
    assert len(find_faces(*maps(8, (4, 4, 0.5, 2, 2)))) == 0


def test_the_most_hostile_maps_take_their_time_alone() -> None:
    start = time.process_time()
    every = find_faces(
        np.full((160, 160), 0.9), np.full((2, 160, 160), -3.0), np.zeros((2, 160, 160))
    )
    assert len(every) == 2000
    assert time.process_time() - start < 5  # measured: 0.2


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, (8, 8), elements=st.floats(0, 1, width=32, allow_subnormal=False)),
    arrays(
        np.float32,
        (4, 8, 8),
        elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
    ),
)
def test_any_finite_maps_give_boxes_inside_the_picture(confidence, boxes) -> None:
    found = find_faces(confidence, boxes[:2], boxes[2:])
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[:, :2] <= found[:, 2:]).all()


def test_the_network_is_fed_red_first_as_it_is(signal, monkeypatch) -> None:
    fed = []

    def infer_all(_, feeds, __) -> list[np.ndarray]:
        fed.append(feeds["input.1"])
        return [np.zeros((1, channels, 8, 16), np.float32) for channels in (1, 2, 2)]

    monkeypatch.setattr("udfs.faces.infer_all", infer_all)
    measured(signal, Image.new("RGB", (64, 32), (255, 51, 0)))
    assert fed[0].shape == (1, 3, 32, 64)
    assert fed[0][0, :, 5, 5].tolist() == [255, 51, 0]
