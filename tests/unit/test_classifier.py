import pickle
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from schemas.error_classes import OK
from udfs.classifier import Classifier, probability
from udfs.clip import Preprocessing
from udfs.image_codec import Decoded
from udfs.model_file import ModelMismatch
from udfs.onnx_session import Placement
from udfs.signal_set import fill

IMAGENET = Preprocessing(
    size_px=256,  # as LAION's watermark detector
    resize="squash",
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def redness(classes: int = 2, batch: int | str = "n") -> onnx.ModelProto:
    """Mean red minus mean blue, and its negative, in units of the standardised picture."""
    weights = np.zeros((3, classes), np.float32)
    weights[0, 0] = weights[2, -1] = 1
    weights[2, 0] = weights[0, -1] = -1
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "redness",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 256, 256])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def watermark(saved) -> Classifier:
    return Classifier("watermark_score", saved(redness()), IMAGENET, placement=Placement("cpu"))


def decoded(image: Image.Image) -> Decoded:
    return Decoded(image, "PNG", "RGB", *image.size, 1, False, False, 1)


def scores(signal: Classifier, *images: Image.Image) -> list[float]:
    return signal.finish([signal.prepare(decoded(image)) for image in images])[signal.column]


def test_the_score_is_the_softmax_of_the_standardised_picture(watermark, photographs) -> None:
    for image in photographs:
        pixels = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR)) / 255
        standard = (pixels.mean((0, 1)) - IMAGENET.mean) / IMAGENET.std
        margin = standard[0] - standard[2]
        assert scores(watermark, image) == [pytest.approx(1 / (1 + np.exp(-2 * margin)), abs=1e-4)]


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_a_batch_of_any_size_is_scored(saved, watermark, photographs, batch) -> None:
    signal = replace(watermark, model=saved(redness(batch=batch)))
    single = [scores(watermark, image)[0] for image in photographs]
    assert scores(signal, *photographs * 2) == pytest.approx(single * 2, abs=1e-5)


def test_the_class_and_the_activation_are_the_cards(saved, watermark, photographs) -> None:
    image = photographs[0]
    (first,) = scores(watermark, image)
    assert scores(replace(watermark, index=1), image) == [pytest.approx(1 - first, abs=1e-6)]
    one = Classifier("s", saved(redness(1)), IMAGENET, 1, 0, "sigmoid", Placement("cpu"))
    assert one.load() == "CPUExecutionProvider"
    assert 0 < scores(one, image)[0] < 1


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("softmax", [0.5, 0, 1]), ("sigmoid", [0.5, 0, 0.5])],
)
def test_extreme_outputs_stay_probabilities(activation, expected) -> None:
    outputs = np.array([[0, 0], [-1e30, 1e30], [0, -1e30]], np.float32)
    assert probability(outputs, 0, activation).tolist() == expected


def test_probabilities_are_taken_as_they_are_and_nothing_else_is() -> None:
    assert probability(np.array([[0.25, 7.0]]), 0, "none").tolist() == [0.25]
    with pytest.raises(ValueError, match="outside"):
        probability(np.array([[0.25, 7.0]]), 1, "none")


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_score(activation, wrong) -> None:
    with pytest.raises(ValueError, match="not finite"):
        probability(np.array([[0.5, 0.5], [wrong, 0.5]]), 0, activation)


def test_one_bad_picture_of_a_batch_costs_its_own_row(watermark, monkeypatch) -> None:
    def outputs(_, crops) -> np.ndarray:
        return np.array([[np.nan if crop is None else 0.0, 0.0] for crop in crops])

    monkeypatch.setattr(Classifier, "_outputs", outputs)
    rows = [{"status": OK} for _ in range(3)]
    filled = fill([watermark], rows, [[1], [None], [1]], lambda _, error: {"refused": str(error)})
    assert [row.get("watermark_score") for row in filled] == [0.5, None, 0.5]
    assert "not finite" in filled[1]["refused"]


@pytest.mark.parametrize("changes", [{"classes": 3}, {"index": 2}, {"index": -1}])
def test_another_network_than_the_cards_is_refused(watermark, changes) -> None:
    with pytest.raises(ModelMismatch, match="correct the output in the model's card"):
        replace(watermark, **changes).load()


def test_it_travels_and_all_that_decides_is_in_its_version(watermark) -> None:
    travelled = pickle.loads(pickle.dumps(watermark))
    assert travelled.load() == "CPUExecutionProvider"
    assert travelled.columns == ("watermark_score",)
    others = [
        replace(watermark, **{name: value})
        for name, value in {
            "column": "other",
            "preprocessing": Preprocessing(),
            "index": 1,
            "activation": "sigmoid",
        }.items()
    ]
    assert len({watermark.version, *(other.version for other in others)}) == 5
    assert watermark.model.sha256 in watermark.version
