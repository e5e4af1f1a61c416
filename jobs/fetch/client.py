"""The client: many requests at a time, every host treated as if it were the only one.

Each host has its own queue, pace and few connections, and all share one pool of turns, first
come, first served: hosts interleave by themselves, and one that hangs holds its own queue only.
"""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import AsyncResolver
from yarl import URL

from jobs.fetch import body
from jobs.fetch.addresses import Allowed
from jobs.fetch.answer import Answer, Failed, Request
from jobs.fetch.host import Host
from jobs.fetch.reading import below_http, read
from jobs.fetch.robots import MAX_BYTES as ROBOTS_BYTES
from jobs.fetch.robots import Robots
from jobs.fetch.rules import AGENT, Rules
from jobs.fetch.urls import Target, parse
from jobs.sources.entry import EntryRefused

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})  # RFC 9110 §15.4
_DNS_TTL_S: Final = 300  # chosen: longer than a batch's visits to a host, shorter than a move
LARGE_AT_A_TIME: Final = 4  # chosen: 4 of 64 MiB beside 128 small ones fit a worker


async def fetch(
    requests: Iterable[Request],
    rules: Rules,
    deliver: Callable[[Answer], None],
    room: Callable[[], Awaitable[object]],
) -> None:
    """Fetch everything, each request once.

    Args:
        requests: distinct urls.
        rules: manners and limits.
        deliver: is called with every answer as it comes.
        room: is awaited before every request, which holds its turn meanwhile: what is under way
            while there is no room are as many answers as there are turns, never more.
    """
    settings = rules.settings
    hosts: dict[str, Host] = {}
    for request in requests:
        hosts.setdefault(request.host, _host(rules, request.host)).waiting.append(request)
    async with _session(rules) as session:
        visit = _Visit(session, rules, hosts, room)
        async with asyncio.TaskGroup() as group:
            for host in list(hosts.values()):
                for _ in range(min(settings.host_concurrency, len(host.waiting))):
                    group.create_task(visit.work(host, deliver))


def _host(rules: Rules, name: str) -> Host:
    most = rules.settings.host_failures
    failures = most if name in rules.silent else 0
    return Host(rate=rules.settings.host_rate, max_failures=most, failures=failures)


@asynccontextmanager
async def _session(rules: Rules) -> AsyncIterator[aiohttp.ClientSession]:
    settings = rules.settings
    resolver = _Resolver(rules.allowed, settings.nameservers)
    connector = aiohttp.TCPConnector(
        limit=0,  # turns are counted here, not there
        resolver=resolver,
        ttl_dns_cache=_DNS_TTL_S,
        ssl=ssl.create_default_context(cafile=settings.ca_file),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        # Deadlines are kept here: theirs are per read, a drip would go on for ever.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_s),
        headers={
            "User-Agent": rules.user_agent,
            "Accept": "image/*,*/*;q=0.5",
            "Accept-Encoding": "identity",
        },
    ) as session:
        yield session
    await resolver.close()


class _Resolver(AbstractResolver):
    """Names to addresses by c-ares; the forbidden ones are not handed on."""

    def __init__(self, allowed: Allowed, nameservers: Sequence[str]) -> None:
        self._allowed = allowed
        self._names = AsyncResolver(nameservers=list(nameservers) or None)

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """The addresses that a connection may lead to.

        Raises:
            Failed: there is none.
        """
        found = await self._names.resolve(host, port, family)  # type: ignore[arg-type]
        permitted = [met for met in found if self._allowed.permits(met["host"], port)]
        if found and not permitted:
            raise Failed("address_refused", "none of the host's addresses is allowed")
        return permitted

    async def close(self) -> None:
        """Let c-ares go."""
        await self._names.close()


