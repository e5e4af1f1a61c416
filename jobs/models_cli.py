"""`sluice models add | list | check | bench | compare | export`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from jobs.options import ConfigOption, Configured, Guard, SetOption
from jobs.runtime.config import Config
from jobs.runtime.errors import ConfigError, ModelProblem, SluiceError

# What a command needs of ONNX is imported inside it: `--help` must answer at once.

out = Console()

StoreOption = Annotated[
    Path | None,
    typer.Option(help="folder of models; default: the first of $SLUICE_MODEL_PATH, or the user's"),
]
DeadlineOption = Annotated[float, typer.Option(help="most seconds that a network may take", min=1)]
JsonOption = Annotated[bool, typer.Option("--json", help="for machines")]


def add_to(group: typer.Typer, guard: Guard, configured: Configured) -> None:
    """Put the commands into a group.

    Args:
        group: the group of the command line.
        guard: turns our errors into one line and their exit code.
        configured: gives the configuration of a file and some overrides.
    """

    @group.command("check")
    @guard
    def check_(
        models: Annotated[
            list[str] | None,
            typer.Argument(metavar="[MODEL | CONFIG]...", help="default: those of --config"),
        ] = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        deadline: DeadlineOption = 300,
        as_json: JsonOption = False,
    ) -> None:
        """Verify digests, load every network, try it: all that can be known before a job."""
        named = [name for name in models or [] if not name.endswith((".yaml", ".yml"))]
        files = [Path(name) for name in models or [] if name not in named]
        if named and not (files or config):
            check(named, deadline_s=deadline, as_json=as_json)
            return
        from jobs.runtime import model_places

        loaded = configured(files[0] if files else config, overrides)
        if files or not named:
            named += loaded.models_in_use().values()
        check(
            named,
            deadline_s=deadline,
            as_json=as_json,
            fetch=partial(model_places.fetch, loaded),
        )

    @group.command("bench")
    @guard
    def bench_(
        models: Annotated[
            list[str] | None,
            typer.Argument(metavar="[MODEL]...", help="default: all that the run asks of an image"),
        ] = None,
        config: ConfigOption = None,
        overrides: SetOption = None,
        images: Annotated[
            Path | None,
            typer.Option(metavar="FOLDER", help="of your images; default: rendered scenes"),
        ] = None,
        seconds: Annotated[float, typer.Option(help="for all that is measured", min=10)] = 120,
        deadline: DeadlineOption = 300,
        busy: Annotated[
            bool, typer.Option("--busy", help="keep what was measured beside other work")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Measure which batch, threads, processes and decoders score images fastest here.

        A run on this machine takes the outcome up: no score depends on it.
        """
        bench(
            configured(config, overrides),
            models or (),
            images=images,
            seconds=seconds,
            deadline_s=deadline,
            may_be_busy=busy,
            as_json=as_json,
        )

    for command in (add, list_models, compare, export):
        name = "list" if command is list_models else command.__name__
        group.command(name)(guard(command))


def add(
    source: Annotated[
        Path, typer.Argument(help="folder, zip or tar of a model; or a head's .safetensors, .npz")
    ],
    name: Annotated[str | None, typer.Option(help="what to call it; default: as SOURCE is")] = None,
    store: StoreOption = None,
    variant: Annotated[str, typer.Option(help="of an export: fp16, quantized, int8, …")] = "",
    clip: Annotated[str | None, typer.Option(help="of a head: the CLIP it belongs to")] = None,
    licence: Annotated[str | None, typer.Option(help="of the weights, for the card")] = None,
    deadline: DeadlineOption = 300,
) -> None:
    """Recognise a model, try it, and copy it with a card into the local store."""
    from jobs.runtime import model_store

    added = model_store.add(
        source,
        name=name,
        store=store,
        variant=variant,
        clip=clip,
        licence=licence,
        deadline_s=deadline,
    )
    verb = "added" if added.is_new else "already there:"
    card = added.card
    out.print(f"{verb} {card.name} ({card.task}, {card.description}) in {added.folder}")
    if card.licence == "not stated":
        out.print("its licence is not stated: write it into model.yaml")


def list_models(as_json: JsonOption = False) -> None:
    """Show every model that a name finds."""
    from jobs.runtime import cards

    rows = []
    for card, name, place in cards.every():
        rows.append(
            {
                "name": name,
                "task": card.task if card else "unreadable",
                "dimension": card.dimension if card else None,
                "licence": card.licence if card else None,
                "where": place,
                "sha256": {r: f.sha256 for r, f in card.files.items()} if card else {},
            }
        )
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        digests: Any = row["sha256"]
        row["sha256"] = " ".join(digest[:12] for digest in digests.values())
        row["licence"] = str(row["licence"]).split(" (")[0]  # of what, the card says
    _show(rows)


