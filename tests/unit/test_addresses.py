from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.fetch.addresses import Allowed, is_public

# The registries' blocks as they stand there, written down apart from the code: IANA IPv4 and IPv6
# special-purpose address registries, multicast, and the IPv6 address space.
SPECIAL = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "::/96",  # v4-compatible
    "::ffff:0:0:0/96",  # translated: RFC 2765
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # local NAT64
    "100::/64",  # discard
    "100:0:0:1::/64",  # dummy prefix
    "2001::/23",
    "2001::/32",  # Teredo
    "2001:2::/48",  # benchmarking
    "2001:10::/28",  # ORCHID
    "2001:20::/28",  # ORCHIDv2
    "2001:db8::/32",
    "2002::/16",  # 6to4
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",  # SRv6
    "fc00::/7",  # unique local
    "fe80::/10",  # link-local
    "fec0::/10",  # site-local
    "ff00::/8",  # multicast
]
# Those whose neighbour on that side is of the public internet.
PUBLIC_BEFORE = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "2001::/23",
    "2001:db8::/32",
    "2620:4f:8000::/48",
    "3fff::/20",
]
PUBLIC_AFTER = [*sorted({*PUBLIC_BEFORE} - {"224.0.0.0/4"}), "0.0.0.0/8", "2002::/16"]


@pytest.mark.parametrize("block", SPECIAL)
def test_a_special_block_is_refused_from_its_first_address_to_its_last(block: str) -> None:
    network = ip_network(block)

    assert not is_public(str(network[0]))
    assert not is_public(str(network[-1]))
    assert not is_public(str(network[network.num_addresses // 2]))


@pytest.mark.parametrize("block", PUBLIC_BEFORE)
def test_the_address_before_a_block_is_public(block: str) -> None:
    assert is_public(str(ip_network(block)[0] - 1))


@pytest.mark.parametrize("block", PUBLIC_AFTER)
def test_the_address_after_a_block_is_public(block: str) -> None:
    assert is_public(str(ip_network(block)[-1] + 1))


def test_global_unicast_begins_and_ends_where_it_does() -> None:
    assert is_public("2000::")
    assert not is_public(str(ip_address("2000::") - 1))
    assert is_public(str(ip_address("4000::") - 1))
    assert not is_public("4000::")


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",  # metadata of the clouds
        "fd00:ec2::254",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::127.0.0.1",
        "::8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "fe80::1%eth0",
        "2606:4700::1111%eth0",
        "2606:4700::1111%",
        "localhost",
        "",
        "127.1",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "8.8.8.8/32",
        " 8.8.8.8",
        "[2606:4700::1111]",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
def test_what_leads_inside_or_is_no_address_is_not_public(address: str) -> None:
    assert not is_public(address)
    assert not Allowed().permits(address, 80)


def test_public_ones_are_public() -> None:
    assert is_public("8.8.8.8")
    assert is_public("::ffff:8.8.8.8")
    assert is_public("2606:4700:4700::1111")


@given(st.ip_addresses())
@example(IPv4Address("192.0.0.9"))
@example(IPv6Address("2001:4:112::1"))
def test_never_more_is_permitted_than_ipaddress_calls_global(
    address: IPv4Address | IPv6Address,
) -> None:
    if not address.is_global:
        assert not is_public(str(address))
        assert not Allowed().permits(str(address), 80)


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_the_one_it_maps(address: IPv4Address) -> None:
    mapped = f"::ffff:{address}"
    assert is_public(mapped) == is_public(str(address))
    allowed = Allowed(networks=(f"{address}/32",))
    assert allowed.permits(mapped, 80)
    assert allowed.permits(str(address), 80)


def test_an_allowed_network_takes_its_addresses_and_no_other_form_of_them() -> None:
    allowed = Allowed(networks=("127.0.0.0/8", "fd00::/8"), ports=(80,))

    assert allowed.permits("127.0.0.1", 80)
    assert allowed.permits("::ffff:127.0.0.1", 80)
    assert allowed.permits("fd12::1", 80)
    assert allowed.permits("8.8.8.8", 80)
    for other in ("::127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "::1", "10.0.0.1"):
        assert not allowed.permits(other, 80)
    assert not allowed.permits("fd12::1%lo", 80)


def test_a_network_of_mapped_addresses_takes_only_what_is_written_so() -> None:
    allowed = Allowed(networks=("::ffff:10.0.0.0/104",))

    assert allowed.permits("::ffff:10.0.0.1", 80)
    assert not allowed.permits("10.0.0.1", 80)


def test_ports_bind_public_and_allowed_networks() -> None:
    allowed = Allowed(networks=("127.0.0.0/8",), ports=(8080,))

    assert [allowed.permits("127.0.0.1", port) for port in (80, 8080)] == [False, True]
    assert [allowed.permits("8.8.8.8", port) for port in (80, 8080)] == [False, True]
    assert [Allowed().permits("8.8.8.8", port) for port in (22, 80, 443)] == [False, True, True]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "intranet", "10.0.0.0/33", ""])
def test_a_network_that_is_none_is_refused_at_once(network: str) -> None:
    with pytest.raises(ValueError, match="correct the list of allowed networks"):
        Allowed(networks=(network,))
