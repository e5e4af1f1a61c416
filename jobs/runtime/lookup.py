"""Rows of a table by their keys, at a cost that grows with the keys and not with the table.

A join would read every row. Where the rows of a file lie close together in the key, as whatever is
written in order of arrival does in `ingest_ordinal`, the statistics in Delta's log say which files
can hold a key, and those in a file which of its row groups: only these are read, by Arrow.
"""

import posixpath
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.runtime.tables import Warehouse, contract
from jobs.sources.place import filesystem_of

# Files to a task: opening one costs a few milliseconds, a task some ten.
_FILES_PER_TASK: Final = 64


def lookup(
    warehouse: Warehouse, table: str, key: str, wanted: DataFrame, columns: Sequence[str]
) -> DataFrame:
    """The rows of the wanted keys.

    Args:
        warehouse: holds the table.
        table: its name.
        key: a column of int64 whose rows lie close together in a file.
        wanted: has the column `key`; keys may come more than once, and may not be there.
        columns: wanted beside the key.

    Returns:
        `key` and `columns` of every row whose key is wanted, in no order.
    """
    schema = StructType([contract(table).SCHEMA[name] for name in (key, *columns)])
    count = warehouse.file_count(table)
    if not count:
        return warehouse.empty(schema)
    files = _ranges(warehouse, table, key)
    asked = wanted.select(F.col(key).alias("asked")).distinct()
    by_file = (
        asked.join(
            F.broadcast(files),
            F.col("low").isNull() | F.col("asked").between(F.col("low"), F.col("high")),
        )
        .groupBy("path")
        .agg(F.sort_array(F.collect_list("asked")).alias("asked"))
    )
    tasks = -(-count // _FILES_PER_TASK)
    read = _reader(warehouse.path(table), key, to_arrow_schema(schema))
    return by_file.repartition(tasks, "path").mapInArrow(read, schema)


def rows_in(
    warehouse: Warehouse, table: str, wanted: DataFrame, columns: Sequence[str]
) -> DataFrame:
    """The rows of the wanted keys, from the files that have them.

    Args:
        warehouse: holds the table.
        table: its name.
        wanted: the columns of the table's key, and `file` as `table_scan.having` says it; each row
            once.
        columns: wanted beside the key.

    Returns:
        the key and `columns` of each, in no order.
    """
    module = contract(table)
    schema = StructType([module.SCHEMA[name] for name in (*module.KEY, *columns)])
    read = _of_keys(warehouse.path(table), to_arrow_schema(schema))
    keys = F.collect_list(F.struct(*module.KEY)).alias("keys")
    tasks = -(-max(1, warehouse.file_count(table)) // _FILES_PER_TASK)
    by_file = wanted.groupBy("file").agg(keys)
    return by_file.repartition(tasks, "file").mapInArrow(read, schema)


def _of_keys(
    folder: str, schema: pa.Schema
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for name, keys in zip(batch["file"].to_pylist(), batch["keys"], strict=True):
                yield from _asked_in(folder, name, pa.Table.from_struct_array(keys.values), schema)

    return read


def _asked_in(
    folder: str, name: str, asked: pa.Table, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    key = asked.column_names
    filesystem, inside = place_of(folder, name)
    with pq.ParquetFile(inside, filesystem=filesystem) as file:
        for group in range(file.num_row_groups):
            there = file.read_row_group(group, columns=key).select(key)
            there = there.append_column("row", pa.array(np.arange(len(there))))
            rows = there.join(asked, key, join_type="inner")["row"]
            if len(rows):
                held = file.read_row_group(group, columns=schema.names)
                found = held.select(schema.names).take(rows).cast(schema)
                yield from found.combine_chunks().to_batches()


def _ranges(warehouse: Warehouse, table: str, key: str) -> DataFrame:
    """Path of each file and the range of its keys; null where the log does not say."""
    stats = f"minValues STRUCT<`{key}`: BIGINT>, maxValues STRUCT<`{key}`: BIGINT>"
    said = warehouse.files(table).withColumn("said", F.from_json("stats", stats))
    return said.select(
        "path",
        F.col(f"said.minValues.{key}").alias("low"),
        F.col(f"said.maxValues.{key}").alias("high"),
    )


def _reader(
    folder: str, key: str, schema: pa.Schema
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for path, asked in zip(batch["path"].to_pylist(), batch["asked"], strict=True):
                yield from _rows(folder, path, key, asked.values.to_numpy(), schema)

    return read


def _rows(
    folder: str, path: str, key: str, asked: np.ndarray, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    filesystem, inside = place_of(folder, path)
    with pq.ParquetFile(inside, filesystem=filesystem) as file:
        groups = [g for g in range(file.num_row_groups) if may_hold(file.metadata, g, key, asked)]
        for group in groups:
            rows = file.read_row_group(group, columns=schema.names).select(schema.names)
            is_asked = np.isin(rows[key].to_numpy(), asked)
            yield from rows.filter(pa.array(is_asked)).cast(schema).combine_chunks().to_batches()


def place_of(folder: str, path: str) -> tuple[fs.FileSystem, str]:
    """Where a file of a table lies, for Arrow.

    Args:
        folder: of the table.
        path: as Delta's log writes it: a URL, relative to the folder unless it is absolute.
    """
    name = urllib.parse.unquote(path)
    return filesystem_of(name if "://" in name else posixpath.join(folder, name))


def may_hold(metadata: pq.FileMetaData, group: int, key: str, asked: np.ndarray) -> bool:
    """Whether a row group can hold one of the keys, which ascend."""
    held = metadata.row_group(group)
    names = [held.column(i).path_in_schema for i in range(held.num_columns)]
    said = held.column(names.index(key)).statistics
    if said is None or not said.has_min_max:
        return True
    first = np.searchsorted(asked, said.min)
    return bool(first < len(asked) and asked[first] <= said.max)
