"""A stream whose bytes libuv moves, as a Twisted transport. Floor 2.

One object stands on both sides: to Twisted it is the transport, to uvloop the protocol. What is called for every chunk
is short: uvloop calls ``data_received``, which calls the protocol. All that is rare (producers, half-close, losing the
connection) is arranged around that, with the meaning that ``twisted.internet.abstract.FileDescriptor`` gives it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.reactor.early import EarlyBytes
from stickyproxy.reactor.sending import Sending, ignore
from stickyproxy.reactor.streamsocket import StreamSocket

if TYPE_CHECKING:
    from stickyproxy.reactor.uv import UVReactor

DONE = Failure(CONNECTION_DONE)
LOST = Failure(CONNECTION_LOST)
RESET = struct.pack("ii", 1, 0)


class Stream(Sending):
    """The transport without TLS: what bytes there are on the wire."""

    _log = Logger()
    _reason: Failure | None = None  # why the connection will have been lost
    _orderly = True  # the peer is to learn of the end
    _reading_paused = False  # our protocol wants no bytes
    _read_closed = False  # the peer has sent its FIN
    _early: EarlyBytes | None = None

    def __init__(self, reactor: UVReactor, sock: StreamSocket) -> None:
        self.reactor = reactor
        self.socket = sock
        self._speaking = reactor.speaking

    def start(self) -> None:
        """Give the connected socket to libuv, which then owns it; the protocol follows in the next turn."""
        self.socket.give_to(self.reactor.loop, self)
        self.reactor.streams.add(self)

    def build(self) -> Any:
        """The protocol, or None for a connection that nobody wants."""
        raise NotImplementedError

    # What uvloop calls (asyncio.Protocol)

    def connection_made(self, native: Any) -> None:
        self._native = native
        protocol = None if self.disconnected or self._reason is not None else self.build()
        if protocol is None:  # refused, or given up while libuv took it over
            self._forget()
            native.abort()
            return
        self.protocol = protocol
        self.connected = 1
        try:
            self.protocol.makeConnection(self)
        except Exception:
            self._fail(Failure())
        if self.disconnecting and self.producer is None:
            self._close()
        elif self._reading_paused:  # but uvloop starts to read as soon as we return
            self._early = EarlyBytes(self, native)
            self.reactor.loop.call_soon(self._pause_again)

    def data_received(self, data: bytes) -> None:
        self._speaking.stream = self
        self.protocol.dataReceived(data)
        self._speaking.stream = None

    def deliver_to(self, take: Callable[[bytes], object]) -> None:
        """Have uvloop call ``take``, the protocol's own method, without a detour: logs do not tell then who speaks."""
        self.data_received = take  # type: ignore[method-assign, assignment]
        if self._early is None:
            self._native.set_protocol(self)

    def eof_received(self) -> bool:
        self._read_closed = True
        half_closeable: Any = IHalfCloseableProtocol(self.protocol, None)
        if half_closeable is not None:
            half_closeable.readConnectionLost()
        else:
            self._flush()
            self.lose(DONE)
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        reason = DONE
        if error is not None and self._reason is None:
            # Only what our protocol has raised has a traceback: uvloop makes errors of the system and does not raise.
            if isinstance(error, OSError) and error.__traceback__ is None:
                self._read_the_rest()
                reason = LOST
            else:
                self.raised(error)
        self.connectionLost(self._reason or reason)

    # ITransport

    def loseConnection(self) -> None:
        """Close when all is written.

        With a producer that is paused, or pulled: when it has unregistered. A push producer that is not paused does not
        keep the connection open; so it is in Twisted, whatever ``ITransport`` says, and programs rely on it
        (``twisted.protocols.portforward``).
        """
        if self.disconnecting or self.disconnected:
            return
        self.disconnecting = 1
        if not self.connected:
            return  # connection_made will see it
        if self.producer is None or (self.streamingProducer and not self.producerPaused):
            self._close()
        else:
            self._native.pause_reading()

    def abortConnection(self) -> None:
        """Close at once, with a reset."""
        if self.disconnected or self._reason is not None:
            return
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            pass  # it is closed already
        self._orderly = False
        self.lose(Failure(ConnectionAborted()))

    def abandon(self) -> None:
        """Close our descriptor without a word to the peer: others may have the connection."""
        self._orderly = False
        self.lose(DONE)

    # IPushProducer

    def pauseProducing(self) -> None:
        self._reading_paused = True
        if self._native is not None:
            self._native.pause_reading()

    def resumeProducing(self) -> None:
        if not self.connected or self.disconnecting or self._read_closed:
            return
        self._reading_paused = False
        if self._early is not None:
            self.reactor.loop.call_soon(self._deliver_early)
        else:
            self._native.resume_reading()

    def stopProducing(self) -> None:
        self.loseConnection()

    # IReadWriteDescriptor, as far as programs call it; the reactor does not

    startReading = resumeProducing
    stopReading = pauseProducing

    @property
    def reading(self) -> bool:
        """Does the protocol get what arrives?"""
        return bool(self.connected and not (self._reading_paused or self.disconnecting or self._read_closed))

    # The end

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over: everybody concerned learns it, once. The reactor calls this when it stops."""
        if self.disconnected:
            return
        self._flush()
        self._forget()
        if self._native is not None and not self._native.is_closing():
            self._reason = reason
            self._native.abort()
        if self._orderly:
            try:  # libuv closes later, perhaps never if the reactor stops, and others may have the descriptor, too
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if not self.connected:
            return
        self.connected = 0
        protocol, producer = self.protocol, self.producer
        del self.protocol
        self.__dict__.pop("data_received", None)
        self.producer = self._early = None
        if producer is not None:
            producer.stopProducing()
        protocol.connectionLost(reason)

    def _forget(self) -> None:
        self.disconnected = 1
        self.write = ignore  # type: ignore[method-assign]
        self.reactor.streams.discard(self)
        self.socket.stream = None

    def lose(self, reason: Failure) -> None:
        """Close at once, whatever there is to write."""
        if self._reason is None:
            self._reason = reason
        if self._native is not None:
            self._native.abort()

    def _fail(self, failure: Failure) -> None:
        """A method of the protocol or the producer has raised; even if the connection was given up before."""
        self._speaking.stream = None
        self._log.failure("Unhandled error of {transport}", failure, transport=self)
        self._reason = failure
        self._native.abort()

    def raised(self, error: BaseException) -> None:
        """The same, seen by uvloop."""
        self._fail(Failure(error, type(error), error.__traceback__))

    # Reading

    def _read_the_rest(self) -> None:
        """Deliver what the peer has sent before the reset that a write of ours has run into.

        A server that refuses an upload answers and closes at once: its answer is there, and libuv would not read it.
        """
        arrived = self.socket.arrived()
        try:
            while self.reading and (data := next(arrived, None)) is not None:
                self.data_received(data)
        except Exception:
            self._fail(Failure())

    def _pause_again(self) -> None:
        if self._reading_paused and not self.disconnected:
            self._native.pause_reading()

    def _deliver_early(self) -> None:
        early = self._early
        if early is None or self._reading_paused or not self.connected or self.disconnecting:
            return
        self._early = None
        self._native.set_protocol(self)
        try:
            early.deliver()
        except Exception:
            self._fail(Failure())
        if self.reading:
            self._native.resume_reading()
