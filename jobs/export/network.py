"""A torch module as the bytes of an ONNX file; the same weights give the same bytes."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import onnx

from jobs.export.extra import extra
from jobs.runtime.errors import ModelProblem

Precision = Literal["fp32", "fp16"]
# The oldest with LayerNormalization as one operator: every runtime since 2022 reads it.
OPSET: Final = 17
MAX_BYTES: Final = 2**31 - 1  # protobuf's; beyond it weights lie in files that no digest covers


class Network(NamedTuple):
    """An ONNX file.

    Attributes:
        content: its bytes.
        dimension: length of the embeddings that it gives.
    """

    content: bytes
    dimension: int


def to_onnx(
    module: Any, example: np.ndarray, *, names: tuple[str, str], precision: Precision
) -> Network:
    """Trace a module with one input and one output, both (n, …) with n free.

    n is free because a batch ends where the images do, and one that is padded costs full time.
    In fp16 the weights and the arithmetic are float16 where the runtime has it; input and output
    stay float32.

    Args:
        module: the tower.
        example: an input, n = 2: what has one row is taken for a constant.
        names: of input and output.
        precision: of the weights.

    Raises:
        ModelProblem: the output is no (n, d), or the file would be too large.
    """
    torch = extra("torch")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: branches that the shapes decide
        given = torch.from_numpy(example)
        with torch.no_grad():
            shape = tuple[int, ...](getattr(module(given), "shape", ()))
        if len(shape) != 2 or shape[0] != len(example):
            raise ModelProblem(
                f"{names[1]} got an output of shape {shape}; allowed (n, dimension); "
                "export a dual encoder"
            )
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            module,
            (given,),
            str(path),
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes={name: {0: "batch"} for name in names},
            opset_version=OPSET,
            # The other exporter writes source paths of this machine into the file.
            dynamo=False,
        )
        made = onnx.load(path)
    if precision == "fp16":
        made = _halved(made)
    if made.ByteSize() > MAX_BYTES:
        raise ModelProblem(
            f"{names[1]} got a network of {made.ByteSize():,} bytes; allowed {MAX_BYTES:,}; "
            "say --precision fp16, or take a smaller model"
        )
    return Network(made.SerializeToString(deterministic=True), int(shape[1]))


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    float16 = extra("onnxruntime.transformers.float16")
    # Shapes are inferred only to place casts around operators without float16; there are none.
    halved: onnx.ModelProto = float16.convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=True
    )
    return halved


def origin() -> Mapping[str, str]:
    """What made a file, for its card."""
    return {"torch": str(extra("torch").__version__), "opset": str(OPSET)}
