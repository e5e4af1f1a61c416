"""`sluice review start | apply | report`."""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from jobs.options import ConfigOption, Configured, Guard, SetOption, VerboseOption

# What a command needs of Spark is imported inside it: `--help` must answer at once.

out: Final = Console()

Planned = Callable[..., Any]
NameArgument = Annotated[str, typer.Argument(help="of the review: a-z, 0-9 and _")]


def add_to(
    group: typer.Typer,
    guard: Guard,
    configured: Configured,
    plan: Planned,
    require_tables: Callable[[Any], None],
) -> None:
    """Put the commands into a group.

    Args:
        group: the group of the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
        plan: starts Spark and resolves a configuration.
        require_tables: refuses a warehouse that nothing was run in.
    """

    def planned(config: Path | None, overrides: Sequence[str] | None, *, verbose: bool) -> Any:
        found = plan(configured(config, overrides), verbose=verbose)
        require_tables(found)
        return found

    @group.command("start")
    @guard
    def start_(
        name: NameArgument,
        where: Annotated[
            str | None,
            typer.Option(metavar="SQL", help="condition on silver.pairs, e.g. 'clip_score > 0.2'"),
        ] = None,
        radius: Annotated[
            float, typer.Option(help="least cosine to the row whose label is taken over")
        ] = 0.9,
        max_reviews: Annotated[
            int | None,
            typer.Option(help="most representatives; default: rows / 500, 100 to 2,000"),
        ] = None,
        clusters: Annotated[
            int | None, typer.Option(help="of k-means; default: square root of the rows")
        ] = None,
        audit_share: Annotated[
            float, typer.Option(help="of the propagated labels that are reviewed too; 0: none")
        ] = 0.005,
        folder: Annotated[Path, typer.Option(help="where the lists are written")] = Path("reviews"),
        unblurred: Annotated[
            bool, typer.Option("--unblurred", help="show what may not be safe to see")
        ] = False,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Choose what to look at; write it as a CSV to fill in, and as contact sheets."""
        from jobs import review, review_lists, set_name, themes
        from jobs.chosen import chosen
        from schemas import pairs

        set_name.checked("review", name)
        found = planned(config, overrides, verbose=verbose)
        settings = review.Settings(
            signal_set=found.scoring.signal_set,
            where=where,
            radius=radius,
            clusters=clusters,
            max_reviews=max_reviews,
            audit_share=audit_share,
        )
        settings.check()
        rows = themes.with_embeddings(
            found.warehouse,
            chosen(found.warehouse, pairs.TABLE, settings.signal_set, settings.where),
        )
        is_new = review.start(found.warehouse, name, rows, settings, run_id=uuid.uuid4().hex)
        asked = review.asked(found.warehouse, name)
        path = folder / f"{name}.csv"
        review_lists.write_csv(asked, path)
        sheets = review_lists.write_sheets(
            found.warehouse,
            asked,
            folder,
            name=name,
            recipe=found.recipe,
            max_pixels=found.config.scoring.max_pixels,
            is_blurring=not unblurred,
        )
        if not is_new:
            out.print(f"review {name} was started before; its lists are written again")
        _show(review.report(found.warehouse, name))
        out.print(f"{len(asked):,} rows to label: {path}, shown in {sheets[0]}", soft_wrap=True)
        out.print(f"next: sluice review apply {name} {path}", soft_wrap=True)

    @group.command("apply")
    @guard
    def apply_(
        name: NameArgument,
        labels: Annotated[Path, typer.Argument(metavar="LABELS.csv", help="the list, filled in")],
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Take the labels of what was asked, and propagate them to what lies near."""
        from jobs import review, review_lists

        given = review_lists.read_csv(labels)
        found = planned(config, overrides, verbose=verbose)
        changed = review.apply(found.warehouse, name, given, run_id=uuid.uuid4().hex)
        out.print(f"{changed:,} labels changed" if changed else "nothing changed")
        _show(review.report(found.warehouse, name))

    @group.command("report")
    @guard
    def report_(
        name: NameArgument,
        as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Show reviews, rows, how many a review stands for, and how often it is wrong."""
        from jobs import review

        found = planned(config, overrides, verbose=verbose)
        told = review.report(found.warehouse, name)
        if as_json:
            typer.echo(json.dumps(jsonable(told), indent=2))
            return
        _show(told)


def jsonable(told: Any) -> dict[str, Any]:
    """A report as JSON has it: the rates as objects."""
    return {
        **asdict(told),
        "error": told.error and told.error._asdict(),
        "error_by_label": {label: r._asdict() for label, r in told.error_by_label.items()},
    }


def _show(told: Any) -> None:
    from jobs.review import percent

    out.print(
        f"{told.rows:,} rows: {told.representatives:,} representatives stand for"
        f" {told.members:,} others; {told.uncovered:,} are near to none, {told.unplaced:,} have no"
        " usable embeddings",
        soft_wrap=True,
    )
    out.print(
        f"a representative stands for {told.factor:,.1f} rows; with the audit of"
        f" {told.audits:,} a review stands for {told.factor_with_audit:,.1f}",
        soft_wrap=True,
    )
    for label, count in told.labels.items():
        out.print(f"  {escape(label)}: {count:,}")
    if told.error is None:
        return
    out.print(f"propagated labels, {percent(told.error)}")
    for label, rate in told.error_by_label.items():
        out.print(f"  {escape(label)}: {percent(rate)}", soft_wrap=True)