class _Visit:
    """One run over all hosts."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        rules: Rules,
        hosts: dict[str, Host],
        room: Callable[[], Awaitable[object]],
    ) -> None:
        self._session = session
        self._rules = rules
        self._hosts = hosts
        self._room = room
        self._turns = asyncio.Semaphore(rules.settings.concurrency)
        self._large = asyncio.Semaphore(LARGE_AT_A_TIME)

    async def work(self, host: Host, deliver: Callable[[Answer], None]) -> None:
        """One of the connections of a host: its requests, until none waits."""
        while host.waiting:
            deliver(await self._answer(host.waiting.popleft()))

    async def _answer(self, request: Request) -> Answer:
        answer = Answer(request=request)
        started = time.monotonic()
        retries = self._rules.settings.retries
        for attempt in range(retries + 1):
            failed = await self._try(answer)
            if failed is None:
                break
            answer.outcome, answer.detail = failed.outcome, failed.detail
            answer.matched = failed.matched
            pause_s = self._pause_s(failed, attempt)
            if attempt == retries or pause_s is None:
                break
            await asyncio.sleep(pause_s)
            answer = Answer(request=request, tries=answer.tries)
        answer.fetched_at = datetime.now(UTC)
        answer.duration_s = time.monotonic() - started
        return answer

    def _pause_s(self, failed: Failed, attempt: int) -> float | None:
        """How long to wait before the next try; null where none would help."""
        settings = self._rules.settings
        if not failed.is_worth_retrying:
            return None
        if failed.retry_after_s is not None:
            return (
                failed.retry_after_s if failed.retry_after_s <= settings.max_retry_after_s else None
            )
        return self._backoff_s(attempt)

    def _backoff_s(self, attempt: int) -> float:
        # Jitter keeps those that failed together from coming back together.
        return self._rules.settings.backoff_s * float(2**attempt) * random.uniform(0.5, 1.0)

    async def _try(self, answer: Answer) -> Failed | None:
        try:
            await self._follow(answer)
        except Failed as failed:
            return failed
        return None

    async def _follow(self, answer: Answer) -> None:
        """Ask, and go where the answers lead."""
        settings = self._rules.settings
        target = _target(answer.request.url)
        left_s = settings.total_s
        visited = set()
        while True:
            visited.add(target.url)
            host = self._hosts.setdefault(target.host, _host(self._rules, target.host))
            if host.is_unresponsive:
                raise Failed("host_unresponsive", "its last requests ran into their deadline")
            await self._permit(target, host)
            await host.turn()
            async with self._turns:
                await self._room()
                asked_at = time.monotonic()
                location = await self._ask(answer, target, host, left_s)
                left_s -= time.monotonic() - asked_at
            if location is None:
                return
            if answer.redirects == settings.max_redirects:
                raise Failed("redirect_refused", f"more than {settings.max_redirects} redirects")
            answer.redirects += 1
            try:
                target = parse(location, base=target)
            except EntryRefused as refusal:
                raise Failed("redirect_refused", refusal.detail) from None
            if target.url in visited:
                raise Failed("redirect_refused", "a loop")

    async def _permit(self, target: Target, host: Host) -> None:
        """Ask the blocklists, the address rule and the host's robots.txt."""
        settings = self._rules.settings
        against = self._rules.guard.listed(
            (("url_sha256", target.url_sha256), ("domain", target.host))
        )
        if against is not None:
            raise Failed(against.reason, against.detail, matched=against.matched)
        self._permit_address(target)
        if not settings.obeys_robots:
            return
        robots = await host.robots(target.site, lambda: self._robots(target, host))
        if robots.is_unavailable:
            raise Failed("robots_unavailable", "the host's robots.txt cannot be had")
        if robots.crawl_delay_s:
            host.slow_down(robots.crawl_delay_s)
        if not robots.allows(target.url):
            raise Failed("robots_disallowed", "by the host's robots.txt")

    def _permit_address(self, target: Target) -> None:
        allowed = self._rules.allowed
        if target.port not in allowed.ports:
            raise Failed("address_refused", f"port {target.port} is not allowed")
        # Names are judged where they are resolved; for an address no resolver is asked.
        if target.is_address and not allowed.permits(target.host, target.port):
            raise Failed("address_refused", "not a public address, and not allow-listed")

    async def _robots(self, target: Target, host: Host) -> Robots:
        """The robots.txt of a site, asked for again where that can help.

        Raises:
            Failed: there is no way to the host.
        """
        asked = parse("/robots.txt", base=target)
        for attempt in range(self._rules.settings.retries + 1):
            failed = None
            try:
                found = await self._follow_robots(asked, host)
                if not found.is_unavailable:
                    return found
            except Failed as met:
                failed = met
            except TimeoutError:
                host.failed()
                raise Failed("deadline_passed", "asked for its robots.txt") from None
            except aiohttp.ClientError as error:
                failed = below_http(error)
            except (EntryRefused, OSError, ValueError):
                return Robots.parse(None, b"", AGENT)
            if failed is not None and not failed.is_worth_retrying:
                raise failed
            await asyncio.sleep(self._backoff_s(attempt))
        if failed is not None:
            raise Failed(failed.outcome, f"{failed.detail}; asked for its robots.txt")
        return found

    async def _follow_robots(self, asked: Target, host: Host) -> Robots:
        """Redirects are followed as RFC 9309 §2.3.1.2 asks."""
        for _ in range(self._rules.settings.max_redirects + 1):
            self._permit_address(asked)
            await host.turn()
            async with self._turns:
                found = await self._one_robots(asked)
            host.answered()
            if isinstance(found, Robots):
                return found
            asked = parse(found, base=asked)
        return Robots.parse(404, b"", AGENT)  # the same: as if there were none

    async def _one_robots(self, asked: Target) -> Robots | str:
        """What a robots.txt says, or where it says to look."""
        async with (
            asyncio.timeout(self._rules.settings.first_byte_s),
            self._get(asked) as response,
        ):
            if response.status in _REDIRECTS and "Location" in response.headers:
                return response.headers["Location"]
            content = await body.start(response, ROBOTS_BYTES)
            return Robots.parse(response.status, content, AGENT)

    def _get(self, target: Target) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.get(URL(target.url, encoded=True), allow_redirects=False)

    async def _ask(self, answer: Answer, target: Target, host: Host, left_s: float) -> str | None:
        """One request; the url of a redirect, or null once the answer has its media."""
        first_byte_s = self._rules.settings.first_byte_s
        answer.tries += 1
        answer.final_url = target.url
        try:
            async with (
                asyncio.timeout(left_s),
                asyncio.timeout(first_byte_s) as first_byte,
                self._get(target) as response,
            ):
                first_byte.reschedule(None)
                host.answered()
                return await self._read(answer, host, response)
        except aiohttp.ServerTimeoutError:
            host.failed()
            raise Failed("deadline_passed", "no connection in time") from None
        except TimeoutError:
            host.failed()
            said = f"no first byte in {first_byte_s:g} s" if first_byte.expired() else "all in all"
            raise Failed("deadline_passed", said) from None
        except aiohttp.ClientError as error:
            raise below_http(error) from None
        except (OSError, ValueError) as error:  # what the parser makes of hostile headers
            raise Failed("connection_failed", type(error).__name__) from None

    async def _read(
        self, answer: Answer, host: Host, response: aiohttp.ClientResponse
    ) -> str | None:
        if response.status in _REDIRECTS and "Location" in response.headers:
            return response.headers["Location"]
        try:
            await read(answer, response, self._rules, self._large)
        except Failed as failed:
            if failed.retry_after_s is not None:
                host.rest(min(failed.retry_after_s, self._rules.settings.max_retry_after_s))
            raise
        return None


def _target(url: str) -> Target:
    try:
        return parse(url)
    except EntryRefused as refusal:
        raise Failed(refusal.error_class, refusal.detail) from None
