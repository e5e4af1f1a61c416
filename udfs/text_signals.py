"""Everything measured on a text in one pass."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema

from schemas.error_classes import OK
from schemas.text_signals import SIGNALS
from udfs.signal_set import check_columns, fill

BATCH_SIZE: Final = 64
_SCHEMA: Final = to_arrow_schema(SIGNALS)


class TextSignal(Protocol):
    """One measurement of a text; picklable."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns it fills."""

    @property
    def version(self) -> str:
        """What its values depend on, models' sha256 included."""

    def load(self) -> str | None:
        """Get ready in this process; the execution provider, if a network runs."""

    def finish(self, texts: Sequence[str], /) -> dict[str, list[Any]]:
        """Values of a batch, column by column; an error is put down to single rows."""


def text_signals_udf(
    signals: Sequence[TextSignal], *, batch_size: int = BATCH_SIZE
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Function for ``mapInArrow``: captions in, one row of signals a text out.

    A text that a signal fails on costs its own row: status ``text_not_scored``, nulls for the
    rest; the detail names the error's type only, since messages may quote the text.

    Args:
        signals: what to measure.
        batch_size: texts a network sees at once, whatever the transport batches are.

    Returns:
        (text_sha256, caption) batches -> batches of ``schemas.text_signals.SIGNALS``, same
        order and count.

    Raises:
        ValueError: a signal fills a column that the table lacks.
    """
    check_columns(signals, SIGNALS.names)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        provider = next(filter(None, [signal.load() for signal in signals]), None)
        rows = _rows(batches)
        while batch := list(islice(rows, batch_size)):
            scored = fill(
                signals,
                [{"text_sha256": key, "status": OK, "provider": provider} for key, _ in batch],
                [[text] * len(signals) for _, text in batch],
                _refused,
            )
            yield pa.RecordBatch.from_pylist(scored, schema=_SCHEMA)

    return score


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, str]]:
    for batch in batches:
        for key, text in zip(batch["text_sha256"], batch["caption"], strict=True):
            yield key.as_py(), text.as_py()


def _refused(row: dict[str, Any], error: Exception) -> dict[str, Any]:
    return {
        "text_sha256": row["text_sha256"],
        "status": "text_not_scored",
        "detail": f"a signal failed: {type(error).__name__}",
    }
