"""Media on their way into `bronze.media`: a worker that has read them writes them down itself.

Bytes that went through the JVM would be copied, packed and written there, and read again for the
table: measured, twice the CPU time of all else that ingest does.
"""

import posixpath
import uuid
from collections.abc import Mapping
from typing import Any, Final

import pyarrow.parquet as pq
from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructType

from jobs.runtime.session import ROW_GROUP_BYTES
from schemas import media
from schemas.field import field
from udfs.arrow import record_batch

FOLDER: Final = "media"
# What narrow rows say of their media: the file that holds them.
FILE: Final = field("media_file", StringType(), "of the staging folder; null: none", nullable=True)
_ROW_BYTES: Final = 512  # about what a row takes without its bytes
MEDIA: Final = StructType([f for f in media.SCHEMA if f.name not in ("batch", "run_id")])


class MediaFile:
    """A file of a staging folder, made when the first media come.

    Its name is drawn: a task that is tried again writes another, and the rows that the task
    hands on say which one counts.
    """

    def __init__(self, folder: str) -> None:
        self._folder = posixpath.join(folder, FOLDER)
        self._name = f"{uuid.uuid4().hex}.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._known: set[str] = set()
        self._held: list[dict[str, Any]] = []
        self._held_bytes = 0

    def put(self, row: Mapping[str, Any]) -> str:
        """Write media, soon, and each content once; return the name of the file.

        Args:
            row: columns of `MEDIA`, and maybe others; one that is not there is null.
        """
        if row["media_sha256"] not in self._known:
            self._known.add(row["media_sha256"])
            self._held.append({name: row.get(name) for name in MEDIA.names})
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
        batch = record_batch(self._held, MEDIA)
        if self._writer is None:
            filesystem, folder = fs.FileSystem.from_uri(self._folder)
            filesystem.create_dir(folder)
            # Pictures do not shrink, and are no dictionary.
            self._writer = pq.ParquetWriter(
                posixpath.join(folder, self._name),
                batch.schema,
                filesystem=filesystem,
                compression="none",
                use_dictionary=False,
                write_statistics=False,
            )
        self._writer.write_batch(batch)
        self._held, self._held_bytes = [], 0


def fresh_media(narrow: DataFrame, known: DataFrame) -> DataFrame:
    """Contents that are not known yet, each once: `media_sha256`, and the file that holds it.

    Args:
        narrow: `media_sha256` and `media_file` of rows that bring media.
        known: `media_sha256` of what `bronze.media` holds.
    """
    return (
        narrow.groupBy("media_sha256")
        .agg(F.min(FILE.name).alias(FILE.name))
        .join(known.select("media_sha256"), "media_sha256", "left_anti")
    )


def media_rows(spark: SparkSession, folder: str, fresh: DataFrame) -> DataFrame | None:
    """The media that are fresh, columns of `MEDIA`; null if none is.

    Args:
        spark: the session.
        folder: that the workers wrote to.
        fresh: as `fresh_media` gives it.
    """
    files = [row[0] for row in fresh.select(FILE.name).distinct().collect()]
    if not files:
        return None
    paths = [posixpath.join(folder, FOLDER, file) for file in files]
    # The keys travel, the bytes stay where they are.
    return (
        spark.read.schema(MEDIA)
        .parquet(*paths)
        .withColumn(FILE.name, F.col("_metadata.file_name"))
        .join(F.broadcast(fresh), ["media_sha256", FILE.name], "left_semi")
    )
