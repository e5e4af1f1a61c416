"""Which run did what, with which code, models and table versions: recorded in MLflow.

The ledger (`ops.batches`) is what counts and MLflow is fed from it, so nothing here can stop the
data: a tracking server that is down or slow costs a warning and a bounded wait.
"""

import json
import logging
import os
import re
import subprocess
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from jobs.recipe import Recipe
from jobs.runtime.config import Config, digest

if TYPE_CHECKING:  # importing it takes 2 s: only the process that records pays them
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric

log: Final = logging.getLogger("sluice")

DEADLINE_S: Final = 30.0  # chosen: 6x a first start (5 s with MLflow's migrations, measured)
METRICS_PER_CALL: Final = 1000  # MLflow's limit on one log_batch
COUNTS: Final = ("rows_in", "rows_kept", "rows_rejected", "rows_quarantined", "rows_reused")
ROOT: Final = Path(__file__).parents[2]
# MLflow's own defaults retry for minutes; what the user has set stays.
_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

T = TypeVar("T")
Outcome = Literal["finished", "failed", "gate_failed"]


@dataclass(frozen=True)
class Run:
    """One cycle; its id is in every row and commit that the cycle writes.

    Attributes:
        run_id: 32 hex digits: MLflow's id, or our own where MLflow could not be reached.
        is_tracked: MLflow knows the run.
    """

    run_id: str
    is_tracked: bool


def start(config: Config, *, command: str) -> Run:
    """Open the cycle's run; never fails, and takes at most `DEADLINE_S`."""

    def create() -> str:
        client = connected(config)
        tags = {"mlflow.runName": f"sluice {command}", "sluice.command": command, **_revision()}
        return str(client.create_run(_experiment(client, config), tags=tags).info.run_id)

    run_id = _attempt(create, "this run is not tracked")
    return Run(run_id or uuid.uuid4().hex, is_tracked=run_id is not None)


def record(
    run: Run,
    config: Config,
    *,
    batches: Sequence[Mapping[str, Any]],
    reasons: Mapping[str, int],
    quarantined: Mapping[str, int],
    models: Mapping[str, str],
    recipe: Recipe,
    artifacts: Sequence[Path],
    outcome: Outcome,
    clip_recipes: Sequence[Recipe] = (),
) -> None:
    """Close the cycle's run with everything known of it; never fails.

    Args:
        run: what `start` gave; one that is not tracked is left alone.
        config: the configuration of the cycle.
        batches: rows of `ops.batches` that carry this run's id.
        reasons: reason -> samples rejected for it first.
        quarantined: error class -> inputs.
        models: name -> sha256.
        recipe: the recipe that decided.
        artifacts: files to keep with the run.
        outcome: how the cycle ended.
        clip_recipes: the recipes that decided on clips.
    """

    def write() -> None:
        client = connected(config)
        params = {
            "config": digest(config),
            "recipe": recipe.name,
            "recipe_version": recipe.version,
            **{f"recipe_version.{each.name}": each.version for each in clip_recipes},
        }
        for stage, done in _by_stage(batches).items():
            _record_stage(client, run, config, stage, done, params)
        metrics = {f"rejected.{reason}": count for reason, count in reasons.items()}
        metrics |= {f"quarantined.{name}": count for name, count in quarantined.items()}
        tags = {f"model.{name}.sha256": value for name, value in models.items()}
        tags |= {"sluice.outcome": outcome, **_version_tags(batches)}
        _log(client, run.run_id, params, tags, [_metric(k, v) for k, v in metrics.items()])
        client.log_text(
            run.run_id, _without_logins(config.model_dump_json(indent=2)), "config.json"
        )
        client.log_dict(run.run_id, _told(recipe), "recipe.json")
        for each in clip_recipes:
            client.log_dict(run.run_id, _told(each), f"recipe.{each.name}.json")
        for artifact in artifacts:
            client.log_artifact(run.run_id, str(artifact))
        client.set_terminated(run.run_id, "FINISHED" if outcome == "finished" else "FAILED")

    if run.is_tracked:
        _attempt(write, f"run {run.run_id} is not tracked to its end")


def _told(recipe: Recipe) -> dict[str, Any]:
    rules = [rule.model_dump(mode="json", exclude_none=True) for rule in recipe.rules]
    told: dict[str, Any] = {"name": recipe.name, "rules": rules}
    if recipe.levels is not None:
        told["levels"] = recipe.levels.model_dump(mode="json", exclude_none=True)
    return told


def tracking_uri(config: Config) -> str:
    """Where runs are recorded: as configured, else an SQLite file in the warehouse.

    Raises:
        ValueError: nothing is configured and the warehouse is no local folder.
    """
    if config.lineage.tracking_uri:
        return config.lineage.tracking_uri
    return f"sqlite:///{_folder(config)}/mlflow.db"


def _folder(config: Config) -> Path:
    if "://" in config.warehouse:
        raise ValueError(
            f"warehouse {config.warehouse} is no local folder, SQLite needs one; "
            "set lineage.tracking_uri to a server"
        )
    return Path(config.warehouse).absolute() / "_lineage"


