"""The Java that Spark runs on: found, asked its version, or one line on what to install."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jobs.runtime.errors import EnvironmentProblem

SUPPORTED: Final = ("17", "21")  # Spark 4.1's documentation: "runs on Java 17/21"
INSTALL: Final = (
    "install Java 17: apt-get install openjdk-17-jre-headless (Debian, Ubuntu),"
    " dnf install java-17-openjdk-headless (Fedora), brew install openjdk@17 (macOS)"
)
_ANSWER_TIMEOUT_S: Final = 30  # chosen: a JVM starts in under a second, on a busy disk in a few


def require_java() -> str:
    """The home of a Java that Spark can run on: ``JAVA_HOME``'s, else the first on ``PATH``.

    Raises:
        EnvironmentProblem: there is none; says what was found and what to install.
    """
    found = []
    for java in _candidates():
        home, version = _ask(java)
        if version in SUPPORTED:
            return home
        found.append(f"{version} at {java}")
    raise EnvironmentProblem(
        f"Java got {', '.join(found) or 'none'}; needed {' or '.join(SUPPORTED)}; {INSTALL}"
    )


def _candidates() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"]) / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)


def _ask(java: Path) -> tuple[str, str]:
    """Home and version as the JVM itself gives them: links and stubs say nothing of either."""
    command = [str(java), "-XshowSettings:properties", "-version"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_ANSWER_TIMEOUT_S
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return "", "nothing that runs"
    facts = dict(re.findall(r"^ *(java\.home|java\.specification\.version) = (.+)$", answer, re.M))
    if len(facts) < 2:
        return "", "nothing that runs"
    return facts["java.home"], facts["java.specification.version"]
