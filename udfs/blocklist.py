"""Lists of what must never be stored: digests of media or urls, and domains.

A list is a sorted array of digests, so that millions of them are asked without being read.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from os import PathLike
from typing import Final, Self

import numpy as np

from udfs.host_name import host_name

DOMAIN: Final = "domain"
# Kind -> bytes of a digest: RFC 1321, RFC 3174, RFC 6234. Of a domain its sha256 is listed.
KINDS: Final = {"md5": 16, "sha1": 20, "sha256": 32, "url_sha256": 32, DOMAIN: 32}
_HEX: Final = re.compile(r"[0-9a-fA-F]+")


@dataclass(frozen=True, eq=False)
class Blocklist:
    """A list of one kind.

    Attributes:
        kind: one of `KINDS`.
        digests: (n,) of bytes, sorted, each once; may be mapped from a file.
    """

    kind: str
    digests: np.ndarray

    @classmethod
    def parse(cls, lines: Iterable[str], kind: str) -> Self:
        """The list in a text.

        Args:
            lines: a digest in hex or a domain each. Blank lines, and what stands behind ``#``,
                say nothing. Held in memory are the digests only.
            kind: one of `KINDS`.

        Raises:
            ValueError: a line is neither; the message says which, and does not repeat it.

        >>> Blocklist.parse(["example.com  # the whole domain"], "domain").holds("a.example.com")
        True
        """
        found = bytearray()
        for number, line in enumerate(lines, start=1):
            text = line.partition("#")[0].strip()
            if text:
                try:
                    found += _digest(text, kind)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}; correct the list") from None
        return cls(kind, np.unique(np.frombuffer(found, _type(kind))))

    @classmethod
    def load(cls, path: str | PathLike[str], *, mmap: bool = True) -> Self:
        """A list that was saved.

        Args:
            path: a local file.
            mmap: leave it on the disk; asking reads the few pages that it needs.

        Raises:
            ValueError: the file holds no list.
        """
        saved = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
        for kind in saved.dtype.names or ():
            if saved.ndim == 1 and kind in KINDS and saved.dtype == [(kind, _type(kind))]:
                return cls(kind, saved[kind])
        raise ValueError(
            f"file of {saved.dtype} is no blocklist; allowed is what a blocklist saved; "
            "make it anew from its text"
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the list as a .npy file, its kind in the name of the only field."""
        with open(path, "wb") as file:
            np.save(file, self.digests.view([(self.kind, self.digests.dtype)]), allow_pickle=False)

    def holds(self, key: str) -> bool:
        """Whether a digest stands on the list, or a host or a domain above it.

        Args:
            key: digest in hex; of a list of domains, a host. What is no host is on no list.

        Raises:
            ValueError: a digest of another kind.
        """
        if self.kind != DOMAIN:
            return self._has(_digest(key, self.kind))
        try:
            host = _host(key)
        except ValueError:
            return False
        return any(self._has(_sha256(domain)) for domain in _with_domains_above(host))

    def __len__(self) -> int:
        """How many digests or domains."""
        return len(self.digests)

    def _has(self, digest: bytes) -> bool:
        key = np.frombuffer(digest, self.digests.dtype)
        place = int(np.searchsorted(self.digests, key)[0])
        return place < len(self.digests) and self.digests[place] == key[0]


def _type(kind: str) -> np.dtype:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}; allowed are {', '.join(KINDS)}; correct the kind")
    # Bytes that end in zeros compare right, as all have the same length.
    return np.dtype(f"S{KINDS[kind]}")


def _digest(text: str, kind: str) -> bytes:
    if kind == DOMAIN:
        return _sha256(_host(text))
    digits = 2 * _type(kind).itemsize
    if len(text) != digits or not _HEX.fullmatch(text):
        raise ValueError(f"no {kind}; allowed are {digits} hex digits")
    return bytes.fromhex(text)


def _host(text: str) -> str:
    try:
        return str(IPv6Address(text)) if ":" in text else host_name(text)
    except ValueError:
        raise ValueError(f"no {DOMAIN}; allowed are names of hosts and addresses") from None


def _with_domains_above(host: str) -> Iterator[str]:
    yield host
    while "." in host:  # no part of an address is one that can be listed
        host = host.partition(".")[2]
        yield host


def _sha256(domain: str) -> bytes:
    return hashlib.sha256(domain.encode("ascii")).digest()
