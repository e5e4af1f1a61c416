"""What a set of signals is known by, and how one bad row is kept from its neighbours."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from schemas.error_classes import OK


class Signal(Protocol):
    """What every signal says of itself, and does with a batch."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns it fills."""

    @property
    def version(self) -> str:
        """What its values depend on, models' sha256 included."""

    def load(self) -> str | None:
        """Get ready in this process; the execution provider, if a network runs."""

    def finish(self, items: Any, /) -> dict[str, list[Any]]:
        """Values of a batch, column by column."""


def digest(versions: Iterable[str]) -> str:
    """Digest over the versions of rules and the sha256 of models, in any order.

    >>> digest(["phash/1", "sharpness/1"]) == digest(["sharpness/1", "phash/1"])
    True
    """
    return hashlib.sha256("\n".join(sorted(versions)).encode()).hexdigest()[:16]


def check_columns(signals: Iterable[Signal], known: Iterable[str]) -> None:
    """Refuse signals that the table has no column for.

    Raises:
        ValueError: naming those columns.
    """
    unknown = {column for signal in signals for column in signal.columns} - set(known)
    if unknown:
        raise ValueError(
            f"signal columns {sorted(unknown)} are not in the table; add them to its schema"
        )


def fill(
    signals: Sequence[Signal],
    rows: Sequence[dict[str, Any]],
    prepared: Sequence[Sequence[Any]],
    refused: Callable[[dict[str, Any], Exception], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Add the columns of every signal to the rows whose status is ok.

    A batch on which a signal fails is tried again row by row, so that only bad rows fail.

    Args:
        signals: what to measure.
        rows: n rows so far, each with its ``status``.
        prepared: n times one item a signal; ignored where the status is not ok.
        refused: the row of an item that a signal failed on.

    Returns:
        n rows, in order.
    """
    filled = list(rows)
    for position, signal in enumerate(signals):
        sound = [n for n, row in enumerate(filled) if row["status"] == OK]
        outcomes = _finished(signal, [prepared[n][position] for n in sound])
        for n, outcome in zip(sound, outcomes, strict=True):
            if isinstance(outcome, Exception):
                filled[n] = refused(filled[n], outcome)
            else:
                filled[n] = filled[n] | outcome
    return filled


def _finished(signal: Signal, items: Sequence[Any]) -> list[dict[str, Any] | Exception]:
    if not items:
        return []
    try:
        columns = signal.finish(items)
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, values, strict=True)) for values in rows]
    except Exception as error:  # whatever one row does to a signal
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in _finished(signal, [item])]
