"""Affinity by the client's address or network, learned: adding a backend moves nobody. Floor 2.

It is for clients that keep no cookie, and for TCP. Clients behind one address share a backend.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache

from zope.interface import implementer

from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Arrival

_IPV6 = 1 << 128  # keeps the networks of the two families apart


@implementer(IAffinity)
class SourceAffinity:
    """Clients of one network (``ipv4_prefix``, ``ipv6_prefix`` bits) go to one backend.

    ``clock()`` gives seconds. What was not seen for ``idle`` seconds is forgotten, and the longest unseen when there
    are more than ``size`` networks. A client without an IP address (a Unix socket) is not bound.
    """

    remembers = True
    cookie: bytes | None = None
    renews = False

    def __init__(
        self,
        clock: Callable[[], float],
        ipv4_prefix: int = 32,
        ipv6_prefix: int = 64,
        idle: float = 1800.0,
        size: int = 100_000,
    ) -> None:
        if not 0 < ipv4_prefix <= 32:
            raise ValueError(f"ipv4_prefix {ipv4_prefix}: expected 1 to 32")
        if not 0 < ipv6_prefix <= 128:
            raise ValueError(f"ipv6_prefix {ipv6_prefix}: expected 1 to 128")
        if idle <= 0 or size < 1:
            raise ValueError("idle and size have to be more than nothing")
        self._clock = clock
        self._ipv4_shift = 32 - ipv4_prefix
        self._ipv6_shift = 128 - ipv6_prefix
        self._idle = idle
        self._size = size
        self._network = lru_cache(maxsize=4096)(self._network_of)
        self._seen: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many networks are remembered."""
        return len(self._seen)

    def members(self, ids: Iterable[str]) -> None:
        """What is bound to a backend that went stays so, until somebody else serves it."""

    def recall(self, arrival: Arrival) -> str | None:
        network = self._network(arrival.client)
        seen = self._seen.get(network) if network is not None else None
        if network is None or seen is None:
            return None
        now = self._clock()
        if now - seen[1] > self._idle:
            del self._seen[network]
            return None
        self._touch(network, seen[0], now)
        return seen[0]

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        network = self._network(arrival.client)
        if network is not None:
            now = self._clock()
            self._touch(network, backend_id, now)
            while len(self._seen) > self._size or now - next(iter(self._seen.values()))[1] > self._idle:
                self._seen.popitem(last=False)
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        network = self._network(arrival.client)
        if network is not None:
            self._seen.pop(network, None)
        return None

    def _touch(self, network: int, backend_id: str, now: float) -> None:
        self._seen[network] = backend_id, now
        self._seen.move_to_end(network)

    def _network_of(self, client: str) -> int | None:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address):
            mapped = address.ipv4_mapped
            if mapped is None:
                return _IPV6 | int(address) >> self._ipv6_shift
            address = mapped
        return int(address) >> self._ipv4_shift
