"""Dumps as they lie on a filesystem: finding new shards, opening one."""

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, Final, cast

from pyarrow import fs

from jobs.runtime import streams
from jobs.runtime.config import Config, Dump
from jobs.runtime.errors import NotFound
from jobs.runtime.tables import Warehouse, conform
from jobs.sources import webdataset
from schemas import shards

log: Final = logging.getLogger("sluice")

SUFFIXES: Final = {webdataset.FORMAT: webdataset.SUFFIXES}


def open_shard(uri: str) -> BinaryIO:
    """A shard's bytes from their start; local paths and the URIs that Arrow's filesystems know.

    Raises:
        OSError: there is nothing to open.
    """
    filesystem, path = fs.FileSystem.from_uri(uri)
    return cast(BinaryIO, filesystem.open_input_file(path))


def found(dump: Dump) -> list[dict[str, Any]]:
    """The shards that lie in a dump now, by name.

    Raises:
        NotFound: the dump's path does not exist.
    """
    filesystem, root = fs.FileSystem.from_uri(dump.path)
    suffixes = SUFFIXES[dump.format]
    infos = filesystem.get_file_info(root)
    if infos.type == fs.FileType.NotFound:
        raise NotFound(f"dump {dump.name}: {dump.path} does not exist; correct dumps.path")
    if infos.type == fs.FileType.File:
        listed = [infos]
        root = root.rpartition("/")[0]
    else:
        selector = fs.FileSelector(root, recursive=True)
        listed = [i for i in filesystem.get_file_info(selector) if i.type == fs.FileType.File]
    return [
        {
            "dump": dump.name,
            "shard": info.path[len(root) :].lstrip("/"),
            "uri": _uri(filesystem, info.path),
            "format": dump.format,
            "size_bytes": info.size,
            "modified_at": info.mtime.astimezone(UTC),
        }
        for info in sorted(listed, key=lambda info: info.path)
        if info.path.endswith(suffixes)
    ]


def _uri(filesystem: fs.FileSystem, path: str) -> str:
    return path if filesystem.type_name == "local" else f"{filesystem.type_name}://{path}"


def discover(warehouse: Warehouse, config: Config, *, run_id: str) -> int:
    """Take new shards into the manifest, in order of name; return how many there were.

    A commit holds as many shards as a batch of ingest is to read, in one file, so that what
    is read together does not depend on when a run was killed.
    """
    with streams.exclusive(f"{warehouse.root}/_checkpoints/discover"):
        fresh = _fresh(warehouse, config.dumps)
        for chunk in _chunks(fresh, config.ingest.shards_per_batch):
            rows = warehouse.spark.createDataFrame(
                [row | {"discovered_at": datetime.now(UTC), "run_id": run_id} for row in chunk],
                shards.SCHEMA,
            ).coalesce(1)
            (
                conform(rows, shards.TABLE)
                .write.format("delta")
                .mode("append")
                .option("txnAppId", "discover")
                .option("txnVersion", chunk[0]["shard_ordinal"])
                .save(warehouse.path(shards.TABLE))
            )
    log.info("discover: %d new shards", len(fresh))
    return len(fresh)


def _fresh(warehouse: Warehouse, dumps: Iterable[Dump]) -> list[dict[str, Any]]:
    known = {
        (row.dump, row.shard)
        for row in warehouse.read(shards.TABLE).select("dump", "shard").toLocalIterator()
    }
    rows = [row for dump in dumps for row in found(dump)]
    fresh = [row for row in rows if (row["dump"], row["shard"]) not in known]
    return [row | {"shard_ordinal": len(known) + i} for i, row in enumerate(fresh)]


def waiting(warehouse: Warehouse, dumps: Iterable[Dump]) -> dict[str, int]:
    """Dump -> shards that lie there and are not in the manifest yet."""
    dumps = list(dumps)
    if not warehouse.exists(shards.TABLE):
        return {dump.name: len(found(dump)) for dump in dumps}
    fresh = _fresh(warehouse, dumps)
    return {dump.name: sum(row["dump"] == dump.name for row in fresh) for dump in dumps}


def _chunks(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, size)):
        yield chunk
