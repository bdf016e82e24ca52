"""Probes that run: each backend of a cluster is asked, again and again, whether it is well. Floor 3.

What is asked is an extension's (``interfaces.IProbe``), what follows is decided in ``sansio.health``.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.error import ConnectingCancelledError, ConnectionDone
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.cluster import Cluster
from stickyproxy.config.endpoints import host_of
from stickyproxy.config.named import Probe
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.errors import ProbeFailed
from stickyproxy.extensions import Extensions, make
from stickyproxy.interfaces import IProbe, IProbeConnection, IProbed
from stickyproxy.member import Member
from stickyproxy.sansio.health import Standing, Thresholds
from stickyproxy.sansio.proxyprotocol import proxy_header

#: How many of them run at a time in one process.
AT_ONCE = 64
#: Seconds for a backend to close, once we have.
GOODBYE = 1.0


@implementer(IHandshakeListener, IProbeConnection)
class ProbeConnection(Protocol):
    """A connection of a probe. What comes waits in the kernel until it is read."""

    transport: Any

    def __init__(self, clock: IReactorTime) -> None:
        self.opened: Deferred[None] = Deferred()
        self._clock = clock
        self._data = b""
        self._waiting: Deferred[bytes] | None = None
        self._lost: Failure | None = None
        self._end: IDelayedCall | None = None

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    async def read(self) -> bytes:
        if not self._data and self._lost is None:
            self._waiting = Deferred()
            self.transport.resumeProducing()
            return await self._waiting
        data, self._data = self._data, b""
        if not data and self._lost is not None and not self._lost.check(ConnectionDone):
            self._lost.raiseException()
        return data

    def close(self) -> None:
        """It is over: what was written is sent, and nothing more read."""
        if self.transport is not None and self._lost is None and self._end is None:
            self._end = self._clock.callLater(GOODBYE, self.transport.abortConnection)
            self.transport.loseConnection()

    def connectionMade(self) -> None:
        if not ISSLTransport.providedBy(self.transport):
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        if not self.opened.called:
            self.opened.callback(None)

    def dataReceived(self, data: bytes) -> None:
        waiting, self._waiting = self._waiting, None
        if self._end is not None:
            return
        self.transport.pauseProducing()
        if waiting is not None:
            waiting.callback(data)
        else:
            self._data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        if self._end is not None and self._end.active():
            self._end.cancel()
        if not self.opened.called:
            self.opened.errback(reason)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(b"") if reason.check(ConnectionDone) else waiting.errback(reason)


@implementer(IProbed)
class Probed:
    """A member, for one probe."""

    def __init__(self, member: Member, host: str, preface: bytes, clock: IReactorTime) -> None:
        self.id = member.id
        self.host = host
        self._member = member
        self._preface = preface
        self._clock = clock
        self._connections: list[ProbeConnection] = []

    async def connect(self) -> ProbeConnection:
        connection = ProbeConnection(self._clock)
        self._connections.append(connection)
        await self._member.open(connection, connection.opened, self._preface)
        return connection

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Probing(Service):
    """Probes every one of ``members`` while it runs: each anew when its last probe is over, never twice at a time.

    ``hosts``: by id, what a backend is called in a Host field. ``preface``: the PROXY header that it expects, that of
    a connection of the proxy's own. ``slots``: as many probes run at a time.
    """

    def __init__(
        self,
        members: Sequence[Member],
        probe: IProbe,
        spec: Probe,
        clock: IReactorTime,
        random: Random,
        *,
        hosts: dict[str, str],
        preface: bytes = b"",
        slots: DeferredSemaphore | None = None,
    ) -> None:
        self._probe = probe
        self._spec = spec
        self._thresholds = Thresholds(spec.rise, spec.fall)
        self._timeout = spec.timeout or spec.interval
        self._clock = clock
        self._random = random.random
        self._preface = preface
        self._slots = slots or DeferredSemaphore(AT_ONCE)
        self._watches: dict[Member, Deferred[None]] = {}
        self.configure(members, hosts)

    def configure(self, members: Sequence[Member], hosts: dict[str, str]) -> None:
        """These are the members from now on: who stays is probed on as it was."""
        self._members = members
        self._hosts = hosts
        for member in [member for member in self._watches if member not in members]:
            self._watches.pop(member).cancel()
        if self.running:
            self._begin()

    def startService(self) -> None:
        super().startService()
        self._begin()

    def stopService(self) -> None:
        super().stopService()
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.cancel()

    def _begin(self) -> None:
        for member in self._members:
            if member not in self._watches:
                self._watches[member] = Deferred.fromCoroutine(self._watch(member))
                self._watches[member].addErrback(_stopped)

    async def _watch(self, member: Member) -> None:
        await self._pause(self._random() * self._spec.jitter * self._spec.interval)
        while True:
            await self._slots.acquire()
            begun = self._clock.seconds()
            try:
                failure = await self._ask(member)
            finally:
                self._slots.release()
            health = member.health
            assert health is not None
            health.probe_ended(failure, self._thresholds)
            down = health.probed.standing is Standing.DOWN
            interval = (down and self._spec.interval_down) or self._spec.interval
            interval *= 1 - self._random() * self._spec.jitter
            await self._pause(max(0.0, begun + interval - self._clock.seconds()))

    async def _ask(self, member: Member) -> str | None:
        """Why its probe failed, or None."""
        probed = Probed(member, self._hosts[member.id], self._preface, self._clock)
        attempt = Deferred.fromCoroutine(self._attempt(probed))
        attempt.addTimeout(self._timeout, self._clock, _too_late)
        try:
            await attempt
        except (Exception, CancelledError) as error:
            if not self.running or member not in self._members:
                raise
            return str(error) or type(error).__name__
        finally:
            probed.close()
        return None

    async def _attempt(self, probed: Probed) -> None:
        await self._probe.probe(probed)

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._clock, seconds, lambda: None)


def _stopped(failure: Failure) -> None:
    """Nobody wants to know any more; where it was cancelled in the middle of connecting, that says so."""
    failure.trap(CancelledError, ConnectingCancelledError)


def _too_late(_: object, seconds: float) -> None:
    raise ProbeFailed(f"no verdict within {seconds:g} s") from ConnectTimeout()


def probing_of(
    cluster: Cluster,
    spec: ClusterSpec,
    reactor: Any,
    extensions: Extensions,
    random: Random,
    slots: DeferredSemaphore | None = None,
) -> Probing:
    """What probes the members of ``cluster`` while it runs; ``spec.probe`` is not None."""
    assert spec.probe is not None
    return Probing(
        list(cluster.members.values()),
        make(extensions.of(IProbe)[spec.probe.name], spec.probe.options, cluster=spec.name, random=random),
        spec.probe,
        reactor,
        random,
        hosts=hosts_of(spec),
        preface=proxy_header(spec.send_proxy_protocol, None, None),
        slots=slots,
    )


def hosts_of(spec: ClusterSpec) -> dict[str, str]:
    """By their ids, what the backends of a cluster are called in a Host field."""
    name = spec.tls.server_name if spec.tls is not None else None
    return {backend.id: name or host_of(backend.endpoint) or "localhost" for backend in spec.backends}
