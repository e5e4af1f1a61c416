"""What is computed from the CLIP embedding of an image: no pixel is looked at again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.pandas.types import to_arrow_schema

from schemas.image_signals import SIGNALS
from udfs.embedding import unpack
from udfs.image_codec import said
from udfs.signal_set import Signal, check_columns, fill

_SCHEMA: Final = to_arrow_schema(SIGNALS)


def embedding_signals_udf(
    signals: Sequence[Signal],
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Function for ``mapInArrow``: rows of image signals in, the same rows with more columns out.

    A row that was refused stays as it is. One that a signal fails on is refused: its status and
    detail, nulls for the rest.

    Args:
        signals: what to measure; each ``finish`` takes unit embeddings, (n, d) float32.

    Returns:
        batches of ``schemas.image_signals.SIGNALS`` -> the same, same order and count.

    Raises:
        ValueError: a signal fills a column that the table lacks.
    """
    check_columns(signals, SIGNALS.names)

    of_packed = [_OfPacked(signal) for signal in signals]

    def derive(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for signal in of_packed:
            signal.load()
        for batch in batches:
            yield _derived(of_packed, batch)

    return derive


@dataclass(frozen=True)
class _OfPacked:
    """A signal that takes embeddings as the table has them: a bad one fails in its own row."""

    signal: Signal

    @property
    def columns(self) -> Sequence[str]:
        return self.signal.columns

    @property
    def version(self) -> str:
        return self.signal.version

    def load(self) -> str | None:
        return self.signal.load()

    def finish(self, packed: Sequence[bytes]) -> dict[str, list[Any]]:
        return self.signal.finish(unpack(packed))


def _derived(signals: Sequence[Signal], batch: pa.RecordBatch) -> pa.RecordBatch:
    rows = fill(
        signals,
        [{"status": status.as_py()} for status in batch["status"]],
        [[packed.as_py()] * len(signals) for packed in batch["clip_embedding"]],
        lambda _, error: {"status": "corrupt_image", "detail": f"a signal failed: {said(error)}"},
    )
    # "detail" is new on the rows that were refused here alone: they lose their other values.
    stays = pa.array(["detail" not in row for row in rows])
    columns = {
        field.name: pc.if_else(stays, batch[field.name], pa.scalar(None, field.type))
        for field in _SCHEMA
    }
    for name in {name for row in rows for name in row}:
        told = pa.array([row.get(name) for row in rows], _SCHEMA.field(name).type)
        columns[name] = pc.coalesce(told, columns[name])
    columns["media_sha256"] = batch["media_sha256"]
    return pa.RecordBatch.from_arrays([columns[field.name] for field in _SCHEMA], schema=_SCHEMA)
