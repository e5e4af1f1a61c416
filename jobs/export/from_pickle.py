"""The published weights of a head from their torch file, under their own names."""

from pathlib import Path

import numpy as np

from jobs.export.extra import extra
from jobs.models import heads
from jobs.runtime.errors import ConfigError, ModelProblem

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")


def write(path: Path, target: Path) -> str:
    """Write a head's weights as `.npz`, which `sluice models add` takes in.

    The file is read as numbers alone: what else a pickle would run is refused.

    Args:
        path: the published file.
        target: a new `.npz`.

    Returns:
        What the head is.

    Raises:
        ConfigError: the target exists, is no `.npz` or cannot be written.
        ModelProblem: no torch file of tensors alone, or of no published head.
    """
    if target.suffix != ".npz" or target.exists():
        raise ConfigError(f"export got {target}; allowed a new .npz for the weights of a head")
    torch = extra("torch")
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
        named = read.get("state_dict", read)  # as training loops save it
        weights = {str(name): value.detach().double().numpy() for name, value in named.items()}
    except Exception as error:  # the library raises a dozen types
        raise ModelProblem(
            f"{path} got no torch file of named tensors: {str(error).splitlines()[0]}; "
            "give the published file of the head"
        ) from error
    title = heads.published(weights, str(path)).title
    try:
        with target.open("xb") as file:
            np.savez(file, **weights)
    except OSError as error:
        raise ConfigError(
            f"export got {target}: {error.strerror}; allowed a folder that you can write to"
        ) from error
    return title
