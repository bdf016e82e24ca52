"""A configuration made to run: ``build`` gives a service for any Twisted program. Floor 6."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from inspect import signature
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredSemaphore, maybeDeferred, succeed
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.cluster import Cluster, Member, WrapTLS
from stickyproxy.config.endpoints import host_of
from stickyproxy.config.named import Inspect, Named
from stickyproxy.config.specs import BackendTLS, Configuration, FrontendTLS
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.config.specs import Frontend as FrontendSpec
from stickyproxy.control.snapshot import Serving
from stickyproxy.errors import StickyproxyError
from stickyproxy.extensions import Extensions, make
from stickyproxy.gate import Gate
from stickyproxy.interfaces import IAffinity, IBalancer, ISessionStore, IStreamInspector
from stickyproxy.keyfile import read_or_create
from stickyproxy.model import Backend
from stickyproxy.passwords import Passwords, VerifyingThreads, load_users
from stickyproxy.probes import AT_ONCE, probing_of
from stickyproxy.reactor.turn import Turn
from stickyproxy.recording import Recording
from stickyproxy.sansio.admission import CROWDED, FULL, Admission
from stickyproxy.sansio.affinity import ChainAffinity
from stickyproxy.sansio.inspecting import BoundedInspector
from stickyproxy.sansio.networks import Networks
from stickyproxy.sansio.routing import RouteTable
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing
from stickyproxy.sweep import Sweep
from stickyproxy.tls import (
    CertificateStore,
    TLSFactory,
    client_creator,
    server_connection_creator,
    tls_factory,
)
from stickyproxy.wires.admission import AdmissionFactory
from stickyproxy.wires.http import HTTPFrontendFactory, RefusalFactory
from stickyproxy.wires.proxyprotocol import ProxyProtocolFactory, RefusingFactory
from stickyproxy.wires.tcp import TCPFrontendFactory

#: Connections that may wait for being accepted, where the endpoint does not say otherwise; the system may allow fewer.
BACKLOG = 1024
#: What a frontend with TLS speaks, by its protocol; what goes through a TCP frontend is not for us to name.
_ALPN: dict[str, tuple[bytes, ...]] = {"http": (b"http/1.1", b"http/1.0"), "tcp": ()}


class CannotListen(StickyproxyError):
    """An endpoint is taken, or not for us to take."""


class Listener(Service):
    """Listens on one endpoint. ``listening`` fires with the address, port 0 resolved.

    ``connections`` are those that are open, of whatever ``factory`` wraps: they end when the service does.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        description: str,
        endpoint: IStreamServerEndpoint,
        factory: IProtocolFactory,
        connections: Collection[Any],
        reactor: Any,
    ) -> None:
        self.listening: Deferred[IAddress] = Deferred()
        self._name = name
        self._description = description
        self._endpoint = endpoint
        self._factory = factory
        self._connections = connections
        self._reactor = reactor
        self._port: Deferred[IListeningPort] | None = None

    def privilegedStartService(self) -> None:
        """Listen, while we may still have the privileges for it. Raises ``CannotListen``."""
        refusals: list[Failure] = []
        self._port = self._endpoint.listen(self._factory)
        self._port.addCallbacks(self._listens, refusals.append)
        for refusal in refusals:
            reason = getattr(refusal.value, "socketError", None) or refusal.value
            reason = getattr(reason, "strerror", None) or reason
            raise CannotListen(
                f"frontend {self._name} cannot listen on {self._description}: {reason}"
            ) from refusal.value

    def startService(self) -> None:
        super().startService()
        if self._port is None:
            self.privilegedStartService()

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        port, self._port = self._port, None
        return Deferred.fromCoroutine(self._stop(port)) if port is not None else succeed(None)

    async def _stop(self, listening: Deferred[IListeningPort]) -> None:
        port = await listening
        if port is not None:
            await maybeDeferred(port.stopListening)
        for connection in list(self._connections):
            connection.abort()

    def _listens(self, port: IListeningPort) -> IListeningPort:
        self._reactor.callWhenRunning(self._tell, port.getHost())
        self.listening.callback(port.getHost())
        return port

    def _tell(self, address: IAddress) -> None:
        """Nobody is served, and no signal obeyed, before the reactor runs."""
        self._log.info(
            "Frontend {frontend} listens on {endpoint}: {address}",
            frontend=self._name,
            endpoint=self._description,
            address=address,
        )


