"""What a server says with an answer about how the media may be used: X-Robots-Tag and TDMRep.

X-Robots-Tag has no standard, only what search engines document. Where that leaves a choice, the
reading is taken that takes less: a header more never turns a refusal into a permission.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# Against learning (noai, noimageai: DeviantArt; noml: Mojeek), against showing the media in an
# index, and `none`, which stands for noindex, nofollow.
DEFAULT_DIRECTIVES: Final = frozenset(
    {"noai", "noimageai", "none", "noml", "noindex", "noimageindex"}
)
_EXPIRY: Final = "unavailable_after"
# Google Search Central, "Robots meta tag, data-nosnippet, and X-Robots-Tag specifications".
_KNOWN: Final = DEFAULT_DIRECTIVES | {
    "all",
    "follow",
    "index",
    "indexifembedded",
    "max-image-preview",
    "max-snippet",
    "max-video-preview",
    "noarchive",
    "nocache",
    "nofollow",
    "nositelinkssearchbox",
    "nosnippet",
    "notranslate",
    _EXPIRY,
}
# What stands between separators. A date has commas of its own: "Friday, 25-Jun-30 15:00:00 PST".
_PIECE: Final = re.compile(
    rf"[^,;]*{_EXPIRY}\s*:[^,;]*(?:,\s*[0-9][^,;]*)*|[^,;]+", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True)
class Directive:
    """One word of a server.

    Attributes:
        name: in lower case, without blanks around it.
        value: what stands behind its colon, if anything.
    """

    name: str
    value: str | None = None

    def __str__(self) -> str:
        """As it would stand in a header."""
        return self.name if self.value is None else f"{self.name}: {self.value}"


def parse(values: Iterable[str], agent: str) -> list[Directive]:
    """The directives of X-Robots-Tag headers that hold for us, known or not.

    A directive behind the name of an agent holds for that agent, and so do those behind it up to
    the next name or the end of the header. What is said to nobody, or to `*`, holds for all.

    Args:
        values: of every X-Robots-Tag header of an answer, in any order.
        agent: our product token; upper and lower case are the same.

    >>> [str(directive) for directive in parse(["otherbot: noindex, Sluice: NOAI"], "sluice")]
    ['noai']
    """
    return [directive for value in values for directive in _applying(value, agent.lower())]


def refusal(
    values: Iterable[str],
    tdm_reservation: str | None,
    agent: str,
    disallowed: Collection[str] = DEFAULT_DIRECTIVES,
    at: datetime | None = None,
) -> tuple[str, str] | None:
    """Why an answer must not be used; null if it may.

    A date of `unavailable_after` that has passed, or that nobody can read, refuses too: what its
    server no longer wants to be found is not taken into a set that is kept.

    Args:
        values: of every X-Robots-Tag header of the answer.
        tdm_reservation: value of its tdm-reservation header (W3C TDMRep §6), several joined by
            commas or line ends; null if it has none.
        agent: our product token.
        disallowed: names of directives that refuse, in lower case.
        at: when the answer came, with its timezone; now if null.

    Returns:
        A reason of `schemas.reject_reasons`, and the directive that says so.

    >>> refusal(["noai, unavailable_after: 25 Jun 2999 15:00:00 PST"], None, "sluice")
    ('opted_out', 'noai')
    """
    for directive in parse(values, agent):
        if directive.name in disallowed or _is_expired(directive, at or datetime.now(UTC)):
            return "opted_out", str(directive)
    if tdm_reservation is not None and "1" in tdm_reservation.replace(",", " ").split():
        return "tdm_reserved", "tdm-reservation: 1"
    return None


def _applying(header: str, agent: str) -> Iterator[Directive]:
    is_ours = True
    for piece in _PIECE.findall(header):
        name, colon, rest = piece.partition(":")
        addressee = name.strip().lower().partition("/")[0]  # without its version
        if colon and addressee in (agent, "*"):
            is_ours, piece = True, rest
        # Before what is no directive we know of, the name may as well be a directive with a
        # value: it must not take those behind it away from us.
        elif colon and addressee not in _KNOWN and _first_word(rest) in _KNOWN:
            is_ours, piece = False, rest
        if is_ours:
            yield from _directives(piece)


def _first_word(text: str) -> str:
    return next(iter(text.replace(":", " ").lower().split()), "")


def _directives(text: str) -> Iterator[Directive]:
    name, colon, value = text.partition(":")
    if colon:
        yield Directive(name.strip().lower(), value.strip())
    else:  # some write blanks instead of commas
        yield from map(Directive, text.lower().split())


def _is_expired(directive: Directive, at: datetime) -> bool:
    if directive.name != _EXPIRY:
        return False
    date = _date(directive.value or "")
    return date is None or date <= at


def _date(text: str) -> datetime | None:
    """RFC 822, RFC 850 and ISO 8601, as the documentation allows; UTC if no timezone is said."""
    for read in (
        parsedate_to_datetime,
        datetime.fromisoformat,
        lambda day: parsedate_to_datetime(f"{day} 00:00 GMT"),
    ):
        try:
            found = read(text)
            return found if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            continue
    return None
