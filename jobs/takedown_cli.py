"""`sluice takedown`."""

import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from jobs.options import ConfigOption, Configured, Guard, Opened, SetOption, VerboseOption
from jobs.runtime.errors import ConfigError

# What a command needs of Spark is imported inside it: `--help` must answer at once.

out: Final = Console()
_STANDARD_INPUT: Final = "-"
_CONFIG_SUFFIXES: Final = (".yaml", ".yml")
_NAMED: Final = 20  # chosen: what fits a screen


def add_to(app: typer.Typer, guard: Guard, configured: Configured, opened: Opened) -> None:
    """Put the command into the command line.

    Args:
        app: the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
        opened: the warehouse of a configuration.
    """

    @app.command("takedown")
    @guard
    def takedown_(
        given: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[CONFIG] [KEY]...",
                help="a YAML file; sample_id, media_sha256, URL, url_sha256. Without a key: finish"
                " what was cut short",
            ),
        ] = None,
        source: Annotated[
            str | None, typer.Option("--from", metavar="FILE", help="one key a line; - reads stdin")
        ] = None,
        reason: Annotated[
            str | None, typer.Option(metavar="TEXT", help="why, for `sluice why`")
        ] = None,
        is_dry: Annotated[
            bool, typer.Option("--dry-run", help="say what would go, change nothing")
        ] = False,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Remove content from all tables and files at once, and turn it away for ever."""
        from jobs.takedown import keys

        words = list(given or ())
        if config is None and words and words[0].endswith(_CONFIG_SUFFIXES):
            config = Path(words.pop(0))
        if source is not None:
            words += _lines(source)
        candidates = {word: keys.candidates(word) for word in words}
        settings = configured(config, overrides)
        warehouse = opened(settings, verbose=verbose)
        from jobs.takedown import found as search
        from jobs.takedown import stage

        open_ones = [key for of_word in candidates.values() if len(of_word) > 1 for key in of_word]
        known = search.known(warehouse, open_ones)
        asked = {keys.chosen(word, among, known) for word, among in candidates.items()}
        if is_dry:
            found = search.find(warehouse, stage.fresh(warehouse, asked))
            _show(found, verb="would go")
            out.print("nothing was done (--dry-run)")
            return
        found = stage.run(warehouse, settings, asked, reason=reason, run_id=uuid.uuid4().hex)
        _show(found, verb="removed")
        out.print(f"{len(asked):,} keys are taken down, and turned away from now on")
        if found.samples:
            out.print(
                "not within reach: dumps, exports, and reports that MLflow keeps of earlier runs;"
                " `sluice run` publishes what stands in their place and writes the report anew"
            )


def _lines(source: str) -> list[str]:
    try:
        text = sys.stdin.read() if source == _STANDARD_INPUT else Path(source).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--from got {source}: {error}; allowed a file of UTF-8, one key a line, or -"
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _show(found: Any, *, verb: str) -> None:
    rows: Counter[str] = Counter()
    for removal in found.removals:
        rows[removal.table] += removal.rows
    for table, count in rows.items():
        out.print(f"{table}: {count:,} rows {verb}")
    for one in found.departed:
        if one.samples:
            out.print(f"{one.kind}: {len(one.samples):,} others are compared again")
    for name in found.references:
        out.print(f"not ours to remove: {escape(name)}", soft_wrap=True)
    for name in found.unknown[:_NAMED]:
        out.print(f"not known here, turned away if it comes: {name}", soft_wrap=True)
    if len(found.unknown) > _NAMED:
        out.print(f"not known here: {len(found.unknown) - _NAMED:,} more")