def check(
    names: Sequence[str],
    *,
    deadline_s: float,
    as_json: bool,
    fetch: Callable[[str], Path] | None = None,
) -> None:
    """Check models, one line each.

    Args:
        names: of models, their folders or addresses.
        deadline_s: most seconds that a network may take.
        as_json: for machines.
        fetch: gives the local folder of what lies at an address.

    Raises:
        ModelProblem: every problem, a line each.
    """
    from jobs.runtime import model_store

    rows, problems = [], []
    for name in names:
        try:
            card, tried = model_store.check(name, fetch=fetch, deadline_s=deadline_s)
        except (ModelProblem, ConfigError) as error:
            problems.append(str(error))
            continue
        rows += [
            {
                "model": f"{card.name} {role}",
                "task": card.task,
                "dimension": tried.dimension,
                "provider": provider,
                "golden": sum(golden.role == role for golden in card.golden),
            }
            for role, provider in tried.providers.items()
        ]
    if as_json:
        import json

        typer.echo(json.dumps({"models": rows, "problems": problems}, indent=2))
    elif rows:
        _show(rows)
    if problems:
        raise ModelProblem("\n".join(problems))


def bench(
    config: Config,
    names: Sequence[str],
    *,
    images: Path | None,
    seconds: float,
    deadline_s: float,
    may_be_busy: bool,
    as_json: bool,
) -> None:
    """Measure a pass over images, show what was seen, write the profile.

    Args:
        config: says which signals, and where profiles are.
        names: of models, in place of all of the configuration.
        images: a folder of them; null: drawn ones.
        seconds: for all that is measured.
        deadline_s: most seconds that a process may take to start or to answer.
        may_be_busy: the profile is kept whatever else the machine did.
        as_json: for machines.

    Raises:
        ConfigError: profiles are off, or the pass cannot be measured.
        ModelProblem: a model is missing or does not run.
        SluiceError: the machine did other work, so that nothing was kept.
    """
    from jobs.runtime import profiles
    from jobs.tuning import bench as benching

    path = profiles.place(config)
    if path is None:
        raise ConfigError(
            "scoring.profile got null, so that there is no place for one; allowed auto or a path; "
            "--set scoring.profile=auto"
        )
    if path.exists():
        profiles.read(path)  # a file that no run could use is said before the minutes, not after
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("drawing images", total=seconds)

        def said(elapsed_s: float, what: str) -> None:
            progress.update(task, completed=min(elapsed_s, seconds), description=what)

        narrowed = benching.narrowed(config, names)
        found = benching.run(
            narrowed, seconds=seconds, deadline_s=deadline_s, images=images, said=said
        )
    is_kept = may_be_busy or found.others <= benching.MOST_OTHERS
    if is_kept:
        profiles.write(path, found.profile)
    if as_json:
        import json

        typer.echo(json.dumps(_benched(found) | {"file": str(path) if is_kept else None}, indent=2))
    else:
        _show_benched(found, config)
    if not is_kept:
        raise SluiceError(
            f"other work took {found.others:.0%} of the cores; allowed {benching.MOST_OTHERS:.0%}: "
            "no profile was written; measure again when the machine is idle, or say --busy"
        )
    if not as_json:
        out.print(f"wrote {escape(str(path))}", soft_wrap=True)


def _show_benched(found: Any, config: Config) -> None:
    columns = ("batch", "threads", "processes", "decoders", "images/s", "gain", "CPU ms", "MB")
    rows = [
        dict(zip(columns, row.values(), strict=False))
        | {"turns": row["turns"], "": "chosen" if row["is_chosen"] else ""}
        for row in _benched(found)["settings"]
    ]
    _show(rows)
    if found.refused:
        out.print(f"{found.refused:.1%} of the images are refused: only their decoding counts")
    if found.skipped:
        out.print(f"{len(found.skipped)} settings were not looked at: give it more --seconds")
    for problem in found.failed:
        out.print(escape(f"not measured: {problem}"))
    out.print(f"chosen: {found.chosen.setting}: {found.chosen.ratio:.2f} x without a profile")
    if not found.is_taken_up:
        out.print(f"no run on {config.spark.master} takes it up: its workers are other machines")


