import subprocess
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs import __main__ as main
from jobs.__main__ import _cell, _chosen, _seconds, app
from jobs.runtime import session
from jobs.runtime.errors import ConfigError
from jobs.runtime.machine import here

runner = CliRunner()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["demo"],
        ["init"],
        ["run"],
        ["plan"],
        ["stage"],
        ["backfill"],
        ["status"],
        ["sql"],
        ["why"],
        ["recipe", "diff"],
        ["recipe", "calibrate"],
        ["report"],
        ["models", "check"],
        ["models", "bench"],
        ["duplicates", "show"],
        ["duplicates", "list"],
        ["duplicates", "rebuild"],
        ["duplicates", "compact"],
        ["bench-items", "add"],
        ["review", "start"],
        ["coreset"],
        ["semdedup"],
    ],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    answered = runner.invoke(app, [*command, "--help"])

    assert answered.exit_code == 0
    assert "Usage" in answered.output


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    answered = runner.invoke(app, ["--version"])

    assert (answered.exit_code, answered.output) == (0, f"sluice {project['version']}\n")


def test_help_answers_without_loading_spark() -> None:
    code = (
        "import sys; from jobs.__main__ import app; "
        "print([m for m in ('pyspark', 'mlflow', 'onnxruntime') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )

    assert said.stdout.strip() == "[]"


def test_a_missing_configuration_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answered = runner.invoke(app, ["run", "--dry-run"])

    assert answered.exit_code == 2
    assert "sluice init" in answered.output


def test_a_wrong_key_names_the_allowed_ones(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("warehouse: w\ndumps: [{name: d, path: p}]\n")
    answered = runner.invoke(app, ["run", str(config), "--dry-run", "--set", "dumpz=1"])

    assert answered.exit_code == 2
    assert "dumps" in answered.output


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "dump").mkdir()
    file = tmp_path / "c.yaml"
    file.write_text("warehouse: w\ndumps: [{name: d, path: dump}]\n")
    return file


def test_a_plan_says_where_what_runs_in_how_much_memory(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "out", Console(width=200))
    asked = [str(config), "--set", "spark.master=local[3]"]
    planned, dry = (
        runner.invoke(app, command) for command in (["plan", *asked], ["run", "--dry-run", *asked])
    )

    assert (planned.exit_code, planned.output) == (0, dry.output)
    assert "this machine, 3 at a time (local[3])" in planned.output
    assert "score_images, score_keyframes" in planned.output
    assert "score_text, score_captions" in planned.output
    assert "pair, pair_clips, dedup, dedup_clips, decontaminate" in planned.output
    image = Path("infra/demo_clip/image.onnx").stat().st_size
    assert f"demo-clip {image:,}" in planned.output
    assert f"memory there: {here().memory_bytes:,} bytes" in planned.output
    assert not (config.parent / "w").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["plan"],
        ["run", "--dry-run"],
        ["run"],
        ["stage", "score_images"],
        ["backfill", "--signals", "nsfw", "--config"],
    ],
)
def test_what_cannot_fit_is_refused_before_spark_starts(
    command: list[str], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "session", _no_session)
    answered = runner.invoke(app, [*command, str(config), "--set", "spark.master=local[9999]"])

    assert answered.exit_code == 2
    assert "9999 at a time" in answered.output
    assert "which are there; set spark.master to fewer cores" in answered.output.replace("\n", " ")
    assert ("score_images" in answered.output) == (command != ["run"])


def _no_session(*_: object, **__: object) -> NoReturn:
    raise AssertionError("Spark was started")


@pytest.mark.parametrize(
    "period",
    [
        "",
        "30",
        "s",
        "-5s",
        "0s",
        "5x",
        "1.2.3s",
        "1e5s",
        "²s",
        "٣s",
        ".5s",
        " 5s",
        "5s\n",
        "99999999d",
    ],
)
def test_a_period_that_is_none_is_refused(period: str) -> None:
    with pytest.raises(ConfigError, match="30s"):
        _seconds("--continuous", period)


@pytest.mark.parametrize(
    ("age", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5_400), ("7d", 604_800)]
)
def test_an_age_is_a_number_and_a_unit(age: str, seconds: float) -> None:
    assert _chosen(None, None, None, age).older_than == timedelta(seconds=seconds)


def test_no_age_is_any_age_and_an_empty_one_is_refused() -> None:
    assert _chosen(None, None, None, None).older_than is None
    with pytest.raises(ConfigError, match="--older-than"):
        _chosen(None, None, None, "")


@pytest.mark.parametrize("arguments", [[], ["--older-than", ""]])
def test_a_retry_without_a_choice_is_refused(arguments: list[str]) -> None:
    answered = runner.invoke(app, ["retry", *arguments])

    assert answered.exit_code == 2
    assert "--older-than" in answered.output


def test_a_cell_is_short_and_printable() -> None:
    assert _cell("a\x1b[31mb\n") == "a [31mb "
    assert _cell(b"\0" * 7) == "<7 bytes>"
    assert len(_cell("x" * 5000)) == 300
