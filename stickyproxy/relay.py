"""Two connections joined: bytes, back-pressure, half-close and loss go from each to the other. Floor 3.

A ``Relay`` owns neither protocol: whoever receives the bytes of a connection calls ``client_data`` or ``backend_data``,
and passes on the other three events of a connection likewise (the end of the stream, the loss). Each transport is
registered as consumer of the other's bytes, so each is read only as fast as the other takes them.

An orderly end (``ConnectionDone``) lets the other side have all that is under way and closes it then. After any other
loss the other side is aborted, so that a truncated stream never looks like a complete one; not in the same instant, for
that would take back what the proxy has read already, and the peer may be in the right to have it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.model import Side
from stickyproxy.sweep import NEVER, Sweep

#: Seconds that a transport has to flush after an idle timeout before it is aborted.
GRACE = 5.0
#: Seconds for the bytes under way before an abrupt loss is passed on; with a period of the sweep it stays below one.
FLUSH = 0.1
#: Seconds between two looks at whether anything has come; nothing is noted for each piece.
LOOK = 5.0


class EndReason(enum.Enum):
    """Why a relay ended; the value is the word in the access log."""

    CLOSED = "closed"  # both said all that they had to say
    LOST = "lost"  # one side vanished (reset, truncated TLS, network gone)
    IDLE = "idle"  # silence in both directions for too long
    STOPPED = "stopped"  # ``abort`` was called: the service stops, or an operator wants it
    DRAINED = "drained"  # ``drain`` was called, and it came to an orderly end
    BREACH = "breach"  # one side of a WebSocket broke the protocol, or a limit
    SILENT = "silent"  # one side of a WebSocket did not answer our ping


class RelayEnd(NamedTuple):
    """What became of a relay. ``first`` is who ended it first: None when neither did, but we.

    ``code`` is that of the Close frame that ended a WebSocket (1005: one without a code), None where there was none.
    """

    to_backend: int  #: bytes
    to_client: int  #: bytes
    seconds: float
    first: Side | None
    reason: EndReason
    code: int | None = None
    messages_to_backend: int = 0  #: whole ones, of a WebSocket
    messages_to_client: int = 0


class Duplex(Protocol):
    """What a relay asks of a transport: ``ITransport`` with producer and consumer, as every stream transport is."""

    def write(self, data: bytes, /) -> Any: ...
    def loseConnection(self) -> Any: ...
    def abortConnection(self) -> Any: ...
    def registerProducer(self, producer: Any, streaming: bool) -> Any: ...
    def unregisterProducer(self) -> Any: ...
    def pauseProducing(self) -> Any: ...
    def resumeProducing(self) -> Any: ...


def half_close(transport: Any) -> None:
    """Tell the peer that no more bytes will come, after what was written, and go on receiving.

    On TLS that is a close_notify alert. Twisted's TLS has no ``loseWriteConnection`` of its own: ``__getattr__`` would
    find that of the TCP connection below, and end the stream without the alert. Its ``loseConnection`` sends the alert
    and goes on delivering until the peer has sent its own, which is a half-close by another name.
    """
    below = ISSLTransport.providedBy(transport) and (
        getattr(transport, "TLS", False) or not hasattr(type(transport), "loseWriteConnection")
    )
    (transport.loseConnection if below else transport.loseWriteConnection)()


@implementer(IPushProducer, IProtocol, IHalfCloseableProtocol)
class Half:
    """One of the two connections: its transport, and how far its life has come.

    It is the producer of what is written to the other: not the transport itself, for ``stopProducing`` would close that
    in its own way before the relay is told why. After ``Relay.replace`` it is the transport's protocol, too.
    """

    __slots__ = ("_relay", "dataReceived", "ended", "fed", "lost", "paused", "side", "transport")

    dataReceived: Callable[[bytes], None]  # the relay's own method, without a detour
    _relay: Relay

    def __init__(self, side: Side, transport: Duplex) -> None:
        self.side = side
        self.transport = transport
        self.paused = False
        self.fed = False  # a producer is registered on the transport
        self.ended = False  # nothing more will be received from it
        self.lost = False  # the transport is gone

    def unfeed(self) -> None:
        if self.fed:
            self.fed = False
            self.transport.unregisterProducer()

    # IPushProducer

    def pauseProducing(self) -> None:
        self.paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The consumer is gone; its protocol tells the relay in a moment."""

    # IProtocol, IHalfCloseableProtocol

    def serve(self, relay: Relay, take: Callable[[bytes], None]) -> None:
        """Be the protocol of the transport."""
        self._relay = relay
        self.dataReceived = take
        transport: Any = self.transport
        transport.protocol = self
        if hasattr(type(transport), "deliver_to"):
            transport.deliver_to(take)

    def makeConnection(self, transport: Any) -> None:
        """It is connected already."""

    def connectionMade(self) -> None:
        """It was when the protocol before it heard so."""

    def readConnectionLost(self) -> None:
        self._relay._end_of_stream(self)

    def writeConnectionLost(self) -> None:
        """Only the relay closes a writing side, and knows it."""

    def connectionLost(self, reason: Failure) -> None:
        relay = self._relay
        del self._relay, self.dataReceived  # the two would keep each other
        relay._gone(self, reason)


