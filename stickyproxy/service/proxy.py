"""A running configuration, and how it becomes another one: ``build`` gives a service for any Twisted program. Floor 6.

A reload touches only what differs. It makes all that is new first, listening sockets too; any of that may fail, and
then nothing has changed. What follows cannot fail, and happens in one turn of the reactor: no client meets a half.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore, maybeDeferred

from stickyproxy.cluster import Cluster
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.config.specs import Configuration
from stickyproxy.control.closed import Closed
from stickyproxy.control.draining import Drains
from stickyproxy.control.metrics import Measures
from stickyproxy.control.stopping import Stopping
from stickyproxy.extensions import Extensions
from stickyproxy.listening import Listen, Listener, listen_on, places_of
from stickyproxy.passwords import Passwords, VerifyingThreads, load_users
from stickyproxy.probes import AT_ONCE, Probing, hosts_of, probing_of
from stickyproxy.recording import Recording, tracing_of
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.service.clusters import ClusterDraft, Means
from stickyproxy.service.frontends import Frontend, FrontendDraft
from stickyproxy.service.leaving import Leaving
from stickyproxy.sharing import Memory, PrivateMemory, regions_of
from stickyproxy.sweep import Sweep


class Proxy(MultiService):
    """A running configuration.

    ``listen`` makes a factory serve an endpoint string, None: ``reactor`` does. ``secret`` is the key of clusters that
    are given none (32 bytes), None: a random one. ``memory`` is shared with other processes, None: with none.
    ``sessions`` makes a table by its name, and the options of ``SessionTable`` (``replication``), None: its own ones.
    Where not ``probing``, another process probes. ``share``: which process this is, from 0, and of how many: each has
    its part of every limit.
    """

    configuration: Configuration

    def __init__(
        self,
        reactor: Any,
        extensions: Extensions,
        *,
        listen: Listen | None = None,
        secret: bytes | None = None,
        memory: Memory | None = None,
        sessions: Callable[..., SessionTable] | None = None,
        probing: bool = True,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.clusters: dict[str, Cluster] = {}
        self.frontends: dict[str, Frontend] = {}
        self.listeners: dict[str, Listener] = {}  #: by their endpoint strings, or ``places_of`` these
        self.reactor = reactor
        self.extensions = extensions
        self.recording = Recording(reactor)
        self.recording.setServiceParent(self)
        self.measures = Measures(reactor, time.time())
        self.sweep = Sweep(reactor)
        self.random = Random()
        self.secret = secret or os.urandom(32)
        self.share = share
        self.memory: Memory = memory or PrivateMemory()
        self.make_store = sessions or _own_table
        self.stores: dict[tuple[bool, str], SessionTable] = {}  #: by whether it is a group's, and the name
        self.passwords: dict[Path, tuple[dict[bytes, bytes], Passwords]] = {}  #: and who they are for
        self._listen = listen or listen_on(reactor)
        self._reloading = DeferredLock()
        self.closed = Closed(self.listening, self._reloading)
        self._slots = DeferredSemaphore(AT_ONCE)
        self._probing = probing
        self._probings: dict[str, tuple[Any, Probing]] = {}
        self._threads: VerifyingThreads | None = None
        self.drains = Drains(reactor, self.random)
        self.leaving = Leaving(self.drains, lambda: self.configuration.process.drain, self.connections)
        self.stopping = Stopping(self, reactor)

    def listening(self) -> list[Listener]:
        """All that listen; several may do so on port 0."""
        return [service for service in self if isinstance(service, Listener)]

    def tunnels(self) -> set[Any]:
        """The WebSockets among them."""
        return set().union(*(each.tunnels() for each in (*self.frontends.values(), *self.leaving.frontends)))

    async def _stop(self) -> None:
        await self.stopping.run()
        await maybeDeferred(super().stopService)
        for frontend in self.frontends.values():
            frontend.abort()
        self.leaving.abort()
        for cluster in self.clusters.values():
            cluster.stop()

    def stopService(self) -> Deferred[None]:
        """Stop listening, give those who are there the time that ``[process]`` says, and end what is left."""
        return Deferred.fromCoroutine(self._stop())

    def connections(self) -> list[Any]:
        """Those of all clients."""
        return [
            each for frontend in (*self.frontends.values(), *self.leaving.frontends) for each in frontend.connections
        ]

    def hurry(self) -> None:
        """It stops, and that is to be over now."""
        self.stopping.hurry()

    # A configuration, and the next one.

    def begin(self, configuration: Configuration) -> None:
        """Be ``configuration``, before anything is started. Raises as ``build`` does."""
        draft = Draft(self, configuration)
        self._apply(draft, draft.listeners(self._listen))

    def reconfigure(self, configuration: Configuration) -> Deferred[None]:
        """Become ``configuration``. Fails as ``build`` does, and with ``CannotListen``; then nothing has changed."""
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._reconfigure(configuration)))

    async def _reconfigure(self, configuration: Configuration) -> None:
        opened: list[Listener] = []
        try:
            draft = Draft(self, configuration)
            added = draft.listeners(self._listen)
            for listener in (*added, *draft.opening()):
                if not listener.closed or listener not in added:
                    await listener.open()
                    opened.append(listener)
        except BaseException:
            self._retain_logs(self.configuration)
            self.measures.failed()
            for listener in opened:
                await listener.close()
            raise
        self._apply(draft, added)
        self.measures.reloaded(time.time())

    def _apply(self, draft: Draft, listeners: list[Listener]) -> None:
        """What does not fail."""
        self.configuration = configuration = draft.configuration
        self.recording.use_spans(draft.spans)
        self.sweep.adapt(_timeouts(configuration))
        self.stores = draft.stores
        self.passwords = draft.passwords
        for spec in configuration.clusters:
            self.stores[store_of(spec)].configure(**spec.sessions.kept)
        gone = [cluster for name, cluster in self.clusters.items() if name not in draft.clusters]
        removed = [(each.cluster, member) for each in draft.clusters.values() for member in each.removed()]
        removed += [(cluster, member) for cluster in gone for member in cluster.members.values()]
        self.clusters = {name: each.apply() for name, each in draft.clusters.items()}
        for cluster in gone:
            cluster.stop()
        left = [each for name, each in self.frontends.items() if draft.drops(name)]
        counts = self.measures.wanted(configuration.admin is not None, self)
        self.frontends = {name: each.apply(counts=counts) for name, each in draft.frontends.items()}
        self.closed.keep(self.frontends)
        for listener in listeners:
            self.listeners[listener.place] = listener
            listener.setServiceParent(self)
        self._direct_listeners(draft.places)
        for cluster, member in removed:
            self.leaving.lose_backend(cluster, member, cluster.spec.on_removal)
        for frontend in left:
            self.leaving.lose_frontend(frontend, frontend.spec.on_removal)
        self._probe()
        self._retain_logs(configuration)
        if isinstance(self.memory, PrivateMemory):
            self.memory.provide(regions_of(configuration))

    def _direct_listeners(self, places: Mapping[str, str]) -> None:
        """Each listens for the frontend that ``places`` says, and those that it does not name, no more."""
        for whose, frontend in self.frontends.items():
            frontend.listeners = [self.listeners[place] for place, name in places.items() if name == whose]
        for place, listener in list(self.listeners.items()):
            if (name := places.get(place)) is None:
                del self.listeners[place]
                listener.disownServiceParent()
            else:
                listener.frontend = name
                listener.switch.wrapped = self.frontends[name].outer
                if name in self.closed and not listener.closed:
                    listener.close()

    def _probe(self) -> None:
        """The clusters that are to be probed are, while this runs."""
        before, self._probings = self._probings, {}
        for spec in self.configuration.clusters:
            if spec.probe is None or not self._probing:
                continue
            cluster, made = self.clusters[spec.name], (spec.probe, spec.tls, spec.send_proxy_protocol)
            if before.get(spec.name, (None,))[0] == made:
                self._probings[spec.name] = before.pop(spec.name)
                self._probings[spec.name][1].configure(list(cluster.members.values()), hosts_of(spec))
                continue
            probing = probing_of(cluster, spec, self.reactor, self.extensions, self.random, self._slots)
            self._probings[spec.name] = made, probing
            probing.setServiceParent(self)
        for _, probing in before.values():
            probing.disownServiceParent()

    def _retain_logs(self, configuration: Configuration) -> None:
        self.recording.retain({frontend.access_log for frontend in configuration.frontends})

    def verifying_threads(self) -> VerifyingThreads:
        """In which passwords are verified, if anybody needs one."""
        if self._threads is None:
            self._threads = VerifyingThreads(self.reactor)
            self._threads.setServiceParent(self)
        return self._threads


class Draft:
    """All that ``configuration`` wants and ``proxy`` does not have. Making it may fail, and changes nothing."""

    def __init__(self, proxy: Proxy, configuration: Configuration) -> None:
        self.configuration = configuration
        self._proxy = proxy
        directory = configuration.path.parent if configuration.path else None
        reactor, random, turn = proxy.reactor, proxy.random, proxy.sweep.turn
        self._means = Means(reactor, proxy.extensions, random, turn, proxy.secret, directory, proxy.memory, proxy.share)
        specs = configuration.clusters
        self.stores = dict(proxy.stores)
        for spec in specs:
            store = store_of(spec)
            if store not in self.stores:
                name = f"{'group' if store[0] else 'cluster'} {store[1]}"
                self.stores[store] = proxy.make_store(name, **spec.sessions.kept)
        self.stores = {store: self.stores[store] for store in map(store_of, specs)}
        self.clusters = {
            spec.name: ClusterDraft(spec, self._means, self.stores[store_of(spec)], proxy.clusters.get(spec.name))
            for spec in specs
        }
        self.passwords = self._load_passwords()
        self.spans = proxy.recording.spans_of(configuration.opentelemetry)
        self.frontends = self._draw_frontends()
        self.places = places_of((spec.name, spec.listen) for spec in configuration.frontends)  #: and whose they are

    def drops(self, name: str) -> bool:
        """Whether the frontend of the proxy with this name is no more, or another."""
        draft = self.frontends.get(name)
        return draft is None or draft.frontend is not self._proxy.frontends[name]

    def listeners(self, listen: Listen) -> list[Listener]:
        """For the endpoints that nobody listens on yet, nor is to listen on where the frontend is closed."""
        added = [
            Listener(name, place, listen, self.frontends[name].outer, self._proxy.reactor)
            for place, name in self.places.items()
            if place not in self._proxy.listeners
        ]
        for listener in added:
            listener.closed = listener.frontend in self._proxy.closed
        return added

    def opening(self) -> list[Listener]:
        """Those that were closed with a frontend, and are to listen for another."""
        listeners, closed = self._proxy.listeners, self._proxy.closed
        found = [(listeners[place], name) for place, name in self.places.items() if place in listeners]
        return [listener for listener, name in found if listener.closed and name not in closed]

    def _draw_frontends(self) -> dict[str, FrontendDraft]:
        proxy, running = self._proxy, self._proxy.frontends
        clusters = {name: draft.cluster for name, draft in self.clusters.items()}
        passwords = {path: each for path, (_, each) in self.passwords.items()}
        drafts = {}
        for spec in self.configuration.frontends:
            before = running.get(spec.name)
            if before is not None and before.spec.protocol != spec.protocol:
                before = None
            record = proxy.recording.record(spec.access_log, wanted=self.spans is not None and spec.trace is not None)
            tracing = tracing_of(spec.trace, proxy.random, spans=self.spans is not None)
            drafts[spec.name] = FrontendDraft(
                spec, self._means, proxy.sweep, clusters, passwords, record, tracing, before
            )
        return drafts

    def _load_passwords(self) -> dict[Path, tuple[dict[bytes, bytes], Passwords]]:
        """By their files, those of every ``users_file``, as it is now; each is read once."""
        found = (access for frontend in self.configuration.frontends for _, access in frontend.accesses())
        loaded = {}
        for path in sorted({access.users_file for access in found if access.users_file is not None}):
            users, before = load_users(path), self._proxy.passwords.get(path)
            if before is None or before[0] != users:
                run, clock = self._proxy.verifying_threads().run, self._proxy.reactor.seconds
                before = users, Passwords(users, run, os.urandom(32), clock)
            loaded[path] = before
        return loaded


def build(
    configuration: Configuration,
    reactor: Any,
    extensions: Extensions,
    *,
    listen: Listen | None = None,
    secret: bytes | None = None,
    memory: Memory | None = None,
    sessions: Callable[..., SessionTable] | None = None,
    probing: bool = True,
    share: tuple[int, int] = (0, 1),
) -> Proxy:
    """The service of a whole configuration; nothing listens before it is started. The rest is as for ``Proxy``.

    Raises ``TLSConfigurationError``, ``KeyFileError``, ``UsersFileError`` and ``ValueError`` for what the files that it
    names do not hold.
    """
    proxy = Proxy(
        reactor,
        extensions,
        listen=listen,
        secret=secret,
        memory=memory,
        sessions=sessions,
        probing=probing,
        share=share,
    )
    proxy.begin(configuration)
    return proxy


def store_of(spec: ClusterSpec) -> tuple[bool, str]:
    """Which store has the sessions of a cluster: that of its group, or its own."""
    group = spec.sessions.group
    return (False, spec.name) if group is None else (True, group)


def _own_table(name: str, **kept: Any) -> SessionTable:
    return SessionTable(time.time, **kept)


def _timeouts(configuration: Configuration) -> list[float]:
    """Seconds, of all that is timed by the sweep."""
    timeouts = [seconds for frontend in configuration.frontends for seconds in attrs.astuple(frontend.timeouts)]
    sockets = [frontend.websocket for frontend in configuration.frontends]
    timeouts += [seconds for one in sockets for seconds in (one.ping, one.pong, one.close) if seconds is not None]
    timeouts += [f.inspect.timeout for f in configuration.frontends if f.inspect and f.inspect.timeout]
    return timeouts + [seconds for cluster in configuration.clusters for seconds in attrs.astuple(cluster.timeouts)]
