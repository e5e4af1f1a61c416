"""ONNX Runtime sessions, one per process, model and device; and how a batch goes through one."""

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from udfs.model_file import ModelFile, ModelMismatch

if TYPE_CHECKING:  # children that decode import this module, and run no network
    import onnxruntime as ort

__all__ = ["AUTO", "ModelFile", "ModelMismatch", "Placement", "infer", "infer_all", "session"]

log: Final = logging.getLogger("sluice")
CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
# In the environment of workers whose Spark gives GPUs to tasks, or gives them none.
GIVES_GPUS: Final = "SLUICE_SPARK_GIVES_GPUS"
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
        device: auto = the GPU when this runtime and this task have one, else the CPU; cuda = an
            error where they have none.
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
        provider = self.provider()
        if provider == CUDA and (problem := _no_gpu()):
            raise RuntimeError(f"device cuda got no GPU: {problem}, or set device to cpu")
        opened = session(
            file,
            provider=provider,
            device_id=gpu_address() or 0 if provider == CUDA else 0,
            intra_op_threads=self.intra_op_threads,
            input_shape=input_shape,
        )
        if self.device == "cuda" and opened.get_providers()[0] != provider:
            raise RuntimeError(
                f"device cuda got {opened.get_providers()[0]}, not {provider}; see the worker's log"
                " for what the driver said, or set device to cpu"
            )
        return opened

    def provider(self) -> str:
        """What is asked for in this process; ``auto`` may still get the CPU."""
        if self.device == "cuda" or (self.device == "auto" and _no_gpu() is None):
            return CUDA
        return CPU


AUTO: Final = Placement()


def gpu_address() -> int | None:
    """The GPU that Spark gave this task; Spark does not set CUDA_VISIBLE_DEVICES.

    Returns:
        The device's number; 0, the first, where Spark gives GPUs to nobody, as on one machine;
        None for a task that was given none where others may be: any that it took would be theirs.
    """
    from pyspark import TaskContext

    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task else None
    if gpu:
        return int(gpu.addresses[0])
    return None if task and GIVES_GPUS in os.environ else 0


def _no_gpu() -> str | None:
    """Why this process has none, and what to do; None if it has one."""
    import onnxruntime as ort

    if CUDA not in ort.get_available_providers():
        return "this onnxruntime has no CUDA; install the packages of infra/locks/gpu.txt"
    if gpu_address() is None:
        return "Spark gave this task none; set spark.task.resource.gpu.amount"
    return None


def session(
    file: ModelFile,
    *,
    provider: str = CPU,
    device_id: int = 0,
    intra_op_threads: int = 1,
    input_shape: Shape | None = None,
) -> "ort.InferenceSession":
    """The process's session of a model, made at the first call.

    Where another provider cannot run it the CPU does; that is logged, and `get_providers` says it.

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
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared
    path = file.verified_path()
    network = path if input_shape is None else _reshaped(path, input_shape)
    # On a CPU with AVX it ends the process where it meets a cast from float16:
    # microsoft/onnxruntime#28392; only convolutions of float32 gain by it.
    disabled = ["NchwcTransformer"] if _has_float16(network) else []

    def opened(*chain: Any) -> "ort.InferenceSession":
        # Its own fallback forgets what is disabled, and would turn to the CPU amid a run, untold.
        return ort.InferenceSession(
            network,
            options,
            providers=list(chain),
            disabled_optimizers=disabled,
            enable_fallback=False,
        )

    if provider == CPU:
        return opened(CPU)
    ort.preload_dlls()  # CUDA's libraries, where wheels brought them: no path leads there
    try:
        # Not in TF32, CUDA's default for float32: a signal has one version, wherever it ran.
        return opened((provider, {"device_id": device_id, "use_tf32": 0}), CPU)
    except Exception as error:  # whatever a driver without a device says
        log.warning("%s cannot be had, %s runs %s: %s", provider, CPU, path, error)
        return opened(CPU)


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
    if network.get_providers()[0] == CUDA:
        device_id = int(network.get_provider_options()[CUDA]["device_id"])
        return run_bound(network, padded, outputs, device="cuda", device_id=device_id)
    results: list[np.ndarray] = network.run(list(outputs), padded)
    return results


def run_bound(
    network: "ort.InferenceSession",
    feeds: dict[str, np.ndarray],
    outputs: Sequence[str],
    *,
    device: str,
    device_id: int = 0,
) -> list[np.ndarray]:
    """One run with inputs and outputs bound to a device's memory.

    Each input is copied to the device once, before the graph begins, and each output once, after
    it has ended. A plain run leaves both to the graph's own copies.

    Args:
        network: an open session.
        feeds: input name -> array of the declared type and shape.
        outputs: names of the outputs.
        device: cuda, or cpu, where nothing is copied.
        device_id: its number.

    Returns:
        The outputs in host memory, as the network types them.

    Source: ONNX Runtime's documentation, Performance, I/O Binding.
    """
    import onnxruntime as ort

    binding = network.io_binding()
    for name, array in feeds.items():
        value = ort.OrtValue.ortvalue_from_numpy(array, device, device_id)
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        binding.bind_output(name, device, device_id)
    network.run_with_iobinding(binding)
    results: list[np.ndarray] = binding.copy_outputs_to_cpu()
    return results


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    missing = rows - len(array)
    return array if missing == 0 else np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
