"""The bytes of stored media, wherever they lie: in `bronze.media`, or in a file of their dump."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Final

import pyarrow as pa

from jobs.sources.entry import EntryRefused
from jobs.sources.place import Place

# What must be known of media to have their bytes.
COLUMNS: Final = ("media_sha256", "content", "size_bytes", "root", "path", "offset_bytes")
_BATCH_BYTES: Final = 16 * 2**20  # as those that ingest hands to Spark
_SCHEMA: Final = pa.schema([("media_sha256", pa.string()), ("content", pa.binary())])

Function = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]


def with_bytes(work: Function) -> Function:
    """The function for `mapInArrow` that gives another the media's bytes.

    Args:
        work: takes batches of `media_sha256` and `content`. Content is null where the dump no
            longer holds these very bytes.

    Returns:
        A function that takes batches of `COLUMNS`.
    """

    def read(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        return work(_loaded(batches))

    return read


def _loaded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    files = Files()
    for batch in batches:
        if batch["path"].null_count == batch.num_rows:
            yield batch.select(_SCHEMA.names)
            continue
        # What a few references stand for may be a thousand times what they take.
        held: list[dict[str, Any]] = []
        held_bytes = 0
        for row in batch.to_pylist():
            content = files.content(row)
            if held and held_bytes + len(content or b"") > _BATCH_BYTES:
                yield pa.RecordBatch.from_pylist(held, schema=_SCHEMA)
                held, held_bytes = [], 0
            held.append({"media_sha256": row["media_sha256"], "content": content})
            held_bytes += len(content or b"")
        if held:
            yield pa.RecordBatch.from_pylist(held, schema=_SCHEMA)
    files.close()


class Files:
    """Files of dumps that media lie in; the last one stays open, for the next may lie in it too."""

    def __init__(self) -> None:
        self._place: Place | None = None
        self._stream: BinaryIO | None = None

    def content(self, row: Mapping[str, Any]) -> bytes | None:
        """The bytes of media; null if they are no longer where they were.

        Args:
            row: columns of `COLUMNS`.
        """
        if row["path"] is None:
            content: bytes = row["content"]
            return content
        try:
            stream = self._opened(Place(row["root"], row["path"]))
            stream.seek(row["offset_bytes"])
            content = stream.read(row["size_bytes"])
        except (OSError, EntryRefused):
            return None
        return content if hashlib.sha256(content).hexdigest() == row["media_sha256"] else None

    def close(self) -> None:
        """Close what is open."""
        if self._stream is not None:
            self._stream.close()
        self._place = self._stream = None

    def _opened(self, place: Place) -> BinaryIO:
        if self._stream is None or place != self._place:
            self.close()
            self._stream, self._place = place.open(), place
        return self._stream
