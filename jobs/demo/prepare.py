"""Put the demo in place: its dump, made once, and its configuration."""

import logging
import shutil
from importlib import resources
from pathlib import Path
from typing import Final

from jobs.demo import dump
from jobs.demo import openclipart as clipart
from jobs.runtime.errors import NotFound

log: Final = logging.getLogger("sluice")

_SHARDS: Final = 16  # chosen: about 500 pairs, 11 MB each


def scenes(folder: Path) -> Path:
    """The rendered dump and its configuration; what lies there already is left as it is.

    Returns:
        Path of the configuration.
    """
    if not (folder / "dump" / "truth.jsonl").is_file():
        shutil.rmtree(folder / "dump", ignore_errors=True)
        log.info("demo: drawing the dump, about half a minute …")
        dump.write(folder / "dump", progress=_said)
    return _configured(folder, "demo.yaml")


def openclipart(folder: Path, source: Path) -> Path:
    """Debian's openclipart as a dump, and its configuration; a dump that is there stays.

    Args:
        folder: where the demo lives.
        source: holds ``svg/`` and ``png/``, as the packages lay them out.

    Returns:
        Path of the configuration.

    Raises:
        NotFound: the source is no openclipart.
    """
    if not (folder / "dump").is_dir():
        unfinished = folder / "dump.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            clipart.write(unfinished, source, shards=_SHARDS, progress=_said)
        except FileNotFoundError as error:
            raise NotFound(str(error)) from None
        unfinished.rename(folder / "dump")
    return _configured(folder, "openclipart.yaml")


def _said(line: str) -> None:
    log.info("demo: %s", line)


def _configured(folder: Path, name: str) -> Path:
    target = folder / "demo.yaml"
    content = (resources.files("jobs.demo") / name).read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        target.write_bytes(content)
    return target
