"""TCP passed through to a backend, and the two classes to subclass for a protocol of one's own. Floor 4.

A connection waits for its TLS handshake (where there is TLS), then for a key (where the protocol has
``affinity_key``), then for a backend; nothing is read meanwhile. Then it is a ``Relay`` until both are gone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.addresses import TLVs, connection_of, peer_of, set_no_delay
from stickyproxy.cluster import Cluster
from stickyproxy.errors import NoPlace, SessionLost
from stickyproxy.member import Member
from stickyproxy.model import Arrival, OpenEntry, Outcome, Peer, RelayEntry
from stickyproxy.relay import GRACE, Relay, RelayEnd
from stickyproxy.sansio.proxyprotocol import proxy_header
from stickyproxy.sweep import NEVER

if TYPE_CHECKING:
    from stickyproxy.wires.tcp.factory import TCPFrontendFactory

_log = Logger()


class _State(enum.Enum):
    HANDSHAKE = "handshake"  # TLS is being agreed upon
    PEEKING = "peeking"  # the first bytes are read for a key
    CONNECTING = "connecting"  # to a backend; nothing is read
    RELAYING = "relaying"
    REFUSED = "refused"  # there is no backend
    CLOSED = "closed"


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class FrontendProtocol(Protocol):
    """The client's half of a TCP proxy. Subclass it to give ``affinity_key``, or to look at or change the bytes.

    ``peer`` (``model.Peer``) is the client; behind a PROXY header it is not ``transport.getPeer()``. ``backend`` is
    the other half, from when it is connected. What a subclass overrides calls ``super()``.
    """

    factory: TCPFrontendFactory
    transport: Any
    backend: BackendProtocol | None = None
    tlvs: TLVs = ()  #: what a PROXY header told beside the addresses: type and value
    peek_bytes = 4096  #: ``affinity_key`` gets no more than this many bytes to find a key in
    peek_timeout = 5.0  #: seconds that the client has to send them; then it goes on without a key

    def __init__(self, factory: TCPFrontendFactory, peer: Peer) -> None:
        self.factory = factory
        self.peer = peer
        self.deadline = NEVER
        self._state = _State.HANDSHAKE
        self._take: Callable[[bytes], None] = self._keep
        self._early = b""
        self._half_closed = False
        self._connecting: Deferred[None] | None = None
        self._relay: Relay | None = None
        self._cluster: Cluster | None = None
        self._member: Member | None = None
        self._outcome = Outcome.NONE
        if factory.inspector is not None:
            self.peek_bytes, self.peek_timeout = factory.inspector.peek_bytes, factory.inspector.peek_timeout

    def affinity_key(self, data: bytes) -> bytes | None:
        """What the client is known by, from the first bytes of the connection. Override it; ``Arrival.key`` is it.

        ``data`` is all that came so far, and grows from call to call. None: more is needed; b"": there is no key.
        Without an override the factory's inspector says it. Without that nothing is read before the backend is chosen,
        as a protocol needs whose server speaks first.
        """
        inspector = self.factory.inspector
        return b"" if inspector is None else inspector.inspect(data)

    def connection_refused(self) -> None:
        """No backend can be reached. It closes the connection; override it to tell the client before."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Drop this connection and its backend's at once."""
        if self._relay is not None:
            self._relay.abort()
        else:
            self.transport.abortConnection()

    def drain(self, code: int | None = None) -> None:
        """Come to an orderly end as soon as possible: only the two sides of this protocol know when that is.

        Override it where yours has a way to tell the client to come again.
        """

    def is_served_by(self, member: Member) -> bool:
        """Whether its backend is ``member``."""
        return self._member is member

    # Twisted's side.

    def connectionMade(self) -> None:
        self.factory.connections.add(self)
        self.factory.sweep.watch(self)
        set_no_delay(self.transport)
        if ISSLTransport.providedBy(self.transport):
            self.deadline = self.factory.sweep.after(self.factory.handshake)
        else:
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        if self._state is not _State.HANDSHAKE:
            return
        if self.factory.inspector is None and type(self).affinity_key is FrontendProtocol.affinity_key:
            self._connect(None)
        else:
            self._state = _State.PEEKING
            self.deadline = self.factory.sweep.after(self.peek_timeout)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the client, on their way to the backend."""
        self._take(data)

    def readConnectionLost(self) -> None:
        self._half_closed = True
        if self._relay is not None:
            self._relay.client_half_closed()
        elif self._state is _State.PEEKING:
            self._connect(None)

    def writeConnectionLost(self) -> None:
        """We have told the client that no more comes: nothing to do."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.sweep.forget(self)
        self._state = _State.CLOSED
        if self._relay is not None:
            self._relay.client_lost(reason)
            return
        self._take = _drop
        self.factory.connections.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()

    def expired(self) -> None:
        """The sweep's word: this has waited long enough."""
        if self._state is _State.PEEKING:
            self._connect(None)
        else:
            if self._state is _State.HANDSHAKE:
                _log.info("{peer} is dropped: no TLS handshake came in time", peer=self.peer)
            self.transport.abortConnection()

    # From the first bytes to a backend.

    def _keep(self, data: bytes) -> None:
        self._early += data
        if self._state is _State.PEEKING:
            key = self.affinity_key(self._early[: self.peek_bytes])
            if key is not None or len(self._early) >= self.peek_bytes:
                self._connect(key or None)

    def _connect(self, key: bytes | None) -> None:
        self._state = _State.CONNECTING
        self.deadline = NEVER
        self.transport.pauseProducing()
        secure, connection = ISSLTransport.providedBy(self.transport), connection_of(self.transport, self.tlvs)
        arrival = Arrival(self.peer.host, secure, None, key, connection)
        self._connecting = Deferred.fromCoroutine(self._serve(arrival))
        self._connecting.addErrback(self._failed)

    async def _serve(self, arrival: Arrival) -> None:
        backend, why = None, "no backend of cluster {cluster} can be reached"
        try:
            backend = await self._reach(arrival)
        except NoPlace:
            why = "every backend of cluster {cluster} serves as many as it may"
        except SessionLost:
            if self._cluster is not None:
                self._cluster.lose(arrival)
        except CancelledError:  # the client left
            return
        self._connecting = None
        if self._state is _State.CLOSED:
            return
        if backend is None:
            self._refuse(why)
            return
        self._state = _State.RELAYING
        self.factory.sweep.forget(self)
        self.backend = backend
        early, self._early = self._early, b""
        ended, among = self._ends()
        self._relay = relay = Relay(
            self.transport,
            backend.transport,
            idle=self.factory.idle,
            sweep=self.factory.sweep,
            ended=ended,
            among=among,
        )
        self._take = relay.client_data
        if type(self) is FrontendProtocol:  # nobody looks at the bytes
            relay.replace(self)
        relay.start(from_client=early, from_backend=backend.join(relay))
        if self._half_closed:
            relay.client_half_closed()
        if backend.half_closed:
            relay.backend_half_closed()

    def _ends(self) -> tuple[Callable[[RelayEnd], None], tuple[set[Any], ...]]:
        """Who is told of the end of the relay, and where it is while it lasts."""
        member, tally = self._member, self.factory.tally
        if member is None:
            return self._ended, ()
        if tally is None:
            return self._ended, (member.tunnels,)
        relays = tally.relay(member.cluster, member.id, "tcp")
        tally.reach(member.cluster, self._outcome)
        return relays.watch(self._ended), (member.tunnels, relays.open)

    async def _reach(self, arrival: Arrival) -> BackendProtocol | None:
        """Connect to the backend that is chosen, or to another one; None: there is none, or the client has left."""
        cluster = self._cluster = self.factory.cluster_for(arrival.key)
        if cluster is None:
            return None
        tried: set[str] = set()
        while (choice := await cluster.choose(arrival, tried)) is not None:
            member: Member = choice.candidate
            member.active += 1
            try:
                backend = await cluster.reach(choice, partial(self._open, cluster, member))
            except Exception:  # the member has told it
                member.leave()
                tried.add(member.id)
                if self._state is _State.CLOSED or not cluster.retries.allowed():
                    break
            else:
                if member.health is not None:
                    member.health.served()
                self._member, self._outcome = member, choice.outcome
                cluster.bind(arrival, choice)
                if self.factory.opens:
                    self._tell_opened(cluster, member)
                return backend
        return None

    def _tell_opened(self, cluster: Cluster, member: Member) -> None:
        factory = self.factory
        if factory.record is not None:
            now = factory.now()
            factory.record(OpenEntry(self.peer.host, now, cluster.name, member.id, self._outcome, factory.name))

    async def _open(self, cluster: Cluster, member: Member) -> BackendProtocol:
        """A connection to ``member``. Raises as ``Member.connect``, and ``ConnectionLost`` for one of no use."""
        backend = self.factory.backend_protocol(self)
        preface = proxy_header(cluster.send_proxy_protocol, self.peer, peer_of(self.transport.getHost()))
        begun = member.seconds()
        try:
            await member.connect(backend, backend.opened, preface)
            if backend.gone or self._state is _State.CLOSED:
                raise ConnectionLost
        except BaseException:
            backend.leave()
            if cluster.timed is not None and self._state is not _State.CLOSED:
                cluster.timed(member, None)
            raise
        if cluster.timed is not None:
            cluster.timed(member, member.seconds() - begun)
        return backend

    def _refuse(self, why: str) -> None:
        if self.factory.tally is not None:
            self.factory.tally.refused["nobody"] += 1
        if self._cluster is None:
            _log.info("{peer} is refused: no route leads anywhere", peer=self.peer)
        else:
            _log.warn("{peer} is refused: " + why, peer=self.peer, cluster=self._cluster.name)
        self._state = _State.REFUSED
        self._take, self._early = _drop, b""
        self.deadline = self.factory.sweep.after(GRACE)
        self.transport.resumeProducing()  # TLS wants to read the client's goodbye
        self.connection_refused()

    # The ends.

    def _failed(self, failure: Failure) -> None:
        _log.failure("The connection of {peer} is dropped", failure, peer=self.peer)
        self.transport.abortConnection()

    def _ended(self, end: RelayEnd) -> None:
        member, cluster, factory = self._member, self._cluster, self.factory
        assert member is not None and cluster is not None
        member.leave()
        factory.connections.discard(self)
        if factory.record is not None:
            factory.record(
                RelayEntry(
                    client=self.peer.host,
                    protocol="tcp",
                    received=end.to_backend,
                    sent=end.to_client,
                    ended=factory.now(),
                    duration=end.seconds,
                    cluster=cluster.name,
                    backend=member.id,
                    outcome=self._outcome,
                    closed_by=end.first,
                    frontend=factory.name,
                    reason=end.reason.value,
                )
            )


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class BackendProtocol(Protocol):
    """The backend's half of a TCP proxy, ``frontend`` being the other. Subclass it to look at or change the bytes.

    What a subclass writes in ``connectionMade`` (after ``super().connectionMade()``) reaches the backend before
    everything that the client sends.
    """

    transport: Any

    def __init__(self, frontend: FrontendProtocol) -> None:
        self.frontend = frontend
        self.opened: Deferred[None] = Deferred()  #: connected, and the TLS handshake done where there is TLS
        self.gone = False  #: the connection is lost
        self.half_closed = False  #: the backend will send no more
        self._take: Callable[[bytes], None] = self._keep
        self._early = b""
        self._relay: Relay | None = None

    def join(self, relay: Relay) -> bytes:
        """From here on ``relay`` has the bytes. Returns those that came before."""
        self._relay = relay
        self._take = relay.backend_data
        if type(self) is BackendProtocol:
            relay.replace(self)
        early, self._early = self._early, b""
        return early

    def leave(self) -> None:
        """This connection, or what there is of it, is not wanted any more."""
        if self.transport is not None and not self.gone:
            self.transport.abortConnection()

    # Twisted's side.

    def connectionMade(self) -> None:
        set_no_delay(self.transport)
        if not ISSLTransport.providedBy(self.transport):
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        if not self.opened.called:
            self.opened.callback(None)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the backend, on their way to the client."""
        self._take(data)

    def readConnectionLost(self) -> None:
        self.half_closed = True
        if self._relay is not None:
            self._relay.backend_half_closed()

    def writeConnectionLost(self) -> None:
        """We have told the backend that no more comes: nothing to do."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        if self._relay is not None:
            self._relay.backend_lost(reason)
        elif not self.opened.called:
            self.opened.errback(reason)

    def _keep(self, data: bytes) -> None:
        self._early += data


def _drop(data: bytes) -> None:
    """Bytes for nobody."""
