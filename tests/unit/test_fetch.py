"""The client against a server that misbehaves: each way has its own outcome."""

import gzip
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jobs.fetch.addresses import Allowed
from jobs.fetch.answer import Answer, Request
from jobs.fetch.operator import answers
from jobs.fetch.rules import VERSION, Rules
from jobs.fetch.urls import parse
from jobs.guard import Guard
from jobs.runtime.config import Fetch
from jobs.sources.entry import EntryRefused
from tests import hostile_web
from tests.hostile_web import Web, picture, response


@pytest.fixture
def web() -> Iterator[Web]:
    with hostile_web.running() as running:
        yield running


def rules(web: Web, *, guard: Guard | None = None, **settings: object) -> Rules:
    """Short deadlines; loopback's 127.0.0.1 is allowed, and nothing else that is not public."""
    fetch = Fetch.model_validate(
        {
            "contact": "https://example.org/crawl",
            "host_rate": 1000.0,
            "connect_s": 1.0,
            "first_byte_s": 1.0,
            "total_s": 1.5,
            "max_bytes": 1_000_000,
            "backoff_s": 0.01,
            "max_retry_after_s": 2.0,
            "allow_networks": ["127.0.0.1/32"],
            "allow_ports": [web.port],
            "nameservers": [f"127.0.0.1:{web.names_port}"],
            **settings,
        }
    )
    return Rules(
        settings=fetch,
        allowed=Allowed(networks=fetch.allow_networks, ports=fetch.allow_ports),
        guard=guard or Guard(),
        max_pixels=1_000_000,
    )


def fetched(fetch_rules: Rules, *urls: str) -> list[Answer]:
    """The answers in the order of the urls."""
    requests = []
    for url in urls:
        try:
            target = parse(url)
            requests.append(Request(url=target.url, url_sha256=target.url_sha256, host=target.host))
        except EntryRefused:
            requests.append(Request(url=url, url_sha256=url, host=""))
    by_name = {answer.request.url_sha256: answer for answer in answers(requests, fetch_rules)}
    assert len(by_name) == len(set(urls))
    return [by_name[request.url_sha256] for request in requests]


def test_an_image_comes_with_all_that_was_said_of_it(web: Web) -> None:
    content = picture(1)
    headers = ("Content-Type: image/png", 'ETag: "a"', "Last-Modified: today")
    url = web.page("/a.png", response(content, *headers))

    (answer,) = fetched(rules(web), url)

    assert (answer.outcome, answer.http_status, answer.content) == ("ok", 200, content)
    assert answer.media_sha256 == hashlib.sha256(content).hexdigest()
    assert answer.md5 == hashlib.md5(content).hexdigest()
    assert answer.sha1 == hashlib.sha1(content).hexdigest()
    assert (answer.mime, answer.header_width_px, answer.size_bytes) == (
        "image/png",
        24,
        len(content),
    )
    assert (answer.content_type, answer.etag, answer.is_type_mismatch) == (
        "image/png",
        '"a"',
        False,
    )
    assert (answer.redirects, answer.tries, answer.final_url) == (0, 1, url)
    assert web.agents == {f"Sluice/{VERSION} (+https://example.org/crawl)"}


