"""Which addresses a fetch may connect to: the public internet, and networks that are allowed.

A url names a host, but it is its address that decides: names of strangers may lead to our own
machines. So every address is judged, after each resolution and each redirect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

WEB_PORTS: Final = (80, 443)  # RFC 9110 §4.2.1, §4.2.2

# Every block of the IANA IPv4 special-purpose registry, the few that are globally reachable too:
# no media lies there. What `ipaddress` calls global is not the same from version to version.
_SPECIAL_V4: Final = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8",  # this network: RFC 791 §3.2
        "10.0.0.0/8",  # private: RFC 1918
        "100.64.0.0/10",  # shared by carriers (CGNAT): RFC 6598
        "127.0.0.0/8",  # loopback: RFC 1122 §3.2.1.3
        "169.254.0.0/16",  # link-local, clouds' metadata services in it: RFC 3927
        "172.16.0.0/12",  # private: RFC 1918
        "192.0.0.0/24",  # IETF protocol assignments: RFC 6890 §2.1
        "192.0.2.0/24",  # documentation: RFC 5737
        "192.31.196.0/24",  # AS112: RFC 7535
        "192.52.193.0/24",  # multicast tunnels (AMT): RFC 7450
        "192.88.99.0/24",  # relays of 6to4, deprecated: RFC 7526
        "192.168.0.0/16",  # private: RFC 1918
        "192.175.48.0/24",  # AS112: RFC 7534
        "198.18.0.0/15",  # benchmarking: RFC 2544
        "198.51.100.0/24",  # documentation: RFC 5737
        "203.0.113.0/24",  # documentation: RFC 5737
        "224.0.0.0/4",  # multicast: RFC 5771
        "240.0.0.0/4",  # reserved, limited broadcast in it: RFC 1112 §4, RFC 8190
    )
)
# The only block of IPv6 that is handed out as global unicast (RFC 4291 §2.4, IANA's address
# space registry). Outside of it lie loopback, v4-compatible, NAT64 (64:ff9b::/96 and /48),
# discard (100::/64), SRv6 (5f00::/16), unique local, link-local, site-local and multicast.
_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(  # the special ones inside of it
    IPv6Network(block)
    for block in (
        "2001::/23",  # IETF protocols: Teredo, benchmarking, ORCHID, ...: RFC 2928, RFC 6890
        "2001:db8::/32",  # documentation: RFC 3849
        "2002::/16",  # 6to4, carries any IPv4 address: RFC 3056, deprecated by RFC 7526
        "2620:4f:8000::/48",  # AS112: RFC 7534
        "3fff::/20",  # documentation: RFC 9637
    )
)


def is_public(address: str) -> bool:
    """Whether an address belongs to one host of the public internet.

    An IPv4 address mapped into IPv6 is judged by the IPv4 address. What translates or tunnels
    (NAT64, 6to4, Teredo) could lead anywhere and is never public; nor is what has a zone, nor
    a text that is no address.

    >>> is_public("93.184.215.14"), is_public("127.0.0.1"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    parsed = _parsed(address)
    return parsed is not None and _is_public(_unmapped(parsed))


@dataclass(frozen=True)
class Allowed:
    """What a fetch may connect to.

    Attributes:
        networks: allowed though they are not public, as ``10.1.0.0/16`` or ``fd00::/8``. One of
            IPv4 also takes its addresses mapped into IPv6; no other form leads into it.
        ports: TCP ports, for public and for allowed networks alike.

    Raises:
        ValueError: a network that is none.

    >>> Allowed(networks=("10.1.0.0/16",)).permits("10.1.2.3", 80)
    True
    """

    networks: Sequence[str] = ()
    ports: Sequence[int] = WEB_PORTS

    def __post_init__(self) -> None:
        """Refuse a network that is none, before the first fetch."""
        for network in self.networks:
            _network(network)

    def permits(self, address: str, port: int) -> bool:
        """Whether a fetch may connect to a port of an address."""
        parsed = _parsed(address)
        if parsed is None or port not in self.ports:
            return False
        unmapped = _unmapped(parsed)
        return _is_public(unmapped) or any(
            parsed in network or unmapped in network for network in map(_network, self.networks)
        )


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    # With a zone it is an address of one link only (RFC 4007 §6).
    if "%" in address:
        return None
    try:
        return ip_address(address)
    except ValueError:
        return None


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _SPECIAL_V4)
    return address in _GLOBAL_UNICAST_V6 and not any(address in block for block in _SPECIAL_V6)


@lru_cache(maxsize=256)  # chosen: the networks of a configuration
def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"network {text!r}: {error}; allowed are networks such as 10.1.0.0/16 or fd00::/8; "
            "correct the list of allowed networks"
        ) from None