class Proxy(MultiService):
    """A running configuration."""

    def __init__(self, configuration: Configuration, clusters: dict[str, Cluster]) -> None:
        super().__init__()
        self.configuration = configuration
        self.clusters = clusters
        self.frontends: dict[str, Serving] = {}

    async def _stop(self) -> None:
        await maybeDeferred(super().stopService)
        for cluster in self.clusters.values():
            cluster.stop()

    def stopService(self) -> Deferred[None]:
        """Stop listening, and end every connection."""
        return Deferred.fromCoroutine(self._stop())


def build(configuration: Configuration, reactor: Any, extensions: Extensions) -> Proxy:
    """The service of a whole configuration; nothing listens before it is started.

    Raises ``TLSConfigurationError``, ``KeyFileError``, ``UsersFileError`` and ``ValueError`` for what the files that it
    names do not hold.
    """
    timeouts = [seconds for frontend in configuration.frontends for seconds in attrs.astuple(frontend.timeouts)]
    timeouts += [f.inspect.timeout for f in configuration.frontends if f.inspect and f.inspect.timeout]
    timeouts += [seconds for cluster in configuration.clusters for seconds in attrs.astuple(cluster.timeouts)]
    sweep = Sweep.for_timeouts(reactor, timeouts)
    random = Random()
    directory = configuration.path.parent if configuration.path else None
    groups: dict[str | None, ISessionStore] = {}
    clusters = {
        spec.name: build_cluster(
            spec,
            reactor,
            extensions,
            random=random,
            directory=directory,
            turn=sweep.turn,
            sessions=groups.setdefault(group, _session_table(spec)) if (group := spec.sessions.group) else None,
        )
        for spec in configuration.clusters
    }
    proxy = Proxy(configuration, clusters)
    _probe(proxy, reactor, extensions, random)
    passwords = _passwords(configuration, proxy, reactor)
    recording = Recording(reactor)
    recording.setServiceParent(proxy)
    for spec in configuration.frontends:
        record = recording.record(spec.access_log)
        inner = _frontend_factory(spec, clusters, sweep, random, record, passwords, extensions)
        store = CertificateStore.load(spec.tls.certificates) if spec.tls is not None else None
        outer = _wrapped(inner, spec, store, sweep, reactor)
        proxy.frontends[spec.name] = serving = Serving(inner.connections, store.certificates if store else ())
        for description in spec.listen:
            endpoint = _server_endpoint(reactor, description)
            listener = Listener(spec.name, description, endpoint, outer, inner.connections, reactor)
            listener.listening.addCallback(serving.listens)
            listener.setServiceParent(proxy)
    return proxy


def _probe(proxy: Proxy, reactor: Any, extensions: Extensions, random: Random) -> None:
    """The clusters that are to be probed are, while ``proxy`` runs."""
    slots = DeferredSemaphore(AT_ONCE)
    for spec in proxy.configuration.clusters:
        if spec.probe is not None:
            cluster = proxy.clusters[spec.name]
            probing_of(cluster, spec, reactor, extensions, random, slots).setServiceParent(proxy)


