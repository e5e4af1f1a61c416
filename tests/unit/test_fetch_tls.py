"""The client against servers whose TLS is not in order: none of them gets a request."""

import asyncio
import os
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.fetch.answer import Answer
from tests import hostile_web
from tests.certificates import Authority, self_signed
from tests.hostile_web import Web, picture, response
from tests.unit.test_fetch import fetched, rules

_DAY = timedelta(days=1)
_ADDRESS = "127.0.0.1"
_ALERT = b"\x15\x03\x03\x00\x02\x02"  # a fatal one, without its code: RFC 8446 §6


@dataclass
class Secure:
    """A web server over TLS, with a certificate for each of its names.

    Attributes:
        web: the server; an address, or a name without a certificate, has the one of 127.0.0.1.
        ca_file: holds the only authority that is trusted.
        handshakes: how often each name was asked for.
    """

    web: Web
    ca_file: Path
    handshakes: Counter[str | None] = field(default_factory=Counter)

    def fetched(self, *urls: str, ports: tuple[int, ...] = (), **settings: object) -> list[Answer]:
        """The answers in the order of the urls."""
        mine = {"ca_file": str(self.ca_file), "allow_ports": [self.web.port, *ports]}
        return fetched(rules(self.web, **(mine | settings)), *urls)


def says(content: bytes) -> hostile_web.Connected:
    """Listens to the first words, says its own and leaves."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(content)
        await writer.drain()
        writer.close()

    return connected


def by_name(contexts: Mapping[str, ssl.SSLContext], met: Counter[str | None]) -> ssl.SSLContext:
    """A server's side that shows the certificate of the name that it is asked for (RFC 6066)."""
    default = contexts[_ADDRESS]

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        met[name] += 1
        connection.context = contexts.get(name or _ADDRESS, default)

    default.sni_callback = choose
    return default


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("trusted")


@pytest.fixture
def secure(authority: Authority, tmp_path: Path) -> Iterator[Secure]:
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    contexts = {
        _ADDRESS: authority.context(_ADDRESS),
        "sound.test": authority.context("sound.test"),
        "also.test": authority.context("also.test"),
        "self-signed.test": self_signed("self-signed.test"),
        "unknown.test": Authority("trusted").context("unknown.test"),  # a namesake
        "other.test": authority.context("not-other.test"),
        "expired.test": authority.context("expired.test", starts=-3 * _DAY, lasts=_DAY),
        "early.test": authority.context("early.test", starts=_DAY),
    }
    met: Counter[str | None] = Counter()
    with hostile_web.running(by_name(contexts, met)) as web:
        web.page("/a.png", response(picture(1)))
        web.page("/b.png", response(picture(2)))
        yield Secure(web, tmp_path / "ca.pem", met)


@pytest.mark.parametrize("obeys_robots", [True, False])
def test_a_certificate_is_trusted_by_the_authorities_of_the_configuration(
    secure: Secure, obeys_robots: bool
) -> None:
    named, plain = secure.web.url("/a.png", "sound.test"), secure.web.url("/b.png")

    for_name, for_address = secure.fetched(named, plain, obeys_robots=obeys_robots)

    assert named.startswith("https://")
    assert (for_name.outcome, for_name.content, for_name.final_url) == ("ok", picture(1), named)
    assert (for_address.outcome, for_address.content) == ("ok", picture(2))
    assert secure.handshakes["sound.test"] == 1  # the page comes by the connection of robots.txt


def test_the_authorities_of_the_system_do_not_know_it(secure: Secure) -> None:
    (answer,) = secure.fetched(secure.web.url("/a.png", "sound.test"), ca_file=None)

    assert answer.outcome == "tls_failed"
    assert not secure.web.asked


@pytest.mark.parametrize("obeys_robots", [True, False])
def test_a_certificate_that_cannot_be_trusted_is_met_once_and_asked_for_nothing(
    secure: Secure, obeys_robots: bool
) -> None:
    against = {  # the beginning of what OpenSSL says
        "self-signed.test": "self-signed certificate",
        "unknown.test": "unable to get local issuer certificate",
        "other.test": "Hostname mismatch",
        "no-name-for-it.test": "Hostname mismatch",  # gets the certificate of the address
        "expired.test": "certificate has expired",
        "early.test": "certificate is not yet valid",
    }
    names = list(against)
    urls = [secure.web.url("/a.png", name) for name in names]
    beside = secure.web.url("/a.png", "sound.test")

    *refused, sound = secure.fetched(*urls, beside, obeys_robots=obeys_robots)

    assert {a.request.host: a.outcome for a in refused} == dict.fromkeys(names, "tls_failed")
    for answer in refused:
        assert answer.detail is not None
        assert answer.detail.startswith(against[answer.request.host])
    assert {(a.http_status, a.content) for a in refused} == {(None, None)}
    assert sound.outcome == "ok"
    assert {host for host, _ in secure.web.asked} == {"sound.test"}
    # No second try: the certificate would be the same.
    assert {name: secure.handshakes[name] for name in names} == dict.fromkeys(names, 1)


def test_all_urls_of_a_host_share_what_its_certificate_gave(secure: Secure) -> None:
    urls = [secure.web.url(f"/{n}.png", "expired.test") for n in range(20)]

    found = secure.fetched(*urls)

    assert [a.outcome for a in found] == ["tls_failed"] * 20
    assert secure.handshakes["expired.test"] == 1


