"""Small networks in the layouts that CLIP exports come in, and the photographs at hand."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import skimage.data
import sklearn.datasets
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from jobs.runtime import cards
from udfs.clip import Clip, Preprocessing
from udfs.clip_tokenizer import Tokenizer, clip_bpe
from udfs.model_file import ModelFile
from udfs.speech import Speech

SIDE = 16
DIMENSION = 8


def _tensor(name: str, dtype: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def _weights(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, DIMENSION)).astype(np.float32)


def image_network(
    *, name: str = "pixel_values", output: str = "image_embeds", batch: int | str = "N"
) -> onnx.ModelProto:
    """Pixels times a matrix; a decoy output stands before the embedding."""
    nodes = [
        helper.make_node("Flatten", [name], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], [output]),
    ]
    return _model(
        nodes,
        [_tensor(name, TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [
            _tensor("flat", TensorProto.FLOAT, [batch, 3 * SIDE * SIDE]),
            _tensor(output, TensorProto.FLOAT, [batch, DIMENSION]),
        ],
        _weights(3 * SIDE * SIDE),
    )


def text_network(
    *,
    name: str = "input_ids",
    dtype: int = TensorProto.INT64,
    output: str = "text_embeds",
    batch: int | str = "N",
    with_mask: bool = False,
) -> onnx.ModelProto:
    """Ids, masked where a mask is declared, times a matrix."""
    inputs = [_tensor(name, dtype, [batch, 77])]
    nodes = [helper.make_node("Cast", [name], ["read"], to=TensorProto.FLOAT)]
    if with_mask:
        inputs.insert(0, _tensor("attention_mask", dtype, [batch, 77]))
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["read", "mask"], ["seen"]),
        ]
    nodes.append(helper.make_node("MatMul", [nodes[-1].output[0], "w"], [output]))
    outputs = [_tensor(output, TensorProto.FLOAT, [batch, DIMENSION])]
    return _model(nodes, inputs, outputs, _weights(77))


def _model(nodes, inputs, outputs, weights) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    graph = helper.make_graph(
        nodes, "tiny", inputs, outputs, [numpy_helper.from_array(weights, "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto | bytes], ModelFile]:
    """Write a network, or any bytes, where a ModelFile finds it."""

    def save(model: onnx.ModelProto | bytes) -> ModelFile:
        content = model if isinstance(model, bytes) else model.SerializeToString()
        digest = hashlib.sha256(content).hexdigest()
        path = tmp_path / digest
        path.write_bytes(content)
        return ModelFile(digest, partial(str, path))

    return save


@pytest.fixture
def networks() -> tuple[Callable[..., onnx.ModelProto], Callable[..., onnx.ModelProto]]:
    """Makers of an image and of a text network."""
    return image_network, text_network


@pytest.fixture
def tiny_clip(saved: Callable[..., ModelFile]) -> Clip:
    """A dual encoder of random weights with CLIP's real tokenizer."""
    return Clip(
        image=saved(image_network()),
        text=saved(text_network()),
        tokenizer=Tokenizer("clip_bpe", clip_bpe()),
        preprocessing=Preprocessing(size_px=SIDE),
        dimension=DIMENSION,
    )


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """Photographs that installed packages carry."""
    arrays = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    arrays += [skimage.data.rocket(), *sklearn.datasets.load_sample_images().images]
    return [Image.fromarray(np.asarray(array)) for array in arrays]


@pytest.fixture(scope="session")
def silero() -> Speech:
    """What hears speech by default."""
    card, folder = cards.find("silero-vad", "speech")
    return Speech(cards.model_file(card.file("model"), folder))
