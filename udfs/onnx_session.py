"""ONNX Runtime sessions, one per process, model and device; and how a batch goes through one."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from udfs.model_file import ModelFile, ModelMismatch

if TYPE_CHECKING:  # children that decode import this module, and run no network
    import onnxruntime as ort

__all__ = ["AUTO", "ModelFile", "ModelMismatch", "Placement", "infer", "infer_all", "session"]

Shape = tuple[int | str, ...]  # a name stands for any length

_DTYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_sessions: Final[dict[tuple[str, str, int, int, Shape | None], "ort.InferenceSession"]] = {}
_lock: Final = threading.Lock()


@dataclass(frozen=True)
class Placement:
    """Where a network runs; the choice is made on the executor.

    Attributes:
        device: auto = the GPU when this runtime and this task have one.
        intra_op_threads: threads of one network; more oversubscribe beside parallel tasks.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    intra_op_threads: int = 1

    def open(self, file: ModelFile, input_shape: Shape | None = None) -> "ort.InferenceSession":
        """The session of a model on this placement.

        Args:
            file: the model.
            input_shape: what its input takes, where the file declares less than that.

        Raises:
            ModelMismatch: the file is not the one described.
            RuntimeError: ``cuda`` was asked for and the runtime could not give it.
        """
        provider = self._provider()
        opened = session(
            file,
            provider=provider,
            device_id=gpu_address(),
            intra_op_threads=self.intra_op_threads,
            input_shape=input_shape,
        )
        if self.device == "cuda" and opened.get_providers()[0] != provider:
            raise RuntimeError(
                f"device cuda gives {opened.get_providers()[0]}, not {provider}; "
                "install onnxruntime-gpu with its CUDA libraries, or set device to cpu"
            )
        return opened

    def _provider(self) -> str:
        import onnxruntime as ort

        cuda = "CUDAExecutionProvider"
        if self.device == "cuda" or (
            self.device == "auto" and cuda in ort.get_available_providers()
        ):
            return cuda
        return "CPUExecutionProvider"


AUTO: Final = Placement()


def gpu_address() -> int:
    """The GPU that Spark gave this task; Spark does not set CUDA_VISIBLE_DEVICES."""
    from pyspark import TaskContext

    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task else None
    return int(gpu.addresses[0]) if gpu else 0


def session(
    file: ModelFile,
    *,
    provider: str = "CPUExecutionProvider",
    device_id: int = 0,
    intra_op_threads: int = 1,
    input_shape: Shape | None = None,
) -> "ort.InferenceSession":
    """The process's session of a model, made at the first call.

    Raises:
        ModelMismatch: the file's bytes have another digest.
    """
    key = (file.sha256, provider, device_id, intra_op_threads, input_shape)
    with _lock:
        if key not in _sessions:
            _sessions[key] = _new_session(file, provider, device_id, intra_op_threads, input_shape)
        return _sessions[key]


def _new_session(
    file: ModelFile,
    provider: str,
    device_id: int,
    intra_op_threads: int,
    input_shape: Shape | None,
) -> "ort.InferenceSession":
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1  # the graphs are chains
    options.log_severity_level = 3  # errors only; a fallback shows in get_providers()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared
    chain: list[Any] = ["CPUExecutionProvider"]
    if provider != "CPUExecutionProvider":
        chain.insert(0, (provider, {"device_id": device_id}))
    path = file.verified_path()
    network = path if input_shape is None else _reshaped(path, input_shape)
    # On a CPU with AVX it ends the process where it meets a cast from float16:
    # microsoft/onnxruntime#28392; only convolutions of float32 gain by it.
    disabled = ["NchwcTransformer"] if _has_float16(network) else []
    return ort.InferenceSession(network, options, providers=chain, disabled_optimizers=disabled)


def _has_float16(network: str | bytes) -> bool:
    """Whether any weights are float16; a second of reading for a gigabyte."""
    import onnx  # a worker without networks need not load it

    if isinstance(network, bytes):
        model = onnx.load_from_string(network)
    else:
        model = onnx.load(network, load_external_data=False)
    return any(item.data_type == onnx.TensorProto.FLOAT16 for item in model.graph.initializer)


def _reshaped(path: str, input_shape: Shape) -> bytes:
    """A network of one input with its input's shape replaced, and the shapes that followed."""
    import onnx  # only such networks need it

    model = onnx.load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    (pixels,) = (item for item in model.graph.input if item.name not in weights)
    for dimension, length in zip(pixels.type.tensor_type.shape.dim, input_shape, strict=True):
        if isinstance(length, int):
            dimension.dim_value = length
        else:
            dimension.dim_param = length
    for item in model.graph.output:
        item.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def infer(network: "ort.InferenceSession", feeds: dict[str, np.ndarray], output: str) -> np.ndarray:
    """One output for a batch of any size; see ``infer_all``."""
    return infer_all(network, feeds, [output])[0]


def infer_all(
    network: "ort.InferenceSession", feeds: dict[str, np.ndarray], outputs: Sequence[str]
) -> list[np.ndarray]:
    """Outputs of one run for a batch of any size.

    Inputs are cast to the types that the network declares; a network exported with a fixed
    batch gets chunks of it, the last padded with zeros.

    Args:
        network: an open session.
        feeds: input name -> (n, ...) array.
        outputs: names of the outputs.

    Returns:
        An (n, ...) float32 an output, row-aligned with the feeds.
    """
    declared = {item.name: item for item in network.get_inputs()}
    feeds = {
        name: array.astype(_DTYPES[declared[name].type], copy=False)
        for name, array in feeds.items()
    }
    rows = len(next(iter(feeds.values())))
    fixed = declared[next(iter(feeds))].shape[0]
    step = fixed if isinstance(fixed, int) else rows
    chunks = [
        _run(network, {name: a[start : start + step] for name, a in feeds.items()}, step, outputs)
        for start in range(0, rows, step)
    ]
    return [
        np.concatenate(parts)[:rows].astype(np.float32, copy=False)
        for parts in zip(*chunks, strict=True)
    ]


def _run(
    network: "ort.InferenceSession", feeds: dict[str, np.ndarray], rows: int, outputs: Sequence[str]
) -> list[np.ndarray]:
    padded = {name: _pad(array, rows) for name, array in feeds.items()}
    results: list[np.ndarray] = network.run(list(outputs), padded)
    return results


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    missing = rows - len(array)
    return array if missing == 0 else np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
