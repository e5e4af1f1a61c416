"""A standalone Spark cluster on this machine that has nothing of the code but the zip."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyspark

from infra import package
from jobs.runtime.jars import delta_jars
from jobs.runtime.java import require_java

_ROOT: Final = Path(__file__).parents[1]
_SPARK_HOME: Final = Path(pyspark.__file__).parent
# The environment's packages without its .pth files: one of them names this repository, and the
# code must come from the zip.
_PYTHON: Final = f"""#!/bin/sh
PYTHONPATH="$PYTHONPATH:{_SPARK_HOME.parent}" exec "{sys.executable}" -S "$@"
"""


@dataclass(frozen=True)
class Cluster:
    """A master and its workers, which run while `started` lasts.

    Attributes:
        url: of the master.
        environment: of all that is submitted.
        archive: the zip.
    """

    url: str
    environment: Mapping[str, str]
    archive: Path

    def submission(
        self, *arguments: str | Path, conf: Mapping[str, str] | None = None
    ) -> list[str]:
        """What to run, in `environment`, for a command of ours.

        Args:
            arguments: as `sluice` takes them.
            conf: settings of Spark.
        """
        settings = [part for pair in (conf or {}).items() for part in ("--conf", "=".join(pair))]
        command = (
            *(_SPARK_HOME / "bin" / "spark-submit", "--master", self.url, *settings),
            *("--jars", ",".join(map(str, delta_jars())), "--py-files", self.archive),
            *(_ROOT / "infra" / "launch.py", *arguments),
        )
        return [str(part) for part in command]


@contextmanager
def started(folder: Path, workers: Sequence[Path], *, cores: int = 1) -> Iterator[Cluster]:
    """A cluster of workers of 1 GB each, and of one GPU each: so they say, there is none.

    Args:
        folder: that exists, for the zip and the Python of the workers.
        workers: the folder of each.
        cores: of each.
    """
    python = folder / "python"
    python.write_text(_PYTHON)
    python.chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "JAVA_HOME": require_java(),
        "SPARK_HOME": str(_SPARK_HOME),
        "PYSPARK_PYTHON": str(python),
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, here = f"spark://127.0.0.1:{port}", ("--host", "127.0.0.1", "--webui-port", "0")
    deploy = "org.apache.spark.deploy"
    with ExitStack() as daemons:
        master = (f"{deploy}.master.Master", *here, "--port", str(port))
        daemons.enter_context(_daemon(environment, *master))
        while not _listens(port):
            time.sleep(0.2)
        for number, worker in enumerate(workers):
            size = ("--cores", str(cores), "--memory", "1g", "--work-dir", str(worker))
            claimed = environment | {"SPARK_WORKER_OPTS": _gpu(folder, number)}
            daemons.enter_context(_daemon(claimed, f"{deploy}.worker.Worker", *here, *size, url))
        yield Cluster(url, environment, package.build(folder / "dist"))


def _gpu(folder: Path, address: int) -> str:
    """Options that make a worker offer a GPU of an address."""
    script = folder / f"gpu-{address}"
    script.write_text(f"""#!/bin/sh\necho '{{"name": "gpu", "addresses": ["{address}"]}}'\n""")
    script.chmod(0o755)
    told = {"amount": "1", "discoveryScript": str(script)}
    return " ".join(f"-Dspark.worker.resource.gpu.{key}={value}" for key, value in told.items())


@contextmanager
def _daemon(environment: Mapping[str, str], *command: str) -> Iterator[None]:
    process = subprocess.Popen(
        [str(_SPARK_HOME / "bin" / "spark-class"), *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
