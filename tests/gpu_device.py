"""Whether this machine has a GPU that networks can run on, and what it is doing."""

import contextlib
import statistics
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import Final

import onnxruntime

from udfs.onnx_session import CUDA

_SMI: Final = "nvidia-smi"
_UTILISATION: Final = (
    *(_SMI, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"),
    *("--loop-ms=200", "--id=0"),  # chosen: NVML's own window is 1/6 to 1 s
)


def missing() -> str | None:
    """Why there is none; None if there is."""
    if CUDA not in onnxruntime.get_available_providers():
        return f"this onnxruntime has no {CUDA}; install the packages of infra/locks/gpu.txt"
    try:
        listed = subprocess.run([_SMI, "--list-gpus"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no NVIDIA device answers: {error}"
    return None if listed.stdout.strip() else "nvidia-smi lists no device"


def described() -> str:
    """Name, memory and driver of the first."""
    fields = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader", "--id=0")
    return subprocess.run(
        [_SMI, *fields], capture_output=True, text=True, check=True
    ).stdout.strip()


class Utilisation:
    """Samples of how busy the device was, in percent: the share of time that a kernel ran."""

    def __init__(self) -> None:
        self.samples: list[float] = []

    @property
    def mean(self) -> float | None:
        """Of all samples; None without any."""
        return round(statistics.mean(self.samples), 1) if self.samples else None


@contextlib.contextmanager
def utilisation(command: Sequence[str] = _UTILISATION) -> Iterator[Utilisation]:
    """Sample the first device meanwhile.

    Args:
        command: prints a number a line, until it is ended.
    """
    told = Utilisation()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            for line in process.stdout or ():
                with contextlib.suppress(ValueError):  # "[N/A]", as of a device in parts
                    told.samples.append(float(line))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield told
        finally:
            process.terminate()
            reader.join()
