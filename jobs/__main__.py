"""The command line: `sluice COMMAND`."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from jobs import (
    VERSION,
    benchmarks_cli,
    captions_cli,
    clips_cli,
    coreset_cli,
    duplicates_cli,
    models_cli,
    review_cli,
    semdedup_cli,
    takedown_cli,
)
from jobs.options import SetOption, VerboseOption
from jobs.runtime.config import Config, load
from jobs.runtime.errors import ConfigError, NotFound, SluiceError

# What a command needs of Spark, MLflow or Great Expectations is imported inside it: `--help`
# and a wrong argument must answer at once.

CONFIG_VARIABLE: Final = "SLUICE_CONFIG"
CONFIG_FILE: Final = "sluice.yaml"
DEMO_FOLDER: Final = Path(".demo")
# A statement of which only the tables that it names have to be known.
_ASKS_ROWS: Final = re.compile(r"\s*(SELECT|WITH|FROM|DESCRIBE)\b", re.IGNORECASE)
MAX_PERIOD_S: Final = 36_500 * 86_400.0  # chosen: a century; what adds it to a time still can

EPILOG: Final = (
    "Exit codes: 0 done · 1 failure · 2 configuration or argument · 3 the gate refused, nothing "
    "published · 4 Java or a package missing · 5 another driver holds the checkpoint · 6 model "
    "missing or altered · 7 rows do not add up · 8 not found · 9 too much of a batch went wrong in "
    "one way"
)

app = typer.Typer(
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
recipe_app = typer.Typer(help="Look at recipes.", no_args_is_help=True)
models_app = typer.Typer(help="Look at models.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")
app.add_typer(models_app, name="models")
review_app = typer.Typer(help="Label many rows by reviewing a few.", no_args_is_help=True)
app.add_typer(review_app, name="review")
duplicates_app = typer.Typer(help="Look at duplicates.", no_args_is_help=True)
app.add_typer(duplicates_app, name="duplicates")
clips_app = typer.Typer(help="Work with clips of videos.", no_args_is_help=True)
app.add_typer(clips_app, name="clips")
captions_app = typer.Typer(help="Work with texts of clips.", no_args_is_help=True)
app.add_typer(captions_app, name="captions")
bench_app = typer.Typer(help="Benchmarks that must not be trained on.", no_args_is_help=True)
app.add_typer(bench_app, name="bench-items")

out = Console()
err = Console(stderr=True)

P = ParamSpec("P")
ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help="YAML file; else --config says")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help=f"YAML file; default: ${CONFIG_VARIABLE}, ./{CONFIG_FILE}, the demo's",
    ),
]


def _say_version(is_asked: bool) -> None:
    if is_asked:
        out.print(f"sluice {VERSION}", highlight=False)
        raise typer.Exit


@app.callback()
def sluice(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_say_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Curate dumps of image-text pairs: score once, decide later, forget nothing."""


def _command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn our errors into one line and their exit code."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        _quiet_libraries(is_verbose=bool(kwargs.get("verbose")))
        try:
            function(*args, **kwargs)
        except SluiceError as error:
            err.print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            err.print("stopped; run the same command again to go on where it was")
            raise typer.Exit(130) from None

    return guarded


def _quiet_libraries(*, is_verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if is_verbose else logging.WARNING,
        format="%(message)s",
        handlers=[
            RichHandler(console=err, show_path=False, show_level=False, log_time_format="[%X]")
        ],
    )
    logging.getLogger("sluice").setLevel(logging.INFO)
    for chatty in ("py4j", "mlflow", "alembic", "great_expectations"):
        logging.getLogger(chatty).setLevel(logging.INFO if is_verbose else logging.ERROR)


