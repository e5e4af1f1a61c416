"""How rows lie in the files of a table, for all who write one: Spark, its workers, compaction."""

from collections.abc import Sequence
from typing import Final, NamedTuple

# What is read to have one row, where a table is written to be looked up: about 256 embeddings of
# 512 x 2 bytes, as many rows as a row group of `silver.shingles` has (measured: 252).
LOOKED_UP: Final = 256 * 1024
# Of a table that is read as a whole: as the session has Spark write (jobs/runtime/session.py).
SCANNED: Final = 8 * 1024 * 1024


class Layout(NamedTuple):
    """What a file's writer must know.

    Attributes:
        sorted_by: columns by which the rows of a file are in order.
        row_group_bytes: about how much of the rows is a row group; LOOKED_UP or SCANNED.
        repeating: columns of text of few values, as a dictionary; hashes neither repeat nor shrink.
        delta: columns of integers that ascend, or of few bits, by Parquet's DELTA_BINARY_PACKED.
            Measured, 4.5 M keys and nodes: nodes packed so too make 8.2 in place of 10.4 bytes a
            row (of 32 shards, whose ordinals lie far apart, 10.4 of 10.6), and half the time to
            read them.
        compression: of pages.
    """

    sorted_by: tuple[str, ...]
    row_group_bytes: int = SCANNED
    repeating: Sequence[str] = ("batch",)
    delta: Sequence[str] = ()
    compression: str = "snappy"

    def for_arrow(self) -> dict[str, object]:
        """Options of Arrow's writer.

        >>> Layout(("key",), delta=("key",)).for_arrow()["column_encoding"]
        {'key': 'DELTA_BINARY_PACKED'}
        """
        return {
            "compression": self.compression,
            "use_dictionary": list(self.repeating),
            "column_encoding": dict.fromkeys(self.delta, "DELTA_BINARY_PACKED") or None,
        }
