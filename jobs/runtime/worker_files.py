"""Files of a table that workers write themselves, in place of handing rows to the JVM."""

import posixpath
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.streams import Batch
from jobs.sources.place import filesystem_of

_FACTS: Final = pa.schema(
    [("file", pa.string()), ("rows", pa.int64()), ("low", pa.int64()), ("high", pa.int64())]
)


def answers(rows: pa.Schema) -> pa.Schema:
    """Columns of a worker's answer: its rows', and those that say what a file holds."""
    return pa.schema([*rows, *_FACTS])


def answer(columns: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of an answer; columns that they lack are null.

    Args:
        columns: name -> values, as many in each; not empty.
        schema: of the answer.
    """
    rows = len(next(iter(columns.values())))
    given = {name: pa.array(values) for name, values in columns.items()}
    whole = [given.get(field.name, pa.nulls(rows)).cast(field.type) for field in schema]
    return pa.RecordBatch.from_arrays(whole, schema=schema)


class WorkerFile:
    """A Parquet file that one task writes, once it has a first row.

    Its name is drawn: a task that is tried again writes another, and what a table has is what the
    answers name.
    """

    def __init__(self, folder: str, **options: Any) -> None:
        """Take the table's folder, and options of Arrow's writer."""
        self._filesystem, self._folder = filesystem_of(folder)
        self._options = options
        self._name = f"{uuid.uuid4().hex}.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self._low, self._high = np.iinfo(np.int64).max, np.iinfo(np.int64).min

    def write(self, columns: Mapping[str, Any], row_group_rows: int) -> None:
        """Write rows, at least one; `node` (int64, not null) is among the columns."""
        table = pa.table(dict(columns))
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                posixpath.join(self._folder, self._name),
                table.schema,
                filesystem=self._filesystem,
                **self._options,
            )
        self._writer.write_table(table, row_group_size=row_group_rows)
        node = table["node"].to_numpy()
        self._rows += len(node)
        self._low, self._high = min(self._low, int(node.min())), max(self._high, int(node.max()))

    def closed(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """End the file, and give what is to be said of it: a row of an answer, or none."""
        if self._writer is None:
            return
        self._writer.close()
        facts = (self._name, self._rows, self._low, self._high)
        yield answer({name: [fact] for name, fact in zip(_FACTS.names, facts, strict=True)}, schema)


def append(batch: Batch, said: DataFrame, table: str) -> None:
    """Put the files that workers have written into the table, unless an earlier attempt did.

    Args:
        batch: that the rows of the files name.
        said: by the workers, computed, with the columns of `answers`.
        table: in whose folder the files lie.
    """
    if batch.has_appended(table):
        return
    files = said.where(F.col("file").isNotNull()).select(*_FACTS.names).collect()
    if files:
        batch.append_files(
            {file.file: file.rows for file in files},
            table,
            ranges={"node": {file.file: (file.low, file.high) for file in files}},
        )
