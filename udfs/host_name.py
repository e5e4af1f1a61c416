"""Names of hosts in the one form in which they can be resolved, compared and listed."""

import re
from ipaddress import AddressValueError, IPv4Address
from typing import Final

import idna

# RFC 1123 §2.1 and the underscore, which is common in names of the web.
_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
_MAX_CHARS: Final = 253  # RFC 1035 §2.3.4: 255 octets with the lengths
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # WHATWG URL §3.5: ends in a number


def host_name(text: str) -> str:
    """A name in ASCII and lower case without a last dot, or an IPv4 address.

    Raises:
        ValueError: no name of DNS, or an address that is not four decimal numbers; the message
            does not repeat it.

    >>> host_name("Bücher.Example.")
    'xn--bcher-kva.example'
    """
    try:
        name = idna.uts46_remap(text, std3_rules=False)
        if not name.isascii():
            name = idna.encode(name).decode("ascii")
    except UnicodeError:  # as every refusal of idna
        raise ValueError("no internationalised name of a host (UTS 46, IDNA 2008)") from None
    name = name.lower().removesuffix(".")  # the root's dot: RFC 1034 §3.1
    if len(name) > _MAX_CHARS or not all(map(_LABEL.fullmatch, name.split("."))):
        raise ValueError("no host, or one that is no name of DNS")
    # 127.1, 0x7f.0.0.1, 0177.0.0.1, 2130706433: browsers take them for addresses. Nobody who
    # means well writes them so.
    if is_address(name):
        try:
            return str(IPv4Address(name))
        except AddressValueError:
            raise ValueError("an IPv4 address that is not four decimal numbers") from None
    return name


def is_address(host: str) -> bool:
    """Whether a host in its normal form is an address, so that there is nothing to resolve.

    >>> is_address("127.0.0.1"), is_address("::1"), is_address("127.0.0.1.example")
    (True, True, False)
    """
    return ":" in host or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None
