"""A TLS transport on OpenSSL's memory BIOs: TLS over any Twisted stream transport, with few calls per record. Floor 2.

It stands where Twisted's ``TLSMemoryBIOProtocol`` does, and goes by these rules:

- What is written in one turn of the reactor is encrypted together, at the end of ``dataReceived`` or of the turn, and
  sent with what others send (``stickyproxy.reactor.turn``).
- The end of the TCP stream without the alert close_notify is a truncation: ``ConnectionLost``, not ``ConnectionDone``.
- A peer that sends close_notify ends its own direction (RFC 8446 section 6.1). A protocol that provides
  ``IHalfCloseableProtocol`` hears ``readConnectionLost`` and may go on writing, in TLS 1.2 too; for any other the
  connection ends. ``loseWriteConnection`` sends close_notify and goes on reading; no FIN ever goes out before that.
- ``loseConnection`` sends what was written and close_notify, and waits for the peer's for a limited time, discarding
  what comes: closed at once, with the peer's bytes or TLS 1.3's tickets unread, TCP would reset the connection, and
  our last bytes be lost with it. ``abortConnection`` sends no close_notify, so the peer sees a truncation too.
- What is written during the handshake is kept; the handshake has a time limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from OpenSSL import SSL
from twisted.internet import error, interfaces
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.tls.flow import BUFFER, EMPTY, SPARE, InnerProducer, Phase, Sending, count_records
from stickyproxy.tls.layer import TLSLayer
from stickyproxy.tls.records import RECORD, give, read, take, write

_TRUNCATED = "The peer closed the TCP connection without TLS's close_notify."

# Looked up once: an attribute of an enum costs more than all else in ``write``
_HANDSHAKE, _OPEN, _CLOSED = Phase
_SENDING, _ENDING, _ENDED = Sending


@implementer(interfaces.IProtocol, interfaces.IHalfCloseableProtocol, interfaces.ISSLTransport, interfaces.INegotiated)
@implementer(interfaces.ISystemHandle, interfaces.IConsumer, interfaces.IPushProducer)
class TLSTransport(TLSLayer):
    """The protocol of the transport below, and the transport of the protocol within. ``TLSFactory`` makes it."""

    __slots__ = (
        "_ahead", "_empty", "_handshaken", "_header", "_out", "_out_size", "_paused", "_phase", "_producer", "_reading",
        "_reason", "_records", "_scheduled", "_sending", "_timer", "_write_below", "connected", "disconnecting",
        "factory",
    )  # fmt: skip

    def __init__(self, factory: Any, wrapped_protocol: Any) -> None:
        super().__init__(wrapped_protocol)
        self.factory = factory
        self.connected = False
        self.disconnecting = False
        self._phase = _HANDSHAKE
        self._sending = _SENDING
        self._handshaken = False
        self._reading = True  # the peer has not sent close_notify
        self._paused = False  # the protocol within does not want to read
        self._scheduled = False  # ``turn`` will come by itself
        self._out: list[bytes] = []
        self._out_size = 0
        self._records = 0  # how many whole records OpenSSL was given and not yet asked for
        self._ahead = 0  # see ``count_records``
        self._empty = 0  # how many records had no data in them
        self._header = b""
        self._producer: InnerProducer | None = None
        self._reason: Failure | None = None
        self._timer: interfaces.IDelayedCall | None = None

    # IProtocol and IHalfCloseableProtocol, for the transport below

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._write_below = self.factory.turn.writer(transport)
        self.connectionMade()

    def connectionMade(self) -> None:
        self.connected = True
        try:
            self.transport.setTcpNoDelay(True)  # writes are joined here; Nagle would hold the second one back
        except (AttributeError, OSError):
            pass  # not TCP, or gone already
        self._connection = self.factory.new_connection(self)
        self._timer = self.factory.clock.callLater(self.factory.handshake_timeout, self._expired)
        self._scheduled = True
        if not self.factory.await_handshake:
            self.wrappedProtocol.makeConnection(self)
        if self._phase is _HANDSHAKE:
            self._shake_hands()
        self.turn()

    def dataReceived(self, data: bytes) -> None:
        if self._phase is _CLOSED or not self._reading:
            return
        give(self._connection, data)
        if not self._ahead and len(data) > 5 and (data[3] << 8 | data[4]) + 5 == len(data):
            self._records += 1
        else:
            ended, self._ahead, self._header = count_records(data, self._ahead, self._header)
            self._records += ended
        self._scheduled = True
        if self._phase is _HANDSHAKE:
            self._shake_hands()
        self.turn()

    def readConnectionLost(self) -> None:
        """The TCP stream has ended; after close_notify that says nothing new."""
        self._hear_all()
        if self._phase is not _CLOSED and self._reading:
            self._close() if self._lingers() else self._fail(Failure(error.ConnectionLost(_TRUNCATED)))

    def writeConnectionLost(self) -> None:
        """It never is: we end the TCP stream in both directions only."""

    def connectionLost(self, reason: Failure) -> None:
        self._hear_all()
        self._stop_timer()
        if isinstance(reason.value, error.ConnectionDone) and self._phase is not _CLOSED and not self._lingers():
            reason = Failure(error.ConnectionLost(_TRUNCATED))
        reason = self._reason or reason
        self.connected = False
        self._phase = _CLOSED
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.set_app_data(None)  # the two would keep each other
        if self._handshaken:
            if not isinstance(reason.value, SSL.Error):
                # A session that ended without close_notify may be resumed (RFC 5246 section 7.2.1)
                connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        else:
            self.factory.handshake_ended(self, reason)
            if self._producer is not None:  # the transport below does not know it yet
                self._producer.stopProducing()
        self._producer = None
        if self._handshaken or not self.factory.await_handshake:
            self.wrappedProtocol.connectionLost(reason)

    # What happens in a turn

    def turn(self) -> None:
        """Do what is due: deliver what has come, send what was written, end what is to be ended."""
        self._scheduled = True  # what the protocol within writes now is sent below
        if self._records and self._phase is _OPEN and not self._paused:
            self._receive()
        if self._phase is _OPEN:
            if self._out:
                self._send()
            if self._sending is _ENDING and self._producer is None and self._phase is _OPEN:
                self._end()
        self._scheduled = False

    def _hear_all(self) -> None:
        """Deliver what waits, paused or not: no more will come, and the last record may be close_notify."""
        if self._records:
            self._paused = False
            self.turn()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.factory.turn.at_end(self._turn_or_abort)

    def _turn_or_abort(self) -> None:
        try:
            self.turn()
        except BaseException:
            self.abortConnection()
            raise

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._drain(RECORD)
            return
        except Exception:  # the callbacks of whoever made the connection may raise anything
            self._fail(Failure())
            return
        self._drain(RECORD)
        self._phase = _OPEN
        self._handshaken = True
        self._stop_timer()
        if self._producer is not None:
            self._producer.start(self.transport, self._send)
        try:
            if self.factory.await_handshake:
                self.wrappedProtocol.makeConnection(self)
            elif self._paused:
                self.transport.pauseProducing()
            if interfaces.IHandshakeListener.providedBy(self.wrappedProtocol):
                self.wrappedProtocol.handshakeCompleted()
        finally:
            self.factory.handshake_ended(self, None)

    def _receive(self) -> None:
        records, self._records = self._records, 0
        connection = self._connection
        parts: list[bytes] = []
        failure = None
        try:
            for _ in range(records):
                parts.append(read(connection))  # noqa: PERF401 - what came before an exception is needed
        except SSL.WantReadError:
            self._drain(SPARE)  # something else than data, which OpenSSL may have answered
            self._empty += records - len(parts)
            if self._empty > EMPTY:
                self.abortConnection()
        except SSL.ZeroReturnError:
            self._reading = False
        except SSL.Error:
            failure = Failure()
        if parts and not self.disconnecting:
            self.wrappedProtocol.dataReceived(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._phase is not _OPEN:
            return
        if failure is not None:
            self._fail(failure)
        elif not self._reading:
            self._peer_ended()

    def _send(self) -> None:
        out = self._out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._out_size = 0
        try:
            write(self._connection, data)
        except SSL.Error:
            self._fail(Failure())
        else:
            self._drain(len(data) + (len(data) >> 9) + SPARE)  # a record adds at most 29 bytes to 16384

    def _drain(self, size: int) -> None:
        """Pass on what OpenSSL has to send. With room for all of it in ``size`` bytes that is a single call."""
        while chunk := take(self._connection, size):
            self._write_below(chunk)
            if len(chunk) < size:
                return

    # How it ends

    def _peer_ended(self) -> None:
        """The peer has sent close_notify."""
        if interfaces.IHalfCloseableProtocol.providedBy(self.wrappedProtocol) and not self.disconnecting:
            self.wrappedProtocol.readConnectionLost()
        else:
            self.disconnecting = True
            self._stop_producer()
            if self._sending is _SENDING:
                self._sending = _ENDING
        if self._sending is _ENDED and self._phase is _OPEN:
            self._close()

    def _end(self) -> None:
        """Send close_notify, which ends our direction."""
        self._sending = _ENDED
        try:
            self._connection.shutdown()
        except SSL.Error:
            pass  # the connection below will tell why
        self._drain(SPARE)
        if self.disconnecting or not self._reading:
            self._finish()
        elif interfaces.IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.writeConnectionLost()

    def _finish(self) -> None:
        """Our direction has ended; wait for the end of the peer's."""
        if not self._reading:
            self._close()
            return
        if self._paused:
            self.resumeProducing()
        self._timer = self.factory.clock.callLater(self.factory.close_timeout, self._expired)

    def _lingers(self) -> bool:
        return self.disconnecting and self._sending is _ENDED

    def _close(self) -> None:
        if self._handshaken:  # else the timer sees to it that the alert is not waited for either
            self._stop_timer()
        self._phase = _CLOSED
        self.disconnecting = True
        self.transport.loseConnection()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _fail(self, reason: Failure) -> None:
        """TLS cannot go on: tell the peer by the alert that OpenSSL has ready."""
        self._reason = self._reason or reason
        self._drain(SPARE)
        self._out.clear()
        self._stop_producer()
        self._close()

    def _expired(self) -> None:
        if self._handshaken:
            self._close()
        else:
            self.failVerification(Failure(error.TimeoutError("The TLS handshake was not finished in time.")))
            self.abortConnection()

    def failVerification(self, reason: Failure) -> None:  # noqa: N802 - Twisted's ClientTLSOptions calls it
        """What ``connectionLost`` is to be told when the handshake fails, as it will."""
        self._reason = self._reason or reason

    # ITransport

    def write(self, data: bytes) -> None:
        if self._phase is _CLOSED or self._sending is _ENDED:
            return
        if self._sending is _ENDING and self._producer is None:
            return  # as Twisted has it: loseConnection waits for a producer, and lets it write
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # a copy, for it waits; TypeError for text
        if not data:
            return
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size <= BUFFER:
            self._schedule()
        elif self._phase is _OPEN:
            self._send()
        elif self._producer is not None:
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self.disconnecting or not self.connected:
            return
        self.disconnecting = True
        if self._phase is _HANDSHAKE and not self._out and self._producer is None:
            self._close()
        elif self._sending is _ENDED:
            self._finish()
        else:
            self._sending = _ENDING
            self._schedule()

    def loseWriteConnection(self) -> None:
        """Send close_notify after what was written, and go on reading."""
        if self._sending is _SENDING:
            self._sending = _ENDING
            self._schedule()

    def abortConnection(self) -> None:
        if self.connected:
            self._phase = _CLOSED
            self.disconnecting = True
            self._out.clear()
            self.transport.abortConnection()

    # IConsumer: the producer of the protocol within

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError(f"{producer!r} cannot be registered: {self._producer.producer!r} was never unregistered")
        if self._phase is _CLOSED or self._sending is _ENDED:
            producer.stopProducing()
            return
        self._producer = InnerProducer(self, producer, streaming=streaming)
        if self._phase is _OPEN:
            self.transport.registerProducer(self._producer, streaming)

    def unregisterProducer(self) -> None:
        if self._producer is not None:
            self._producer = None
            if self._handshaken:
                self.transport.unregisterProducer()
            if self._sending is _ENDING:
                self._schedule()

    def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            if self._handshaken:
                self.transport.unregisterProducer()
            producer.stopProducing()

    # IPushProducer: what arrives for the protocol within

    def pauseProducing(self) -> None:
        self._paused = True
        if self._phase is _OPEN:  # before, TLS itself has to read
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._phase is _OPEN:
            self.transport.resumeProducing()
            if self._records:
                self._schedule()

    def stopProducing(self) -> None:
        self.loseConnection()