def _config(given: Path | None, overrides: Sequence[str] | None) -> Config:
    candidates = [
        given,
        Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None,
        Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None,
        DEMO_FOLDER / "demo.yaml" if (DEMO_FOLDER / "demo.yaml").is_file() else None,
    ]
    path = next((candidate for candidate in candidates if candidate), None)
    if path is None:
        raise ConfigError(
            f"no configuration: no --config, no ${CONFIG_VARIABLE}, no ./{CONFIG_FILE}; "
            "write one with `sluice init`, or run `sluice demo` first"
        )
    return load(str(path), overrides or ())


def _plan(config: Config, *, verbose: bool) -> Any:
    with err.status("starting Spark …"):
        from jobs import cycle
        from jobs.runtime.session import session

        return cycle.plan(config, session(config, app="sluice", is_verbose=verbose))


def _require_tables(planned: Any) -> None:
    from schemas import batches

    if not planned.warehouse.exists(batches.TABLE):
        raise NotFound(
            f"no tables in {planned.warehouse.root} yet; run `sluice run` with this configuration"
        )


@app.command()
@_command
def demo(
    folder: Annotated[Path, typer.Option(help="where the demo lives")] = DEMO_FOLDER,
    openclipart: Annotated[
        Path | None, typer.Option(help="folder of Debian's openclipart, in place of the scenes")
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Make a dump with known trouble, run the pipeline on it, show what became of every row."""
    from jobs.demo import prepare

    prepared = prepare.openclipart(folder, openclipart) if openclipart else prepare.scenes(folder)
    planned = _plan(load(str(prepared)), verbose=verbose)
    _run(planned, command="demo")
    _show_next_steps(prepared)


@app.command()
@_command
def init(
    path: Annotated[Path, typer.Argument(help="file to write")] = Path(CONFIG_FILE),
) -> None:
    """Write a commented configuration for your own tars and models."""
    from jobs.init import write_config

    write_config(path)
    out.print(f"wrote {path}: edit the three lines marked EDIT, then `sluice plan {path}`")


@app.command()
@_command
def run(
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="as `sluice plan`: do nothing")
    ] = False,
    continuous: Annotated[
        str | None, typer.Option(metavar="PERIOD", help="repeat the cycle, e.g. every 30s or 5m")
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Run every stage once over what is new, publish through the gate, write the report."""
    loaded = _config(config or config_option, overrides)
    period_s = _seconds("--continuous", continuous) if continuous is not None else None
    if dry_run:
        _show_plan(loaded)
        return
    _require_memory(loaded)
    planned = _plan(loaded, verbose=verbose)
    if period_s is None:
        _run(planned, command="run")
        return
    _repeat(planned, period_s)


@app.command()
@_command
def plan(
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Show what would run where and in how much memory; refuse what cannot fit. Does nothing."""
    _show_plan(_config(config or config_option, overrides))


@app.command()
@_command
def stage(
    name: Annotated[str, typer.Argument(help="ingest, score_images, score_text, pair, …")],
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Run one stage over what it has not seen."""
    from jobs import cycle

    loaded = _config(config or config_option, overrides)
    if name in cycle.STAGE_NAMES:
        _require_memory(loaded, [name])
    cycle.run_alone(_plan(loaded, verbose=verbose), name)


@app.command()
@_command
def backfill(
    signals: Annotated[str, typer.Option("--signals", help="names, e.g. phash,sharpness")],
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Measure signals on all that is stored, where it lacks them; nothing is decided anew."""
    from jobs import cycle

    settings = _config(config_option, overrides)
    names = [name.strip() for name in signals.split(",") if name.strip()]
    _require_memory(*cycle.backfilling(settings, names))
    with err.status("starting Spark …"):
        from jobs.runtime.session import session

        spark = session(settings, app="sluice", is_verbose=verbose)
    with err.status("working …"):
        planned = cycle.backfill(settings, spark, names)
    _show_signal_sets(planned.scoring)


@app.command()
@_command
def status(
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Show tables, versions, rows, what is not processed yet, and the last batches."""
    planned = _plan(_config(config or config_option, overrides), verbose=verbose)
    from jobs import status as look

    found = look.status(planned)
    if as_json:
        typer.echo(look.as_json(found))
        return
    out.print(_table(["table", "version", "rows"], found.tables))
    out.print(_table(["stage", "versions behind"], list(found.behind.items())))
    out.print(_table(["dump", "shards not discovered yet"], list(found.waiting.items())))
    if found.clips:
        out.print(_table(["recipe of clips", "outcome", "clips"], found.clips))
    columns = ["stage", "batch_id", "rows_in", "rows_kept", "rows_rejected", "rows_quarantined"]
    columns += ["rows_reused", "duration_s", "started_at"]
    out.print(_table(columns, [[batch[name] for name in columns] for batch in found.last]))


@app.command()
@_command
def sql(
    query: Annotated[str, typer.Argument(help='e.g. "SELECT * FROM gold.default LIMIT 5"')],
    config_option: ConfigOption = None,
    rows: Annotated[int, typer.Option(help="most rows to show")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="one object a line")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Ask the tables by their names, such as bronze.samples or gold.default."""
    from pyspark.errors import PySparkException

    planned = _plan(_config(config_option, None), verbose=verbose)
    _require_tables(planned)
    from jobs.runtime import sql_functions

    # What lists tables names none.
    planned.warehouse.register(*((query,) if _ASKS_ROWS.match(query) else ()))
    spark = planned.warehouse.spark
    sql_functions.register(spark, planned.scoring)
    try:
        found = spark.sql(query)
        fetched = found.limit(rows + 1).collect() if found.columns else []
    except PySparkException as error:
        raise ConfigError(str(error).split("\n\nJVM stacktrace")[0]) from None
    if as_json:
        import json

        for row in fetched[:rows]:
            typer.echo(json.dumps(row.asDict(recursive=True), default=str))
        return
    out.print(_table(found.columns, [list(row) for row in fetched[:rows]]))
    if len(fetched) > rows:
        err.print(f"the first {rows} rows; --rows shows more")


@app.command()
@_command
def why(
    key: Annotated[
        str, typer.Argument(help="id of a sample, clip or refusal, url, member, sha256")
    ],
    config_option: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Tell a row's story: its bytes, every score and model, and why it is where it is."""
    from jobs import why as stories

    planned = _plan(_config(config_option, None), verbose=verbose)
    _require_tables(planned)
    found = stories.explain(planned.warehouse, key)
    if as_json:
        import json

        typer.echo(json.dumps([story.__dict__ for story in found], default=str, indent=2))
        return
    for story in found:
        tree = Tree(f"[bold]{escape(story.subject)}[/]  {escape(story.fate)}")
        for table, row in story.steps:
            branch = tree.add(f"[bold]{table}[/]")
            for name, value in row.items():
                if value is not None:
                    branch.add(f"{name}: {escape(_cell(value))}")
        out.print(tree, soft_wrap=True)


ClassOption = Annotated[
    str | None, typer.Option("--class", metavar="CLASS", help="of error, see `sluice quarantine`")
]
DumpOption = Annotated[str | None, typer.Option("--dump", help="name of a dump")]
HostOption = Annotated[str | None, typer.Option("--host", help="of the URL")]
OlderOption = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="e.g. 90s, 15m, 6h or 7d")
]


@app.command()
@_command
def quarantine(
    error_class: ClassOption = None,
    dump: DumpOption = None,
    host: HostOption = None,
    older_than: OlderOption = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one object a line")] = False,
    verbose: VerboseOption = False,
) -> None:
    """List what could not be judged, by class, stage, dump and host."""
    warehouse = _warehouse(_config(config_option, overrides), verbose=verbose)
    from jobs import retry as chances
    from schemas.error_classes import ERROR_CLASSES

    chosen = _chosen(error_class, dump, host, older_than)
    found = [row.asDict() for row in chances.backlog(warehouse, chosen).collect()]
    if as_json:
        import json

        for row in found:
            typer.echo(json.dumps(row, default=str))
        return
    columns = [*chances.BACKLOG, "inputs", "oldest"]
    out.print(_table(columns, [[_cell(row[name]) for name in columns] for row in found]))
    for name in sorted({row["error_class"] for row in found}):
        out.print(f"{name}: {ERROR_CLASSES.get(name, 'not known to this version')}")


@app.command()
@_command
def retry(
    error_class: ClassOption = None,
    dump: DumpOption = None,
    host: HostOption = None,
    older_than: OlderOption = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="count, send nothing back")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Send quarantined inputs back to where they were refused; the next run takes them up."""
    if not (error_class or dump or host or older_than):
        raise ConfigError("retry got no choice; allowed --class, --dump, --host or --older-than")
    settings = _config(config_option, overrides)
    warehouse = _warehouse(settings, verbose=verbose)
    import uuid

    from jobs import retry as chances

    chosen = _chosen(error_class, dump, host, older_than)
    if is_dry:
        inputs = sum(row.inputs for row in chances.backlog(warehouse, chosen).collect())
        out.print(f"{inputs:,} inputs would be sent back; nothing was done (--dry-run)")
        return
    counts = chances.retry(warehouse, settings, chosen, run_id=uuid.uuid4().hex)
    for stage_name, inputs in sorted(counts.items()):
        out.print(f"{inputs:,} inputs sent back to {stage_name}; `sluice run` takes them up")


def _chosen(
    error_class: str | None, dump: str | None, host: str | None, older_than: str | None
) -> Any:
    from jobs.retry import Chosen

    return Chosen(
        error_class=error_class,
        dump=dump,
        host=host,
        older_than=(
            timedelta(seconds=_seconds("--older-than", older_than))
            if older_than is not None
            else None
        ),
    )


def _warehouse(config: Config, *, verbose: bool) -> Any:
    """The tables alone: no model is opened."""
    with err.status("starting Spark …"):
        from jobs.runtime.session import session
        from jobs.runtime.tables import Warehouse
        from schemas import batches

        found = Warehouse(session(config, app="sluice", is_verbose=verbose), config.warehouse)
    if not found.exists(batches.TABLE):
        raise NotFound(f"no tables in {found.root} yet; run `sluice run` with this configuration")
    return found


@recipe_app.command("diff")
@_command
def recipe_diff(
    after: Annotated[str | None, typer.Argument(help="recipe to compare with")] = None,
    config_option: ConfigOption = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="e.g. recipe.overrides.nsfw.below=0.3"),
    ] = None,
    clips: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="compare the recipe of clips so named"),
    ] = None,
    rows: Annotated[int, typer.Option(help="most rows to name")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="every row, for machines")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Name the rows that another recipe or threshold would move, and why; no model runs."""
    before = _config(config_option, None)
    named = "recipe.name={}" if clips is None else "video.recipes=[{}]"
    changed = [*([named.format(after)] if after else []), *(overrides or [])]
    compared = _config(config_option, changed)
    planned = _plan(before, verbose=verbose)
    _require_tables(planned)
    from jobs import cycle, recipe_diff

    if clips is None:
        resolved = cycle.resolve_recipe(compared, planned.scoring)
        judged, first = planned.pairs, planned.recipe
        other = cycle.against_benchmarks(resolved, planned.warehouse)
    else:
        among = cycle.resolve_clip_recipes(compared, planned.scoring)
        judged, first = planned.clips, cycle.recipe_named(clips, planned.clip_recipes)
        other = among[0] if after else cycle.recipe_named(clips, among)
    moved = recipe_diff.diff(planned.warehouse, judged, first, other).localCheckpoint()
    ordered = moved.orderBy("movement", "sample_id")
    if as_json:
        import json

        for row in ordered.toLocalIterator():
            typer.echo(json.dumps(row.asDict(recursive=True), default=str))
        return
    counted = recipe_diff.summary(moved)
    out.print(_table(["movement", "reason", "samples"], [list(row.values()) for row in counted]))
    shown = [[_cell(value) for value in row] for row in ordered.limit(rows).collect()]
    out.print(_table(list(recipe_diff.COLUMNS), shown))
    out.print(f"{moved.count()} samples move; `sluice run --set …` applies it, no model runs")


@recipe_app.command("calibrate")
@_command
def recipe_calibrate(
    signal: Annotated[str, typer.Argument(help="numeric, of pairs")] = "clip_score",
    keep: Annotated[
        float | None, typer.Option(help="share of each language that stays [0.1]")
    ] = None,
    levels: Annotated[
        int | None, typer.Option(help="of alignment, of as many rows each [8]")
    ] = None,
    least_rows: Annotated[
        int | None, typer.Option(help="of a language that has a bound of its own [1000]", min=1)
    ] = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Show from which value on each language keeps a share, and levels, as a recipe takes them."""
    planned = _plan(_config(config_option, overrides), verbose=verbose)
    _require_tables(planned)
    import yaml

    from jobs import calibrate, curate
    from jobs.levels import ALIGNMENTS
    from jobs.runtime import strict_yaml

    keep = calibrate.KEEP if keep is None else keep
    levels = calibrate.LEVELS if levels is None else levels
    least_rows = calibrate.LEAST_ROWS if least_rows is None else least_rows
    numbers = planned.pairs.vocabulary.numbers
    if signal not in numbers:
        raise ConfigError(strict_yaml.unknown("signal", signal, numbers))
    candidates = curate.all_candidates(planned.warehouse, planned.pairs)
    candidates = candidates.select("language", signal).localCheckpoint()
    groups = calibrate.bounds(candidates, signal, keep, least_rows)
    shown = [[g.language or "others", g.rows, f">= {g.least:.6g}"] for g in groups]
    out.print(_table(["language", "rows", f"{signal} of the best {keep:.4g}"], shown))
    languages = [group.language for group in groups if group.language is not None]
    edges = calibrate.edges(candidates, signal, levels, languages)
    rises = ", ".join(f"{edge:.6g}" for edge in edges[None])
    out.print(f"{levels} levels of as many rows each begin at: the least, {rises}")
    asked: dict[str, dict[str, object]] = {}
    for rule in planned.recipe.rules:
        if rule.signal == signal and rule.min is not None:
            asked.setdefault("overrides", {}).update(calibrate.overrides(rule.name, groups))
    if not asked:
        out.print(f"no rule of the recipe {planned.recipe.name} has a min of {signal}")
    merged = calibrate.merged(edges)
    if signal in ALIGNMENTS and not merged:
        asked["levels"] = calibrate.levels(signal, edges)
    elif signal in ALIGNMENTS:
        out.print(
            f"--levels got {levels}, of which some begin at one value ({', '.join(merged)}):"
            " too few rows, or too many alike; ask for fewer, or raise --least-rows"
        )
    if asked:
        # Leaves in one line each; not wrapped, so that it can be pasted.
        text = yaml.safe_dump({"recipe": asked}, sort_keys=False, default_flow_style=None)
        out.print(text.rstrip(), markup=False, soft_wrap=True)


@app.command()
@_command
def report(
    config: ConfigArgument = None,
    config_option: ConfigOption = None,
    overrides: SetOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Write the report of the tables as they are."""
    planned = _plan(_config(config or config_option, overrides), verbose=verbose)
    _require_tables(planned)
    from jobs import cycle

    out.print(f"report: {cycle.report_again(planned)}")


models_cli.add_to(models_app, _command, _config)
benchmarks_cli.add_to(bench_app, _command, _config)
duplicates_cli.add_to(duplicates_app, _command, _config, _warehouse, _plan)
clips_cli.add_to(clips_app, _command, _config, _warehouse)
captions_cli.add_to(captions_app, _command, _config, _warehouse)
review_cli.add_to(review_app, _command, _config, _plan, _require_tables)
takedown_cli.add_to(app, _command, _config, _warehouse)
coreset_cli.add_to(app, _command, _config, _plan, _require_tables)
semdedup_cli.add_to(app, _command, _config, _plan, _require_tables)


def _repeat(planned: Any, period_s: float) -> None:
    """Repeat the cycle until Ctrl-C, which lets the cycle in hand end; a second one does not."""
    from jobs import cycle

    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, stop)
    out.print(f"repeating every {period_s:g} s; Ctrl-C ends it after the cycle in hand")
    cycle.repeat(planned, every_s=period_s, command="run", until=stopping.is_set)
    raise KeyboardInterrupt


def _run(planned: Any, *, command: str) -> None:
    from jobs import cycle
    from jobs.runtime.errors import GateFailed

    page = planned.report_folder / "index.html"
    try:
        with err.status("working …"):
            cycle.run(planned, command=command)
    except GateFailed:
        err.print(f"the report says why: {page}", soft_wrap=True)
        raise
    _show_funnel(planned)
    out.print(f"\nreport: {page}", soft_wrap=True)


def _show_funnel(planned: Any) -> None:
    from jobs import report

    answers = report.stored(planned.report_folder, planned.recipe)
    funnel = answers["funnel"].rows[0]
    table = Table("", "rows", title=f"recipe {planned.recipe.name} {planned.recipe.version}")
    table.columns[1].justify = "right"
    table.add_row("entries met in the dump", f"{funnel['met']:,}")
    for row in answers["quarantine"].rows:
        table.add_row(f"  quarantined  {row['error_class']}", f"-{row['inputs']:,}")
    for row in answers["first_reasons"].rows:
        table.add_row(f"  rejected     {row['reason']}", f"-{row['samples']:,}")
    if funnel["videos"]:
        table.add_row("videos, judged by their clips", f"-{funnel['videos']:,}")
    table.add_row("kept", f"{funnel['kept']:,}")
    table.add_row(f"[bold]in gold.{planned.recipe.name}[/]", f"[bold]{funnel['gold']:,}[/]")
    out.print(table)
    if "clip_outcomes" in answers:
        outcomes = [list(row.values()) for row in answers["clip_outcomes"].rows]
        out.print(_table(["recipe of clips", "outcome", "clips"], outcomes))
    demonstrations = [card.name for card in planned.scoring.cards if card.is_demonstration]
    if demonstrations:
        out.print(
            f"{', '.join(demonstrations)} is a demonstration model: bring your own, `sluice init`"
        )


def _show_next_steps(config: Path) -> None:
    option = "" if config.parent == DEMO_FOLDER else f" --config {config}"
    out.print("try next:")
    query = "SELECT caption, clip_score FROM gold.default ORDER BY clip_score LIMIT 5"
    for line in (
        f'sluice sql "{query}"{option}',
        f"sluice why 000001{option}",
        f"sluice recipe diff --set recipe.overrides.alignment.min=0.6{option}",
        f"sluice status{option}",
    ):
        out.print(f"  {escape(line)}", soft_wrap=True)


def _show_plan(config: Config) -> None:
    from jobs import cycle, score_videos
    from jobs import plan as plans
    from jobs.recipe import asks_for_benchmarks
    from jobs.runtime import dumps, models

    scoring = models.scoring(config)
    recipe = cycle.resolve_recipe(config, scoring)
    out.print(f"warehouse {config.warehouse}", soft_wrap=True)
    for dump in config.dumps:
        count, size_bytes = 0, 0
        for file in dumps.found(dump):
            count, size_bytes = count + 1, size_bytes + file.size_bytes
        out.print(
            f"dump {dump.name}: {count:,} shards, {size_bytes / 1e6:,.1f} MB in {dump.path}",
            soft_wrap=True,
        )
    _show_signal_sets(scoring)
    note = "no profile; `sluice models bench` measures how images are scored fastest here"
    out.print(escape(scoring.images.note or note), soft_wrap=True)
    videos = score_videos.side(config).signal_set
    out.print(f"video signal set {videos}: clips by {config.video.cut_by}")
    for card in scoring.cards:
        note = " (demonstration)" if card.is_demonstration else ""
        out.print(f"model {card.name}{note}: {card.task}, {card.licence}")
    # Without Spark nobody knows what is registered.
    note = "; another by the benchmarks registered" if asks_for_benchmarks(recipe) else ""
    for found in (recipe, *cycle.resolve_clip_recipes(config, scoring)):
        out.print(f"recipe {found.name} {found.version}{note if found is recipe else ''}")
        out.print(
            _table(
                ["rule", "reason", "signal", "kept when", "missing"],
                [[r.name, r.reason, r.signal, r.threshold, r.missing] for r in found.rules],
            )
        )
        if found.levels is not None:
            out.print(f"levels begin at: {found.levels.asked}")
    planned, at = plans.resolved(config)
    _show_memory(planned, at)
    out.print("nothing was done: this is a plan")
    plans.require(planned, at)


def _require_memory(config: Config, stages: Collection[str] | None = None) -> None:
    """Refuse stages, or a whole cycle, that this place has too little memory for."""
    from jobs import plan as plans

    plans.require(*plans.resolved(config, stages))


def _show_memory(planned: Sequence[Any], at: Any) -> None:
    """Where stages run, their networks, and the memory that they take; stages alike in one row."""
    from jobs.memory import Bytes, of_task

    rows = []
    for (models, task), alike in groupby(planned, key=lambda stage: (stage.models, stage.task)):
        stages = list(alike)
        named = [f"{model.name} {model.network.file_bytes:,}" for model in models]
        where = f" on {stages[0].provider.removesuffix('ExecutionProvider')}" if named else ""
        amounts = (
            of_task(task) if task else Bytes(),
            stages[0].on(at, at.tasks) if at.tasks else None,
        )
        rows.append(
            [
                ", ".join(stage.name for stage in stages),
                ", ".join(named) + where,
                *(f"{a.expected:,} to {a.at_most:,}" if a else "not known" for a in amounts),
            ]
        )
    out.print(f"where: {escape(at.name)}", soft_wrap=True)
    columns = ["stages", "networks, bytes", "a task, bytes", "with all tasks, bytes"]
    out.print(_table(columns, rows))
    room = "not known" if at.room_bytes is None else f"{at.room_bytes:,} bytes"
    out.print(f"memory there: {room}")
    out.print("what is expected, to what there could be with every process at its limit at once")


def _show_signal_sets(scoring: Any) -> None:
    for name, side in (("image", scoring.images), ("text", scoring.texts)):
        out.print(f"{name} signal set {side.signal_set}: {', '.join(side.signals)}")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    return table


def _cell(value: object) -> str:
    """A value on a terminal: short, printable, bytes only counted."""
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= 300 else f"{text[:299]}…"


def _seconds(option: str, period: str) -> float:
    """A period in seconds.

    >>> _seconds("--continuous", "5m")
    300.0
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?[smhd]", period):
        seconds = float(period[:-1]) * units[period[-1]]
        if 0 < seconds <= MAX_PERIOD_S:
            return seconds
    raise ConfigError(
        f"{option} got {period}; allowed a number and s, m, h or d, e.g. 30s; more than 0s and"
        f" no more than {MAX_PERIOD_S / units['d']:.0f}d"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; the process exits with its code."""
    app(args=list(sys.argv[1:] if argv is None else argv), prog_name="sluice")


if __name__ == "__main__":
    main()
