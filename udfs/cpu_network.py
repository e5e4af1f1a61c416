"""Small networks that a child process runs beside its decoder."""

from typing import TYPE_CHECKING

from udfs.model_file import ModelFile

if TYPE_CHECKING:
    import onnxruntime as ort


def cpu_network(model: ModelFile) -> "ort.InferenceSession":
    """The process's session of a model on the CPU, in one thread, made at the first call.

    One thread and no GPU: such a network is asked for a moment at a time, one after the other, and
    the tasks beside this one have the other cores.

    Raises:
        ModelMismatch: the file is not the one described.
    """
    # Not above: the child is a fork of a nursery, which must have one thread, and importing the
    # runtime starts another.
    from udfs.onnx_session import Placement

    return Placement(device="cpu", intra_op_threads=1).open(model)
