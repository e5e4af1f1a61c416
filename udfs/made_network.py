"""Small ONNX networks made here, so that arithmetic runs where a task's networks run."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from udfs.model_file import ModelFile

_OPSET: Final = 17  # onnxruntime 1.31 knows it on every device
_IR: Final = 8  # what goes with it


@dataclass(frozen=True)
class _Written:
    """A network's bytes as a file of the machine that asks; one file a content."""

    content: bytes
    name: str

    def __call__(self) -> str:
        path = Path(tempfile.gettempdir()) / f"sluice-{self.name}.onnx"
        if not path.exists() or path.stat().st_size != len(self.content):
            # Whole or not at all: another task may be reading it.
            handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".onnx")
            try:
                with open(handle, "wb") as file:
                    file.write(self.content)
                os.replace(unfinished, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(unfinished)
        return str(path)


def made(
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]],
    floats: Mapping[str, Sequence[int | str]],
    integers: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
) -> ModelFile:
    """A network without weights as a model that a placement can open.

    Args:
        nodes: operator, names read, names written, attributes; in the order they run.
        floats: name -> shape of a float32 input; a name in a shape stands for any length.
        integers: the same of int64 inputs.
        outputs: names that it gives.

    >>> network = made([("Neg", ["x"], ["y"], {})], {"x": ["n"]}, {}, ["y"])
    >>> len(network.sha256)
    64
    """
    import onnx  # a worker without networks need not load it
    from onnx import TensorProto, helper

    types = {name: (TensorProto.FLOAT, shape) for name, shape in floats.items()}
    types |= {name: (TensorProto.INT64, shape) for name, shape in integers.items()}
    graph = helper.make_graph(
        [
            helper.make_node(operator, list(read), list(written), **attributes)
            for operator, read, written, attributes in nodes
        ],
        "made",
        [
            helper.make_tensor_value_info(name, of, list(shape))
            for name, (of, shape) in types.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        producer_name="sluice",
    )
    # The runtime asks for the types of outputs.
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    content = bytes(model.SerializeToString(deterministic=True))
    digest = hashlib.sha256(content).hexdigest()
    return ModelFile(digest, _Written(content, digest))