def test_every_way_to_misbehave_has_its_own_outcome(web: Web) -> None:
    jpeg_header = "Content-Type: image/jpeg"
    encoded = "Content-Encoding: gzip"
    moved = "302 Found"
    to_file = response(b"", "Location: file:///etc/passwd", status=moved)
    to_loopback = response(b"", f"Location: http://127.0.0.2:{web.port}/", status=moved)
    to_mapped = response(b"", f"Location: http://[::ffff:127.0.0.2]:{web.port}/", status=moved)
    to_v6 = response(b"", f"Location: http://[::1]:{web.port}/", status=moved)
    web.names |= {"inside.test": ["127.0.0.2"], "nowhere.test": []}
    to_name = response(b"", f"Location: {web.url('/', 'inside.test')}", status=moved)
    for path, handler in (
        ("/drip", hostile_web.drip),
        ("/endless", hostile_web.endless),
        ("/cut", hostile_web.cut),
    ):
        web.pages[path] = handler
    expected = {
        web.page("/404", response(status="404 Not Found")): "http_gone",
        web.page("/410", response(status="410 Gone")): "http_gone",
        web.page("/403", response(status="403 Forbidden")): "http_refused",
        web.page("/204", response(status="204 No Content")): "http_refused",
        web.page("/500", response(status="500 Oops")): "http_unavailable",
        web.page("/503", response(status="503 Busy"), response(picture(2))): "ok",
        web.page("/loop", response(b"", "Location: /loop", status=moved)): "redirect_refused",
        web.page("/file", to_file): "redirect_refused",
        web.page("/2", to_loopback): "address_refused",
        web.page("/mapped", to_mapped): "address_refused",
        web.page("/v6", to_v6): "address_refused",
        web.page("/name", to_name): "address_refused",
        web.page("/html", response(b"<html>no</html>", jpeg_header)): "not_an_image",
        web.page("/svg", response(b"<svg xmlns='http://www.w3.org/2000/svg'/>")): "not_an_image",
        web.page("/empty", response()): "empty_media",
        web.page("/zipped", response(gzip.compress(picture(3)), encoded)): "ok",
        web.page("/bomb", response(hostile_web.bomb(), encoded)): "response_too_large",
        web.page("/broken", response(b"\x1f\x8b\x08garbage", encoded)): "response_cut",
        web.page("/br", response(b"x", "Content-Encoding: br")): "response_cut",
        web.page("/large", response(length=10**12)): "response_too_large",
        web.page("/noai", response(picture(4), "X-Robots-Tag: noai")): "opted_out",
        web.page("/tdm", response(picture(5), "tdm-reservation: 1")): "tdm_reserved",
        web.page("/garbage", b"\x00\x01\x02 no HTTP at all\r\n\r\n"): "connection_failed",
        web.url("/drip"): "deadline_passed",
        web.url("/endless"): "response_too_large",
        web.url("/cut"): "response_cut",
        web.url("/", "127.0.0.2"): "address_refused",
        web.url("/", "0x7f.2"): "invalid_url",
        f"http://[::1]:{web.port}/": "address_refused",
        web.url("/", "inside.test"): "address_refused",
        web.url("/", "nowhere.test"): "dns_failed",
        f"http://127.0.0.1:{web.port + 1}/": "address_refused",  # a port that is not allowed
        "file:///etc/passwd": "invalid_url",
        "data:image/png;base64,AAAA": "invalid_url",
    }
    started = time.monotonic()
    found = fetched(rules(web, host_failures=100, host_concurrency=64), *expected)
    took_s = time.monotonic() - started

    assert {a.request.url: a.outcome for a in found} == {
        parse(url).url if url.startswith("http") and "0x7f" not in url else url: outcome
        for url, outcome in expected.items()
    }
    assert took_s < 10
    by_url = {a.request.url: a for a in found}
    assert by_url[web.url("/503")].tries == 2
    assert by_url[web.url("/500")].tries == 3
    assert by_url[web.url("/404")].tries == 1
    assert by_url[web.url("/zipped")].content == picture(3)
    assert all(a.content is None for a in found if a.outcome != "ok")


def test_a_redirect_is_followed_and_its_end_recorded(web: Web) -> None:
    web.page("/end", response(picture(1)))
    url = web.page("/start", response(b"", "Location: /end", status="301 Moved"))

    (answer,) = fetched(rules(web), url)
    assert (answer.outcome, answer.redirects, answer.final_url) == ("ok", 1, web.url("/end"))

    (answer,) = fetched(rules(web, max_redirects=0), url)
    assert answer.outcome == "redirect_refused"


def test_retry_after_is_waited_for_or_left_to_a_later_run(web: Web) -> None:
    busy = "429 Too Many Requests"
    soon = web.page("/soon", response(b"", "Retry-After: 1", status=busy), response(picture(1)))
    late = web.page("/late", response(b"", "Retry-After: 3600", status=busy))

    started = time.monotonic()
    waited, left = fetched(rules(web, max_retry_after_s=1.0), soon, late)

    assert (waited.outcome, waited.tries) == ("ok", 2)
    assert (left.outcome, left.tries, left.detail) == ("http_unavailable", 1, "HTTP 429")
    assert 1 <= time.monotonic() - started < 5


