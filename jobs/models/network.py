"""What an ONNX file says of itself, read without running it."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from onnx import TensorProto

from jobs.runtime.errors import ModelProblem

MAX_OPSET: Final = 26  # measured: onnxruntime 1.31.1 loads 26 and refuses 27
MAX_IR: Final = 13  # measured: onnxruntime 1.31.1 loads 13 and refuses 14
_DOMAINS: Final = {  # ONNX Runtime's own
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "com.microsoft",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
    "com.microsoft.experimental",
    "ai.onnx.training",
    "ai.onnx.preview.training",
}
_PICKLE_SUFFIXES: Final = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib"}
_PICKLE_START: Final = b"\x80"  # PROTO, which every pickle of protocol 2 or later opens with
_PICKLE_PROTOCOLS: Final = range(2, 6)
MAX_INLINE_BYTES: Final = 2**31 - 1  # what one protobuf message can hold


@dataclass(frozen=True)
class Port:
    """One input or output.

    Attributes:
        name: as the graph calls it.
        dtype: ONNX's name: FLOAT, FLOAT16, INT64, …
        shape: null for a free axis.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Signature:
    """What goes in and what comes out."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def output(self, names: Iterable[str]) -> Port:
        """The first output of those names, else the first."""
        named = {port.name: port for port in self.outputs}
        return next((named[name] for name in names if name in named), self.outputs[0])


def refuse_pickle(path: Path) -> None:
    """Refuse what runs code when it is read, by its content and not only by its name.

    Raises:
        ModelProblem: a pickle, or a zip that holds one.
    """
    with path.open("rb") as file:
        start = file.read(2)
    is_pickle = start[:1] == _PICKLE_START and start[1:2] in {bytes([n]) for n in _PICKLE_PROTOCOLS}
    if start == b"PK" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            is_pickle = any(Path(name).name == "data.pkl" for name in archive.namelist())
    if is_pickle or path.suffix.lower() in _PICKLE_SUFFIXES:
        raise ModelProblem(
            f"{path} got a pickle, which runs code when it is read; allowed ONNX, safetensors, "
            "npz, npy; convert it with `sluice models export` where you trust it"
        )


def signature(path: Path) -> Signature:
    """What a network asks for and gives.

    Raises:
        ModelProblem: no ONNX file, or one of an operator set that the runtime does not know.
    """
    return _signature(parse(path))


def parse(path: Path) -> onnx.ModelProto:
    """The graph without its external data.

    Raises:
        ModelProblem: no ONNX file, or one of an operator set that the runtime does not know.
    """
    refuse_pickle(path)
    if path.stat().st_size > MAX_INLINE_BYTES:
        raise ModelProblem(
            f"{path} got {path.stat().st_size} bytes; allowed {MAX_INLINE_BYTES}, what one ONNX "
            "file can hold; restore the exporter's file"
        )
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own class derives from Exception
        raise _no_network(path) from error
    if not model.graph.node or not model.graph.output:
        raise _no_network(path)
    _check_opsets(path, model)
    return model


def inlined(path: Path) -> bytes:
    """The network as one file, with the weights that lie beside it.

    Raises:
        ModelProblem: no ONNX file, weights are missing or outside its folder, or all of it does
            not fit into one file.
    """
    model = parse(path)
    files = sorted(beside(model))
    if not files:
        return path.read_bytes()
    size = path.stat().st_size
    for name in files:
        data = path.parent / name
        outside = not data.resolve().is_relative_to(path.parent.resolve())
        if outside or Path(name).is_absolute() or data.is_symlink():
            raise ModelProblem(
                f"{path} got weights in {name}; allowed files in its own folder; "
                "restore the exporter's files"
            )
        if not data.is_file():
            raise ModelProblem(
                f"{path} keeps weights in {name}, which is missing; copy it beside the network"
            )
        size += data.stat().st_size
    if size > MAX_INLINE_BYTES:
        raise ModelProblem(
            f"{path} and its weights got {size} bytes; allowed {MAX_INLINE_BYTES}, what one ONNX "
            "file can hold; take the fp16 export with --variant fp16"
        )
    try:
        return bytes(onnx.load(path).SerializeToString(deterministic=True))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise ModelProblem(
            f"{path} got weights beside it that do not fit its graph: {error}; "
            "restore the exporter's files"
        ) from error


def needed_inputs(model: onnx.ModelProto, output: str) -> set[str]:
    """The graph's inputs that one output depends on.

    Raises:
        ModelProblem: the graph does not make the output.
    """
    makers = {name: node for node in model.graph.node for name in node.output if name}
    inputs = {port.name for port in _true_inputs(model.graph)}
    seen: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in makers:
            waiting += _read_by(makers[name])
    return seen & inputs


def _read_by(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those that its branches take from around them among them."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            own = {name for inner in graph.node for name in inner.output}
            own |= {port.name for port in graph.input} | {w.name for w in graph.initializer}
            inner_reads = {name for inner in graph.node for name in _read_by(inner)}
            names |= (inner_reads | {port.name for port in graph.output}) - own
    return names


def _signature(model: onnx.ModelProto) -> Signature:
    return Signature(
        inputs=tuple(map(_port, _true_inputs(model.graph))),
        outputs=tuple(map(_port, model.graph.output)),
    )


def _true_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Older exports list the weights among the inputs."""
    weights = {tensor.name for tensor in graph.initializer}
    return [port for port in graph.input if port.name not in weights]


def _port(info: onnx.ValueInfoProto) -> Port:
    tensor = info.type.tensor_type
    axes = tensor.shape.dim
    return Port(
        name=info.name,
        dtype=TensorProto.DataType.Name(tensor.elem_type),
        shape=tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in axes),
    )


def beside(model: onnx.ModelProto) -> set[str]:
    """Names of the files beside the network that hold weights."""
    return {
        entry.value
        for tensor in _tensors(model.graph)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _tensors(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield from _tensors(inner)


def _check_opsets(path: Path, model: onnx.ModelProto) -> None:
    for entry in model.opset_import:
        if entry.domain not in _DOMAINS:
            raise ModelProblem(
                f"{path} got operators of {entry.domain}; allowed ONNX's own and com.microsoft; "
                "export it again without custom operators"
            )
        if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= MAX_OPSET:
            raise ModelProblem(
                f"{path} got opset {entry.version}; allowed 1 to {MAX_OPSET}; export it again "
                "with opset 17, which every current runtime knows"
            )
    if model.ir_version > MAX_IR:
        raise ModelProblem(
            f"{path} got ONNX IR version {model.ir_version}; allowed up to {MAX_IR}; "
            "export it again with an older onnx"
        )


def _no_network(path: Path) -> ModelProblem:
    return ModelProblem(
        f"{path} got bytes that are no ONNX network; allowed ONNX; "
        "download the file again: a pointer of Git LFS looks like this too"
    )
