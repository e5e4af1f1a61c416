"""Models that lie elsewhere: on any filesystem, or in MLflow's registry."""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pyarrow import fs

from jobs.models.card import CARD_FILE
from jobs.runtime import lineage
from jobs.runtime.config import Config
from jobs.runtime.errors import ModelProblem
from jobs.sources.place import filesystem_of

# A number, for an alias may mean another model tomorrow.
_REGISTERED: Final = re.compile(r"models:/([^/@]+)/([0-9]+)")
CACHE: Final = Path("~/.cache/sluice/models")  # XDG Base Directory, $XDG_CACHE_HOME's default


def fetch(config: Config, address: str) -> Path:
    """The local copy of the folder of a model, with its card.

    What was copied before is not copied again: a version of a registered model never changes, and
    elsewhere the card, which is read each time, names the digests of its files.

    Args:
        config: says which registry.
        address: `scheme://…` of a folder, or `models:/name/version`.

    Raises:
        ModelProblem: there is none, or it has no card.
    """
    try:
        return _registered(config, address) if address[:8] == "models:/" else _elsewhere(address)
    except Exception as error:  # each filesystem and the registry have errors of their own
        raise ModelProblem(
            f"model {address} got {type(error).__name__}: {error}; allowed models:/NAME/VERSION,"
            f" or the address of a folder with {CARD_FILE}, which `sluice models add` writes;"
            " correct it"
        ) from error


def _registered(config: Config, address: str) -> Path:
    named = _REGISTERED.fullmatch(address)
    if named is None:
        raise ValueError("no version")
    uri = lineage.tracking_uri(config)

    def download(target: Path) -> str:
        from mlflow.artifacts import download_artifacts

        source = lineage.connected(config).get_model_version_download_uri(named[1], named[2])
        found = download_artifacts(artifact_uri=source, dst_path=str(target), tracking_uri=uri)
        return str(found)

    return _kept(f"{uri} {address}".encode(), download)


def _elsewhere(address: str) -> Path:
    source, folder = filesystem_of(address)
    with source.open_input_file(f"{folder}/{CARD_FILE}") as file:
        card = file.readall()

    def copy(target: Path) -> str:
        fs.copy_files(folder, str(target), source, fs.LocalFileSystem())
        return str(target)

    return _kept(address.encode() + card, copy)


def _kept(known_by: bytes, copy: Callable[[Path], str]) -> Path:
    """The folder that a copy gave below the one it was told, once for all."""
    cache = CACHE.expanduser()
    target = cache / hashlib.sha256(known_by).hexdigest()
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copying-", dir=cache) as scratch:
            aside = Path(scratch) / "model"
            aside.mkdir()
            copied = copy(aside)
            try:
                os.rename(copied, target)
            except OSError:  # another process was quicker
                if not target.is_dir():
                    raise
    return target
