import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import pytest

from jobs.fetch.host import Host
from jobs.fetch.robots import Robots

SLACK_S = 0.005  # of a clock


def asked(host: Host, work: Callable[[], Awaitable[None]], guests: int) -> list[float]:
    """Seconds from the start at which each of the guests has its turn, `work` beside them."""

    async def run() -> list[float]:
        start = time.monotonic()

        async def guest() -> float:
            await host.turn()
            return time.monotonic() - start

        waiting = [asyncio.ensure_future(guest()) for _ in range(guests)]
        await work()
        return list(await asyncio.gather(*waiting))

    return asyncio.run(run())


async def nothing() -> None:
    pass


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_the_first_turn_comes_at_once_and_the_others_at_the_rate() -> None:
    times = asked(Host(rate=50, max_failures=1), nothing, 5)

    assert times == sorted(times)
    assert times[0] < 0.02
    assert min(gaps(times)) >= 1 / 50 - SLACK_S


def test_a_rest_holds_for_all_who_wait_and_no_burst_follows_it() -> None:
    host = Host(rate=50, max_failures=1)

    async def rest() -> None:
        await asyncio.sleep(0.03)
        host.rest(0.2)

    times = asked(host, rest, 8)

    assert not [at for at in times if 0.04 < at < 0.22]
    assert min(gaps(times)) >= 1 / 50 - SLACK_S


def test_a_shorter_rest_does_not_end_a_longer_one() -> None:
    host = Host(rate=1000, max_failures=1)
    host.rest(0.15)
    host.rest(0.01)

    assert asked(host, nothing, 1)[0] >= 0.15 - SLACK_S


def test_a_slower_pace_holds_for_those_who_wait_already() -> None:
    host = Host(rate=20, max_failures=1)

    async def slow_down() -> None:
        await asyncio.sleep(0.01)
        host.slow_down(0.15)
        host.slow_down(0.001)  # never faster

    assert min(gaps(asked(host, slow_down, 3))) >= 0.15 - SLACK_S


def test_a_guest_who_leaves_costs_nobody_a_turn() -> None:
    host = Host(rate=10, max_failures=1)

    async def run() -> float:
        await host.turn()
        start = time.monotonic()
        leaving = [asyncio.ensure_future(host.turn()) for _ in range(5)]
        await asyncio.sleep(0.01)
        for guest in leaving:
            guest.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await host.turn()
        return time.monotonic() - start

    assert 0.1 - SLACK_S <= asyncio.run(run()) < 0.19


def test_a_host_is_left_alone_after_failures_in_a_row() -> None:
    host = Host(rate=1, max_failures=2)
    host.failed()
    host.answered()
    host.failed()
    assert not host.is_unresponsive
    host.failed()
    assert host.is_unresponsive
    host.answered()
    assert not host.is_unresponsive


def test_the_robots_of_a_site_are_asked_for_once_even_if_who_asked_leaves() -> None:
    host = Host(rate=1, max_failures=1)
    calls: list[str] = []
    answer = object()

    def asking(site: str) -> Callable[[], Awaitable[Robots]]:
        async def ask() -> Robots:
            calls.append(site)
            await asyncio.sleep(0.02)
            return answer  # type: ignore[return-value]

        return ask

    async def run() -> None:
        first = asyncio.ensure_future(host.robots("a", asking("a")))
        await asyncio.sleep(0.005)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (
            await asyncio.gather(
                host.robots("a", asking("a")),
                host.robots("a", asking("a")),
                host.robots("b", asking("b")),
            )
            == [answer] * 3
        )

    asyncio.run(run())
    assert sorted(calls) == ["a", "b"]
