"""Dumps as they lie on a filesystem: which shards are new, changed or gone."""

import logging
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from pyspark.sql import functions as F
from pyspark.sql.window import Window

from jobs.runtime import streams
from jobs.runtime.config import Config, Dump
from jobs.runtime.errors import ConfigError, NotFound
from jobs.runtime.tables import Warehouse, conform
from jobs.sources.formats import FORMATS
from jobs.sources.place import SCHEMES, File, Place, in_order, scheme, split, walk
from schemas import shards

log: Final = logging.getLogger("sluice")

# Rows of the manifest in one commit, and in the driver at a time: chosen, some megabytes.
COMMIT_ROWS: Final = 10_000
NEW: Final = "new"
CHANGED: Final = "changed"
RETRY: Final = "retry"
# Files of one list: chosen, ten times the shards of LAION-5B in img2dataset's size; each is
# looked up by itself.
MAX_LISTED: Final = 1_000_000
_NUMBERS: Final = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)(?:\.\.(-?[0-9]+))?")
_LETTERS: Final = re.compile(r"([a-zA-Z])\.\.([a-zA-Z])")


@dataclass(frozen=True)
class Known:
    """The last row that the manifest has of a shard."""

    shard: str
    revision: int
    size_bytes: int
    modified_at: datetime


def check(dumps: Iterable[Dump]) -> None:
    """Refuse what a format or the filesystems cannot make sense of.

    Raises:
        ConfigError: an option that the dump's format does not have; a path of no filesystem that
            there is; a list of too many files.
    """
    for dump in dumps:
        allowed = FORMATS[dump.format].options
        unknown = sorted(dump.options.keys() - allowed)
        if unknown:
            raise ConfigError(
                f"dump {dump.name} got option {', '.join(unknown)}; "
                f"format {dump.format} allows {', '.join(sorted(allowed)) or 'none'}"
            )
        filesystem = scheme(dump.path)
        if filesystem is not None and filesystem not in SCHEMES:
            raise ConfigError(
                f"dump {dump.name} got path {dump.path}; allowed a local path, or a URI of"
                f" {', '.join(sorted(SCHEMES))}"
            )
        if _is_list(dump.path):
            folder, names = split(dump.path, before="{")
            if _is_list(folder):
                raise ConfigError(
                    f"dump {dump.name} got path {dump.path}; allowed braces in the names of"
                    " folders and files, not of a host or bucket"
                )
            expanded(names)


def expanded(path: str) -> list[str]:
    """The paths that braces stand for, as shells and webdataset expand them; each once.

    Raises:
        ConfigError: more than `MAX_LISTED`.

    >>> expanded("s/{008..011}.tar")
    ['s/008.tar', 's/009.tar', 's/010.tar', 's/011.tar']
    >>> expanded("{a,b{1..2}}.tar")
    ['a.tar', 'b1.tar', 'b2.tar']
    """
    found = list(islice(_expansions(path), MAX_LISTED + 1))
    if len(found) > MAX_LISTED:
        raise ConfigError(
            f"a dump's path got {path}, which stands for more than {MAX_LISTED:,} files; allowed"
            " fewer in one dump, or the folder that they lie in"
        )
    return list(dict.fromkeys(found))


def _is_list(path: str) -> bool:
    return _braces(path) is not None


def _expansions(text: str) -> Iterator[str]:
    braces = _braces(text)
    if braces is None:
        yield text
        return
    start, end = braces
    for chosen in _choices(text[start + 1 : end - 1]):
        for rest in _expansions(text[end:]):
            yield text[:start] + chosen + rest


def _braces(text: str) -> tuple[int, int] | None:
    """Where the first braces that stand for something begin and end; others are a name's own."""
    for start in (opening.start() for opening in re.finditer("{", text)):
        depth = 0
        for mark in re.finditer("[{}]", text[start:]):
            depth += 1 if mark[0] == "{" else -1
            if depth == 0:
                inside = text[start + 1 : start + mark.start()]
                if len(_alternatives(inside)) > 1 or _range(inside) is not None:
                    return start, start + mark.end()
                break
    return None


def _choices(inside: str) -> Iterator[str]:
    met = _range(inside)
    if met is not None:
        yield from met
        return
    for alternative in _alternatives(inside):
        yield from _expansions(alternative)


def _alternatives(inside: str) -> list[str]:
    """What stands between the commas that are in no braces of their own."""
    depth, parts = 0, [""]
    for character in inside:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _range(inside: str) -> Iterator[str] | None:
    if letters := _LETTERS.fullmatch(inside):
        return map(chr, _numbers(ord(letters[1]), ord(letters[2]), 1))
    if numbers := _NUMBERS.fullmatch(inside):
        first, last, step = numbers.groups(default="1")
        is_padded = any(end.lstrip("-").startswith("0") and len(end) > 1 for end in (first, last))
        width = max(len(first), len(last)) if is_padded else 0
        found = _numbers(int(first), int(last), abs(int(step)) or 1)
        return (f"{number:0{width}d}" for number in found)
    return None


def _numbers(first: int, last: int, step: int) -> range:
    return range(first, last + 1, step) if first <= last else range(first, last - 1, -step)


