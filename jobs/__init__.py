"""One stage per file; every side effect in `jobs.runtime`."""

from typing import Final

VERSION: Final = "0.1.0"  # as pyproject.toml has it, which is not shipped to a cluster
