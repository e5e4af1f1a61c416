"""A table streams past what every task holds: workers read its files themselves, by Arrow.

By way of the JVM a row is read into columns, made into a row, written as Arrow and sent through a
pipe, which costs more than what is done with it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from jobs.runtime.held import computed
from jobs.runtime.lookup import may_hold, place_of
from jobs.runtime.session import ROW_GROUP_BYTES, SPLIT_BYTES
from jobs.runtime.streams import Batch
from jobs.runtime.tables import Warehouse, contract

# Rows that a worker has at a time: of 80 bytes, those of the widest index, 8 MB.
_ROWS: Final = 100_000

_Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Where rows lie, and which: those of a table that another batch wrote.

    Attributes:
        folder: of the table.
        schema: of the columns that are read.
        key: of them the first by which files are sorted.
        batch: whose rows are left out.
    """

    folder: str
    schema: pa.Schema
    key: str
    batch: str

    def rows(
        self, path: str, part: int, parts: int, asked: np.ndarray | None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a part of a file's row groups: of those that can hold a key that is asked."""
        filesystem, inside = place_of(self.folder, path)
        with pq.ParquetFile(inside, filesystem=filesystem, read_dictionary=["batch"]) as file:
            groups = _groups(file, part, parts)
            if asked is not None:
                groups = [g for g in groups if may_hold(file.metadata, g, self.key, asked)]
            columns = [*self.schema.names, "batch"]
            for rows in file.iter_batches(_ROWS, row_groups=groups, columns=columns):
                yield self._of_others(rows).select(self.schema.names).cast(self.schema)

    def _of_others(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        names = rows["batch"].dictionary.to_pylist()
        if self.batch not in names:
            return rows
        return rows.filter(pc.not_equal(rows["batch"].indices, names.index(self.batch)))


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """Rows to pass a function in Python: those of history, and fresh ones.

    Attributes:
        frame: the columns, and `is_old`, `path`, `part`, `parts`. Where there is a path, the row
            stands for those of a part of a file.
        columns: of the rows.
        files: how those are read; null: no row stands for others.
    """

    frame: DataFrame
    columns: tuple[str, ...]
    files: _Files | None = None

    @classmethod
    def of(cls, rows: DataFrame, *, is_old: bool = True) -> "Streamed":
        """Rows that Spark has."""
        nothing = {"path": "string", "part": "int", "parts": "int"}
        frame = rows.withColumns(
            {"is_old": F.lit(is_old), **{n: F.lit(None).cast(t) for n, t in nothing.items()}}
        )
        return cls(frame=frame, columns=tuple(rows.columns))

    @classmethod
    def history(cls, batch: Batch, table: str, columns: Sequence[str]) -> "Streamed":
        """Rows of a table with a LAYOUT as they were before a batch, as `Batch.history` has them.

        Args:
            batch: whose rows are left out.
            table: its name; with a column `batch`.
            columns: wanted.
        """
        warehouse, module = batch.warehouse, contract(table)
        schema = StructType([module.SCHEMA[name] for name in columns])
        if not warehouse.file_count(table):
            return cls.of(warehouse.empty(schema))
        nothing = {f.name: F.lit(None).cast(f.dataType) for f in schema}
        return cls(
            frame=_places(warehouse, table).withColumns({**nothing, "is_old": F.lit(True)}),
            columns=tuple(columns),
            files=_Files(
                folder=warehouse.path(table),
                schema=to_arrow_schema(schema),
                key=module.LAYOUT.sorted_by[0],
                batch=batch.name,
            ),
        )

    def with_fresh(self, rows: DataFrame) -> "Streamed":
        """The same and fresh rows; they have all columns."""
        fresh = Streamed.of(rows.select(*self.columns), is_old=False).frame
        frame = self.frame.unionByName(fresh)
        return Streamed(frame=frame, columns=self.columns, files=self.files)

    def map_in_arrow(
        self,
        function: Callable[[_Batches], _Batches],
        schema: str,
        *,
        asked: np.ndarray | None = None,
    ) -> DataFrame:
        """As Spark's `mapInArrow`, of the rows' columns and `is_old`.

        Args:
            function: of the batches of a task.
            schema: of what it gives.
            asked: keys by which files are sorted, ascending; rows of others may be left out.
        """
        files, columns = self.files, self.columns

        def mapped(batches: _Batches) -> _Batches:
            return function(_opened(batches, files, columns, asked))

        order = [*columns, "is_old", "path", "part", "parts"]
        return self.frame.select(*order).mapInArrow(mapped, schema)


def _opened(
    batches: _Batches,
    files: _Files | None,
    columns: Sequence[str],
    asked: np.ndarray | None,
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        at_hand = batch.filter(pc.is_null(batch["path"])) if files else batch
        if len(at_hand):
            yield at_hand.select([*columns, "is_old"])
        if files is None:
            continue
        for place in batch.filter(pc.is_valid(batch["path"])).to_pylist():
            for rows in files.rows(place["path"], place["part"], place["parts"], asked):
                yield rows.append_column("is_old", pa.repeat(place["is_old"], len(rows)))


def having(
    warehouse: Warehouse, table: str, key: str, keys: DataFrame, columns: Sequence[str]
) -> DataFrame:
    """The rows of a table that have one of the keys, where the table is in no order of them.

    All rows are passed over, but by their key alone; of the rest only those row groups are read
    that have one.

    Args:
        warehouse: holds the table.
        table: its name.
        key: a column of text.
        keys: has it, without null; as many as fit into every task.
        columns: wanted beside the key.

    Returns:
        `key`, `columns` and `file`, which says to `lookup.rows_in` where the row lies; computed.
    """
    of_table = StructType([contract(table).SCHEMA[name] for name in (key, *columns)])
    schema = of_table.add("file", "string")
    if not warehouse.file_count(table):
        return warehouse.empty(schema)
    asked = keys.select(key).distinct().toArrow()[key].combine_chunks()
    sent = warehouse.spark.sparkContext.broadcast(asked)
    find = _finding(sent, warehouse.path(table), key, to_arrow_schema(schema))
    try:
        return computed(_places(warehouse, table).mapInArrow(find, schema))
    finally:
        sent.destroy()


def _finding(
    sent: Broadcast[pa.Array], folder: str, key: str, schema: pa.Schema
) -> Callable[[_Batches], Iterator[pa.RecordBatch]]:
    def find(batches: _Batches) -> Iterator[pa.RecordBatch]:
        for place in (place for batch in batches for place in batch.to_pylist()):
            filesystem, inside = place_of(folder, place["path"])
            # As Spark writes times.
            opened = pq.ParquetFile(inside, filesystem=filesystem, coerce_int96_timestamp_unit="us")
            with opened as file:
                for group in _groups(file, place["part"], place["parts"]):
                    is_asked = pc.is_in(
                        file.read_row_group(group, columns=[key])[key], value_set=sent.value
                    )
                    if pc.any(is_asked).as_py():
                        rows = file.read_row_group(group, columns=schema.names[:-1])
                        rows = rows.filter(is_asked)
                        rows = rows.append_column("file", pa.repeat(place["path"], len(rows)))
                        yield from rows.select(schema.names).cast(schema).to_batches()

    return find


def _places(warehouse: Warehouse, table: str) -> DataFrame:
    """Where the rows of a table lie, dealt out to tasks: `path` of a file, `part` of `parts`."""
    parts = F.ceil(F.col("size") / ROW_GROUP_BYTES).cast("int")
    every = F.explode(F.sequence(F.lit(0), F.col("parts") - 1))
    cores = warehouse.spark.sparkContext.defaultParallelism
    tasks = max(cores, -(-warehouse.size_bytes(table) // SPLIT_BYTES))
    files = warehouse.files(table).select("path", parts.alias("parts"))
    return files.select("path", every.alias("part"), "parts").repartition(tasks)


def _groups(file: pq.ParquetFile, part: int, parts: int) -> list[int]:
    """The row groups of a part of a file."""
    count = file.num_row_groups
    return [group for group in range(count) if group * parts // count == part]
