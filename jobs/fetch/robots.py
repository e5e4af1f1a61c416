"""What a host's robots.txt lets us fetch: RFC 9309, with protego to match the paths.

protego groups records and compares names of agents in ways of its own. So it is given the
records rewritten, in a form that leaves it no choice.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Self

from protego import Protego

MAX_BYTES: Final = 500 * 1024  # RFC 9309 §2.5: at least so much is parsed
_BOM: Final = b"\xef\xbb\xbf"
# RFC 9309 §2.2, and what protego takes as well: a colon that is missing, a letter too many.
_RECORD: Final = re.compile(
    rb"(?:(?P<agent>user[- ]?agent)|(?P<allow>allow)|(?P<disallow>dis+al+[oa]w)"
    rb"|(?P<delay>crawl[- ]delay))(?:[ \t]*:|(?=[ \t])|$)[ \t]*(?P<value>.*)",
    re.IGNORECASE | re.DOTALL,
)
_FIELDS: Final = {"allow": "Allow", "disallow": "Disallow", "delay": "Crawl-delay"}
_UNSAFE: Final = re.compile(rb"[^ -~]")  # RFC 9309 §2.2.2: to be percent-encoded
_EVERYBODY: Final = re.compile(rb"\*(?:\s|$)")
_TOKEN: Final = re.compile(rb"[a-z0-9_-]+", re.IGNORECASE)  # RFC 9309 §2.2.1; some have digits
_SOMEBODY_ELSE: Final = "/"  # stands in no token


@dataclass(frozen=True)
class Robots:
    """What one site (scheme, host and port) allows our agent.

    Attributes:
        agent: our product token, in lower case.
        is_unavailable: the rules cannot be had: nothing is allowed until they can.
        crawl_delay_s: seconds that the host wants between fetches; null if it does not say.
    """

    agent: str
    is_unavailable: bool = False
    crawl_delay_s: float | None = None
    _rules: Protego = field(default_factory=Protego, repr=False)

    @classmethod
    def parse(cls, status: int | None, body: bytes, agent: str) -> Self:
        r"""The rules in an answer to a request for ``/robots.txt``.

        Without such a file (400 to 499, or redirects without an end) everything is allowed. A
        server that fails, or that has had too many requests (429), has not said so: nothing is.

        Args:
            status: of the last answer, redirects followed; null if there was none.
            body: decompressed; what is longer than `MAX_BYTES` may be cut.
            agent: our product token.

        Raises:
            ValueError: an agent that is no product token.

        >>> robots = Robots.parse(200, b"User-agent: *\nDisallow: /private\n", "Sluice")
        >>> robots.allows("http://h/a.jpg"), robots.allows("http://h/private/a.jpg")
        (True, False)
        """
        if not _TOKEN.fullmatch(agent.encode()):
            raise ValueError(
                f"agent {agent!r} is no product token; allowed are letters, digits, _ and -; "
                "name the token without its version"
            )
        agent = agent.lower()
        if status is None or not 200 <= status < 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
            return cls(agent, is_unavailable=True)
        if status >= 300:
            return cls(agent)
        records = list(_records(body, agent))
        # To the standard a delay is not there, so it ends no group. It is asked of those alone
        # who are named right before it.
        delays = Protego.parse(_text(records, {*_FIELDS.values(), "User-agent"}))
        rules = Protego.parse(_text(records, {"Allow", "Disallow", "User-agent"}))
        return cls(agent, crawl_delay_s=delays.crawl_delay(agent), _rules=rules)

    def allows(self, url: str) -> bool:
        """Whether a url of the site may be fetched; absolute and normalised."""
        return not self.is_unavailable and self._rules.can_fetch(url, self.agent)


def _records(body: bytes, agent: str) -> Iterator[tuple[str, str]]:
    """Field and value, in ASCII, of every record that means something here."""
    # A line that is cut could say another thing than it said.
    whole = body if len(body) <= MAX_BYTES else body[: body.rfind(b"\n", 0, MAX_BYTES) + 1]
    # Of bytes, only CR and LF end a line (RFC 9309 §2.2); of texts, so do others.
    for line in whole.removeprefix(_BOM).splitlines():
        found = _RECORD.match(line.partition(b"#")[0].strip())
        if found is None:
            continue
        value = found["value"]
        if found["agent"]:
            yield "User-agent", _addressee(value, agent)
            continue
        kind = next(kind for kind in _FIELDS if found[kind])
        encoded = _UNSAFE.sub(lambda byte: b"%%%02X" % ord(byte[0]), value).decode("ascii")
        # protego would take the folder to be allowed with its index.
        is_index = kind == "allow" and encoded.endswith("/index.html")
        yield _FIELDS[kind], f"{encoded}*" if is_index else encoded


def _addressee(value: bytes, agent: str) -> str:
    """The agent that a group is for: ours, all, or another.

    protego takes ``slu`` for ``sluice``, and does not take ``Sluice/1.0``.
    """
    if _EVERYBODY.match(value):
        return "*"
    token = _TOKEN.match(value)
    is_ours = token is not None and token[0].lower() == agent.encode()
    return agent if is_ours else _SOMEBODY_ELSE


def _text(records: list[tuple[str, str]], fields: Collection[str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in records if name in fields)
