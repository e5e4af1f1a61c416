"""`sluice captions add`."""

import uuid
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from jobs.options import ConfigOption, Configured, Guard, Opened, SetOption, VerboseOption

# What a command needs of Spark is imported inside it: `--help` must answer at once.

out: Final = Console()
err: Final = Console(stderr=True)


def add_to(group: typer.Typer, guard: Guard, configured: Configured, opened: Opened) -> None:
    """Put the commands into a group.

    Args:
        group: the group of the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
        opened: the warehouse of a configuration.
    """

    @group.command("add")
    @guard
    def add_(
        file: Annotated[
            Path, typer.Argument(help=".jsonl or .parquet with clip_id, text, perhaps language")
        ],
        annotator: Annotated[
            str, typer.Option(metavar="NAME", help="who made them, e.g. a model and its version")
        ],
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Add captions of clips that were made elsewhere; a file that comes again adds nothing."""
        settings = configured(config, overrides)
        from jobs import captions, score_videos
        from jobs.caption_file import CaptionFile

        given = CaptionFile(file)
        added = captions.add(
            opened(settings, verbose=verbose),
            given,
            annotator=annotator,
            signal_set=score_videos.side(settings).signal_set,
            run_id=uuid.uuid4().hex,
        )
        for outcome, line in captions.told(added).items():
            console = out if outcome in ("added", "known") else err
            console.print(escape(line), soft_wrap=True)