def connected(config: Config) -> "MlflowClient":
    """MLflow, where the configuration says; its database is made where it is ours."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri(config)
    if not config.lineage.tracking_uri:
        # Fails at once where it cannot be made; SQLAlchemy would retry for minutes.
        _folder(config).mkdir(parents=True, exist_ok=True)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)  # its migrations are no news
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return mlflow.MlflowClient(tracking_uri=uri)


def _experiment(client: "MlflowClient", config: Config) -> str:
    name = config.lineage.experiment
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    if config.lineage.tracking_uri:
        return str(client.create_experiment(name))
    artifacts = _folder(config) / "artifacts"
    return str(client.create_experiment(name, artifact_location=artifacts.as_uri()))


def _record_stage(
    client: "MlflowClient",
    parent: Run,
    config: Config,
    stage: str,
    batches: Sequence[Mapping[str, Any]],
    params: Mapping[str, str],
) -> None:
    """One child run: totals of the stage's batches, and each batch as a step."""
    tags = {
        "mlflow.parentRunId": parent.run_id,
        "mlflow.runName": stage,
        **_revision(),
        **_version_tags(batches),
    }
    started_ms = int(min(b["started_at"].timestamp() for b in batches) * 1000)
    child = client.create_run(_experiment(client, config), start_time=started_ms, tags=tags)
    duration_s = sum(b["duration_s"] for b in batches)
    totals = {name: sum(b[name] for b in batches) for name in COUNTS}
    totals["rows_per_s"] = totals["rows_in"] / duration_s if duration_s else 0.0
    metrics = [
        _metric(f"batch.{name}", b[name], step=b["batch_id"])
        for b in batches
        for name in (*COUNTS, "duration_s")
    ]
    metrics += [_metric(name, value) for name, value in totals.items()]
    _log(client, child.info.run_id, {**params, "stage": stage}, {}, metrics)
    client.log_inputs(child.info.run_id, _datasets(config, batches))
    client.set_terminated(child.info.run_id, end_time=started_ms + int(duration_s * 1000))


def _by_stage(
    batches: Iterable[Mapping[str, Any]],
) -> dict[str, list[Mapping[str, Any]]]:
    grouped = defaultdict(list)
    for batch in sorted(batches, key=lambda b: b["started_at"]):
        grouped[batch["stage"]].append(batch)
    return grouped


def _versions(batches: Iterable[Mapping[str, Any]], side: str) -> dict[str, int]:
    """The newest version of each table on one side, `input` or `output`."""
    newest: dict[str, int] = {}
    for batch in batches:
        for table, version in batch[f"{side}_versions"].items():
            newest[table] = max(version, newest.get(table, 0))
    return newest


def _version_tags(batches: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"{side}.{table}.version": str(version)
        for side in ("input", "output")
        for table, version in _versions(batches, side).items()
    }


def _datasets(config: Config, batches: Sequence[Mapping[str, Any]]) -> list["DatasetInput"]:
    """The tables a stage read, as MLflow shows datasets.

    Written out instead of through `mlflow.data`, whose Delta source drops version 0 and whose
    digest may scan the table.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for table, version in _versions(batches, "input").items():
        path = f"{config.warehouse}/{table.replace('.', '/')}"
        source = json.dumps({"path": path, "delta_table_version": version})
        identity = sha256(source.encode()).hexdigest()[:16]  # a (table, version) names its rows
        dataset = Dataset(name=table, digest=identity, source_type="delta_table", source=source)
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", "input")]))
    return inputs


def _metric(name: str, value: float, *, step: int = 0) -> "Metric":
    from mlflow.entities import Metric

    return Metric(name, float(value), timestamp=int(time.time() * 1000), step=step)


def _log(
    client: "MlflowClient",
    run_id: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    metrics: Sequence["Metric"],
) -> None:
    from mlflow.entities import Param, RunTag

    client.log_batch(
        run_id,
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    for first in range(0, len(metrics), METRICS_PER_CALL):
        client.log_batch(run_id, metrics=metrics[first : first + METRICS_PER_CALL])


def _revision() -> dict[str, str]:
    """Tags that name the code; none where it does not lie in a git checkout of its own."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {}
    is_dirty = bool(_git("status", "--porcelain"))
    return {"git.commit": commit, "git.dirty": str(is_dirty).lower()}


def _git(*arguments: str) -> str | None:
    # The ceiling keeps git from finding a checkout that merely surrounds an unpacked release.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(ROOT.parent)}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,  # chosen: a cold status of a large checkout
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _without_logins(text: str) -> str:
    """The text with the login taken out of every URI.

    >>> _without_logins("http://ann:secret@host:5000/")
    'http://<login>@host:5000/'
    """
    return re.sub(r"://[^/@\s\"']+@", "://<login>@", text)


def _attempt(work: Callable[[], T], consequence: str) -> T | None:
    """Do the work on a thread that is left behind after `DEADLINE_S`; None, warned, if it failed.

    A thread, since MLflow waits out a dead database with retries that nothing can shorten.
    """
    results: list[T] = []
    problems: list[BaseException] = []

    def attempt() -> None:
        try:
            results.append(work())
        except BaseException as problem:  # the caller reports it, not the thread's own hook
            problems.append(problem)

    thread = threading.Thread(target=attempt, name="lineage", daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    if results:
        return results[0]
    problem = problems[0] if problems else TimeoutError(f"no answer in {DEADLINE_S:g} s")
    detail = " ".join(_without_logins(str(problem)).split())[:300]
    log.warning("MLflow: %s (%s); %s", type(problem).__name__, detail, consequence)
    return None
