"""Heads on CLIP embeddings: a small specification, and ONNX built from it.

A head is a normalisation, some affine layers and an end. The published ones are told apart by the
names that their weights have:

| head | names | what it is |
|---|---|---|
| LAION aesthetic V1 | `weight`, `bias` | one affine layer |
| improved aesthetic V2, linear | `layers.{0,2,4,6,7}` | five affine layers without activations |
| improved aesthetic V2, ReLU | `layers.{0,3,6,9,11}` | the same with ReLU between |
| LAION NSFW H/14 | `layers.{0,3,6,9,12,15,16}` | ReLU between, the last two without; no sigmoid |
| LAION NSFW L/14, B/32 | Keras: `normalization`, `dense`, … | normalise, ReLU layers, sigmoid |
| LAION violence | an array (2, d) | two prompts, the nearer one decides |
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jobs.models.card import Task
from jobs.runtime.errors import ModelProblem

INPUT: Final = "embedding"
OUTPUT: Final = "score"
_OPSET: Final = 17  # what the bundled networks use; every supported runtime reads it
_IR: Final = 8  # the IR version of that opset
_LEAST_STD: Final = 1e-7  # Keras' epsilon, the least standard deviation of its Normalization
_MAX_WIDTH: Final = 2**16  # chosen: 32 times the widest published layer

_Activation = Literal["none", "relu"]


@dataclass(frozen=True)
class Layer:
    """`act(x W + b)`.

    Attributes:
        weight: (inputs, outputs) float64.
        bias: (outputs,) float64.
        activation: what follows.
    """

    weight: np.ndarray
    bias: np.ndarray
    activation: _Activation = "none"


@dataclass(frozen=True)
class HeadSpec:
    """A head.

    Attributes:
        layers: at least one; the last gives one value.
        mean: (d,) float64, taken off first; null without normalisation.
        variance: (d,) float64, whose root is divided by; null without normalisation.
        end: what makes the score of the last value.
    """

    layers: tuple[Layer, ...]
    mean: np.ndarray | None = None
    variance: np.ndarray | None = None
    end: Literal["identity", "sigmoid"] = "identity"

    @property
    def dimension(self) -> int:
        """Length of the embeddings it reads."""
        return int(self.layers[0].weight.shape[0])

    @property
    def std(self) -> np.ndarray | None:
        """(d,) float64, as Keras divides by it."""
        return None if self.variance is None else np.maximum(np.sqrt(self.variance), _LEAST_STD)

    def evaluate(self, embeddings: np.ndarray) -> np.ndarray:
        """The scores in float64, for what must come out of the network.

        Args:
            embeddings: (n, d) float.

        Returns:
            (n,) float64.
        """
        x = embeddings.astype(np.float64)
        if self.mean is not None:
            x = (x - self.mean) / self.std
        for layer in self.layers:
            x = x @ layer.weight + layer.bias
            x = np.maximum(x, 0) if layer.activation == "relu" else x
        last: np.ndarray = x[:, 0]
        return 1 / (1 + np.exp(-last)) if self.end == "sigmoid" else last

    def fused(self) -> "HeadSpec":
        """The same function with affine layers in a row made one, exact in real numbers.

        >>> twice = Layer(np.array([[2.0]]), np.array([1.0]))
        >>> HeadSpec((twice, twice)).fused().layers
        (Layer(weight=array([[4.]]), bias=array([3.]), activation='none'),)
        """
        made: list[Layer] = []
        for layer in self.layers:
            if made and made[-1].activation == "none":
                before = made.pop()
                layer = Layer(
                    before.weight @ layer.weight,
                    before.bias @ layer.weight + layer.bias,
                    layer.activation,
                )
            made.append(layer)
        return HeadSpec(tuple(made), self.mean, self.variance, self.end)


@dataclass(frozen=True)
class Published:
    """A head that was recognised by the names of its weights."""

    title: str
    task: Task
    spec: HeadSpec


# Indices of the affine layers -> what the head is, its task, and after which layers ReLU stands.
_TORCH: Final[Mapping[tuple[int, ...], tuple[str, Task, int]]] = {
    (0, 2, 4, 6, 7): ("improved aesthetic predictor V2, linear", "aesthetic", 0),
    (0, 3, 6, 9, 11): ("improved aesthetic predictor V2, ReLU", "aesthetic", 4),
    (0, 3, 6, 9, 12, 15, 16): ("LAION NSFW H/14", "nsfw_head", 5),
}
_TORCH_NAME: Final = re.compile(r"layers\.(\d+)\.(weight|bias)")
_KERAS_NAME: Final = re.compile(r"(?:.*/)?([^/]+)/(kernel|bias|mean|variance|count)(?::0)?")
EXPECTED: Final = (
    "weight and bias; layers.{0,2,4,6,7}, layers.{0,3,6,9,11} or layers.{0,3,6,9,12,15,16}; "
    "Keras' normalization and dense layers; one array of two prompts"
)


def published(weights: Mapping[str, np.ndarray], origin: str) -> Published:
    """The published head that some weights are.

    Args:
        weights: under the names that its authors gave them.
        origin: what they were read from, for messages.

    Raises:
        ModelProblem: names of no known head, or shapes that do not fit each other.
    """
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    found = (
        _prompts(weights) or _linear(weights) or _torch(weights) or _keras(weights)
    )  # names of one never are names of another
    if found is None:
        names = ", ".join(sorted(weights)[:12]) or "nothing"
        raise ModelProblem(
            f"{origin} got weights named {names}; allowed {EXPECTED}; "
            "give the published file's own names"
        )
    _check(found.spec, origin)
    return Published(found.title, found.task, found.spec.fused())


def to_onnx(spec: HeadSpec) -> onnx.ModelProto:
    """The head as a network: `embedding` (n, d) float32 -> `score` (n,) float32."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    last = INPUT

    def add(operator: str, *operands: str) -> None:
        nonlocal last
        made = f"x{len(nodes)}"
        nodes.append(helper.make_node(operator, [last, *operands], [made]))
        last = made

    if spec.mean is not None and spec.std is not None:
        weights |= {"mean": spec.mean, "std": spec.std}
        add("Sub", "mean")
        add("Div", "std")
    for number, layer in enumerate(spec.layers):
        weights |= {f"weight_{number}": layer.weight, f"bias_{number}": layer.bias}
        add("Gemm", f"weight_{number}", f"bias_{number}")
        if layer.activation == "relu":
            add("Relu")
    if spec.end == "sigmoid":
        add("Sigmoid")
    tensors = [numpy_helper.from_array(np.array([-1], np.int64), "every")]
    tensors += [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()]
    nodes.append(helper.make_node("Reshape", [last, "every"], [OUTPUT]))
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", spec.dimension])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n"])],
        tensors,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="sluice")
    onnx.checker.check_model(model, full_check=True)
    return model


