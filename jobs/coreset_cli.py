"""`sluice coreset`."""

import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from jobs.options import ConfigOption, Configured, Guard, SetOption, VerboseOption
from jobs.runtime.errors import ConfigError

# What a command needs of Spark is imported inside it: `--help` must answer at once.

out: Final = Console()


def add_to(
    app: typer.Typer,
    guard: Guard,
    configured: Configured,
    plan: Callable[..., Any],
    require_tables: Callable[[Any], None],
) -> None:
    """Put the command into the command line.

    Args:
        app: the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
        plan: starts Spark and resolves a configuration.
        require_tables: refuses a warehouse that nothing was run in.
    """

    @app.command("coreset")
    @guard
    def coreset_(
        name: Annotated[str, typer.Argument(help="of the coreset: a-z, 0-9 and _")],
        budget: Annotated[int, typer.Option(help="rows, exactly")],
        where: Annotated[
            str | None,
            typer.Option(
                metavar="SQL",
                help="condition on silver.pairs; default: what the recipe has published",
            ),
        ] = None,
        quota: Annotated[
            str, typer.Option(help="of a cluster: proportional, sqrt or uniform")
        ] = "sqrt",
        rule: Annotated[
            str, typer.Option(help="which come first in a cluster: middle, near, far or score")
        ] = "middle",
        band: Annotated[
            str | None,
            typer.Option(
                metavar="LOW-HIGH",
                help="percent of a cluster by falling score that come first; default: 15-55 with"
                " the rule score, else none",
            ),
        ] = None,
        clusters: Annotated[
            int | None, typer.Option(help="of k-means; default: square root of the rows")
        ] = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Choose a few rows of each cluster of the embeddings into gold.coreset_NAME."""
        from jobs import coreset, set_name, themes
        from jobs.chosen import chosen, published_unless
        from schemas import coreset as table
        from schemas import pairs

        set_name.checked("coreset", name)
        shares = _shares(band) if band is not None else None
        if band is None and rule == "score":
            shares = coreset.BAND
        found = plan(configured(config, overrides), verbose=verbose)
        require_tables(found)
        settings = coreset.Settings(
            budget=budget,
            signal_set=found.scoring.signal_set,
            where=published_unless(where, found.warehouse, found.recipe.name),
            quota=quota,  # type: ignore[arg-type]  # checked below
            rule=rule,  # type: ignore[arg-type]
            band=shares,
            clusters=clusters,
        )
        settings.check()
        rows = themes.with_embeddings(
            found.warehouse,
            chosen(found.warehouse, pairs.TABLE, settings.signal_set, settings.where),
        )
        is_new = coreset.run(found.warehouse, name, rows, settings, run_id=uuid.uuid4().hex)
        verb = "wrote" if is_new else "nothing changed:"
        out.print(f"{verb} {budget:,} rows in {table.table(name)}")


def _shares(band: str) -> tuple[float, float]:
    """A band in shares.

    >>> _shares("15-55")
    (0.15, 0.55)
    """
    low, _, high = band.partition("-")
    try:
        return float(low) / 100, float(high) / 100
    except ValueError:
        raise ConfigError(
            f"--band got {band}; allowed two rising percentages, e.g. 15-55"
        ) from None
