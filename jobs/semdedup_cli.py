"""`sluice semdedup`."""

import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from jobs.options import ConfigOption, Configured, Guard, SetOption, VerboseOption

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

    @app.command("semdedup")
    @guard
    def semdedup_(
        name: Annotated[str, typer.Argument(help="of the table: a-z, 0-9 and _")],
        where: Annotated[
            str | None,
            typer.Option(
                metavar="SQL",
                help="condition on silver.pairs; default: what the recipe has published",
            ),
        ] = None,
        keep: Annotated[
            str,
            typer.Option(help="which of those alike stays: far, middle, best-score or first"),
        ] = "far",
        eps: Annotated[
            float | None,
            typer.Option(help="a row goes where its cosine to another is above 1 - eps [0.06]"),
        ] = None,
        clusters: Annotated[
            int | None, typer.Option(help="of k-means; default: square root of the rows")
        ] = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Score near copies by the embeddings of images, SemDeDup's rule, into gold.semdedup_NAME.

        Rows that go are in the table too, with the cosine for which they go: by another eps, those
        go of which most_similar > 1 - eps.
        """
        from pyspark.sql import functions as F

        from jobs import semdedup, set_name
        from jobs.chosen import chosen, published_unless
        from jobs.runtime.tables import counted
        from schemas import pairs
        from schemas import semdedup as table

        set_name.checked("semdedup", name)
        found = plan(configured(config, overrides), verbose=verbose)
        require_tables(found)
        settings = semdedup.Settings(
            signal_set=found.scoring.signal_set,
            where=published_unless(where, found.warehouse, found.recipe.name),
            keep=keep,  # type: ignore[arg-type]  # checked below
            eps=semdedup.EPS if eps is None else eps,
            clusters=clusters,
        )
        settings.check()
        rows = semdedup.with_embeddings(
            found.warehouse,
            chosen(found.warehouse, pairs.TABLE, settings.signal_set, settings.where),
        )
        is_new = semdedup.run(found.warehouse, name, rows, settings, run_id=uuid.uuid4().hex)
        verb = "wrote" if is_new else "nothing changed:"
        there = counted(
            found.warehouse.read(table.table(name)),
            kept=F.col("is_kept"),
            gone=~F.col("is_kept"),
            unusable=F.col("cell").isNull(),
        )
        out.print(
            f"{verb} {there['kept'] + there['gone']:,} rows in {table.table(name)}:"
            f" {there['kept']:,} are kept, {there['gone']:,} have a near copy before them"
        )
        if there["unusable"]:
            out.print(f"{there['unusable']:,} have no usable embedding, and are kept")
