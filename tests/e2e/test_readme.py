import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.__main__ import CONFIG_VARIABLE, app
from jobs.runtime import jars

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [
    line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("#")
]
# What other tests run at length; here only their names and options are held to exist.
LONG = {"sluice run sluice.yaml"}


def of(program: str) -> list[str]:
    return [line for line in COMMANDS if line.split()[0] == program]


def sluice(command: str) -> str:
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, f"{command}: {done.output}"
    return done.output


def test_every_command_belongs_to_a_program_that_is_tried_here():
    assert {line.split()[0] for line in COMMANDS} == {"make", "sluice", "spark-submit", "export"}


@pytest.mark.parametrize("command", of("make"))
def test_a_make_target_exists(command):
    target = command.split()[1]
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("command", of("spark-submit"))
def test_the_submitted_files_are_what_the_package_is_called(command):
    words = command.split()
    assert words[words.index("--packages") + 1] == jars.COORDINATES
    package, launcher, *arguments = words[words.index("--py-files") + 1 :]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package == f"dist/{project['name']}-{project['version']}.zip"
    assert (ROOT / launcher).is_file()
    sluice(f"sluice {arguments[0]} --help")


def test_the_commands_about_tables_answer_on_the_demo(demo, monkeypatch):
    monkeypatch.setenv(CONFIG_VARIABLE, str(demo.config_path))
    asked = [line for line in of("sluice") if "sluice.yaml" not in line]
    assert asked
    for command in asked:
        assert sluice(command).strip()


def test_own_data_goes_from_init_to_a_plan(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    about_own_data = [line for line in of("sluice") if "sluice.yaml" in line]
    first, *others = about_own_data
    sluice(first)
    written = Path("sluice.yaml").read_text()
    Path("sluice.yaml").write_text(written.replace("path/to/tars", str(demo.dump)))
    for command in others:
        sluice(f"sluice {command.split()[1]} --help" if command in LONG else command)
    assert set(about_own_data) >= LONG


def test_the_picture_and_every_linked_file_are_in_the_repository():
    linked = re.findall(r"\]\(([^):#]+)\)", README)
    assert linked
    assert [link for link in linked if not (ROOT / link).is_file()] == []
