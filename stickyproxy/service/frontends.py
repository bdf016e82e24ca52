"""Frontends of specs: a new one, or one that runs and is to be otherwise. Floor 6."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IAddress, IProtocolFactory

from stickyproxy.cluster import Cluster
from stickyproxy.config.named import Inspect
from stickyproxy.config.specs import Frontend as FrontendSpec
from stickyproxy.config.specs import FrontendTLS
from stickyproxy.extensions import Extensions, make
from stickyproxy.gate import Gate
from stickyproxy.interfaces import IStreamInspector
from stickyproxy.listening import Listener
from stickyproxy.passwords import Passwords
from stickyproxy.relay import Relay
from stickyproxy.sansio.admission import CROWDED, FULL, Admission
from stickyproxy.sansio.inspecting import BoundedInspector
from stickyproxy.sansio.networks import Networks
from stickyproxy.sansio.routing import RouteTable
from stickyproxy.sansio.tracecontext import Tracing
from stickyproxy.service.clusters import Means
from stickyproxy.sharing import Memory, admission_of, rate_region
from stickyproxy.sweep import Sweep
from stickyproxy.tally import Tally
from stickyproxy.tls import Certificate, CertificateStore, load_authorities, server_connection_creator, tls_factory
from stickyproxy.wires.admission import AdmissionFactory
from stickyproxy.wires.http import HTTPFrontendFactory, RefusalFactory
from stickyproxy.wires.http.door import destinations
from stickyproxy.wires.proxyprotocol import ProxyProtocolFactory, RefusingFactory
from stickyproxy.wires.tcp import TCPFrontendFactory

#: What a frontend with TLS speaks, by its protocol; what goes through a TCP frontend is not for us to name.
_ALPN: dict[str, tuple[bytes, ...]] = {"http": (b"http/1.1", b"http/1.0"), "tcp": ()}
Record = Callable[[Any], None]


class Frontend:
    """A frontend that runs. ``factory`` is what its connections share, ``outer`` what a listening port is given."""

    def __init__(self, factory: HTTPFrontendFactory | TCPFrontendFactory) -> None:
        self.factory = factory
        self.spec: FrontendSpec
        self.outer: IProtocolFactory = factory
        self.tls: Terminating | None = None
        self.admission: Admission | None = None
        self.listeners: list[Listener] = []
        self.tally = Tally()

    @property
    def connections(self) -> set[Any]:
        """Those that are open: they can ``abort()`` and ``drain()``, and tell whether they are ``is_served_by`` one."""
        return self.factory.connections

    def tunnels(self) -> set[Any]:
        """The WebSockets among them."""
        return {connection for connection in self.connections if isinstance(connection, Relay)}

    @property
    def certificates(self) -> Sequence[Certificate]:
        """The first is the default."""
        return self.tls.store.certificates if self.tls is not None else ()

    @property
    def addresses(self) -> Collection[IAddress]:
        """Where it listens, port 0 resolved."""
        return [listener.address for listener in self.listeners if listener.address is not None]

    def abort(self) -> None:
        """End every connection now."""
        for connection in list(self.factory.connections):
            connection.abort()

    def __repr__(self) -> str:
        return f"<Frontend {self.spec.name}: {len(self.factory.connections)} connections>"


class Terminating:
    """TLS termination: the certificates, as their files have them now, and what makes connections of them."""

    def __init__(self, spec: FrontendTLS, protocol: str) -> None:
        self.store = CertificateStore.load(spec.certificates)
        authorities = load_authorities(spec.client_ca) if spec.client_ca is not None else ()
        self.made = (spec, protocol, [certificate.chain for certificate in self.store.certificates], authorities)
        self.creator = server_connection_creator(
            self.store,
            alpn=_ALPN[protocol],
            minimum_version=spec.minimum_version,
            client_ca=spec.client_ca,
            client_certificates=spec.client_certificates,
        )


class FrontendDraft:
    """A frontend as it is to be. Making it may fail, as ``build`` does, and changes nothing; ``apply`` does not fail.

    ``previous`` is the frontend that runs, of the same protocol: its connections go on, and their next requests are
    treated as ``spec`` says. ``clusters`` and ``passwords`` are as they are to be. ``record`` takes entries for the
    access log, None: there is none; ``tracing`` has requests be in traces, None: it does not look at them.
    """

    def __init__(
        self,
        spec: FrontendSpec,
        means: Means,
        sweep: Sweep,
        clusters: Mapping[str, Cluster],
        passwords: Mapping[Path, Passwords],
        record: Record | None,
        tracing: Tracing | None,
        previous: Frontend | None = None,
    ) -> None:
        self.spec = spec
        self._sweep = sweep
        self._tracing = tracing
        self._tls = self._terminating(previous)
        factory: HTTPFrontendFactory | TCPFrontendFactory
        if spec.protocol == "http":
            self._configure, factory = self._http(means, clusters, passwords, record, previous)
        else:
            self._configure, factory = self._tcp(means, clusters, record, previous)
        self.frontend = previous or Frontend(factory)
        self._admission = self._admitting(means.memory)
        #: What stands before the frontend, for listening ports.
        self.outer = self._wrapped(factory, means.reactor)

    def apply(self, *, counts: bool = False) -> Frontend:
        """The frontend, which is ``previous`` where there is one. ``counts``: it counts what it serves."""
        frontend = self.frontend
        self._configure()
        frontend.factory.tally = frontend.tally if counts else None
        if self._admission is not None:
            limits = self.spec.limits
            trusted = Networks(self.spec.trusted_proxies)
            self._admission.configure(limits.connections, limits.connections_per_address, trusted)
        frontend.spec, frontend.outer, frontend.tls = self.spec, self.outer, self._tls
        frontend.admission = self._admission
        return frontend

    # What a factory is told.

    def _http(
        self,
        means: Means,
        clusters: Mapping[str, Cluster],
        passwords: Mapping[Path, Passwords],
        record: Record | None,
        previous: Frontend | None,
    ) -> tuple[Callable[[], None], HTTPFrontendFactory]:
        spec, sweep, secure = self.spec, self._sweep, self.spec.tls is not None
        if previous is not None and isinstance(previous.factory, HTTPFrontendFactory):
            factory = previous.factory
        else:
            factory = HTTPFrontendFactory(
                spec,
                clusters,
                sweep,
                means.random,
                time.time,
                secure=secure,
                record=record,
                tracing=self._tracing,
                passwords=passwords,
                memory=means.memory,
            )
        routes = destinations(spec, clusters, sweep.seconds, passwords, means.memory)
        told: dict[str, Any] = {"secure": secure, "record": record, "tracing": self._tracing}
        return partial(factory.configure, spec, routes, **told), factory

    def _tcp(
        self, means: Means, clusters: Mapping[str, Cluster], record: Record | None, previous: Frontend | None
    ) -> tuple[Callable[[], None], TCPFrontendFactory]:
        spec, sweep = self.spec, self._sweep
        cluster = clusters[spec.cluster] if spec.cluster is not None else None
        routes = RouteTable(((route, clusters[route.cluster]) for route in spec.routes), cluster)
        if previous is not None and isinstance(previous.factory, TCPFrontendFactory):
            factory = previous.factory
        else:
            factory = TCPFrontendFactory(cluster, sweep, name=spec.name)
        gate = None
        if spec.access is not None:
            gate = Gate(spec.access, sweep.seconds, means.memory, rate_region(spec, None))
        configure = partial(
            factory.configure,
            cluster,
            idle=spec.timeouts.tunnel,
            handshake=spec.timeouts.head,
            record=record,
            opens=spec.access_log is not None and spec.access_log.opens,
            gate=gate,
            inspector=_inspector(spec.inspect, means.extensions) if spec.inspect else None,
            cluster_for=(lambda host: routes.find(host or b"", b"/")) if spec.routes else None,
        )
        return configure, factory

    # What stands before it.

    def _terminating(self, previous: Frontend | None) -> Terminating | None:
        """The same as before, with its tickets, unless a file has another content."""
        if self.spec.tls is None:
            return None
        fresh = Terminating(self.spec.tls, self.spec.protocol)
        before = previous.tls if previous is not None else None
        return before if before is not None and before.made == fresh.made else fresh

    def _admitting(self, memory: Memory) -> Admission | None:
        limits = self.spec.limits
        if limits.connections is None and limits.connections_per_address is None:
            return None
        return self.frontend.admission or admission_of(self.spec, memory)

    def _wrapped(self, inner: HTTPFrontendFactory | TCPFrontendFactory, reactor: Any) -> IProtocolFactory:
        """PROXY header, then is there room, then TLS, then the protocol: the order in which they are on the wire."""
        spec, sweep = self.spec, self._sweep
        secure: Callable[[IProtocolFactory], IProtocolFactory] | None = None
        if self._tls is not None:
            creator, patience = self._tls.creator, spec.timeouts.head
            shaken = self.frontend.tally.shaken
            secure = partial(
                tls_factory, creator, clock=reactor, handshake_timeout=patience, turn=sweep.turn, shaken=shaken
            )
        wary = spec.accept_proxy_protocol and spec.protocol == "tcp"
        factory: IProtocolFactory = inner
        if secure is not None:
            factory = secure(RefusingFactory(factory) if wary else factory)
        if self._admission is not None:
            factory = self._refusing(factory, inner, self._admission, secure)
        if wary and secure is None:
            factory = RefusingFactory(factory)
        if spec.accept_proxy_protocol:
            factory = ProxyProtocolFactory(factory, spec.accept_proxy_protocol, sweep, timeout=spec.timeouts.head)
        return factory

    def _refusing(
        self,
        factory: IProtocolFactory,
        inner: HTTPFrontendFactory | TCPFrontendFactory,
        admission: Admission,
        secure: Callable[[IProtocolFactory], IProtocolFactory] | None,
    ) -> AdmissionFactory:
        """``factory``, as far as there is room; who speaks HTTP is told where there is none, in TLS if there is TLS."""
        refusing: dict[int, IProtocolFactory] = {}
        if isinstance(inner, HTTPFrontendFactory):
            for reason in (FULL, CROWDED):
                refusal = RefusalFactory(inner, reason)
                refusing[reason.status] = refusal if secure is None else secure(refusal)
        refused = self.frontend.tally.refused
        return AdmissionFactory(self.spec.name, factory, admission, self._sweep, refusing, refused)


def _inspector(spec: Inspect, extensions: Extensions) -> IStreamInspector:
    inspector = make(extensions.of(IStreamInspector)[spec.name], spec.options)
    return BoundedInspector(inspector, spec.bytes, spec.timeout)
