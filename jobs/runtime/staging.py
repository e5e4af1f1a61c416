"""Media on their way into `bronze.media`: a worker that has read them writes them down itself.

Bytes that went through the JVM would be copied, packed and written there: measured, two thirds of
the CPU time of ingest. So a worker writes what it reads as files of the table, and a batch puts
those into the table that hold nothing that it has already; of the others, workers write the rest.
"""

import posixpath
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructType

from jobs.runtime.session import ROW_GROUP_BYTES
from jobs.runtime.streams import Batch
from jobs.sources.place import filesystem_of
from schemas import media
from schemas.field import field
from udfs.arrow import record_batch

FOLDER: Final = "media"
# What narrow rows say of their media: the file that holds them.
FILE: Final = field("media_file", StringType(), "of the staging folder; null: none", nullable=True)
_ROW_BYTES: Final = 512  # about what a row takes without its bytes
_COPIED: Final = StructType([FILE, field("rows", LongType(), "that the new file holds")])


@dataclass(frozen=True, kw_only=True)
class Staging:
    """Where workers write the media of a batch, and what the rows carry.

    Attributes:
        folder: of the batch's own.
        batch: its name.
        run_id: of the run.
    """

    folder: str
    batch: str
    run_id: str

    @classmethod
    def of(cls, batch: Batch) -> "Staging":
        """That of a batch."""
        return cls(folder=batch.staging(), batch=batch.name, run_id=batch.run_id)


class MediaFile:
    """A file of a staging folder, made when the first media come.

    Its name is drawn: a task that is tried again writes another, and the rows that the task
    hands on say which one counts.
    """

    def __init__(self, staging: Staging) -> None:
        self._name = f"{uuid.uuid4().hex}.parquet"
        self._folder = posixpath.join(staging.folder, FOLDER)
        self._stamp = {"batch": staging.batch, "run_id": staging.run_id}
        self._writer: pq.ParquetWriter | None = None
        self._known: set[str] = set()
        self._held: list[dict[str, Any]] = []
        self._held_bytes = 0

    def put(self, row: Mapping[str, Any]) -> str:
        """Write media, soon, and each content once; return the name of the file.

        Args:
            row: columns of `bronze.media`, and maybe others; one that is not there is null.
        """
        if row["media_sha256"] not in self._known:
            self._known.add(row["media_sha256"])
            self._held.append({**row, **self._stamp})
            self._held_bytes += len(row.get("content") or b"") + _ROW_BYTES
            if self._held_bytes >= ROW_GROUP_BYTES:
                self._write()
        return self._name

    def close(self) -> None:
        """Write the rest; without it the file is none."""
        if self._held:
            self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        rows = record_batch(self._held, media.SCHEMA)
        self._writer = self._writer or _writer(self._folder, self._name, rows.schema)
        self._writer.write_batch(rows)
        self._held, self._held_bytes = [], 0


def _writer(folder: str, name: str, schema: pa.Schema) -> pq.ParquetWriter:
    filesystem, inside = filesystem_of(folder)
    filesystem.create_dir(inside)
    # Pictures do not shrink, and are no dictionary.
    return pq.ParquetWriter(
        posixpath.join(inside, name),
        schema,
        filesystem=filesystem,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )


def append_media(batch: Batch, narrow: DataFrame) -> None:
    """Put the contents that `bronze.media` lacks into it, each once.

    Args:
        batch: that brings them.
        narrow: `media_sha256` and `media_file` of rows that bring media.
    """
    if batch.has_appended(media.TABLE):
        return
    known = batch.warehouse.read(media.TABLE).select("media_sha256")
    fresh = (
        narrow.groupBy("media_sha256")
        .agg(F.min(FILE.name).alias(FILE.name))
        .join(known, "media_sha256", "left_anti")
        .localCheckpoint()
    )
    wanted = {row[0]: row[1] for row in fresh.groupBy(FILE.name).count().collect()}
    if wanted:
        batch.append_files(_settled(batch, fresh, wanted), media.TABLE)


def _settled(batch: Batch, fresh: DataFrame, wanted: Mapping[str, int]) -> dict[str, int]:
    """Files in the table's folder that hold what is fresh and nothing else: name -> rows."""
    staged = posixpath.join(batch.staging(), FOLDER)
    table = batch.warehouse.path(media.TABLE)
    mixed = []
    for name, rows in wanted.items():
        if _rows(name, staged, table) > rows:
            mixed.append(name)
        else:
            batch.warehouse.move(f"{staged}/{name}", f"{table}/{name}")
    if mixed:
        copied = (
            fresh.where(F.col(FILE.name).isin(*mixed))
            .repartition(len(mixed), FILE.name)
            .sortWithinPartitions(FILE.name)
            .groupBy(FILE.name)
            .applyInArrow(_copier(staged, table), _COPIED)
            .collect()
        )
        assert {row[0]: row[1] for row in copied} == {name: wanted[name] for name in mixed}
    return dict(wanted)


def _rows(name: str, *folders: str) -> int:
    """Rows of a file, in the first of the folders that has it: a killed attempt may have moved it.

    Raises:
        FileNotFoundError: none has it.
    """
    for folder in folders:
        filesystem, inside = filesystem_of(folder)
        path = posixpath.join(inside, name)
        if filesystem.get_file_info(path).is_file:
            return int(pq.read_metadata(path, filesystem=filesystem).num_rows)
    raise FileNotFoundError(f"{name} is in none of {', '.join(folders)}")


def _copier(staged: str, table: str) -> Callable[[pa.Table], pa.Table]:
    def copy(fresh: pa.Table) -> pa.Table:
        name = fresh[FILE.name][0].as_py()
        filesystem, inside = filesystem_of(staged)
        file = pq.ParquetFile(posixpath.join(inside, name), filesystem=filesystem)
        keys = fresh["media_sha256"].combine_chunks()
        with _writer(table, name, file.schema_arrow) as writer:
            for rows in _chosen(file, keys):
                writer.write_table(rows)
        return pa.table({FILE.name: [name], "rows": [len(keys)]})

    return copy


def _chosen(file: pq.ParquetFile, keys: pa.Array) -> Iterator[pa.Table]:
    """The rows of the keys, a row group at a time."""
    for index in range(file.num_row_groups):
        rows = file.read_row_group(index)
        yield rows.filter(pc.is_in(rows["media_sha256"], value_set=keys))
