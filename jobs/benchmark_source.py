"""The items of a benchmark as people hold them: a table of texts and images, or a folder."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq

from jobs.runtime.errors import ConfigError
from jobs.sources.members import CAPTION_KINDS, IMAGE_KINDS
from jobs.sources.texts import said

# Names that benchmarks give to the columns of each role; of several that are there, the first.
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "item_id": ("item_id", "id", "key", "uid", "question_id"),
    "text": ("text", "caption", "question", "prompt"),
    "image": ("image", "image_path", "file_name", "path"),
}
_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
_JSON_LINES: Final = (".jsonl", ".ndjson")
_PARQUET: Final = ".parquet"
TABLES: Final = (*_JSON_LINES, *_DELIMITERS, _PARQUET)
_ROWS: Final = 64  # chosen: rows of Parquet held at a time; they may hold images


@dataclass(frozen=True, kw_only=True)
class Given:
    """An item as it was given.

    Attributes:
        item_id: its own id; else the row's number from 0, or the image's path in the folder.
        text: null: it has none.
        image: the file, or its bytes; null: it has none.
    """

    item_id: str
    text: str | None = None
    image: Path | bytes | None = None


class Refused(NamedTuple):
    """An item that cannot be taken, and why."""

    item_id: str
    why: str


def items(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[Given | Refused]:
    """Every item of a table or folder, in its order; one that cannot be read costs itself.

    Args:
        path: a folder of images, captions beside them in files of the same stem; or a table, by
            its ending one of `TABLES`. A table's images are paths, relative to it, or bytes.
        columns: role (`item_id`, `text`, `image`) -> name of its column; a role that is not there
            is found by the names that benchmarks use.

    Raises:
        ConfigError: there is no such thing, or no column holds a text or an image.
    """
    if path.is_dir():
        yield from _of_folder(path)
        return
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in TABLES:
        raise ConfigError(
            f"{path} is no folder and no table; allowed a folder of images, or a file in"
            f" {', '.join(TABLES)}"
        )
    if suffix in _JSON_LINES:
        rows = _json_lines(path)
    elif suffix == _PARQUET:
        rows = _parquet(path)
    else:
        rows = _delimited(path, _DELIMITERS[suffix])
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if isinstance(row, str):
            yield Refused(f"row {number}", row)
            continue
        names |= dict.fromkeys(row)
        yield _item(row, _roles(row, columns or {}), number, path.parent)
    _refuse_useless(path, list(names), columns or {})


def _of_folder(folder: Path) -> Iterator[Given | Refused]:
    for file in sorted(folder.rglob("*")):
        if file.suffix[1:].lower() not in IMAGE_KINDS or not file.is_file():
            continue
        name = file.relative_to(folder).as_posix()
        sides = (file.with_suffix(f".{kind}") for kind in CAPTION_KINDS)
        side = next((side for side in sides if side.is_file()), None)
        try:
            text = None if side is None else side.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            yield Refused(name, f"its caption cannot be read: {said(error)}")
            continue
        yield Given(item_id=name, text=text, image=file)


def _json_lines(path: Path) -> Iterator[dict[str, Any] | str]:
    with path.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"no JSON: {said(error)}"
                continue
            yield row if isinstance(row, dict) else f"a {type(row).__name__}, no object"


def _delimited(path: Path, delimiter: str) -> Iterator[dict[str, Any] | str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        # Strict: else a quote that is never closed takes all that follows without a word.
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield said(error)
                continue
            if cells is None:
                return
            if header is None:
                header = cells
            elif cells and len(cells) != len(header):
                yield f"{len(cells)} cells, {len(header)} columns"
            elif cells:
                # A table of texts has no other way to say null.
                yield {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _parquet(path: Path) -> Iterator[dict[str, Any] | str]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                yield from batch.to_pylist()
    except Exception as error:  # what a damaged file raises, Arrow does not say
        raise ConfigError(f"{path} cannot be read: {said(error)}; give a sound file") from None


def _roles(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """Which column of a row holds what; rows of JSON Lines differ."""
    known = {role: next((n for n in names if n in row), "") for role, names in _KNOWN.items()}
    return known | dict(columns)


def _refuse_useless(path: Path, names: Sequence[str], columns: Mapping[str, str]) -> None:
    there = ", ".join(names) or "none"
    for role, name in columns.items():
        if name not in names:
            option = f"--{role.replace('_', '-')}-column".replace("--item-id-", "--id-")
            raise ConfigError(f"{option} got {name}; allowed a column of {path}: {there}")
    if not {*names} & {*_KNOWN["text"], *_KNOWN["image"], *columns.values()}:
        raise ConfigError(
            f"{path} got columns {there}; allowed one of a text or an image: say which with"
            " --text-column or --image-column"
        )


def _item(
    row: Mapping[str, Any], roles: Mapping[str, str], number: int, folder: Path
) -> Given | Refused:
    given = row.get(roles["item_id"])
    item_id = str(number) if given is None else str(given)
    text, image = row.get(roles["text"]), row.get(roles["image"])
    if text is not None and not isinstance(text, str):
        return Refused(item_id, f"its text is a {type(text).__name__}")
    if isinstance(image, dict):  # as Hugging Face `datasets` write images
        image = image.get("bytes") or image.get("path")
    if isinstance(image, str):
        if "://" in image:
            return Refused(item_id, "its image is a URL; allowed a file beside the table")
        image = folder / image if image else None
    if image is not None and not isinstance(image, bytes | Path):
        return Refused(item_id, f"its image is a {type(image).__name__}; allowed a path or bytes")
    return Given(item_id=item_id, text=text, image=image)
