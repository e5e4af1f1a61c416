"""Everything measured on an image in one pass over its bytes."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql.pandas.types import to_arrow_schema

from schemas.error_classes import OK
from schemas.image_signals import SIGNALS
from udfs.examine import Examine
from udfs.image_codec import Decoded, ImageRefused, said
from udfs.isolation import Limits, Lost, each, isolated
from udfs.signal_set import check_columns, fill

_Row = tuple[str, bytes | None]
# Images that go to a child in one message. Measured, CPU time against threads with the bench's
# network, two busy cores: 1 image +13 %, 4 images +7 %, 8 images +5 %.
_GROUP_ROWS: Final = 8
_LIMITS: Final = Limits()
BATCH_SIZE: Final = 32  # chosen: the networks gain nothing above it, and crops stay small
DECODERS: Final = 2
PREFETCH_BYTES: Final = 64 << 20  # chosen: two shards' worth of photographs in flight
_SCHEMA: Final = to_arrow_schema(SIGNALS)


class ImageSignal(Protocol):
    """One measurement of a picture; picklable, for ``prepare`` runs in other processes."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns it fills."""

    @property
    def version(self) -> str:
        """What its values depend on, models' sha256 included."""

    def load(self) -> str | None:
        """Get ready in this process; the execution provider, if a network runs."""

    def prepare(self, decoded: Decoded) -> Any:
        """The small part of a picture that ``finish`` needs, picklable; runs in a child process."""

    def finish(self, prepared: Sequence[Any]) -> dict[str, list[Any]]:
        """Values of a batch, column by column; an error is put down to single rows."""


@dataclass(frozen=True)
class _Examined:
    """An image's row so far, and what each signal took from it; nothing, if it was refused."""

    row: dict[str, Any]
    prepared: tuple[Any, ...]


def image_signals_udf(
    signals: Sequence[ImageSignal],
    *,
    max_pixels: int,
    batch_size: int = BATCH_SIZE,
    decoders: int = DECODERS,
    prefetch_bytes: int = PREFETCH_BYTES,
    isolation: Limits | None = _LIMITS,
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Function for ``mapInArrow``: bytes in, one row of signals an image out.

    Images are decoded ahead of the networks, in order; each is decoded once for all signals. A
    bad image costs its own row: its status and detail, nulls for the rest. So does one that
    crashes its decoder, or takes too much time or memory.

    Args:
        signals: what to measure.
        max_pixels: largest accepted width x height.
        batch_size: images a network sees at once, whatever the transport batches are.
        decoders: images decoded at a time, each by a child process of its own; more where the
            task has more cores, as one has that shares a GPU with few.
        prefetch_bytes: image bytes in flight; one larger image goes alone.
        isolation: what an image may take of its child process; None decodes on threads of this
            process, for a debugger to look at.

    Returns:
        (media_sha256, content) batches, content null where it is gone -> batches of
        ``schemas.image_signals.SIGNALS``, same order and count.

    Raises:
        ValueError: a signal fills a column that the table lacks.
        IsolationBroken: no child process can be had; raised where the function is used.
    """
    check_columns(signals, SIGNALS.names)
    examine = Examine(tuple(signals), max_pixels)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        task = (
            contextlib.nullcontext(partial(each, examine))
            if isolation is None
            else isolated(examine, isolation)
        )
        at_a_time = max(decoders, _cores())
        with task as examine_each, _threads(at_a_time) as pool:
            # opened while the children get ready
            providers = [signal.load() for signal in signals]
            work = partial(_examined, examine_each, next(filter(None, providers), None))
            group_rows = min(_GROUP_ROWS, batch_size)
            groups = _groups(_rows(batches), prefetch_bytes // (2 * at_a_time), group_rows)
            # A batch ahead, and two groups a decoder, that none of many waits for the network.
            ahead = batch_size + max(batch_size, 2 * at_a_time * group_rows)
            examined = _in_order(pool, work, groups, prefetch_bytes, ahead)
            while batch := list(islice(examined, batch_size)):
                yield pa.RecordBatch.from_pylist(_finish(signals, batch), schema=_SCHEMA)

    return score


def _cores() -> int:
    """Of the task, as Spark counts them."""
    task = TaskContext.get()
    return int(task.cpus()) if task else 1


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that take nothing up any more once the work is left."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[_Row]:
    for batch in batches:
        for key, content in zip(batch["media_sha256"], batch["content"], strict=True):
            yield key.as_py(), content.as_py()


def _groups(
    rows: Iterator[_Row], most_bytes: int, most_rows: int
) -> Iterator[tuple[list[_Row], int]]:
    """Rows that go to a child in one message, and their bytes; the last may pass the limit."""
    group: list[_Row] = []
    held = 0
    for key, content in rows:
        group.append((key, content))
        held += len(content or b"")
        if held >= most_bytes or len(group) == most_rows:
            yield group, held
            group, held = [], 0
    if group:
        yield group, held


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[list[_Row]], list[_Examined]],
    groups: Iterator[tuple[list[_Row], int]],
    most_bytes: int,
    most_rows: int,
) -> Iterator[_Examined]:
    pending: deque[tuple[Future[list[_Examined]], int, int]] = deque()
    rows = held = 0
    for group, size in groups:
        pending.append((pool.submit(work, group), len(group), size))
        rows += len(group)
        held += size
        while held > most_bytes or rows > most_rows:
            future, count, size = pending.popleft()
            rows -= count
            held -= size
            yield from future.result()
    for future, _, _ in pending:
        yield from future.result()


def _examined(
    examine_each: Callable[[list[bytes]], list[Any]], provider: str | None, rows: list[_Row]
) -> list[_Examined]:
    outcomes = iter(examine_each([content for _, content in rows if content is not None]))
    gone = ImageRefused("media_gone", "its dump no longer holds these bytes")
    return [
        _of(key, provider, gone if content is None else next(outcomes)) for key, content in rows
    ]


def _of(key: str, provider: str | None, outcome: Any) -> _Examined:
    if isinstance(outcome, Exception):
        return _Examined(_refused(key, outcome), ())
    facts, prepared = outcome
    return _Examined({"media_sha256": key, "status": OK, "provider": provider, **facts}, prepared)


def _finish(signals: Sequence[ImageSignal], batch: Sequence[_Examined]) -> list[dict[str, Any]]:
    rows = [examined.row for examined in batch]
    return fill(
        signals,
        rows,
        [examined.prepared for examined in batch],
        lambda row, error: _refused(row["media_sha256"], error),
    )


def _refused(key: str, error: Exception) -> dict[str, Any]:
    if isinstance(error, MemoryError):  # met without isolation only: it ends a child
        error = Lost("decoder_memory", said(error))
    if not isinstance(error, ImageRefused | Lost):
        error = ImageRefused("corrupt_image", f"a signal failed: {said(error)}")
    return {"media_sha256": key, "status": error.error_class, "detail": error.detail}
