"""Memory transports, to test protocols without a network. Beside the house: nothing in it may be imported by it.

``MemoryTransport`` is a TCP connection whose far end is the test: it says what arrives (``deliver``, ``half_close``,
``lose``) and when the peer reads (``drain``). ``connect_pair`` joins two protocols, ``MemoryEndpoint`` is a place to
connect to. They keep the rules that a real connection keeps and that ``twisted.internet.testing.StringTransport`` and
``twisted.test.iosim`` do not: a paused transport delivers nothing, the end of the stream comes after the bytes before
it, a registered producer is paused when the peer does not read, ``loseConnection`` waits for what was written and for
the producer, and a protocol is never called from within its own call.

The last one means: what ``resumeProducing``, ``loseConnection`` and ``abortConnection`` set off happens at the next
``turn()``. ``deliver``, ``half_close``, ``lose`` and ``drain`` take one themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectingCancelledError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.conformance import (
    check_affinity,
    check_balancer,
    check_inspector,
    check_probe,
    make_answer,
    make_arrival,
)

__all__ = [
    "MemoryEndpoint",
    "MemoryTransport",
    "Pair",
    "check_affinity",
    "check_balancer",
    "check_inspector",
    "check_probe",
    "connect_pair",
    "make_answer",
    "make_arrival",
]

_END = object()


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """A connection in memory; with a ``protocol``, which is told so at once (``makeConnection``).

    ``high_water`` None: the peer reads everything immediately. Else it reads nothing until ``drain``, and more than
    ``high_water`` unread bytes pause the producer. ``protocol`` may be changed at any time, as on Twisted's own.
    """

    def __init__(
        self,
        protocol: IProtocol | None = None,
        *,
        peer: IPv4Address | IPv6Address | None = None,
        host: IPv4Address | IPv6Address | None = None,
        high_water: int | None = None,
    ) -> None:
        self.protocol = protocol
        self.high_water = high_water
        self.connected = True
        self.disconnecting = False  #: ``loseConnection`` was called
        self.aborted = False  #: ``abortConnection`` was called
        self.half_closed = False  #: the peer was told that no more bytes come
        self.paused = False
        self.no_delay = self.keep_alive = False
        self.producer: Any = None
        self.producer_paused = False
        self._streaming = False
        self._peer = peer or IPv4Address("TCP", "192.0.2.1", 40000)
        self._host = host or IPv4Address("TCP", "192.0.2.2", 80)
        self._unread = bytearray()
        self._written = bytearray()
        self._half_closing = False
        self._arriving: deque[Any] = deque()
        self._turning = False
        if protocol is not None:
            protocol.makeConnection(self)

    # The test's side.

    @property
    def written(self) -> bytes:
        """What the peer has read so far and ``take`` has not taken away."""
        return bytes(self._written)

    @property
    def unread(self) -> int:
        """How many bytes wait for the peer."""
        return len(self._unread)

    def take(self) -> bytes:
        """What the peer has read since the last time."""
        taken, self._written = self._written, bytearray()
        return bytes(taken)

    def drain(self, count: int | None = None) -> bytes:
        """Let the peer read ``count`` bytes (None: all that wait); they are in ``written``, and returned."""
        read = bytes(self._unread[:count])
        del self._unread[:count]
        self._written += read
        self.turn()
        return read

    def deliver(self, data: bytes) -> None:
        """Bytes arrive from the peer. A paused transport keeps them; one that is being closed drops them."""
        self._arrive(data)

    def half_close(self) -> None:
        """The peer says that it will send no more. That ends a protocol that does not know half-close."""
        self._arrive(_END)

    def lose(self, reason: Exception | None = None) -> None:
        """The connection is lost, by default with ``ConnectionLost``; all that was under way is lost with it."""
        if self.connected:
            self._arriving.clear()
            self._lost(reason or ConnectionLost())

    def turn(self) -> None:
        """One turn of the reactor: everything that is due happens."""
        if not self._turning:
            self._turning = True
            try:
                while self.connected and (self._send() or self._receive()):
                    pass
            finally:
                self._turning = False

    def _arrive(self, event: object) -> None:
        if not self.connected:
            raise RuntimeError("Nothing can arrive on a connection that is gone: see what `connected` says first")
        self._arriving.append(event)
        self.turn()

    def _send(self) -> bool:
        if self.aborted:
            self._lost(ConnectionAborted())
        elif self._unread:
            return False
        elif self.producer is not None and (self.producer_paused or not self._streaming):
            self.producer_paused = False
            self.producer.resumeProducing()
            return True
        elif self._half_closing and not self.half_closed:
            self.half_closed = True
            protocol: Any = self.protocol
            if IHalfCloseableProtocol.providedBy(protocol):
                protocol.writeConnectionLost()
            return True
        elif self.disconnecting and self.producer is None:
            self._lost(ConnectionDone())
        return False

    def _receive(self) -> bool:
        if not self.connected or self.paused or not self._arriving:
            return False
        event = self._arriving.popleft()
        protocol: Any = self.protocol
        if self.disconnecting:
            pass
        elif event is not _END:
            protocol.dataReceived(event)
        elif IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()
        else:
            self._lost(ConnectionDone())
        return True

    def _lost(self, reason: Exception) -> None:
        self.connected = False
        self._unread.clear()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        if self.protocol is not None:
            self.protocol.connectionLost(Failure(reason))

    # ITCPTransport

    def write(self, data: bytes) -> None:
        """Send; bytes for a connection that is gone are dropped, bytes after ``loseWriteConnection`` are an error."""
        if not isinstance(data, bytes):
            raise TypeError(f"A transport writes bytes, not {type(data).__name__}")
        if self._half_closing and data:
            raise RuntimeError("Written after loseWriteConnection: the peer was told that no more bytes come")
        if self.high_water is None or not self.connected:
            self._written += data if self.connected else b""
            return
        self._unread += data
        if self._streaming and self.producer is not None and len(self._unread) > self.high_water:
            self.producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        self.aborted = self.disconnecting = True
        self._unread.clear()

    def loseWriteConnection(self) -> None:
        self._half_closing = True

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._peer

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._host

    def getTcpNoDelay(self) -> bool:
        return self.no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        return self.keep_alive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive = enabled

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """As Twisted does: a pull producer is asked at once, one that comes too late is stopped."""
        if self.producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered: {self.producer!r} was never unregistered")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer, self._streaming, self.producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    # IPushProducer

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.loseConnection()


class Pair:
    """Two transports, each the peer of the other. ``pump`` carries everything until nothing moves any more."""

    def __init__(self, client: MemoryTransport, server: MemoryTransport) -> None:
        self.client = client
        self.server = server
        self._told: set[MemoryTransport] = set()

    def pump(self) -> None:
        moved = True
        while moved:
            moved = self._carry(self.client, self.server) | self._carry(self.server, self.client)

    def _carry(self, here: MemoryTransport, there: MemoryTransport) -> bool:
        here.turn()
        if not there.paused:
            here.drain()
        data = here.take()
        if data and there.connected:
            there.deliver(data)
        elif data and here.connected:
            here.lose()  # as a TCP peer that is gone answers: with a reset
        if (here.half_closed or not here.connected) and here not in self._told:
            self._told.add(here)
            if there.connected and here.aborted:
                there.lose()
            elif there.connected:
                there.half_close()
            return True
        return bool(data)


def connect_pair(client: IProtocol, server: IProtocol, *, high_water: int | None = None) -> Pair:
    """Connect two protocols, and pump until both have nothing more to say. ``high_water`` is for both directions."""
    pair = Pair(MemoryTransport(high_water=high_water), MemoryTransport(high_water=high_water))
    for transport, protocol in ((pair.server, server), (pair.client, client)):
        transport.protocol = protocol
        protocol.makeConnection(transport)
    pair.pump()
    return pair


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """A place to connect to: every connection is a new ``MemoryTransport``, the last of ``transports``.

    Set ``error`` to have connections refused with it, and ``hold`` to have them wait until ``accept`` (or ``refuse``)
    is called for the one that waits longest.
    """

    def __init__(self, *, error: Exception | None = None, hold: bool = False, high_water: int | None = None) -> None:
        self.error = error
        self.hold = hold
        self.high_water = high_water
        self.transports: list[MemoryTransport] = []
        self.attempts = 0
        self._waiting: deque[tuple[IProtocolFactory, Deferred[IProtocol]]] = deque()

    @property
    def waiting(self) -> int:
        """How many connections wait to be let in."""
        return len(self._waiting)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """As ``IStreamClientEndpoint`` says; who cancels while it waits gets ``ConnectingCancelledError``."""
        self.attempts += 1
        if self.error is not None:
            return fail(self.error)
        waiting: Deferred[IProtocol] = Deferred(self._cancelled)
        self._waiting.append((factory, waiting))
        if not self.hold:
            self.accept()
        return waiting

    def accept(self) -> MemoryTransport:
        """Let the connection that waits longest succeed."""
        factory, waiting = self._waiting.popleft()
        transport = MemoryTransport(high_water=self.high_water)
        protocol = factory.buildProtocol(transport.getPeer())
        assert protocol is not None, f"{factory!r} built no protocol"
        transport.protocol = protocol
        self.transports.append(transport)
        protocol.makeConnection(transport)
        waiting.callback(protocol)
        return transport

    def refuse(self, error: Exception) -> None:
        """Let the connection that waits longest fail."""
        self._waiting.popleft()[1].errback(error)

    def _cancelled(self, waiting: Deferred[IProtocol]) -> None:
        self._waiting = deque(one for one in self._waiting if one[1] is not waiting)
        waiting.errback(ConnectingCancelledError(IPv4Address("TCP", "192.0.2.2", 80)))
