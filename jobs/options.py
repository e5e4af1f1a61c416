"""What commands have in common: options, and what the command line lends its groups."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from jobs.runtime.config import Config

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override one key")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="show what Spark says")]

Guard = Callable[[Callable[..., None]], Callable[..., None]]
Configured = Callable[[Path | None, Sequence[str] | None], Config]


class Opened(Protocol):
    """Gives the tables of a configuration."""

    def __call__(self, config: Config, *, verbose: bool) -> Any:
        """A `Warehouse`."""
