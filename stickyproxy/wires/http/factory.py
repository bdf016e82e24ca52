"""What the connections of one HTTP frontend share. Floor 4."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from stickyproxy.addresses import TLVs, connection_of, peer_of
from stickyproxy.cluster import Cluster
from stickyproxy.config.specs import Frontend as FrontendSpec
from stickyproxy.errors import HTTPError
from stickyproxy.exchange.awaiting import AwaitingExchange
from stickyproxy.exchange.exchange import ClientSide, Exchange
from stickyproxy.exchange.explaining import Explained
from stickyproxy.model import Entry, Peer, RequestHead
from stickyproxy.passwords import Passwords
from stickyproxy.sansio.explaining import explain_route
from stickyproxy.sansio.forwarding import DateClock, forward_request
from stickyproxy.sansio.http1 import HeadCollector
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.networks import Networks
from stickyproxy.sansio.proxyprotocol import proxy_header
from stickyproxy.sansio.routing import RouteTable, has_dot_segments
from stickyproxy.sansio.tracecontext import Tracing
from stickyproxy.sansio.upgrade import Offer
from stickyproxy.sharing import Memory, PrivateMemory
from stickyproxy.sweep import Sweep
from stickyproxy.tally import Tally
from stickyproxy.wires.http.answers import AnswerWriter
from stickyproxy.wires.http.door import Destination, destinations
from stickyproxy.wires.http.frontend import HTTPFrontend

Record = Callable[[Entry], None]


class HTTPFrontendFactory(Factory):
    """What the connections of one HTTP frontend share.

    ``clusters``: by name. ``record`` takes the entries of the access log, None: there is none. ``now`` is the time of
    day in seconds since the epoch. ``secure``: behind TLS termination. ``passwords``: by their ``users_file``.
    ``tracing`` has requests be in traces, None: the fields of those are passed on as they came.
    ``memory`` is shared with other processes, None: with none.
    """

    noisy = False

    def __init__(
        self,
        spec: FrontendSpec,
        clusters: Mapping[str, Cluster],
        sweep: Sweep,
        random: Random,
        now: Callable[[], float],
        *,
        secure: bool = False,
        record: Record | None = None,
        tracing: Tracing | None = None,
        passwords: Mapping[Path, Passwords] = MappingProxyType({}),
        memory: Memory | None = None,
    ) -> None:
        self.name = spec.name
        self.sweep = sweep
        self.connections: set[Any] = set()  #: that are open; they can ``abort()`` and ``drain()``
        self._ids = b"%016x-" % random.getrandbits(64)
        self._count = itertools.count(1)
        self.now = now
        self._date = DateClock()
        self.tally: Tally | None = None  #: counts what is answered, if anybody wants to know
        routes = destinations(spec, clusters, sweep.seconds, passwords, memory or PrivateMemory())
        self.configure(spec, routes, secure=secure, record=record, tracing=tracing)

    def configure(
        self,
        spec: FrontendSpec,
        routes: RouteTable[Destination],
        *,
        secure: bool,
        record: Record | None,
        tracing: Tracing | None = None,
    ) -> None:
        """Be as ``spec`` says from now on, for the next requests of open connections too."""
        self.timeouts = spec.timeouts
        self.limits = spec.limits
        self.websocket = spec.websocket
        self.keep_alive_allowance = self.sweep.period + spec.timeouts.keep_alive
        self.body_allowance = self.sweep.period + spec.timeouts.body
        self._body_rate = spec.limits.body_rate or None
        self._find = routes.find
        self._wary = any(route.access is not None for route in spec.routes)
        self._trusted = Networks(spec.trusted_proxies)
        self._secure = secure
        self.record = record
        self.tracing = tracing

    def buildProtocol(self, addr: IAddress | None) -> HTTPFrontend:  # type: ignore[override]
        built = HTTPFrontend(self, peer_of(addr))
        if tlvs := getattr(addr, "tlvs", ()):
            built.tlvs = tlvs
        return built

    def collector(self) -> HeadCollector:
        """What gathers a head that comes in pieces."""
        return HeadCollector(is_request=True, limit=self.limits.head, target_limit=self.limits.target)

    def identify(self, peer: Peer, transport: Any, tlvs: TLVs = ()) -> Identity:
        """What is known, and to be told to backends, of the connection ``transport`` of ``peer``."""
        local = peer_of(transport.getHost())
        host = f"[{local.host}]" if ":" in local.host else local.host
        return Identity(
            peer,
            local.port,
            self._secure,
            self._trusted,
            default_host=f"{host}:{local.port}".encode("ascii"),
            connection=connection_of(transport, tlvs),
        )

    def exchange(
        self, client: HTTPFrontend, head: RequestHead, offer: Offer | None, identity: Identity, answer: AnswerWriter
    ) -> Exchange:
        """What has ``head`` answered to ``client``. Raises ``HTTPError``: 404, and for whom may not come in."""
        if self._wary and has_dot_segments(head.target):  # the route's rule may not be that of what a backend reads
            raise HTTPError("a path with dot segments may not come in here", status=403)
        cluster, door, route = self._find(head.authority, head.target)
        admitted = None
        if door is not None:
            head, admitted = door.admit(head, identity)
        if cluster is None:
            if admitted is not None:
                admitted.addErrback(lambda refusal: None)
            raise HTTPError("nothing is served under this name", status=404)
        if self.tracing is not None and answer.trace is not None:
            head = self.tracing.tell(head, answer.trace)
        data = forward_request(head, identity, cluster.hide, answer.request_id, offer is not None)
        version = cluster.send_proxy_protocol
        preface = proxy_header(version, client.peer, peer_of(client.transport.getHost())) if version else b""
        arrival = identity.arrival(head)
        side: ClientSide = client
        if b"x-sticky-explain" in head.named and identity.asks_itself(head):
            side = explained = Explained(client, explain_route(route, cluster.name), cluster, arrival)
        if admitted is not None:
            made: Exchange = AwaitingExchange(admitted, cluster, side, arrival, head, data, self.sweep, offer, preface)
        else:
            made = Exchange(cluster, side, arrival, head, data, self.sweep, offer, preface)
        if side is not client:
            explained.exchange = made
        return made

    def body_deadline(self, deadline: float, received: int) -> float:
        """By when more of a content has to come, ``received`` bytes of which came before ``deadline``."""
        silence, rate = self.sweep.now + self.body_allowance, self._body_rate
        return silence if rate is None else min(silence, deadline + received / rate)

    def request_id(self) -> bytes:
        """An id for a request that has none: 16 random hexadecimal digits of this frontend, and a count."""
        return b"%b%x" % (self._ids, next(self._count))

    def date(self) -> bytes:
        """Now, as a value of the Date field."""
        return self._date.at(self.now())
