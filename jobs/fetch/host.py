"""A host as its guests should see it: few connections, a pace, rests when it asks for them."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable

from jobs.fetch.answer import Request
from jobs.fetch.robots import Robots


class Host:
    """What is known of a host, and the requests that wait for it.

    Args:
        rate: requests a second, at most.
        max_failures: deadlines in a row after which it is left alone for this batch.
        failures: deadlines in a row so far.
    """

    def __init__(self, *, rate: float, max_failures: int, failures: int = 0) -> None:
        self.waiting: deque[Request] = deque()
        self._interval_s = 1 / rate
        self._turns = asyncio.Lock()
        self._max_failures = max_failures
        self._asked_at = -math.inf
        self._rests_until = -math.inf
        self._failures = failures
        self._robots: dict[str, asyncio.Task[Robots]] = {}

    @property
    def is_unresponsive(self) -> bool:
        """Whether it let the last requests, all of them, run into their deadline."""
        return self._failures >= self._max_failures

    def answered(self) -> None:
        """It has given an answer, whatever it was."""
        self._failures = 0

    def failed(self) -> None:
        """It has let a request run into its deadline."""
        self._failures += 1

    def rest(self, seconds: float) -> None:
        """Leave it alone for so long."""
        self._rests_until = max(self._rests_until, time.monotonic() + seconds)

    def slow_down(self, interval_s: float) -> None:
        """Leave so long between two requests, if that is longer than now."""
        self._interval_s = max(self._interval_s, interval_s)

    async def turn(self) -> None:
        """Wait until the host may be asked again; who came first goes first."""
        async with self._turns:
            # A rest, or a slower pace, that is asked for meanwhile holds for all who wait; and
            # after a rest they come one by one, not all at once.
            while (left_s := self._due() - time.monotonic()) > 0:
                await asyncio.sleep(left_s)
            self._asked_at = time.monotonic()

    def _due(self) -> float:
        return max(self._asked_at + self._interval_s, self._rests_until)

    async def robots(self, site: str, ask: Callable[[], Awaitable[Robots]]) -> Robots:
        """The robots.txt of a site of the host, asked for once."""
        task = self._robots.get(site)
        if task is None:
            task = asyncio.ensure_future(ask())
            self._robots[site] = task
        return await asyncio.shield(task)
