"""The client inside a Spark task: urls come in as Arrow, answers go out in bounded batches."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any, Final

import pyarrow as pa
from pyspark.sql.types import StructType

from jobs.fetch.answer import Answer, Request
from jobs.fetch.client import fetch
from jobs.fetch.rules import Rules
from jobs.runtime.session import ARROW_ROWS
from jobs.runtime.staging import FILE, MediaFile, Staging
from schemas import fetches
from schemas.field import field
from udfs.arrow import record_batch

# Media that wait to be written; more, and the client waits too. Chosen: half of what 2 workers
# may take beside their code.
WAITING_BYTES: Final = 64 * 2**20

ASKED: Final = ("url", "url_sha256", "host", "attempt")
ANSWERED: Final = StructType(
    [
        *(
            field(f.name, f.dataType, f.metadata["comment"], nullable=True)
            for f in fetches.SCHEMA
            if f.name not in ("origin", "batch", "run_id")
        ),
        FILE,
    ]
)
_OF_ANSWERS: Final = [f.name for f in fields(Answer) if f.name in ANSWERED.names]


def fetcher(
    rules: Rules, staging: Staging
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Arrow function from `ASKED` to `ANSWERED`: a row for every row, in order of arrival.

    All urls of a task are known before the first is asked for, so that hosts can take turns.

    Args:
        rules: manners and limits.
        staging: which gets the media.
    """

    def operator(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        requests = [Request(**row) for batch in batches for row in batch.to_pylist()]
        media = MediaFile(staging)
        held: list[dict[str, Any]] = []
        for answer in answers(requests, rules):
            row = _row(answer)
            if answer.content is not None:
                row[FILE.name] = media.put({**row, "content": answer.content, "sha1": answer.sha1})
            held.append(row)
            if len(held) == ARROW_ROWS:
                yield record_batch(held, ANSWERED)
                held = []
        media.close()
        if held:
            yield record_batch(held, ANSWERED)

    return operator


def _row(answer: Answer) -> dict[str, Any]:
    request = answer.request
    row = {name: getattr(answer, name) for name in _OF_ANSWERS}
    row |= {"url_sha256": request.url_sha256, "attempt": request.attempt}
    if answer.matched is not None:
        # Of what stands on a blocklist nothing is kept but the list, the hash and the time.
        nothing = set(row) - {"url_sha256", "attempt", "outcome", "detail", "matched"}
        kept = {"redirects": 0, "tries": answer.tries, "fetched_at": answer.fetched_at}
        return row | dict.fromkeys(nothing) | kept
    return row | {"url": request.url, "host": request.host}


def answers(requests: list[Request], rules: Rules) -> Iterator[Answer]:
    """Every request's answer, as they come.

    The client runs on a thread of its own: deadlines hold while Spark takes its time.
    """
    arrived: queue.SimpleQueue[Answer | BaseException | None] = queue.SimpleQueue()
    client = _Client(requests, rules, arrived)
    client.start()
    try:
        while (met := arrived.get()) is not None:
            if isinstance(met, BaseException):
                raise met
            client.took(met)
            yield met
    finally:
        client.stop()


class _Client(threading.Thread):
    """Fetches, and waits while too much waits to be taken."""

    def __init__(
        self,
        requests: list[Request],
        rules: Rules,
        arrived: "queue.SimpleQueue[Answer | BaseException | None]",
    ) -> None:
        super().__init__(name="fetch", daemon=True)
        self._requests = requests
        self._rules = rules
        self._arrived = arrived
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._waiting_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    def run(self) -> None:
        """Fetch everything, then say that it was all."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    runner.run(self._fetch())
            except BaseException as error:
                self._arrived.put(error)
        self._arrived.put(None)

    async def _fetch(self) -> None:
        self._task = asyncio.current_task()
        await fetch(self._requests, self._rules, self._deliver, self._has_room.wait)

    def _deliver(self, answer: Answer) -> None:
        self._waiting_bytes += len(answer.content or b"")
        self._arrived.put(answer)
        if self._waiting_bytes > WAITING_BYTES:
            self._has_room.clear()

    def took(self, answer: Answer) -> None:
        """Called from the task's thread: the answer waits no longer."""
        if answer.content:
            self._soon(self._left, len(answer.content))

    def _left(self, size_bytes: int) -> None:
        self._waiting_bytes -= size_bytes
        if self._waiting_bytes <= WAITING_BYTES:
            self._has_room.set()

    def stop(self) -> None:
        """Called from the task's thread: end now, if not ended already."""
        if self._task is not None:
            self._soon(self._task.cancel)
        self.join()

    def _soon(self, call: Callable[..., object], *given: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *given)
