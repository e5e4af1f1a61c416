"""What an export needs beyond the core."""

import os
from importlib import import_module
from types import ModuleType

from jobs.runtime.errors import EnvironmentProblem

# One switch for all hubs' clients, read when they are imported: a folder is never sent for.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def extra(package: str, *, is_offline: bool = False) -> ModuleType:
    """A package of `infra/locks/export.txt`, imported now.

    Args:
        package: its import name.
        is_offline: have its client of model hubs answer from files alone.

    Raises:
        EnvironmentProblem: it is not installed, or does not load.
    """
    if is_offline:
        os.environ.update(_OFFLINE)
    try:
        return import_module(package)
    except (ImportError, OSError, ValueError) as error:  # torch raises all three
        raise EnvironmentProblem(
            f"package {package} does not load ({error}); an export needs infra/locks/export.txt; "
            "say make .venv-export/.export and use .venv-export/bin/sluice"
        ) from None