def _benched(found: Any) -> dict[str, Any]:
    """What `bench` saw as plain values: the profile, and every setting that had its turns."""
    settings = [
        {
            **result.setting.model_dump(),
            "images_per_s": round(result.median("images_per_s"), 1),
            "gain": round(result.ratio, 3),
            "cpu_ms_per_image": round(result.median("cpu_ms_per_image"), 2),
            "memory_mb": round(result.memory_mb),
            "turns": len(result.turns),
            "is_chosen": result is found.chosen,
        }
        for result in found.results
    ]
    return {
        "profile": found.profile.model_dump(mode="json"),
        "images": found.images,
        "refused": found.refused,
        "others": round(found.others, 3),
        "settings": settings,
        "skipped": [setting.model_dump() for setting in found.skipped],
        "failed": found.failed,
    }


def compare(
    a: Annotated[str, typer.Argument(help="the model that is trusted")],
    b: Annotated[str, typer.Argument(help="its variant")],
    folder: Annotated[
        Path | None, typer.Option(help="pictures, each with a .txt; default: rendered scenes")
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="SIGNAL=VALUE", help="where a decision is made; default: A's card"),
    ] = None,
    max_drift: Annotated[
        float | None,
        typer.Option(help="of 1 - cosine or a score, at the worst hundredth; default: 0.02", min=0),
    ] = None,
    max_flips: Annotated[
        float | None, typer.Option(help="share of decisions; default: 0.01", min=0, max=1)
    ] = None,
    deadline: DeadlineOption = 300,
    as_json: JsonOption = False,
) -> None:
    """Show how far a variant drifts and which decisions it turns; refuse one past its bounds."""
    from jobs.models import compare as comparing
    from jobs.runtime import model_store

    found = model_store.compared(
        a, b, examples=folder, thresholds=_thresholds(threshold or ()), deadline_s=deadline
    )
    rows = [drift._asdict() for drift in found]
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=2))
    else:
        _show(rows)
    refused = comparing.beyond(
        found,
        max_drift=comparing.MAX_DRIFT if max_drift is None else max_drift,
        max_flips=comparing.MAX_FLIPS if max_flips is None else max_flips,
    )
    if refused:
        raise ModelProblem(
            f"{b} is no variant of {a}: {'; '.join(refused)}; take another precision, or allow "
            "more with --max-drift and --max-flips"
        )


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="an open_clip name, a checkpoint folder of open_clip or transformers, or a head's "
            "torch file"
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(help="new folder, for models.clip to name; of a head, a new .npz")
    ],
    pretrained: Annotated[
        str | None, typer.Option(help="open_clip's tag of weights, or a checkpoint of that name")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="of weights and arithmetic")
    ] = "fp32",
    licence: Annotated[str, typer.Option(help="of the weights, for the card")] = "not stated",
    seed: Annotated[
        int | None, typer.Option(help="of random weights, to try an export without any")
    ] = None,
    is_verified: Annotated[
        bool, typer.Option("--verify/--no-verify", help="compare with torch, refuse what is off")
    ] = True,
) -> None:
    """Turn a torch checkpoint into a model folder; needs infra/locks/export.txt."""
    from jobs import export as exporting
    from jobs.export import from_pickle

    if Path(model).is_file() and Path(model).suffix in from_pickle.SUFFIXES:
        out.print(f"{from_pickle.write(Path(model), folder)}: wrote {folder}", soft_wrap=True)
        out.print(f"next: sluice models add {folder} --clip MODEL", soft_wrap=True)
        return
    source = exporting.source(model, pretrained=pretrained, seed=seed)
    drift = exporting.write(
        source, folder, precision=precision, licence=licence, is_verified=is_verified
    )
    if drift is None:
        out.print("not compared with torch (--no-verify)")
    else:
        figures = [("image", drift.image, drift.image_centred)]
        figures.append(("text", drift.text, drift.text_centred))
        _show(
            [
                {"least cosine to torch": side, "as it is": f"{a:.6f}", "less the mean": f"{b:.6f}"}
                for side, a, b in figures
            ]
        )
    out.print(f"wrote {folder}: name it as models.clip", soft_wrap=True)


def _thresholds(given: Sequence[str]) -> dict[str, float]:
    found = {}
    for item in given:
        signal, _, value = item.partition("=")
        try:
            found[signal] = float(value)
        except ValueError:
            raise ConfigError(
                f"--threshold got {item}; allowed SIGNAL=VALUE; e.g. clip_score=0.28"
            ) from None
    return found


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, header_style="bold")
    for name in rows[0] if rows else ():
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row.values()))
    out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return " ".join(_cell(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
