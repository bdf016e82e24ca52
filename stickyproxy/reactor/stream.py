"""A stream whose bytes libuv moves, as a Twisted transport. Floor 2.

One object stands on both sides: to Twisted it is the transport, to uvloop the protocol. What is called for every chunk
is short: uvloop calls ``data_received``, which calls the protocol, and ``write`` of an instance *is* uvloop's own
method. All that is rare (producers, half-close, losing the connection) is arranged around that, with the meaning that
``twisted.internet.abstract.FileDescriptor`` gives it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.reactor.early import EarlyBytes
from stickyproxy.reactor.streamsocket import StreamSocket

if TYPE_CHECKING:
    from stickyproxy.reactor.uv import UVReactor

DONE = Failure(CONNECTION_DONE)
LOST = Failure(CONNECTION_LOST)
RESET = struct.pack("ii", 1, 0)
WRITE_LIMIT = 64 * 1024  # as Twisted's FileDescriptor.bufferSize: a producer pauses above it


def ignore(data: object) -> None:
    """``write`` of a connection that is over."""


class Stream:
    """The transport without TLS: what bytes there are on the wire."""

    connected = disconnected = disconnecting = 0
    producer: Any = None
    producerPaused = streamingProducer = False

    _log = Logger()
    _native: Any = None  # uvloop's transport, from connection_made on
    _reason: Failure | None = None  # why the connection will have been lost
    _orderly = True  # the peer is to learn of the end
    _reading_paused = False  # our protocol wants no bytes
    _read_closed = False  # the peer has sent its FIN
    _early: EarlyBytes | None = None
    _full = False  # uvloop has more bytes to write than its limit
    _pull_scheduled = False
    _write_closing = _write_closed = False
    _buffer_size = WRITE_LIMIT

    protocol: Any

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
        self.write = native.write  # type: ignore[method-assign]
        self.connected = 1
        try:
            self.protocol.makeConnection(self)
        except Exception:
            self._fail(Failure())
        if self.disconnecting and self.producer is None:
            native.close()
        elif self._reading_paused:  # but uvloop starts to read as soon as we return
            self._early = EarlyBytes(self, native)
            self.reactor.loop.call_soon(self._pause_again)

    def data_received(self, data: bytes) -> None:
        self._speaking.stream = self
        self.protocol.dataReceived(data)
        self._speaking.stream = None

    def eof_received(self) -> bool:
        self._read_closed = True
        half_closeable: Any = IHalfCloseableProtocol(self.protocol, None)
        if half_closeable is not None:
            half_closeable.readConnectionLost()
        else:
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

    def pause_writing(self) -> None:
        self._full = True
        if self.producer is not None and self.streamingProducer:
            self._pause_producer()

    def resume_writing(self) -> None:
        self._full = False
        if self.producer is not None and (self.producerPaused or not self.streamingProducer):
            self._resume_producer()
        elif self._write_closing:
            self._close_write()

    # ITransport

    def write(self, data: bytes) -> None:
        """Send ``data``. Instances have uvloop's own method in the place of this one, unless TLS was started."""
        if not self._write_closed and self._native is not None and not self.disconnected:
            self._native.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of ``data`` with one system call."""
        pieces = list(data)
        if not all(isinstance(piece, bytes) for piece in pieces):
            raise TypeError("Data must be bytes")
        if not self._write_closed and self._native is not None and not self.disconnected:
            self._native.writelines(pieces)
            if self.producer is not None and not self.streamingProducer:
                self._pull_later()

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
            self._native.close()
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

    def loseWriteConnection(self) -> None:
        """Send a FIN after what is written; we go on reading."""
        if not self.connected or self._write_closing:
            return
        self._write_closing = True
        self._native.set_write_buffer_limits(high=0)  # so that resume_writing tells when all is written
        if not self._full:
            self.reactor.loop.call_soon(self._close_write)

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

    @property
    def writing(self) -> bool:
        """Is there something that the system has not taken?"""
        return bool(self.connected and self._native.get_write_buffer_size())

    # IConsumer

    @property
    def bufferSize(self) -> int:
        """How many bytes may wait before a push producer pauses: those that the system does not take yet."""
        return self._buffer_size

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._buffer_size = size
        if self.connected and not self._write_closing and (self.producer is None or self.streamingProducer):
            self._native.set_write_buffer_limits(high=size)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take bytes from ``producer``: a push producer (``streaming``) pauses while more than ``bufferSize`` wait."""
        if self.producer is not None:
            raise RuntimeError(f"{producer} cannot be registered: {self.producer} has not been unregistered")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = bool(streaming)
        if not streaming:
            self._native.set_write_buffer_limits(high=0)
            self.write = self._write_pulled  # type: ignore[method-assign]
            producer.resumeProducing()
            self._pull_later()  # it may have been asked for nothing, or have written before it was registered
        elif self._full:
            self._pause_producer()

    def unregisterProducer(self) -> None:
        was_pulled = self.producer is not None and not self.streamingProducer
        self.producer = None
        self.producerPaused = False
        if not self.connected:
            return
        if was_pulled:
            self.write = self._native.write  # type: ignore[method-assign]
            if not self._write_closing:
                self._native.set_write_buffer_limits(high=self._buffer_size)
        if self.disconnecting:
            self._native.close()
        elif self._write_closing and not self._full:
            self.reactor.loop.call_soon(self._close_write)

    def stopConsuming(self) -> None:
        self.unregisterProducer()
        self.loseConnection()

    # The end

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over: everybody concerned learns it, once. The reactor calls this when it stops."""
        if self.disconnected:
            return
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

    # Writing

    def _pause_producer(self) -> None:
        self.producerPaused = True
        try:
            self.producer.pauseProducing()
        except Exception:
            self._fail(Failure())

    def _resume_producer(self) -> None:
        self.producerPaused = False
        try:
            self.producer.resumeProducing()
        except Exception:
            self._fail(Failure())

    def _write_pulled(self, data: bytes) -> None:
        self._native.write(data)
        self._pull_later()

    def _pull_later(self) -> None:
        """Without this a pull producer whose bytes were all sent at once would never be asked for more."""
        if not self._pull_scheduled:
            self._pull_scheduled = True
            self.reactor.loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._pull_scheduled = False
        if self.producer is not None and not self.streamingProducer and not self._full and not self.disconnected:
            self._resume_producer()

    def _close_write(self) -> None:
        if self._write_closed or self._full or self.disconnecting or not self.connected:
            return
        self._write_closed = True
        self.write = ignore  # type: ignore[method-assign]
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster, and reading will tell
        half_closeable: Any = IHalfCloseableProtocol(self.protocol, None)
        if half_closeable is not None:
            try:
                half_closeable.writeConnectionLost()
            except Exception:
                self._fail(Failure())