def probes(dimension: int, seed: int, rows: int = 1) -> np.ndarray:
    """Random embeddings for a head to be tried on.

    Returns:
        (rows, dimension) float32 of unit length.
    """
    drawn = np.random.default_rng(seed).normal(size=(rows, dimension))
    unit: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return unit.astype(np.float32)


def _prompts(weights: Mapping[str, np.ndarray]) -> Published | None:
    """The margin of the second prompt: above 0 where the nearer prompt is the second."""
    if set(weights) != {"prompts"} or weights["prompts"].shape[:1] != (2,):
        return None
    if weights["prompts"].ndim != 2:
        return None
    first, second = weights["prompts"]
    return Published(
        "LAION violence prompts",
        "violence",
        HeadSpec((Layer((second - first)[:, None], np.zeros(1)),)),
    )


def _linear(weights: Mapping[str, np.ndarray]) -> Published | None:
    if set(weights) != {"weight", "bias"}:
        return None
    layer = Layer(weights["weight"].T, weights["bias"])
    return Published("LAION aesthetic predictor V1", "aesthetic", HeadSpec((layer,)))


def _torch(weights: Mapping[str, np.ndarray]) -> Published | None:
    matched = [_TORCH_NAME.fullmatch(name) for name in weights]
    if not all(matched):
        return None
    indices = tuple(sorted({int(match[1]) for match in matched if match}))
    if indices not in _TORCH or len(weights) != 2 * len(indices):
        return None
    title, task, relus = _TORCH[indices]
    layers = tuple(
        Layer(
            weights[f"layers.{index}.weight"].T,
            weights[f"layers.{index}.bias"],
            "relu" if place < relus else "none",
        )
        for place, index in enumerate(indices)
    )
    return Published(title, task, HeadSpec(layers))


def _keras(weights: Mapping[str, np.ndarray]) -> Published | None:
    """Normalise, ReLU layers, and one sigmoid, as AutoKeras builds a binary classifier."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, array in weights.items():
        match = _KERAS_NAME.fullmatch(name)
        if match is None:
            return None
        parts.setdefault(match[1], {})[match[2]] = array
    norms = [part for part in parts.values() if "mean" in part and "variance" in part]
    dense = sorted((n for n, part in parts.items() if set(part) == {"kernel", "bias"}), key=_order)
    if len(norms) != 1 or not dense or len(parts) != len(norms) + len(dense):
        return None
    layers = tuple(
        Layer(parts[name]["kernel"], parts[name]["bias"], "none" if name == dense[-1] else "relu")
        for name in dense
    )
    mean, variance = (norms[0][key].reshape(-1) for key in ("mean", "variance"))
    return Published(
        "LAION NSFW, Keras", "nsfw_head", HeadSpec(layers, mean, variance, end="sigmoid")
    )


def _order(name: str) -> tuple[bool, int]:
    """Keras numbers layers as they are made: dense, dense_1, …; AutoKeras' own head is last."""
    number = re.search(r"_(\d+)$", name)
    return "head" in name, int(number[1]) if number else 0


def _check(spec: HeadSpec, origin: str) -> None:
    _check_shapes([layer.weight.shape for layer in spec.layers], origin)
    for layer in spec.layers:
        if layer.bias.shape != layer.weight.shape[1:]:
            raise ModelProblem(
                f"{origin} got a bias of shape {layer.bias.shape} beside weights of "
                f"{layer.weight.shape}; allowed one value an output; give the file as published"
            )
    for array in (spec.mean, spec.variance):
        if array is not None and array.shape != (spec.dimension,):
            raise ModelProblem(
                f"{origin} got a normalisation of shape {array.shape}; allowed "
                f"({spec.dimension},); give the file as published"
            )
    if spec.variance is not None and (spec.variance < 0).any():
        raise ModelProblem(f"{origin} got a negative variance; give the file as published")


def _check_shapes(shapes: Sequence[tuple[int, ...]], origin: str) -> None:
    chain = [*shapes, (1,)]
    for here, following in pairwise(chain):
        fits = len(here) == 2 and all(1 <= n <= _MAX_WIDTH for n in here)
        if not fits or here[1] != following[0]:
            raise ModelProblem(
                f"{origin} got layers of shapes {', '.join(map(str, shapes))} (inputs, outputs); "
                "allowed a chain that ends in one value; give the file as published"
            )
