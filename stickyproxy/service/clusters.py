"""Clusters of specs: a new one, or one that runs and is to be otherwise. Floor 6."""

from __future__ import annotations

import os
import time
from inspect import signature
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from stickyproxy.cluster import Cluster
from stickyproxy.config.endpoints import host_of
from stickyproxy.config.named import Named
from stickyproxy.config.specs import BackendTLS
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.extensions import Extensions, make
from stickyproxy.interfaces import IAffinity, IBalancer, ISessionStore
from stickyproxy.keyfile import read_or_create
from stickyproxy.member import Member, WrapTLS
from stickyproxy.model import Backend
from stickyproxy.reactor.turn import Turn
from stickyproxy.sansio.affinity import ChainAffinity
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing
from stickyproxy.sharing import Memory, PrivateMemory
from stickyproxy.tls import TLSFactory, client_creator


@attrs.frozen
class Means:
    """What the parts of a configuration are made with.

    ``secret``: the key of clusters that have none, 32 bytes. ``directory``: where a key file is, None: nowhere.
    ``memory``: what processes share. ``share``: which of them this is, from 0, and of how many.
    """

    reactor: Any
    extensions: Extensions
    random: Random
    turn: Turn
    secret: bytes = attrs.field(repr=False)
    directory: Path | None = None
    memory: Memory = attrs.field(factory=PrivateMemory)
    share: tuple[int, int] = (0, 1)


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
    means = Means(reactor, extensions, random, turn or Turn.of(reactor), os.urandom(32), directory)
    return ClusterDraft(spec, means, session_table(spec) if sessions is None else sessions).cluster


def session_table(spec: ClusterSpec) -> SessionTable:
    """An empty table of sessions as ``spec`` wants it."""
    return SessionTable(time.time, **spec.sessions.kept)


