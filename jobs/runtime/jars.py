"""Delta's jars: resolved once by coordinates, then taken from a cache without any network."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

import pyspark

from jobs.runtime.errors import EnvironmentProblem

# delta-spark 4.4.0 is the newest with an artifact for Spark 4.1; 4.4.1 has none.
COORDINATES: Final = "io.delta:delta-spark_4.1_2.13:4.4.0"
CARRIED_BY_SPARK: Final = (
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
)


def _locked() -> dict[str, str]:
    """File name -> sha256 of every jar the coordinates stand for."""
    lines = resources.files("jobs.runtime").joinpath("jars.lock").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines if line)}


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "sluice" / "jars" / COORDINATES.replace(":", "_")


def _verify(folder: Path, locked: dict[str, str]) -> list[Path]:
    jars = [folder / name for name in sorted(locked)]
    for jar in jars:
        digest = hashlib.sha256(jar.read_bytes()).hexdigest()
        if digest != locked[jar.name]:
            raise EnvironmentProblem(
                f"{jar} has sha256 {digest}, the lock says {locked[jar.name]}; "
                "remove the file and run again"
            )
    return jars


def delta_jars() -> list[Path]:
    """Local paths of the jars, downloaded through Ivy the first time only.

    Raises:
        EnvironmentProblem: they cannot be resolved, or one differs from the lock.
    """
    locked, cache = _locked(), _cache()
    if not all((cache / name).is_file() for name in locked):
        _resolve(locked, cache)
    return _verify(cache, locked)


def _resolve(locked: dict[str, str], cache: Path) -> None:
    spark_submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
        ivy = Path(scratch) / "ivy"
        command = [str(spark_submit), "--packages", COORDINATES, "--conf", f"spark.jars.ivy={ivy}"]
        settings = os.environ.get("SLUICE_IVY_SETTINGS")  # a mirror, where one is required
        if settings:
            command += ["--conf", f"spark.jars.ivySettings={settings}"]
        # Spark carries these itself; 50 MB that need not be fetched.
        command += ["--exclude-packages", ",".join(CARRIED_BY_SPARK)]
        # A class that exists and ends at once: only the resolution before it is wanted.
        command += ["--class", "org.apache.spark.deploy.SparkSubmit", "spark-internal", "--version"]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        # Ivy names jars organisation_module-revision.jar.
        found = {jar.name: jar for jar in (ivy / "jars").glob("*.jar")}
        missing = sorted(set(locked) - set(found))
        if missing:
            last = (outcome.stderr.strip().splitlines() or ["no output"])[-1]
            raise EnvironmentProblem(
                f"cannot resolve {COORDINATES}: {', '.join(missing)} missing ({last}); "
                "check the network, or set SLUICE_IVY_SETTINGS to Ivy settings of your mirror"
            )
        ready = Path(scratch) / "jars"
        ready.mkdir()
        for name in locked:
            shutil.copy(found[name], ready / name)
        shutil.rmtree(cache, ignore_errors=True)
        ready.rename(cache)
