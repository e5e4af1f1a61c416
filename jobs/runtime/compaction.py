"""Small files of the tables that a search asks become few, so that batches do not add up.

Each batch adds a file a task. Files of about one size are merged (`udfs.size_tiers`), each new file
by one worker, in the order that the table's layout says. No row changes, and no reader notices: a
file is there before the commit that names it, and those that it takes the place of stay for a week.
A kill leaves a file that no version names; it goes with them.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from jobs.runtime import streams
from jobs.runtime.errors import SluiceError
from jobs.runtime.lookup import place_of
from jobs.runtime.tables import CONTRACTS, ON_DEMAND, TableFile, Warehouse, contract
from schemas.layout import Layout
from udfs import size_tiers

log: Final = logging.getLogger("sluice")

# `silver.duplicates` is not among them, though it is looked up: streams follow it.
TABLES: Final = tuple(table for table, module in CONTRACTS.items() if hasattr(module, "LAYOUT"))
# How long files stay that nobody may be reading any more. Delta's own default,
# `delta.deletedFileRetentionDuration`.
_KEPT_S: Final = 7 * 24 * 3600.0
# No row takes less in memory: each has a node. Files that shrink well count as if they did not.
_ROW_BYTES: Final = 8

_GROUP: Final = T.StructType(
    [T.StructField("part", T.IntegerType()), T.StructField("paths", T.ArrayType(T.StringType()))]
)
_MERGED: Final = pa.schema(
    [("part", pa.int32()), ("name", pa.string()), ("bytes", pa.int64()), ("rows", pa.int64())]
)


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What became, or would become, of a table.

    Attributes:
        table: its name.
        files: of the table before.
        merged: how many of them, into `into` files.
        rows: in these.
        bytes_before: of these; `bytes_after` is not known before.
    """

    table: str
    files: int
    merged: int
    into: int
    rows: int
    bytes_before: int
    bytes_after: int | None = None


def due(warehouse: Warehouse, tables: Sequence[str] = TABLES) -> list[Compacted]:
    """What `compact` would merge; changes nothing."""
    found = []
    for table in _large(warehouse, tables):
        files = warehouse.rewriting(table).files()
        groups = _groups(files)
        if groups:
            found.append(_said(table, len(files), groups))
    return found


def compact(warehouse: Warehouse, tables: Sequence[str] = TABLES) -> list[Compacted]:
    """Merge what is due; of a table of few files nothing is read.

    A table that another driver deletes from meanwhile is left as it is, until the next time.

    Args:
        warehouse: holds the tables.
        tables: with a LAYOUT; those that are not there are passed over.

    Returns:
        what was merged, a table each.

    Raises:
        CheckpointBusy: another live driver compacts, or a takedown runs.
        SluiceError: files hold other rows than the log says; the table is as it was.
    """
    with streams.exclusive(f"{warehouse.root}/_checkpoints/compaction"):
        done: list[Compacted] = []
        for table in _large(warehouse, tables):
            # Again while files shrink, so that the same once more finds nothing.
            before = len(done)
            while (compacted := _compact(warehouse, table)) is not None:
                done.append(compacted)
            if len(done) > before:
                warehouse.vacuum(table, kept_s=_KEPT_S)
        return done


def _large(warehouse: Warehouse, tables: Sequence[str]) -> Iterator[str]:
    for table in tables:
        is_there = table not in ON_DEMAND or warehouse.exists(table)
        if is_there and warehouse.file_count(table) >= size_tiers.FAN:
            yield table


def _compact(warehouse: Warehouse, table: str) -> Compacted | None:
    rewriting = warehouse.rewriting(table)
    files = rewriting.files()
    groups = _groups(files)
    if not groups:
        return None
    instead = _merged(warehouse, table, groups)
    if not rewriting.commit(instead):
        log.warning("compaction: %s was changed meanwhile; it is left as it is for now", table)
        return None
    said = _said(table, len(files), groups, bytes_after=sum(f.size_bytes for _, f in instead))
    log.info(
        "compaction: %s, %d of %d files merged into %d, %s rows, %s to %s bytes",
        table,
        said.merged,
        said.files,
        said.into,
        f"{said.rows:,}",
        f"{said.bytes_before:,}",
        f"{said.bytes_after:,}",
    )
    return said


def _groups(files: Sequence[TableFile]) -> list[list[TableFile]]:
    """Files to merge; neighbours in time, so that look-ups and deletions by node touch few."""
    ordered = sorted(files, key=lambda file: file.stats.get("minValues", {}).get("node", 0))
    sizes = [max(file.size_bytes, _ROW_BYTES * file.stats["numRecords"]) for file in ordered]
    return [[ordered[at] for at in group] for group in size_tiers.merged(sizes)]