class Relay:
    """Join two connected transports until both are gone, then call ``ended`` once with a ``RelayEnd``.

    ``idle`` is seconds of silence in both directions. Nothing happens before ``start``; an end of stream that came
    before is told after it. Calls after the end are ignored. The relay is done with a connection only when it was told
    ``…_lost``, so pass on every ``connectionLost``. While it lives it is in each set of ``among``: the connections of a
    frontend, the tunnels of a backend.
    """

    _make_half: type[Half] = Half

    __slots__ = (
        "_among", "_backend", "_began", "_client", "_ended", "_first", "_idle", "_moved", "_quiet_since", "_reason",
        "_sweep", "_write_backend", "_write_client", "deadline", "to_backend", "to_client",
    )  # fmt: skip

    def __init__(
        self,
        client: Duplex,
        backend: Duplex,
        *,
        idle: float,
        sweep: Sweep,
        ended: Callable[[RelayEnd], object],
        among: tuple[set[Any], ...] = (),
    ) -> None:
        self.to_backend = 0
        self.to_client = 0
        self.deadline = NEVER
        self._write_backend: Callable[[bytes], object] = sweep.turn.writer(backend, single=True)
        self._write_client: Callable[[bytes], object] = sweep.turn.writer(client, single=True)
        self._client = self._make_half(Side.CLIENT, client)
        self._backend = self._make_half(Side.BACKEND, backend)
        self._idle = idle
        self._sweep = sweep
        self._ended = ended
        self._among = among
        self._began = self._quiet_since = sweep.seconds()
        self._moved: object = 0  # what ``_activity`` was when it was looked at
        self._first: Side | None = None
        self._reason: EndReason | None = None

    def replace(self, protocol: IProtocol) -> None:
        """Be the protocol of ``protocol.transport`` in its place; it is told no more, and may be forgotten.

        Where something between the two keeps the protocol to itself, nothing changes: it passes its events on.
        """
        for half, take in ((self._client, self.client_data), (self._backend, self.backend_data)):
            transport: Any = half.transport
            if transport is protocol.transport and getattr(transport, "protocol", None) is protocol:  # type: ignore[attr-defined]
                half.serve(self, take)
                if hasattr(type(transport), "sole_writer") and not transport.TLS:
                    self._set_writer(half, transport.sole_writer())

    def _set_writer(self, half: Half, write: Callable[[bytes], object]) -> None:
        if half is self._client:
            self._write_client = write
        else:
            self._write_backend = write

    def start(self, from_client: bytes = b"", from_backend: bytes = b"") -> None:
        """Pass on what had been read before, and let both transports read, as far as the other takes it."""
        if self._reason:
            return
        self._sweep.watch(self)
        for connections in self._among:
            connections.add(self)
        self._await_silence()
        for half, other in ((self._client, self._backend), (self._backend, self._client)):
            other.fed = True
            other.transport.registerProducer(half, True)
        if from_client:
            self.client_data(from_client)
        if from_backend:
            self.backend_data(from_backend)
        for half in (self._client, self._backend):
            if not (half.ended or half.paused or self._reason):
                half.transport.resumeProducing()

    def client_data(self, data: bytes) -> None:
        """Bytes from the client."""
        self.to_backend += len(data)
        self._write_backend(data)

    def backend_data(self, data: bytes) -> None:
        """Bytes from the backend."""
        self.to_client += len(data)
        self._write_client(data)

    def client_half_closed(self) -> None:
        """The client will send no more (``readConnectionLost``)."""
        self._end_of_stream(self._client)

    def backend_half_closed(self) -> None:
        """The backend will send no more (``readConnectionLost``)."""
        self._end_of_stream(self._backend)

    def client_lost(self, reason: Failure) -> None:
        """The client's connection is gone (``connectionLost``)."""
        self._gone(self._client, reason)

    def backend_lost(self, reason: Failure) -> None:
        """The backend's connection is gone (``connectionLost``)."""
        self._gone(self._backend, reason)

    def abort(self) -> None:
        """Drop both connections now."""
        self._close(EndReason.STOPPED, abort=True)

    def drain(self, code: int | None = None) -> None:
        """Come to an orderly end as soon as that is possible. Of plain TCP nobody but its two sides knows when.

        ``code`` is for the Close frames of a WebSocket; None: that of its frontend.
        """

    def is_served_by(self, member: object) -> bool:
        """A backend knows its relays itself: ``Member.tunnels``."""
        return False

    def expired(self) -> None:
        """The sweep's word: an idle relay closes; one that cannot even close in ``GRACE`` seconds is dropped."""
        if self._reason is None and not self._is_idle():
            return
        self._close(EndReason.IDLE, abort=self._reason is not None)
        self._end_by(self._sweep.after(GRACE))

    def _activity(self) -> object:
        """Another number than before if anything has come since."""
        return self.to_backend + self.to_client

    def _is_idle(self) -> bool:
        """Whether nothing has come for too long; if not, it is looked at again."""
        now, moved = self._sweep.now, self._activity()
        if moved != self._moved:
            self._moved, self._quiet_since = moved, now
        if now - self._quiet_since >= self._idle:
            return True
        self.deadline = min(now + min(LOOK, self._idle / 16), self._quiet_since + self._idle)
        return False

    def _await_silence(self) -> None:
        """The time of silence begins anew."""
        self._quiet_since = self._sweep.after(0)
        self.deadline = self._quiet_since + min(LOOK, self._idle / 16)

    def _other(self, half: Half) -> Half:
        return self._backend if half is self._client else self._client

    def _end_of_stream(self, half: Half) -> None:
        if half.ended or self._reason:
            return
        other = self._other(half)
        half.ended = True
        self._first = self._first or half.side
        if other.ended:
            self._close(EndReason.CLOSED)
        else:
            self._await_silence()
            other.unfeed()
            half_close(other.transport)

    def _gone(self, half: Half, reason: Failure) -> None:
        if half.lost:
            return
        other = self._other(half)
        half.lost = half.ended = True
        if self._reason is None:
            self._first = self._first or half.side
            if isinstance(reason.value, ConnectionDone):
                self._close(EndReason.CLOSED)
            else:
                self._reason = EndReason.LOST
                other.unfeed()
                self._end_by(self._sweep.seconds() + FLUSH)
        if other.lost:
            self._sweep.forget(self)
            for connections in self._among:
                connections.discard(self)
            self._write_backend = self._write_client = _nothing  # a method of ours would keep us
            ended, self._ended = self._ended, _nothing
            ended(self._end())

    def _end(self) -> RelayEnd:
        seconds = self._sweep.seconds() - self._began
        return RelayEnd(self.to_backend, self.to_client, seconds, self._first, self._reason or EndReason.CLOSED)

    def _close(self, reason: EndReason, *, abort: bool = False) -> None:
        """Close what is still open: after the bytes under way, or at once. The first reason stands."""
        self._reason = self._reason or reason
        self._end_by(self._sweep.after(self._idle))
        for half in (self._client, self._backend):
            if not half.lost:
                half.unfeed()
                if half.paused:  # a TLS transport wants to read the peer's goodbye
                    half.resumeProducing()
                (half.transport.abortConnection if abort else half.transport.loseConnection)()

    def _end_by(self, deadline: float) -> None:
        """There is nobody left to read what comes: who goes on talking gets no more time for that."""
        self.deadline = deadline
        self._write_backend = self._write_client = _nothing


def _nothing(_: object) -> None:
    """What becomes of bytes, and of the news of the end, after the end."""