def test_robots_are_asked_once_a_host_and_obeyed(web: Web) -> None:
    web.robots |= {
        "closed.test": response(b"User-agent: *\nDisallow: /"),
        "part.test": response(b"User-agent: sluice\nDisallow: /private\n"),
        "broken.test": response(status="500 Oops"),
        "moved.test": response(
            b"", f"Location: {web.url('/robots.txt', 'closed.test')}", status="301 M"
        ),
    }
    web.page("/a", response(picture(1)))
    web.page("/private", response(picture(2)))
    urls = [
        web.url(path, host)
        for host in ("closed.test", "part.test", "broken.test", "moved.test", "free.test")
        for path in ("/a", "/private")
    ]

    outcomes = [answer.outcome for answer in fetched(rules(web), *urls)]

    no = "robots_disallowed"
    later = "robots_unavailable"
    assert outcomes == [no, no, "ok", no, later, later, no, no, "ok", "ok"]
    assert web.asked["part.test", "/robots.txt"] == 1
    assert web.asked["closed.test", "/a"] == web.asked["broken.test", "/a"] == 0
    assert {a.outcome for a in fetched(rules(web, obeys_robots=False), *urls)} == {"ok"}


def test_a_host_is_asked_by_few_connections_at_its_pace(web: Web) -> None:
    for n in range(12):
        web.page(f"/{n}", response(picture(n)))
    urls = [web.url(f"/{n}", "slow.test") for n in range(12)]

    started = time.monotonic()
    found = fetched(rules(web, host_concurrency=2, host_rate=20.0, obeys_robots=False), *urls)

    assert {a.outcome for a in found} == {"ok"}
    assert web.most_at_a_time["slow.test"] <= 2
    assert time.monotonic() - started >= 11 / 20


def test_a_host_that_hangs_holds_nobody_but_itself(web: Web) -> None:
    web.page("/a", response(picture(1)))
    for n in range(50):
        web.pages[f"/hang{n}"] = hostile_web.silent
    hanging = [web.url(f"/hang{n}", "hangs.test") for n in range(50)]
    quick = [web.url("/a", f"quick{n}.test") for n in range(20)]

    started = time.monotonic()
    found = fetched(rules(web, first_byte_s=0.5, concurrency=8), *hanging, *quick)

    assert [a.outcome for a in found[50:]] == ["ok"] * 20
    assert {a.outcome for a in found[:50]} == {"deadline_passed", "host_unresponsive"}
    assert time.monotonic() - started < 5


def test_a_host_that_is_known_to_be_silent_is_not_asked(web: Web) -> None:
    at, elsewhere = web.page("/a", response(picture(1))), web.url("/a", "hangs.test")
    web.page("/away", response(b"", f"Location: {elsewhere}", status="302 Found"))
    known = replace(rules(web), silent=frozenset({"hangs.test"}))
    found = fetched(known, at, elsewhere, web.url("/away"))
    assert [a.outcome for a in found] == ["ok", "host_unresponsive", "host_unresponsive"]
    assert {path for host, path in web.asked if host == "hangs.test"} == set()


def test_media_beyond_the_rules_are_rejected(web: Web) -> None:
    small = web.page("/small", response(picture(1)))
    guard = Guard(min_bytes=100_000)
    (answer,) = fetched(rules(web, guard=guard), small)
    assert (answer.outcome, answer.content) == ("too_few_bytes", None)


def test_the_client_waits_while_its_answers_wait(web: Web, monkeypatch) -> None:
    from jobs.fetch import operator

    monkeypatch.setattr(operator, "WAITING_BYTES", 10_000)
    web.page("/a", response(picture(1)))
    requests = [
        Request(url=web.url("/a", f"h{n}.test"), url_sha256=str(n), host=f"h{n}.test")
        for n in range(200)
    ]
    met = answers(requests, rules(web, obeys_robots=False, concurrency=8))
    next(met)
    time.sleep(1)
    early = sum(web.asked.values())
    rest = list(met)

    assert {answer.outcome for answer in rest} == {"ok"}
    assert len(rest) == 199
    assert early <= 6 + 8 + 1  # what fills the room, what was under way, what was taken
