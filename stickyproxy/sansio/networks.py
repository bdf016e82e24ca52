"""Networks of addresses, and whether one is in them. Floor 2, pure.

CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3). IPv4-mapped IPv6 addresses (``::ffff:192.0.2.7``, RFC 4291
section 2.5.5.2) count as IPv4 throughout: that is how IPv4 clients of an IPv6 socket appear.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=4096)
def address_of(text: str) -> IPAddress | None:
    """An IP address without its zone, an IPv4-mapped one as IPv4; None if ``text`` is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)
def block_of(text: str) -> str | None:
    """The addresses that one client may have at will: an IPv4 address itself, the /64 of an IPv6 one, as text.

    None if ``text`` is no address.
    """
    address = address_of(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return None if address is None else str(address)


def network_of(cidr: str) -> IPNetwork:
    """``"10.0.0.0/8"`` or ``"::1"``, an IPv4-mapped one as IPv4. ValueError where bits behind the prefix are set."""
    network = ipaddress.ip_network(cidr)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


class Networks:
    """A list of networks (``"10.0.0.0/8"``, ``"::1"``) that an address as text may be ``in``.

    What is no address – ``"unix"`` above all – is in none. Raises ValueError for a bad one (``network_of``).
    """

    __slots__ = ("_holds", "_networks")

    def __init__(self, cidrs: Iterable[str] = ()) -> None:
        self._networks = tuple(network_of(cidr) for cidr in cidrs)
        self._holds = lru_cache(maxsize=4096)(self._look_up)

    def __contains__(self, address: str) -> bool:
        return bool(self._networks) and self._holds(address)

    def _look_up(self, address: str) -> bool:
        parsed = address_of(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and self._networks == other._networks

    def __hash__(self) -> int:
        return hash(self._networks)

    def __repr__(self) -> str:
        return f"<Networks {' '.join(map(str, self._networks)) or 'none'}>"


#: The networks that hold nobody.
NOBODY = Networks()