def found(dump: Dump) -> Iterator[File]:
    """The shards that lie in a dump now, in order of their paths' parts.

    Raises:
        NotFound: the dump's path does not exist.
    """
    if _is_list(dump.path):
        yield from _listed(dump)
        return
    root, only = _located(dump)
    if only is not None:
        yield only
        return
    try:
        yield from walk(root, FORMATS[dump.format].shards)
    except FileNotFoundError:
        raise NotFound(f"dump {dump.name}: {dump.path} does not exist; correct it") from None


def _listed(dump: Dump) -> Iterator[File]:
    root, paths = split(dump.path, before="{")
    names = sorted({posixpath.normpath(name) for name in expanded(paths)}, key=in_order)
    missing = []
    for name in names:
        file = Place(root, name).info()
        if file is None:
            missing.append(name)
        else:
            yield file
    if missing:
        # They may still come; when they do, they are new shards.
        log.warning(
            "discover: %d of %d shards of %s are not there yet, the first is %s",
            len(missing),
            len(names),
            dump.name,
            missing[0],
        )


def root_of(dump: Dump) -> str:
    """The folder that the shards' paths are relative to."""
    return split(dump.path, before="{")[0] if _is_list(dump.path) else _located(dump)[0]


def _located(dump: Dump) -> tuple[str, File | None]:
    """The root of a dump; where its path is that of a file, the file as well."""
    folder, name = split(dump.path)
    only = Place(folder, name).info() if name else None
    return (dump.path, None) if only is None else (folder, only)


def fresh(warehouse: Warehouse, dump: Dump) -> Iterator[dict[str, Any]]:
    """Rows for the manifest, without ordinals: shards it does not know, or knows otherwise.

    Both sides come in the same order, so that neither is ever held as a whole.

    Raises:
        NotFound: the dump's path does not exist.
    """
    constant = {
        "dump": dump.name,
        "root": root_of(dump),
        "format": dump.format,
        "options": dump.options,
    }
    known = _known(warehouse, dump)
    at_hand = next(known, None)
    for file in found(dump):
        while at_hand is not None and in_order(at_hand.shard) < in_order(file.path):
            at_hand = next(known, None)
        row = constant | {
            "shard": file.path,
            "size_bytes": file.size_bytes,
            "modified_at": file.modified_at,
        }
        if at_hand is None or at_hand.shard != file.path:
            yield row | {"revision": 0, "cause": NEW}
        elif (at_hand.size_bytes, at_hand.modified_at) != (file.size_bytes, file.modified_at):
            yield row | {"revision": at_hand.revision + 1, "cause": CHANGED}


def _known(warehouse: Warehouse, dump: Dump) -> Iterator[Known]:
    if not warehouse.exists(shards.TABLE):
        return
    newest = Window.partitionBy("shard").orderBy(F.desc("revision"))
    rows = (
        warehouse.read(shards.TABLE)
        .where(F.col("dump") == dump.name)
        .withColumn("nth", F.row_number().over(newest))
        .where("nth = 1")
        .orderBy(F.expr("IF(shard = '.', array(), split(shard, '/'))"))  # as `in_order`
        .select("shard", "revision", "size_bytes", "modified_at")
    )
    for row in rows.toLocalIterator():
        # Spark gives local time without a zone; the driver's zone is what it means.
        yield Known(row.shard, row.revision, row.size_bytes, row.modified_at.astimezone(UTC))


def discover(warehouse: Warehouse, config: Config, *, run_id: str) -> int:
    """Take new and changed shards into the manifest; return how many there were.

    A file of the manifest holds as many shards as a batch of ingest is to read, so that what
    is read together does not depend on when a run was killed.
    """
    with streams.exclusive(f"{warehouse.root}/_checkpoints/discover"):
        rows = (row for dump in config.dumps for row in fresh(warehouse, dump))
        count = enter(
            warehouse, rows, shards_per_batch=config.ingest.shards_per_batch, run_id=run_id
        )
    log.info("discover: %d new shards", count)
    return count


def enter(
    warehouse: Warehouse,
    rows: Iterable[Mapping[str, Any]],
    *,
    shards_per_batch: int,
    run_id: str,
) -> int:
    """Append rows to the manifest under the next ordinals; return how many there were."""
    (last,) = warehouse.read(shards.TABLE).agg(F.max("shard_ordinal")).collect()
    start = ordinal = 0 if last[0] is None else last[0] + 1
    remaining = iter(rows)
    per_commit = max(1, COMMIT_ROWS // shards_per_batch) * shards_per_batch
    while chunk := list(islice(remaining, per_commit)):
        stamp = {"discovered_at": datetime.now(UTC), "run_id": run_id}
        numbered = [
            {**row, **stamp, "first_position": 0, "shard_ordinal": ordinal + i}
            for i, row in enumerate(chunk)
        ]
        frame = warehouse.local(numbered, shards.SCHEMA)
        warehouse.append(
            conform(frame.coalesce(1), shards.TABLE),
            shards.TABLE,
            by=("discover", ordinal),
            max_rows_per_file=shards_per_batch,
        )
        ordinal += len(chunk)
    return ordinal - start


def waiting(warehouse: Warehouse, dumps: Iterable[Dump]) -> dict[str, int]:
    """Dump -> shards that lie there and are not in the manifest yet."""
    return {dump.name: sum(1 for _ in fresh(warehouse, dump)) for dump in dumps}
