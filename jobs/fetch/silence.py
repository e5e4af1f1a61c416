"""Hosts that let a whole batch run into its deadlines: later batches of the run leave them alone.

Each batch would wait for the same deadline again, and a run over many URLs meets some such host in
nearly every batch.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F

ASKED: Final = "deadline_passed"
NOT_ASKED: Final = "host_unresponsive"


class Silence:
    """Which hosts are to be left alone; known to one run, on its driver.

    Args:
        seconds: for how long, from when they are noted.
        clock: seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}

    def note(self, hosts: Iterable[str]) -> None:
        """Leave these alone from now on."""
        until = self._clock() + self._seconds
        self._until.update(dict.fromkeys(hosts, until))

    def hosts(self) -> frozenset[str]:
        """Those whose time is not over.

        >>> silence = Silence(60, clock=iter([0, 59, 60]).__next__)
        >>> silence.note(["a.test"])
        >>> silence.hosts(), silence.hosts()
        (frozenset({'a.test'}), frozenset())
        """
        now = self._clock()
        self._until = {host: until for host, until in self._until.items() if now < until}
        return frozenset(self._until)


def is_silent(outcome: Column) -> Column:
    """Whether, of the answers of a host, there was none but deadlines, and it was asked.

    Args:
        outcome: of an answer; the result is over a group of them.
    """
    return F.bool_and(outcome.isin(ASKED, NOT_ASKED)) & F.bool_or(outcome == ASKED)
