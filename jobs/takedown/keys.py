"""What is to be taken down, as people name it: a sample, media, or a URL."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from jobs.fetch import urls
from jobs.runtime.errors import ConfigError
from jobs.sources.entry import EntryRefused
from schemas.tombstones import KINDS, MEDIA, SAMPLE, URL

_DIGITS: Final = {SAMPLE: 32, MEDIA: 64, URL: 64}
_HEX: Final = re.compile(r"[0-9a-f]+")
_ALLOWED: Final = (
    "allowed a sample_id (32 hex digits), a media_sha256 or url_sha256 (64), or an http(s) URL;"
    " media_sha256:…, url_sha256:… and sample_id:… say which"
)


@dataclass(frozen=True, order=True)
class Key:
    """A key: of which kind, and its digest, hex, lower case."""

    kind: str
    digest: str

    def __str__(self) -> str:
        """How it is told, and may be given: `kind:digest`."""
        return f"{self.kind}:{self.digest}"


def candidates(text: str) -> tuple[Key, ...]:
    """What a text may name, told by its form; 64 digits alone may be of media or of a URL.

    Raises:
        ConfigError: it is no key.

    >>> [str(key) for key in candidates("url_sha256:" + "0f" * 32)] == ["url_sha256:" + "0f" * 32]
    True
    >>> [key.kind for key in candidates("0f" * 16)], [key.kind for key in candidates("0f" * 32)]
    (['sample_id'], ['media_sha256', 'url_sha256'])
    """
    given = text.strip()
    kind, separator, digest = given.lower().partition(":")
    if separator and kind in KINDS:
        return (_checked(given, kind, digest),)
    if separator:
        try:
            return (Key(URL, urls.parse(given).url_sha256),)
        except EntryRefused as refusal:
            raise _malformed(given, f" ({refusal.detail})") from None
    if _HEX.fullmatch(kind):
        found = tuple(Key(known, kind) for known in KINDS if len(kind) == _DIGITS[known])
        if found:
            return found
    raise _malformed(given)


def _checked(given: str, kind: str, digest: str) -> Key:
    if len(digest) != _DIGITS[kind] or not _HEX.fullmatch(digest):
        raise _malformed(given)
    return Key(kind, digest)


def _malformed(given: str, why: str = "") -> ConfigError:
    shown = given if len(given) <= 100 else f"{given[:99]}…"
    return ConfigError(f"key got {shown!r}{why}; {_ALLOWED}")


def chosen(given: str, among: Iterable[Key], known: Iterable[Key]) -> Key:
    """The one that a text names, by what is known of each.

    Args:
        given: the text.
        among: what it may name.
        known: keys that some table knows.

    Raises:
        ConfigError: as much speaks for one as for another.
    """
    possible = tuple(among)
    told = [key for key in possible if key in set(known)] if len(possible) > 1 else possible
    if len(told) == 1:
        return told[0]
    met = "both" if told else "neither"
    raise ConfigError(
        f"key got {given!r}, which may be of media or of a URL, and is known as {met}; allowed"
        f" {' or '.join(map(str, possible))}; say which"
    )
