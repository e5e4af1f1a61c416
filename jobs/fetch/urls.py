"""A url as a dump has it, made into the one form that is fetched, compared and hashed.

The rules are those of browsers (WHATWG URL), as the urls were written for them, with what no
honest url needs refused: credentials, odd spellings of addresses, names outside of DNS.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import AddressValueError, IPv6Address
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urljoin

from jobs.sources.entry import EntryRefused
from udfs.host_name import host_name, is_address

MAX_CHARS: Final = 8192  # chosen: what common servers take as a line (nginx, Apache: 8 KiB)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}  # RFC 9110 §4.2.1, §4.2.2
_EDGES: Final = "".join(map(chr, range(0x21)))  # C0 controls and space: WHATWG URL §4.4
_UNSEEN: Final = str.maketrans("", "", "\t\n\r")  # removed wherever they stand: the same
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")  # RFC 3986 §3.1
# What stays as it is, besides letters, digits and `_.-~`; the complements of the path and query
# percent-encode sets of WHATWG URL §1.3. An escape stays as it is written.
_PATH_SAFE: Final = "!$%&'()*+,/:;=@[]|"
_QUERY_SAFE: Final = "!$%&()*+,/:;=?@[\\]^`{|}"
_DOT: Final = re.compile(r"\.|%2e", re.IGNORECASE)
_PORT: Final = re.compile(r"[0-9]{1,8}")  # chosen: leading zeros, but no endless ones


@dataclass(frozen=True)
class Target:
    """What a url asks for.

    Attributes:
        url: normalised, ASCII, without a fragment.
        scheme: ``http`` or ``https``.
        host: a name in ASCII and lower case, or an address; an IPv6 address without brackets.
        port: 1 to 65535.
    """

    url: str
    scheme: str
    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether the host is an address, so that nothing has to be resolved."""
        return is_address(self.host)

    @property
    def site(self) -> str:
        """Scheme, host and port: what a robots.txt holds for (RFC 9309 §2.3)."""
        return f"{self.scheme}://{_authority(self.scheme, self.host, self.port)}"

    @cached_property
    def url_sha256(self) -> str:
        """Hex of sha256 over the normalised url: the name of what is fetched."""
        return hashlib.sha256(self.url.encode("ascii")).hexdigest()


def parse(url: str, base: Target | None = None) -> Target:
    """The target of a url.

    Args:
        url: as the dump, or a redirect, has it.
        base: what it is relative to; without it a url has to be absolute.

    Raises:
        EntryRefused: of class ``invalid_url``; the detail does not repeat the url.

    >>> parse(" HTTP://Bücher.Example:80/a/../ä b#top").url
    'http://xn--bcher-kva.example/%C3%A4%20b'
    """
    if len(url) > MAX_CHARS:
        raise _refused(f"{len(url)} characters, limit {MAX_CHARS}")
    if not url.isascii() and any("\ud800" <= char <= "\udfff" for char in url):
        raise _refused("no valid Unicode")
    cleaned = url.strip(_EDGES).translate(_UNSEEN)
    if base is not None and not _SCHEME.match(cleaned):
        cleaned = _joined(base, cleaned)
    found = _SCHEME.match(cleaned)
    scheme = found[1].lower() if found else ""
    if found is None or scheme not in _DEFAULT_PORTS:
        raise _refused("not http or https")
    before_fragment = cleaned[found.end() :].partition("#")[0]
    before_query, _, query = before_fragment.partition("?")
    # Browsers take a backslash for a slash, and any number of them before the host.
    authority, _, path = before_query.replace("\\", "/").lstrip("/").partition("/")
    host, port = _host_and_port(authority, _DEFAULT_PORTS[scheme])
    tail = quote(_without_dots(path), safe=_PATH_SAFE)
    if query:  # an empty one is dropped, as the client's url type does
        tail += "?" + quote(query, safe=_QUERY_SAFE)
    normalised = f"{scheme}://{_authority(scheme, host, port)}/{tail}"
    if len(normalised) > MAX_CHARS:
        raise _refused(f"{len(normalised)} characters once encoded, limit {MAX_CHARS}")
    return Target(normalised, scheme, host, port)


def _refused(detail: str) -> EntryRefused:
    return EntryRefused("invalid_url", detail)


def _joined(base: Target, relative: str) -> str:
    path = re.split("[?#]", relative, maxsplit=1)[0]
    slashed = path.replace("\\", "/") + relative[len(path) :]
    if slashed.startswith("//"):
        return f"{base.scheme}:{slashed}"
    try:
        return str(urljoin(base.url, slashed))
    except ValueError:  # brackets that hold no address
        raise _refused("cannot be joined to the url it is relative to") from None


def _authority(scheme: str, host: str, port: int) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port == _DEFAULT_PORTS[scheme] else f"{bracketed}:{port}"


def _host_and_port(authority: str, default_port: int) -> tuple[str, int]:
    if "@" in authority:
        raise _refused("credentials before the host")
    if authority.startswith("["):
        inner, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _refused("brackets that are not closed, or followed by other than a port")
        host, port = _ipv6(inner), rest[1:]
    else:
        name, _, port = authority.partition(":")
        host = _name(name)
    if not port:
        return host, default_port
    if not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
        raise _refused("a port that is no number of 1 to 65535")
    return host, int(port)


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise _refused("brackets that hold no IPv6 address") from None
    if address.scope_id is not None:
        raise _refused("an IPv6 address with a zone")
    return str(address)


def _name(text: str) -> str:
    try:
        return host_name(unquote_to_bytes(text).decode("utf-8"))
    except UnicodeDecodeError:
        raise _refused("a host that is not UTF-8") from None
    except ValueError as error:
        raise _refused(str(error)) from None


def _without_dots(path: str) -> str:
    """A path, without its first slash, with `.` and `..` carried out: WHATWG URL §4.4."""
    kept: list[str] = []
    segments = path.split("/")
    for place, segment in enumerate(segments):
        plain = _DOT.sub(".", segment)
        if plain == "..":
            del kept[-1:]
        elif plain != ".":
            kept.append(segment)
            continue
        if place == len(segments) - 1:
            kept.append("")
    return "/".join(kept)
