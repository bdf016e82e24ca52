"""The sending half of a stream: bytes of one turn sent as one, producers, the FIN. Floor 2.

libuv sends what it is given at once, in the middle of the reactor's turn. What is written here waits for the end of the
turn (``turn`` says why), and is given to libuv as one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure

from stickyproxy.reactor.streamsocket import StreamSocket

if TYPE_CHECKING:
    from stickyproxy.reactor.uv import UVReactor

WRITE_LIMIT = 64 * 1024  # as Twisted's FileDescriptor.bufferSize: a producer pauses above it


def ignore(data: object) -> None:
    """``write`` of a connection that is over."""


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, str):
        raise TypeError("Data must be bytes")
    return bytes(data)  # the caller may change it before the turn ends


class Sending:
    """What a ``Stream`` is to those who write to it."""

    connected = disconnected = disconnecting = 0
    producer: Any = None
    producerPaused = streamingProducer = False

    _native: Any = None  # uvloop's transport, from connection_made on
    _waiting: list[bytes] | None = None  # for the end of the turn
    _waiting_size = 0
    _full = False  # uvloop has more bytes to write than its limit
    _pull_scheduled = False
    _write_closing = _write_closed = False
    _buffer_size = WRITE_LIMIT

    reactor: UVReactor
    socket: StreamSocket
    protocol: Any

    def loseConnection(self) -> None:
        raise NotImplementedError

    def _fail(self, failure: Failure) -> None:
        raise NotImplementedError

    # What uvloop calls (asyncio.Protocol)

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
        """Send ``data``, together with all else that is written in this turn."""
        if type(data) is not bytes:
            data = _as_bytes(data)
        waiting = self._waiting
        if waiting is None:
            self._waiting = [data]
            self.reactor.turn.at_end(self._flush)
        else:
            waiting.append(data)
        self._waiting_size += len(data)
        if self._waiting_size > WRITE_LIMIT:  # a producer that goes on until it is paused never comes to an end
            self._flush()

    def write_at_once(self, data: bytes) -> None:
        """Send ``data`` in the middle of the turn: for a relay, which seldom has two pieces in one."""
        if self._waiting is not None:
            self._flush()
        self._native.write(data)

    def sole_writer(self) -> Callable[[bytes], object]:
        """The same for who alone writes from now on: libuv's own method."""
        self._flush()
        own: Callable[[bytes], object] = self._native.write
        return own

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all of ``data``."""
        for piece in data:
            self.write(piece)

    def loseWriteConnection(self) -> None:
        """Send a FIN after what is written; we go on reading."""
        if not self.connected or self._write_closing:
            return
        self._write_closing = True
        self._flush()
        self._native.set_write_buffer_limits(high=0)  # so that resume_writing tells when all is written
        if not self._full:
            self.reactor.loop.call_soon(self._close_write)

    @property
    def writing(self) -> bool:
        """Is there something that the system has not taken?"""
        return bool(self.connected and (self._waiting or self._native.get_write_buffer_size()))

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
            self._flush()
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
            del self.write
            if not self._write_closing:
                self._native.set_write_buffer_limits(high=self._buffer_size)
        if self.disconnecting:
            self._close()
        elif self._write_closing and not self._full:
            self.reactor.loop.call_soon(self._close_write)

    def stopConsuming(self) -> None:
        self.unregisterProducer()
        self.loseConnection()

    # In between

    def _flush(self) -> None:
        """Give libuv what waits; it sends at once what the socket takes."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
        self._waiting_size = 0
        if self.connected and not (self._write_closed or self._native.is_closing()):
            self._native.write(data)

    def _close(self) -> None:
        self._flush()
        self._native.close()

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
