"""`sluice bench-items add | list | remove | report`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.options import ConfigOption, Configured, Guard, SetOption, VerboseOption
from jobs.runtime.config import Config
from jobs.runtime.errors import SluiceError

# What a command needs of Spark or ONNX is imported inside it: `--help` must answer at once.

out = Console()
err = Console(stderr=True)

NAMED: Final = 20  # chosen: refused items that a terminal shows
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="of the benchmark")]
JsonOption = Annotated[bool, typer.Option("--json", help="for machines")]


def add_to(group: typer.Typer, guard: Guard, configured: Configured) -> None:
    """Put the commands into a group.

    Args:
        group: the group of the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
    """

    @group.command("add")
    @guard
    def add_(
        name: NameArgument,
        path: Annotated[
            Path, typer.Argument(help="table (.jsonl, .csv, .tsv, .parquet) or folder of images")
        ],
        id_column: Annotated[str | None, typer.Option(help="default: id, key, …")] = None,
        text_column: Annotated[
            str | None, typer.Option(help="default: text, caption, question, …")
        ] = None,
        image_column: Annotated[
            str | None, typer.Option(help="of paths or bytes; default: image, file_name, …")
        ] = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Register a benchmark's items; what is there already stays as it is."""
        given = {"item_id": id_column, "text": text_column, "image": image_column}
        columns = {role: column for role, column in given.items() if column is not None}
        add(configured(config, overrides), name, path, columns, is_verbose=verbose)

    @group.command("list")
    @guard
    def list_(
        config: ConfigOption = None,
        overrides: SetOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        """Show the registered benchmarks."""
        settings = configured(config, overrides)
        from jobs import benchmark_registry

        found = benchmark_registry.listed(
            _warehouse(settings, is_verbose=verbose), _model(settings)
        )
        _show(found, as_json=as_json)

    @group.command("remove")
    @guard
    def remove_(
        name: NameArgument,
        config: ConfigOption = None,
        overrides: SetOption = None,
        verbose: VerboseOption = False,
    ) -> None:
        """Take a benchmark out of the registry; what samples met of it no longer counts."""
        settings = configured(config, overrides)
        from jobs import benchmark_registry

        items = benchmark_registry.remove(_warehouse(settings, is_verbose=verbose), name)
        out.print(f"removed {items:,} items of {name}; `sluice run` decides without them")

    @group.command("report")
    @guard
    def report_(
        html: Annotated[Path | None, typer.Option(help="page to write")] = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        as_json: JsonOption = False,
        verbose: VerboseOption = False,
    ) -> None:
        """Show, for each benchmark, how many items and samples met, by method."""
        settings = configured(config, overrides)
        from jobs import benchmark_registry

        found = benchmark_registry.report(
            _warehouse(settings, is_verbose=verbose), _model(settings)
        )
        _show(found, as_json=as_json)
        if html is not None:
            html.write_text(page(found), encoding="utf-8")
            err.print(f"wrote {html}", soft_wrap=True)


def add(
    config: Config, name: str, path: Path, columns: Mapping[str, str], *, is_verbose: bool
) -> None:
    """Register items and say what became of them.

    Raises:
        SluiceError: some were refused; the others are registered.
    """
    import uuid

    from jobs import benchmark_registry, benchmark_source

    measure = benchmark_registry.side(config)
    warehouse = _warehouse(config, is_verbose=is_verbose)
    with err.status("measuring …"):
        added = benchmark_registry.add(
            warehouse,
            name,
            benchmark_source.items(path, columns),
            measure=measure,
            max_bytes=config.ingest.max_member_bytes,
            run_id=uuid.uuid4().hex,
        )
    out.print(
        f"{name}: {added.added:,} items added, {added.refreshed:,} measured again by another"
        f" network, {added.known:,} already there"
    )
    if added.short:
        out.print(f"{added.short:,} texts of under 8 words: only equal texts are found")
    if added.flat:
        out.print(f"{added.flat:,} images of hardly any detail: their perceptual hash is left out")
    if added.refused:
        for item, why in added.refused[:NAMED]:
            err.print(f"refused {escape(item)}: {escape(why)}", soft_wrap=True)
        raise SluiceError(
            f"{len(added.refused):,} items of {name} were refused, none may be; mend them and add"
            " again: what is there stays"
        )


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The report as a page that needs no other file.

    >>> "<td>a&lt;b</td>" in page([{"benchmark": "a<b"}])
    True
    """
    from jinja2 import Environment

    template = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Benchmarks</title>'
        "<style>body{font:16px sans-serif;margin:2em}td,th{padding:.3em 1em;text-align:right}"
        "td:first-child,th:first-child{text-align:left}tr{border-bottom:1px solid #ccc}</style>"
        "<h1>What the samples share with benchmarks</h1>"
        "{% if rows %}<table><tr>{% for name in rows[0] %}<th>{{ name }}</th>{% endfor %}</tr>"
        "{% for row in rows %}<tr>{% for value in row.values() %}<td>{{ value }}</td>{% endfor %}"
        "</tr>{% endfor %}</table>{% else %}<p>Nothing is registered.</p>{% endif %}</html>"
    )
    return Environment(autoescape=True).from_string(template).render(rows=rows)


def _warehouse(config: Config, *, is_verbose: bool) -> Any:
    """The tables alone; a benchmark may be registered before the first run."""
    with err.status("starting Spark …"):
        from jobs.runtime.session import session
        from jobs.runtime.tables import Warehouse

        return Warehouse(session(config, app="sluice", is_verbose=is_verbose), config.warehouse)


def _model(config: Config) -> str | None:
    from jobs import benchmark_registry

    return benchmark_registry.side(config).models.get("clip_model")


def _show(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps(list(rows), default=str, indent=2))
        return
    if not rows:
        out.print("nothing is registered; `sluice bench-items add NAME PATH`")
        return
    table = Table(box=None, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    out.print(table)
