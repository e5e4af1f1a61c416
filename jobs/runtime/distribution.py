"""Files of models, where the workers find them."""

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import SparkSession

from jobs.runtime import cards
from jobs.runtime.cards import CardFile
from jobs.runtime.errors import ModelProblem
from udfs.model_file import ModelFile, ModelMismatch


def file(described: CardFile, folder: Path, spark: SparkSession | None) -> ModelFile:
    """A model's file, checked here and then sent to the workers' machines, if they are others.

    Args:
        described: what the card says of it.
        folder: what its path is relative to.
        spark: null: it is only read on this machine.

    Raises:
        ModelProblem: it is missing or altered.
    """
    found = cards.model_file(described, folder)
    try:
        path = found.verified_path()
    except FileNotFoundError as error:
        raise ModelProblem(
            f"{error.filename} is not there; build it (CONTRIBUTING.md lists `make minilm` and the"
            " like), or restore it"
        ) from error
    except (ModelMismatch, ModuleNotFoundError, OSError) as error:
        raise ModelProblem(str(error)) from error
    if described.package or spark is None or str(spark.sparkContext.master).startswith("local"):
        return found
    return ModelFile(described.sha256, _distributed(spark, path, described.sha256))


def _distributed(spark: SparkSession, path: str, sha256: str) -> Callable[[], str]:
    """Send a file to the workers' machines once, under a name that only it has."""
    name = f"{sha256[:16]}-{Path(path).name}"
    known: list[str] = spark.sparkContext.listFiles
    if not any(uri.endswith(name) for uri in known):
        copy = Path(tempfile.mkdtemp()) / name
        shutil.copy(path, copy)
        spark.sparkContext.addFile(str(copy))
    return partial(SparkFiles.get, name)