def _said(
    table: str, files: int, groups: Sequence[Sequence[TableFile]], bytes_after: int | None = None
) -> Compacted:
    merged = [file for group in groups for file in group]
    return Compacted(
        table=table,
        files=files,
        merged=len(merged),
        into=len(groups),
        rows=_rows(merged),
        bytes_before=sum(file.size_bytes for file in merged),
        bytes_after=bytes_after,
    )


def _rows(files: Iterable[TableFile]) -> int:
    return sum(file.stats["numRecords"] for file in files)


def _merged(
    warehouse: Warehouse, table: str, groups: Sequence[Sequence[TableFile]]
) -> list[tuple[Sequence[TableFile], TableFile]]:
    """The groups, and the file of each, which workers have written.

    Raises:
        SluiceError: the log says that files hold other rows than they do.
    """
    rows = [
        {"part": part, "paths": [file.path for file in group]} for part, group in enumerate(groups)
    ]
    asked = warehouse.local(rows, _GROUP).repartitionById(len(groups), "part")
    module = contract(table)
    merge = _merging(warehouse.path(table), to_arrow_schema(module.SCHEMA), module.LAYOUT)
    written = []
    for row in asked.mapInArrow(merge, from_arrow_schema(_MERGED)).collect():
        group = groups[row.part]
        if row.rows != _rows(group):
            raise SluiceError(
                f"compaction of {table} got {row.rows:,} rows from files of which the log says"
                f" that they hold {_rows(group):,}; nothing was changed; one of them is damaged:"
                f" {', '.join(file.path for file in group)}"
            )
        stats = merged_stats([file.stats for file in group])
        written.append((group, TableFile(path=row.name, size_bytes=row.bytes, stats=stats)))
    return written


def merged_stats(stats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What Delta's log is to say of a file that holds the rows of others.

    Of a column that one of them says nothing of, nothing is said.

    >>> a = {"numRecords": 1, "minValues": {"node": 5, "cell": 2}, "nullCount": {"node": 0}}
    >>> b = {"numRecords": 2, "minValues": {"node": 3}, "nullCount": {"node": 1}}
    >>> merged_stats([a, b])
    {'numRecords': 3, 'minValues': {'node': 3}, 'maxValues': {}, 'nullCount': {'node': 1}}
    """
    found: dict[str, Any] = {"numRecords": sum(said["numRecords"] for said in stats)}
    for name, of_all in (("minValues", min), ("maxValues", max), ("nullCount", sum)):
        each = [said.get(name, {}) for said in stats]
        found[name] = {
            column: of_all([said[column] for said in each])
            for column in each[0]
            if all(column in said for said in each) and _is_one_kind(said[column] for said in each)
        }
    return found


def _is_one_kind(values: Iterable[Any]) -> bool:
    """All numbers or all texts, which have an order; NaN is a text among numbers."""
    kinds = {str if isinstance(value, str) else type(value) for value in values}
    return kinds <= {int, float} or kinds == {str}


def _merging(
    folder: str, schema: pa.Schema, layout: Layout
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def merge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for part, paths in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                name = f"{uuid.uuid4().hex}.parquet"
                said = _write(_sorted(folder, paths, schema, layout), folder, name, layout)
                yield pa.RecordBatch.from_pylist([{"part": part, "name": name, **said}], _MERGED)

    return merge


def _sorted(folder: str, paths: Sequence[str], schema: pa.Schema, layout: Layout) -> pa.Table:
    """The rows of files in the layout's order; texts that repeat as numbers of a dictionary."""
    compact = pa.schema(
        field.with_type(pa.dictionary(pa.int32(), field.type))
        if field.name in layout.repeating
        else field
        for field in schema
    )
    tables = []
    for path in paths:
        filesystem, inside = place_of(folder, path)
        with pq.ParquetFile(
            inside,
            filesystem=filesystem,
            read_dictionary=list(layout.repeating),
            coerce_int96_timestamp_unit="us",  # as Spark writes times
        ) as file:
            tables.append(file.read(columns=schema.names).select(schema.names).cast(compact))
    rows = pa.concat_tables(tables).unify_dictionaries()
    # Arrow does not order by a dictionary.
    keys = pa.table({name: rows[name].cast(schema.field(name).type) for name in layout.sorted_by})
    return rows.take(pc.sort_indices(keys, [(name, "ascending") for name in layout.sorted_by]))


def _write(rows: pa.Table, folder: str, name: str, layout: Layout) -> dict[str, int]:
    filesystem, inside = place_of(folder, name)
    of_group = max(1, layout.row_group_bytes * len(rows) // max(rows.nbytes, 1))
    pq.write_table(
        rows, inside, filesystem=filesystem, row_group_size=of_group, **layout.for_arrow()
    )
    size = filesystem.get_file_info(inside).size
    # By its own footer: what was written, not what was meant.
    with pq.ParquetFile(inside, filesystem=filesystem) as file:
        return {"bytes": size, "rows": file.metadata.num_rows}
