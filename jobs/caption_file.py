"""Captions in a file: JSON Lines or Parquet with `clip_id`, `text` and perhaps `language`."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from jobs.captions import Given, Unreadable
from jobs.runtime.errors import ConfigError
from jobs.sources.texts import said

_JSON_LINES: Final = (".jsonl", ".ndjson")
_PARQUET: Final = ".parquet"
_REQUIRED: Final = ("clip_id", "text")
_COLUMNS: Final = (*_REQUIRED, "language")
_MOST_ROW_BYTES: Final = 2**20  # chosen: a thousand times the longest captions of models
_MOST_LANGUAGE_CHARS: Final = 35  # RFC 5646 §4.4.1: what a buffer for language tags should hold
_ROWS: Final = 1_000  # chosen: rows of Parquet held at a time


class CaptionFile:
    """A file of captions; a provider, as `jobs.captions` asks for."""

    def __init__(self, path: Path) -> None:
        """Look whether it can be one.

        Args:
            path: the file; its ending says what it is.

        Raises:
            ConfigError: it is no such file.
        """
        self._path = path
        if not path.is_file() or path.suffix.lower() not in (*_JSON_LINES, _PARQUET):
            raise ConfigError(
                f"captions got {path}; allowed a file in {', '.join((*_JSON_LINES, _PARQUET))};"
                " give another"
            )

    @cached_property
    def provenance(self) -> str:
        """Its name and the sha256 of its bytes, hex."""
        with self._path.open("rb") as file:
            return f"{self._path.name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def captions(self) -> Iterator[Given | Unreadable]:
        """Every row, in order; one that is no caption costs itself.

        Raises:
            ConfigError: a Parquet file that is damaged, or lacks a column.
        """
        is_parquet = self._path.suffix.lower() == _PARQUET
        rows = _parquet(self._path) if is_parquet else _json_lines(self._path)
        for number, row in enumerate(rows, start=1):
            given = row if isinstance(row, str) else _given(row)
            yield Unreadable(f"row {number}", given) if isinstance(given, str) else given


def _json_lines(path: Path) -> Iterator[dict[str, Any] | str]:
    with path.open("rb") as file:
        while line := file.readline(_MOST_ROW_BYTES):
            if len(line) == _MOST_ROW_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(_MOST_ROW_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield f"longer than {_MOST_ROW_BYTES} bytes"
                continue
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"no JSON: {said(error)}"
                continue
            yield row if isinstance(row, dict) else f"a {type(row).__name__}, no object"


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            missing = [name for name in _REQUIRED if name not in names]
            if missing:
                raise ConfigError(
                    f"{path} has no column {', '.join(missing)}; allowed a table with clip_id and"
                    f" text, and perhaps language; there are {', '.join(names) or 'none'}"
                )
            wanted = [name for name in _COLUMNS if name in names]
            for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
                yield from batch.to_pylist()
    except ConfigError:
        raise
    except Exception as error:  # what a damaged file raises, Arrow does not say
        raise ConfigError(f"{path} cannot be read: {said(error)}; give a sound file") from None


def _given(row: dict[str, Any]) -> Given | str:
    """The caption of a row, or why it is none."""
    clip_id, text, language = (row.get(name) for name in _COLUMNS)
    if not isinstance(clip_id, str) or not clip_id:
        return "no clip_id"
    if not isinstance(text, str | None):
        return f"its text is a {type(text).__name__}"
    if not isinstance(language, str | None):
        return f"its language is a {type(language).__name__}"
    if len(text or "") > _MOST_ROW_BYTES:
        return f"its text is longer than {_MOST_ROW_BYTES} characters"
    if len(language or "") > _MOST_LANGUAGE_CHARS:
        return f"its language is longer than {_MOST_LANGUAGE_CHARS} characters"
    try:
        "".join((clip_id, text or "", language or "")).encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return Given(clip_id, text or "", language or None)
