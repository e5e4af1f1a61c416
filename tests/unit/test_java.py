"""The Java that Spark needs is found, or one line says what to install."""

from pathlib import Path

import pytest

from jobs.runtime.errors import EnvironmentProblem
from jobs.runtime.java import require_java


def fake_java(home: Path, version: str) -> Path:
    """A program that answers as a JVM does."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        "#!/bin/sh\n"
        f"echo '    java.home = {home}' >&2\n"
        f"echo '    java.specification.version = {version}' >&2\n"
    )
    program.chmod(0o755)
    return home


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Set what the machine has: versions under JAVA_HOME and on PATH, or none."""

    def machine(*, java_home=None, on_path=None):
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        if java_home:
            monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "home", java_home)))
        if on_path:
            monkeypatch.setenv("PATH", str(fake_java(tmp_path / "path", on_path) / "bin"))

    return machine


def test_java_home_comes_before_the_path(machine, tmp_path):
    machine(java_home="17", on_path="21")

    assert require_java() == str(tmp_path / "home")


@pytest.mark.parametrize("version", ["17", "21"])
def test_java_on_the_path_is_found_and_gives_its_home(machine, tmp_path, version):
    machine(on_path=version)

    assert require_java() == str(tmp_path / "path")


def test_a_wrong_java_home_does_not_hide_a_right_java_on_the_path(machine, tmp_path):
    machine(java_home="11", on_path="17")

    assert require_java() == str(tmp_path / "path")


def test_a_wrong_java_is_named_with_what_to_install(machine):
    machine(java_home="1.8", on_path="25")

    with pytest.raises(EnvironmentProblem) as caught:
        require_java()

    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("Java got 1.8 at ")
    assert ", 25 at " in message
    assert "needed 17 or 21" in message
    assert "apt-get install openjdk-17-jre-headless" in message


def test_no_java_is_said_in_one_line(machine):
    machine()

    with pytest.raises(EnvironmentProblem, match=r"^Java got none; needed 17 or 21; install"):
        require_java()


def test_a_java_that_does_not_run_is_said_so(machine, monkeypatch, tmp_path):
    machine()
    stub = tmp_path / "stub" / "bin" / "java"
    stub.parent.mkdir(parents=True)
    stub.write_text("#!/bin/sh\necho 'Unable to locate a Java Runtime.' >&2\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))

    with pytest.raises(EnvironmentProblem, match=r"nothing that runs at .*, nothing that runs at"):
        require_java()
