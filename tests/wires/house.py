"""A frontend and a cluster on memory endpoints, for the tests of the HTTP wire."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config import specs
from stickyproxy.interfaces import IAffinity
from stickyproxy.member import Member
from stickyproxy.model import Entry
from stickyproxy.passwords import Passwords
from stickyproxy.sansio.affinity import CookieAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.tokens import KeyRing, Tokens
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryEndpoint, MemoryTransport
from stickyproxy.wires.http import HTTPFrontendFactory


class House:
    """One HTTP frontend before two backends ``a`` and ``b``, bound by the cookie SRV, with a clock that is ours."""

    def __init__(
        self,
        frontend: specs.Frontend,
        cluster: specs.Cluster,
        affinity: IAffinity | None = None,
        passwords: dict[Path, Passwords] | None = None,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.sweep = Sweep(self.clock, 0.1)
        self.entries: list[Entry] = []
        self.endpoints = {backend.id: MemoryEndpoint() for backend in cluster.backends}
        members = [
            Member(
                backend,
                self.endpoints[backend.id],
                self.clock,
                connect_timeout=cluster.timeouts.connect,
                pool_size=cluster.pool.size,
            )
            for backend in cluster.backends
        ]
        affinity = affinity or CookieAffinity(
            CookieTemplate("SRV"), Tokens(KeyRing([bytes(32)]), cluster.name, b"SRV"), self.clock.seconds
        )
        self.cluster = Cluster(cluster, members, affinity, RoundRobin())
        self.factory = HTTPFrontendFactory(
            frontend,
            {"app": self.cluster},
            self.sweep,
            Random(1),
            self.clock.seconds,
            record=self.entries.append,
            passwords=passwords or {},
        )

    def client(self, high_water: int | None = None, host: str = "198.51.100.7") -> MemoryTransport:
        """A new connection of a client."""
        peer = IPv4Address("TCP", host, 40000)
        protocol = self.factory.buildProtocol(peer)
        return MemoryTransport(protocol, peer=peer, high_water=high_water)

    def wait(self, seconds: float) -> None:
        """Time passes, with every sweep in it."""
        self.clock.pump([0.1] * int(seconds * 10 + 0.5))

    def accepted(self, backend: str = "a") -> MemoryTransport:
        """The last connection to ``backend``."""
        return self.endpoints[backend].transports[-1]
