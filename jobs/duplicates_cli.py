"""`sluice duplicates show | list | rebuild | compact`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.options import ConfigOption, Configured, Guard, Opened, SetOption, VerboseOption
from jobs.runtime.errors import ConfigError

if TYPE_CHECKING:
    from jobs.duplicate_clusters import Cluster
    from jobs.runtime.compaction import Compacted

# What a command needs of Spark is imported inside it: `--help` must answer at once.

MOST: Final = 1000  # chosen: 20 MB of page, and of texts on the driver; for more there is SQL

out = Console()


KindOption = Annotated[
    str | None, typer.Option(help="only this kind: exact_media, url, phash, minhash, …")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one object a line")]


def add_to(
    group: typer.Typer, guard: Guard, configured: Configured, opened: Opened, planned: Opened
) -> None:
    """Put the commands into a group.

    Args:
        group: the group of the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
        opened: gives the tables of a configuration.
        planned: gives the plan of a configuration.
    """

    @group.command()
    @guard
    def show(
        sample_id: Annotated[str, typer.Argument(help="as `sluice sql` and `sluice why` name it")],
        kind: KindOption = None,
        html: Annotated[
            Path | None,
            typer.Option(help="page to write; default: _report/duplicates in the warehouse"),
        ] = None,
        limit: Annotated[
            int, typer.Option(help="most samples of a cluster", min=2, max=MOST)
        ] = 200,
        is_unblurred: Annotated[
            bool, typer.Option("--unblurred", help="show images that may not be safe")
        ] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        """Show what a sample was found to be a duplicate of, and what of it, kind by kind."""
        settings = configured(config, None)
        warehouse = opened(settings, verbose=verbose)
        from jobs import duplicate_clusters
        from jobs.report import cluster_page

        found = duplicate_clusters.clusters_of(warehouse, sample_id, kind=kind, limit=limit)
        page = html or Path(warehouse.root) / "_report" / "duplicates" / f"{sample_id}.html"
        try:
            cluster_page.write(
                warehouse,
                sample_id,
                found,
                page,
                max_pixels=settings.ingest.max_pixels,
                is_unblurred=is_unblurred,
            )
        except OSError as error:
            raise ConfigError(
                f"--html got {page}: {error.strerror or error}; name a file that can be written"
            ) from None
        if as_json:
            import json
            from dataclasses import asdict

            for cluster in found:
                typer.echo(json.dumps(asdict(cluster)))
            return
        for cluster in found:
            out.print(_members(cluster, sample_id))
        out.print(f"page: {page}", soft_wrap=True)

    @group.command("list")
    @guard
    def list_(
        kind: KindOption = None,
        min_size: Annotated[int, typer.Option(help="samples at least", min=1)] = 2,
        limit: Annotated[int, typer.Option(help="most clusters", min=1, max=MOST)] = 20,
        config: ConfigOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        """Name the largest clusters, each by its survivor, for `show`."""
        warehouse = opened(configured(config, None), verbose=verbose)
        from jobs import duplicate_clusters

        rows = duplicate_clusters.largest(warehouse, kind=kind, min_size=min_size, limit=limit)
        if as_json:
            import json

            for row in rows:
                typer.echo(json.dumps(row))
            return
        if not rows:
            out.print(f"no cluster of {min_size} samples or more")
            return
        out.print(_clusters(rows))

    @group.command()
    @guard
    def rebuild(
        kinds: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[KIND]...",
                help="phash, crop, minhash, semantic, boilerplate, video; none: all",
            ),
        ] = None,
        is_dry: Annotated[
            bool, typer.Option("--dry-run", help="say what would be emptied, change nothing")
        ] = False,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Find duplicates anew by the rules that are set: no signal is computed again."""
        from jobs.dedup import rebuild as anew

        asked = anew.chosen(kinds or ())
        settings = configured(config, overrides)
        if is_dry:
            for emptied in anew.look(opened(settings, verbose=verbose), asked):
                out.print(f"{emptied.table}: {emptied.rows:,} rows would be found anew")
            out.print("nothing was done (--dry-run)")
            return
        plan = planned(settings, verbose=verbose)
        from jobs import cycle

        changed = cycle.rebuild(plan, asked)
        out.print(f"{changed:,} verdicts came out otherwise; `sluice run` decides by them")

    @group.command()
    @guard
    def compact(
        is_dry: Annotated[
            bool, typer.Option("--dry-run", help="say what would be merged, change nothing")
        ] = False,
        config: ConfigOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        """Merge small files of the tables that a search asks; each cycle does, where it is due."""
        warehouse = opened(configured(config, None), verbose=verbose)
        from jobs.runtime import compaction

        found = compaction.due(warehouse) if is_dry else compaction.compact(warehouse)
        if as_json:
            import json
            from dataclasses import asdict

            for merged in found:
                typer.echo(json.dumps(asdict(merged)))
            return
        for merged in found:
            out.print(
                f"{merged.table}: {merged.merged:,} of {merged.files:,} files"
                f" {'would become' if is_dry else 'became'} {merged.into:,},"
                f" {merged.rows:,} rows, {_bytes(merged)}",
                soft_wrap=True,
            )
        if not found:
            out.print("no table has enough small files to merge")


def _bytes(merged: "Compacted") -> str:
    said = f"{merged.bytes_before:,} bytes"
    return said if merged.bytes_after is None else f"{said} -> {merged.bytes_after:,}"


def _members(cluster: "Cluster", asked: str) -> Table:
    from jobs.report.cluster_page import similarity
    from jobs.report.contact_sheet import excerpt

    title = f"{cluster.kind}: cluster {cluster.cluster_id}, {cluster.samples:,} samples"
    if cluster.samples == 1:
        title = f"{cluster.kind}: unique"
    elif cluster.samples > len(cluster.members):
        title += f", {len(cluster.members)} shown"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("similarity", justify="right")
    table.add_column("sample", overflow="fold")
    table.add_column("gave way to", overflow="fold")
    table.add_column("text")
    for member in cluster.members:
        name = escape(member.sample_id)
        text = "no longer stored" if member.text is None else excerpt(member.text)
        table.add_row(
            similarity(member.similarity) if member.is_duplicate else "survivor",
            f"[bold]{name}[/]" if member.sample_id == asked else name,
            escape(member.representative_id) if member.is_duplicate else "",
            escape(text),
        )
    return table


def _clusters(rows: Sequence[dict[str, Any]]) -> Table:
    from jobs.report.cluster_page import similarity

    table = Table()
    for name in rows[0]:
        table.add_column(
            name.replace("_", " "),
            justify="left" if name in ("kind", "sample_id") else "right",
            overflow="fold",
        )
    for row in rows:
        *first, least = row.values()
        cells = [f"{value:,}" if isinstance(value, int) else str(value) for value in first]
        table.add_row(*map(escape, cells), similarity(least))
    return table
