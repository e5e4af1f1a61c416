"""Vision transformers as CLIP has them, of random weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QUICK: Final = 1.702  # of QuickGELU: openai/CLIP model.py
_EPSILON: Final = 1e-5  # of layer normalisation: torch's default
_MLP: Final = 4  # hidden width over width
_OPSET: Final = 17  # the first with LayerNormalization
_CHANNELS: Final = 3


@dataclass(frozen=True)
class Tower:
    """The sizes of a vision transformer.

    Attributes:
        image_px: side of the picture.
        patch_px: side of a patch.
        width: of a token.
        layers: blocks of attention and MLP.
        heads: of attention.
        dimension: of the embedding.
    """

    image_px: int
    patch_px: int
    width: int
    layers: int
    heads: int
    dimension: int

    @property
    def patches(self) -> int:
        """Tokens of a picture, without the class token."""
        return (self.image_px // self.patch_px) ** 2


# Radford et al. 2021, arXiv:2103.00020, table 20
VIT_B_32: Final = Tower(224, 32, 768, 12, 12, 512)
VIT_L_14: Final = Tower(224, 14, 1024, 24, 16, 768)
SMALL: Final = Tower(32, 8, 32, 2, 2, 16)


def shapes(tower: Tower) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight.

    >>> sum(int(np.prod(shape)) for shape in shapes(VIT_B_32).values())  # open_clip's, of vision
    87849216
    >>> sum(int(np.prod(shape)) for shape in shapes(VIT_L_14).values())
    303966208
    """
    width, hidden = tower.width, _MLP * tower.width
    named: dict[str, tuple[int, ...]] = {
        "patch": (width, _CHANNELS, tower.patch_px, tower.patch_px),
        "class": (1, 1, width),
        "positions": (1 + tower.patches, width),
    }
    norms = ["before", "after"]
    for layer in range(tower.layers):
        at = f"layer{layer}."
        named[f"{at}qkv"], named[f"{at}qkv_bias"] = (width, 3 * width), (3 * width,)
        named[f"{at}out"], named[f"{at}out_bias"] = (width, width), (width,)
        named[f"{at}up"], named[f"{at}up_bias"] = (width, hidden), (hidden,)
        named[f"{at}down"], named[f"{at}down_bias"] = (hidden, width), (width,)
        norms += [f"{at}norm1", f"{at}norm2"]
    for norm in norms:
        named[norm], named[f"{norm}_bias"] = (width,), (width,)
    return named | {"project": (width, tower.dimension)}


def weights(tower: Tower, dtype: type[np.floating[Any]]) -> dict[str, np.ndarray]:
    """Random ones, of a size that neither fades nor overflows float16 on its way."""
    rng = np.random.default_rng(0)
    made = {}
    for name, shape in shapes(tower).items():
        drawn = rng.standard_normal(shape, np.float32)
        if name.split(".")[-1] in ("before", "after", "norm1", "norm2"):
            drawn = 1 + drawn / 10
        elif name == "patch":
            drawn /= np.sqrt(np.prod(shape[1:]))
        elif len(shape) == 2 and name != "positions":
            drawn /= np.sqrt(shape[0])  # what goes in is about 1, and so is what comes out
        else:
            drawn /= 10
        made[name] = drawn.astype(dtype)
    return made


class _Graph:
    """Nodes in order; what each gives is named after its number."""

    def __init__(self, dtype: type[np.floating[Any]]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._dtype = dtype

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """The name of what a node gives, or the names."""
        names = [f"{operator}_{len(self.nodes)}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def integers(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self._constant(np.array(value, self._dtype))

    def linear(self, flow: str, name: str) -> str:
        return str(self.add("Add", self.add("MatMul", flow, name), f"{name}_bias"))

    def norm(self, flow: str, name: str) -> str:
        normed = self.add(
            "LayerNormalization", flow, name, f"{name}_bias", axis=-1, epsilon=_EPSILON
        )
        return str(normed)

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name


def write(tower: Tower, path: Path, dtype: type[np.floating[Any]]) -> None:
    """A network of (n, 3, px, px) float32 -> (n, dimension) float32, computed in a type.

    Args:
        tower: its sizes.
        path: of the file, made whole or not at all.
        dtype: float32 or float16: of weights and of all between input and output, as in the half
            precision exports of the usual publishers.
    """
    graph = _Graph(dtype)
    made = weights(tower, dtype)
    flow = graph.add("Cast", "pixel_values", to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    flow = _tokens(graph, flow, tower)
    for layer in range(tower.layers):
        flow = _block(graph, flow, f"layer{layer}.", tower)
    first = graph.add("Gather", flow, graph.integers(0), axis=1)
    first = graph.add("Squeeze", first, graph.integers(1))
    projected = graph.add("MatMul", graph.norm(first, "after"), "project")
    graph.nodes.append(
        helper.make_node("Cast", [projected], ["image_embeds"], to=TensorProto.FLOAT)
    )
    side = tower.image_px
    pixels = ["n", _CHANNELS, side, side]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "vision",
            [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, pixels)],
            [
                helper.make_tensor_value_info(
                    "image_embeds", TensorProto.FLOAT, ["n", tower.dimension]
                )
            ],
            [*(numpy_helper.from_array(a, n) for n, a in made.items()), *graph.constants],
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=8,
    )
    part = path.with_suffix(".part")
    onnx.save(model, part)
    part.rename(path)


def _tokens(graph: _Graph, pixels: str, tower: Tower) -> str:
    """Patches as tokens behind the class token, with their positions."""
    side = [tower.patch_px] * 2
    patches = graph.add("Conv", pixels, "patch", kernel_shape=side, strides=side)
    patches = graph.add("Reshape", patches, graph.integers(0, tower.width, tower.patches))
    patches = graph.add("Transpose", patches, perm=[0, 2, 1])
    count = graph.add("Shape", pixels, start=0, end=1)
    count = graph.add("Concat", count, graph.integers(1, tower.width), axis=0)
    tokens = graph.add("Concat", graph.add("Expand", "class", count), patches, axis=1)
    return graph.norm(graph.add("Add", tokens, "positions"), "before")


def _block(graph: _Graph, flow: str, at: str, tower: Tower) -> str:
    """Attention and MLP, each beside what it was given."""
    head = tower.width // tower.heads
    mixed = graph.linear(graph.norm(flow, f"{at}norm1"), f"{at}qkv")
    query, key, value = (
        graph.add("Reshape", part, graph.integers(0, 0, tower.heads, head))
        for part in graph.add("Split", mixed, outputs=3, axis=-1)
    )
    query = graph.add("Transpose", query, perm=[0, 2, 1, 3])
    key = graph.add("Transpose", key, perm=[0, 2, 3, 1])
    value = graph.add("Transpose", value, perm=[0, 2, 1, 3])
    scores = graph.add("Mul", graph.add("MatMul", query, key), graph.number(head**-0.5))
    seen = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    seen = graph.add("Transpose", seen, perm=[0, 2, 1, 3])
    seen = graph.add("Reshape", seen, graph.integers(0, 0, tower.width))
    flow = graph.add("Add", flow, graph.linear(seen, f"{at}out"))
    up = graph.linear(graph.norm(flow, f"{at}norm2"), f"{at}up")
    gate = graph.add("Sigmoid", graph.add("Mul", up, graph.number(QUICK)))
    return str(graph.add("Add", flow, graph.linear(graph.add("Mul", up, gate), f"{at}down")))