def _server_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Twisted lets 50 connections wait for being accepted; the rest of a crowd would try again a second later."""
    endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    if description.startswith(("tcp:", "tcp6:", "unix:")) and ":backlog=" not in description:
        with suppress(TypeError):  # it is given already, by its place
            endpoint = serverFromString(reactor, f"{description}:backlog={BACKLOG}")
    return endpoint


def _frontend_factory(
    spec: FrontendSpec,
    clusters: dict[str, Cluster],
    sweep: Sweep,
    random: Random,
    record: Callable[[Any], None] | None,
    passwords: Mapping[Path, Passwords],
    extensions: Extensions,
) -> HTTPFrontendFactory | TCPFrontendFactory:
    if spec.protocol == "http":
        secure = spec.tls is not None
        return HTTPFrontendFactory(
            spec, clusters, sweep, random, time.time, secure=secure, record=record, passwords=passwords
        )
    cluster = clusters[spec.cluster] if spec.cluster is not None else None
    routes = RouteTable(((route, clusters[route.cluster]) for route in spec.routes), cluster)
    return TCPFrontendFactory(
        cluster,
        sweep,
        name=spec.name,
        idle=spec.timeouts.tunnel,
        handshake=spec.timeouts.head,
        record=record,
        opens=spec.access_log is not None and spec.access_log.opens,
        gate=Gate(spec.access, sweep.seconds) if spec.access is not None else None,
        inspector=_inspector(spec.inspect, extensions) if spec.inspect else None,
        cluster_for=(lambda host: routes.find(host or b"", b"/")) if spec.routes else None,
    )


def _inspector(spec: Inspect, extensions: Extensions) -> IStreamInspector:
    inspector = make(extensions.of(IStreamInspector)[spec.name], spec.options)
    return BoundedInspector(inspector, spec.bytes, spec.timeout)


def _passwords(configuration: Configuration, proxy: Proxy, reactor: Any) -> dict[Path, Passwords]:
    """By their files, those of every ``users_file``; each is read once."""
    found = (access for frontend in configuration.frontends for _, access in frontend.accesses())
    files = {access.users_file for access in found if access.users_file is not None}
    if not files:
        return {}
    threads = VerifyingThreads(reactor)
    threads.setServiceParent(proxy)
    return {path: Passwords(load_users(path), threads.run, os.urandom(32), reactor.seconds) for path in sorted(files)}


def _wrapped(
    inner: HTTPFrontendFactory | TCPFrontendFactory,
    spec: FrontendSpec,
    store: CertificateStore | None,
    sweep: Sweep,
    reactor: Any,
) -> IProtocolFactory:
    """PROXY header, then is there room, then TLS, then the protocol: the order in which they are on the wire."""
    secure: Callable[[IProtocolFactory], IProtocolFactory] | None = None
    if spec.tls and store:
        creator, patience = _tls_creator(spec.tls, store, _ALPN[spec.protocol]), spec.timeouts.head
        secure = partial(tls_factory, creator, clock=reactor, handshake_timeout=patience, turn=sweep.turn)
    wary = spec.accept_proxy_protocol and spec.protocol == "tcp"
    factory: IProtocolFactory = inner
    if secure is not None:
        factory = secure(RefusingFactory(factory) if wary else factory)
    if spec.limits.connections is not None or spec.limits.connections_per_address is not None:
        factory = _admitting(factory, inner, spec, sweep, secure)
    if wary and secure is None:
        factory = RefusingFactory(factory)
    if spec.accept_proxy_protocol:
        factory = ProxyProtocolFactory(factory, spec.accept_proxy_protocol, sweep, timeout=spec.timeouts.head)
    return factory


def _admitting(
    factory: IProtocolFactory,
    inner: HTTPFrontendFactory | TCPFrontendFactory,
    spec: FrontendSpec,
    sweep: Sweep,
    secure: Callable[[IProtocolFactory], IProtocolFactory] | None,
) -> AdmissionFactory:
    """``factory``, as far as there is room; who speaks HTTP is told where there is none, in TLS where there is TLS."""
    limits = spec.limits
    admission = Admission(limits.connections, limits.connections_per_address, Networks(spec.trusted_proxies))
    refusing: dict[int, IProtocolFactory] = {}
    if isinstance(inner, HTTPFrontendFactory):
        for reason in (FULL, CROWDED):
            refusal = RefusalFactory(inner, reason)
            refusing[reason.status] = refusal if secure is None else secure(refusal)
    return AdmissionFactory(spec.name, factory, admission, sweep, refusing)


def _tls_creator(spec: FrontendTLS, store: CertificateStore, alpn: tuple[bytes, ...]) -> Any:
    return server_connection_creator(
        store,
        alpn=alpn,
        minimum_version=spec.minimum_version,
        client_ca=spec.client_ca,
        client_certificates=spec.client_certificates,
    )


def build_cluster(
    spec: ClusterSpec,
    reactor: Any,
    extensions: Extensions,
    *,
    random: Random,
    directory: Path | None,
    turn: Turn | None = None,
    sessions: ISessionStore | None = None,
) -> Cluster:
    """One cluster on its own, for ``AffinityResource`` and protocols of your own. Raises as ``build`` does.

    ``turn``: the one of ``reactor``, None: one of its own. ``sessions``: what it shares with its group, None: its own.
    """
    turn = turn or Turn.of(reactor)
    members = [_member(spec, backend, reactor, turn) for backend in spec.backends]
    context: dict[str, Any] = {
        "cluster": spec.sessions.group or spec.name,
        "clock": time.time,
        "random": random,
        "sessions": _session_table(spec) if sessions is None else sessions,
        "backends": spec.backends,
    }
    makes = [extensions.of(IAffinity)[link.name].make for link in spec.affinity.links or (spec.affinity,)]
    balancing = extensions.of(IBalancer)[spec.balance.name]
    if any("key_ring" in signature(one).parameters for one in (*makes, balancing.make)):
        context["key_ring"] = _key_ring(spec, directory)

    def affinity_of(named: Named) -> IAffinity:
        if named.links:
            chain: IAffinity = ChainAffinity([affinity_of(link) for link in named.links])
            return chain
        made: IAffinity = make(extensions.of(IAffinity)[named.name], named.options, **context)
        return made

    balancer = make(balancing, spec.balance.options, **context)
    cluster = Cluster(spec, members, affinity_of(spec.affinity), balancer)
    if any("sessions" in signature(one).parameters for one in makes):
        cluster.sessions = context["sessions"]
    return cluster


def _session_table(spec: ClusterSpec) -> SessionTable:
    kept = spec.sessions
    return SessionTable(time.time, idle=kept.idle, lifetime=kept.lifetime, size=kept.size, memory=kept.memory)


def _member(spec: ClusterSpec, backend: Backend, reactor: Any, turn: Turn) -> Member:
    return Member(
        backend,
        clientFromString(reactor, _patient(backend.endpoint, spec.timeouts.connect)),
        reactor,
        connect_timeout=spec.timeouts.connect,
        pool_size=spec.pool.size,
        wrap_tls=_wrap_tls(spec.tls, backend, reactor, turn) if spec.tls is not None else None,
    )


def _patient(endpoint: str, timeout: float) -> str:
    """Twisted's own endpoints give up after 30 seconds; ``Member`` is to decide that."""
    if timeout < 30 or ":timeout=" in endpoint or host_of(endpoint) is None:
        return endpoint
    return f"{endpoint}:timeout={int(timeout) + 1}"


def _wrap_tls(spec: BackendTLS, backend: Backend, reactor: Any, turn: Turn) -> WrapTLS:
    server_name = spec.server_name or host_of(backend.endpoint)
    if server_name is None:
        raise ValueError(f"backend {backend.id}: {backend.endpoint} names no host to verify: set tls.server_name")
    creator = client_creator(server_name, ca=spec.ca, certificate=spec.certificate, verify=spec.verify)
    return lambda factory: TLSFactory(creator, True, factory, reactor, turn=turn)


def _key_ring(spec: ClusterSpec, directory: Path | None) -> KeyRing:
    """The keys of the configuration, else of the file, which is made if need be."""
    if spec.keys:
        return KeyRing(spec.keys)
    if spec.key_file is not None:
        return KeyRing(read_or_create(spec.key_file))
    return KeyRing(read_or_create(directory / "stickyproxy.key") if directory else [os.urandom(32)])
