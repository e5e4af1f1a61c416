"""The configuration that a user starts from: every key, its default and a comment."""

from importlib import resources
from pathlib import Path

from jobs.runtime.errors import ConfigError


def write_config(path: Path) -> None:
    """Write the commented configuration to a new file.

    Raises:
        ConfigError: the file is there already, or its folder is not.
    """
    content = (resources.files("jobs") / "init.yaml").read_bytes()
    try:
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(
            f"init got {path}: {error.strerror}; allowed a new file in a folder you can write to"
        ) from error
