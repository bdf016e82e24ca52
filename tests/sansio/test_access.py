"""Which addresses may come in: the most specific network decides."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.access import AccessList


@pytest.mark.parametrize(
    ("allow", "deny", "address", "expected"),
    [
        ([], [], "192.0.2.7", True),
        ([], ["192.0.2.0/24"], "192.0.2.7", False),
        ([], ["192.0.2.0/24"], "192.0.3.7", True),
        (["192.0.2.0/24"], [], "192.0.2.7", True),
        (["192.0.2.0/24"], [], "192.0.3.7", False),
        (["10.0.0.0/8"], ["10.6.0.0/16"], "10.6.0.1", False),
        (["10.0.0.0/8"], ["10.6.0.0/16"], "10.7.0.1", True),
        (["10.6.0.0/16"], ["10.0.0.0/8"], "10.6.0.1", True),
        (["10.6.0.0/16"], ["10.0.0.0/8"], "10.7.0.1", False),
        (["10.6.0.0/16"], ["10.0.0.0/8"], "192.0.2.7", False),
        (["10.0.0.0/8", "10.6.6.0/24"], ["10.6.0.0/16"], "10.6.6.1", True),
        (["192.0.2.7"], ["0.0.0.0/0"], "192.0.2.7", True),
        (["192.0.2.7"], ["0.0.0.0/0"], "192.0.2.8", False),
        ([], ["0.0.0.0/0"], "2001:db8::1", True),
        ([], ["0.0.0.0/0", "::/0"], "2001:db8::1", False),
        (["2001:db8::/32"], [], "2001:db8::1", True),
        (["2001:db8::/32"], [], "192.0.2.7", False),
        (["192.0.2.0/24"], [], "::ffff:192.0.2.7", True),
        (["::ffff:192.0.2.0/120"], [], "192.0.2.7", True),
        ([], ["fe80::/10"], "fe80::1%eth0", False),
        (["0.0.0.0/0", "::/0"], [], "unix", False),
        ([], ["0.0.0.0/0", "::/0"], "unix", True),
        (["192.0.2.0/24"], [], "", False),
        (["192.0.2.0/24"], [], "192.0.2.07", False),
    ],
)
def test_the_most_specific_network_decides(allow: list[str], deny: list[str], address: str, expected: bool) -> None:
    """The longest prefix that holds an address decides; without one it comes in where nobody is allowed by name."""
    assert AccessList(allow, deny).admits(address) is expected
    assert AccessList(allow[::-1], deny[::-1]).admits(address) is expected


@pytest.mark.parametrize(
    ("allow", "deny"),
    [
        (["192.0.2.0/24"], ["192.0.2.0/24"]),
        (["192.0.2.0/24"], ["::ffff:192.0.2.0/120"]),
        (["192.0.2.1/24"], []),
        ([], ["somewhere"]),
    ],
)
def test_lists_that_cannot_be(allow: list[str], deny: list[str]) -> None:
    """A network in both lists, or what is no network, is a mistake."""
    with pytest.raises(ValueError):
        AccessList(allow, deny)


def network(address: IPv4Address | IPv6Address, length: int) -> str:
    return str(ip_network((address, min(length, address.max_prefixlen)), strict=False))


NETWORKS = st.builds(network, st.ip_addresses(), st.integers(0, 128))


@given(st.lists(NETWORKS, max_size=6, unique=True), st.lists(NETWORKS, max_size=6, unique=True), st.data())
def test_lists_against_their_definition(allow: list[str], deny: list[str], data: st.DataObject) -> None:
    """However many networks, the answer is that of trying all of them."""
    deny = [cidr for cidr in deny if cidr not in allow]
    addresses = st.ip_addresses()
    if allow + deny:
        addresses |= st.sampled_from([ip_network(cidr)[0] for cidr in allow + deny])
    address = data.draw(addresses)
    try:
        it = AccessList(allow, deny)
    except ValueError:
        return  # the same network by two spellings
    holding = [(ip_network(cidr).prefixlen, cidr in allow) for cidr in allow + deny if address in ip_network(cidr)]
    if not any(ip_network(cidr).version == 6 and ip_network(cidr).prefixlen >= 96 for cidr in allow + deny):
        assert it.admits(str(ip_address(address))) is (max(holding)[1] if holding else not allow)