@pytest.mark.parametrize("obeys_robots", [True, False])
def test_every_way_to_fail_a_handshake_has_its_own_outcome(
    secure: Secure, obeys_robots: bool
) -> None:
    listening = hostile_web.listening
    with (
        listening(says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) as plain_http,
        listening(says(b"220 mail.test ESMTP\r\n")) as mail,
        listening(says(_ALERT + b"\x28")) as without_common_cipher,
        listening(says(_ALERT + b"\x46")) as without_common_version,
        listening(says(_ALERT + b"\x70")) as without_the_name,
        listening(says(b"")) as closing,
        listening(hostile_web.say_nothing) as silent,
    ):
        expected = {
            plain_http: ("tls_failed", "WRONG_VERSION_NUMBER"),
            mail: ("tls_failed", "WRONG_VERSION_NUMBER"),
            without_common_cipher: ("tls_failed", "ALERT_HANDSHAKE_FAILURE"),
            without_common_version: ("tls_failed", "ALERT_PROTOCOL_VERSION"),
            without_the_name: ("tls_failed", "UNRECOGNIZED_NAME"),
            closing: ("connection_failed", ""),
            silent: ("deadline_passed", ""),
        }
        urls = [f"https://h{port}.test:{port}/a.png" for port in expected]
        started = time.monotonic()
        found = secure.fetched(*urls, ports=tuple(expected), obeys_robots=obeys_robots)
        took_s = time.monotonic() - started

    for answer, (outcome, said) in zip(found, expected.values(), strict=True):
        assert answer.outcome == outcome
        assert said in (answer.detail or "")
    # connect_s holds for the handshake too, and is not waited for a second time.
    assert 1.0 <= took_s < 2.0
    if not obeys_robots:
        assert [a.tries for a in found] == [1, 1, 1, 1, 1, 3, 1]


def test_a_server_that_never_answers_the_handshake_holds_nobody_but_itself(
    secure: Secure,
) -> None:
    with hostile_web.listening(hostile_web.say_nothing) as port:
        hanging = [f"https://hangs.test:{port}/{n}.png" for n in range(30)]
        beside = secure.web.url("/a.png", "sound.test")
        settings = {"concurrency": 4, "host_concurrency": 2, "obeys_robots": False}
        *held, sound = secure.fetched(*hanging, beside, ports=(port,), connect_s=0.3, **settings)

    assert sound.outcome == "ok"
    assert {a.outcome for a in held} == {"deadline_passed", "host_unresponsive"}
    assert sum(a.tries for a in held) <= 4  # three that end the host's turn, one beside the last


def test_a_server_that_asks_for_a_certificate_of_ours_gets_none(
    secure: Secure, authority: Authority
) -> None:
    context = authority.context(_ADDRESS)
    context.load_verify_locations(secure.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    met: list[ssl.SSLError] = []

    def serve(listener: socket.socket) -> None:
        # Not asyncio's: that one leaves without a word where others send an alert.
        with suppress(OSError):  # the listener is shut down
            while True:
                answer_one(*listener.accept())

    def answer_one(accepted: socket.socket, _: object) -> None:
        with context.wrap_socket(
            accepted, server_side=True, do_handshake_on_connect=False
        ) as connection:
            try:
                connection.do_handshake()
            except ssl.SSLError as error:
                met.append(error)
            with suppress(ConnectionResetError):
                while os.read(connection.fileno(), 1 << 16):
                    pass

    with socket.create_server((_ADDRESS, 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        url = f"https://{_ADDRESS}:{port}/a.png"
        (answer,) = secure.fetched(url, ports=(port,), obeys_robots=False)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert (answer.outcome, answer.tries) == ("tls_failed", 1)
    assert "CERTIFICATE_REQUIRED" in (answer.detail or "")
    assert {error.reason for error in met} == {"PEER_DID_NOT_RETURN_A_CERTIFICATE"}


def test_a_redirect_may_change_the_scheme_and_is_judged_by_its_end(secure: Secure) -> None:
    moved = "302 Found"
    with hostile_web.running() as plain:

        def to(url: str) -> bytes:
            return response(b"", f"Location: {url}", status=moved)

        plain.page("/end.png", response(picture(3)))
        safe_end = secure.web.url("/a.png", "also.test")
        up = plain.page("/up", to(safe_end))
        up_to_expired = plain.page("/expired", to(secure.web.url("/a.png", "expired.test")))
        secure.web.page("/down", to(plain.url("/end.png", "plain.test")))
        down = secure.web.url("/down", "sound.test")
        round_trip = plain.page("/round", to(secure.web.url("/back", "sound.test")))
        secure.web.page("/back", to(round_trip))
        found = secure.fetched(up, up_to_expired, down, round_trip, ports=(plain.port,))

    assert [(a.outcome, a.redirects) for a in found] == [
        ("ok", 1),
        ("tls_failed", 1),
        ("ok", 1),
        ("redirect_refused", 2),
    ]
    assert [a.final_url for a in found[:3:2]] == [safe_end, plain.url("/end.png", "plain.test")]
    assert found[1].content is None
    assert not any(host == "expired.test" for host, _ in secure.web.asked)