class ClusterDraft:
    """A cluster as it is to be. Making it may fail, as ``build`` does, and changes nothing; ``apply`` does not fail.

    ``previous`` is the cluster that runs; what does not change of it keeps its state. ``sessions`` is its store.
    """

    def __init__(
        self, spec: ClusterSpec, means: Means, sessions: ISessionStore, previous: Cluster | None = None
    ) -> None:
        self.spec = spec
        self._previous = previous
        self._before = {backend.id: backend for backend in previous.spec.backends} if previous is not None else {}
        self._means = means
        self._endpoints = {backend.id: backend.endpoint for backend in spec.backends}
        self._ways = {backend.id: self._way_to(backend) for backend in spec.backends}
        self._context: dict[str, Any] = {
            "cluster": spec.sessions.group or spec.name,
            "clock": time.time,
            "random": means.random,
            "sessions": sessions,
            "backends": spec.backends,
        }
        self._keys: tuple[bytes, ...] = ()
        if any("key_ring" in self._asked_for(interface, named) for interface, named in self._named()):
            self._keys = _keys(spec, means)
            self._context["key_ring"] = KeyRing(self._keys)
        made = [self._made_of(interface, named) for interface, named in self._named()]
        self._made = (made[:-1], made[-1])
        same = previous is not None and previous.made[0] == self._made[0]
        self._affinity = previous.affinity if previous and same else self._affinity_of(spec.affinity)
        same = previous is not None and previous.made[1] == self._made[1]
        self._balancer: IBalancer = previous.balancer if previous and same else self._make(IBalancer, spec.balance)

        if previous is None:
            members = [self._new(backend) for backend in spec.backends]
            self.cluster = Cluster(spec, members, self._affinity, self._balancer, share=means.share)
            self._tell(self.cluster)
        else:
            self.cluster = previous

    def removed(self) -> list[Member]:
        """The members of ``previous`` that it will not have: their backends are gone, or are elsewhere."""
        members = self._previous.members.values() if self._previous is not None else ()
        return [member for member in members if not self._stays(member.id)]

    def apply(self) -> Cluster:
        """The cluster, which is ``previous`` where there is one."""
        cluster, spec = self.cluster, self.spec
        if self._previous is not None:
            removed, secured = self.removed(), cluster.spec.tls != spec.tls
            members = [self._kept(each) if self._stays(each.id) else self._new(each) for each in spec.backends]
            cluster.configure(spec, members, self._affinity, self._balancer)
            self._tell(cluster)
            for member in removed:
                member.retire()
            if secured:
                cluster.close_idle()
        return cluster

    def _tell(self, cluster: Cluster) -> None:
        """The cluster what it is made of."""
        cluster.made = self._made
        asks = any("sessions" in self._asked_for(*each) for each in self._named()[:-1])
        cluster.sessions = self._context["sessions"] if asks else None

    # Members.

    def _stays(self, id: str) -> bool:
        before = self._before.get(id)
        return before is not None and self._endpoints.get(id) == before.endpoint

    def _way_to(self, backend: Backend) -> tuple[IStreamClientEndpoint, WrapTLS | None]:
        spec, reactor = self.spec, self._means.reactor
        endpoint = clientFromString(reactor, _patient(backend.endpoint, spec.timeouts.connect))
        wrap = _wrap_tls(spec.tls, backend, reactor, self._means.turn) if spec.tls is not None else None
        return endpoint, wrap

    def _new(self, backend: Backend) -> Member:
        endpoint, wrap_tls = self._ways[backend.id]
        timeout, size = self.spec.timeouts.connect, self.spec.pool.size
        clock = self._means.reactor
        return Member(backend, endpoint, clock, connect_timeout=timeout, pool_size=size, wrap_tls=wrap_tls)

    def _kept(self, backend: Backend) -> Member:
        """The member that there is, as far as the file changes it: what an operator has set beside it stays."""
        (endpoint, wrap_tls), before = self._ways[backend.id], self._before[backend.id]
        member = self.cluster.members[backend.id]
        timeout, size = self.spec.timeouts.connect, self.spec.pool.size
        member.configure(endpoint, connect_timeout=timeout, pool_size=size, wrap_tls=wrap_tls)
        if backend.weight != before.weight:
            member.weight = backend.weight
        if backend.state is not before.state:
            member.set_state(backend.state)
        return member

    # Affinity and balancer.

    def _named(self) -> list[tuple[Any, Named]]:
        """Every extension of the cluster, the balancer last."""
        affinity = self.spec.affinity
        return [*((IAffinity, link) for link in affinity.links or (affinity,)), (IBalancer, self.spec.balance)]

    def _asked_for(self, interface: Any, named: Named) -> set[str]:
        return set(signature(self._means.extensions.of(interface)[named.name].make).parameters)

    def _made_of(self, interface: Any, named: Named) -> tuple[Any, ...]:
        """What an extension's product depends on: as long as that is the same, so may be the product."""
        asked = self._asked_for(interface, named)
        keys = self._keys if "key_ring" in asked else ()
        backends = self.spec.backends if "backends" in asked else ()
        store = id(self._context["sessions"]) if "sessions" in asked else None
        return named.name, named.options, self._context["cluster"], keys, backends, store

    def _affinity_of(self, named: Named) -> IAffinity:
        if not named.links:
            made: IAffinity = self._make(IAffinity, named)
            return made
        chain: IAffinity = ChainAffinity([self._affinity_of(link) for link in named.links])
        return chain

    def _make(self, interface: Any, named: Named) -> Any:
        return make(self._means.extensions.of(interface)[named.name], named.options, **self._context)


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


def _keys(spec: ClusterSpec, means: Means) -> tuple[bytes, ...]:
    """The keys of the configuration, else of the file, which is made if need be."""
    if spec.keys:
        return spec.keys
    if spec.key_file is not None:
        return read_or_create(spec.key_file)
    return read_or_create(means.directory / "stickyproxy.key") if means.directory is not None else (means.secret,)
