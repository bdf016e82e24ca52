"""The backend's side of HTTP/1.1: a connection that serves one exchange after another. Floor 3. RFC 9112.

It trusts nothing: an answer that is not well-formed ends the connection, and so do bytes that belong to no answer.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    IReadDescriptor,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.addresses import set_no_delay
from stickyproxy.errors import BackendLost, BackendSilent, BadAnswer, HTTPError
from stickyproxy.model import ResponseHead
from stickyproxy.sansio.body import BodyReader, MalformedBody, read_body
from stickyproxy.sansio.http1 import HeadCollector, parse_response_head
from stickyproxy.sweep import NEVER, Sweep

if TYPE_CHECKING:
    from stickyproxy.exchange.exchange import Exchange
    from stickyproxy.member import Member
    from stickyproxy.relay import Relay

#: Reads of a connection that is lost, for an early answer: about a megabyte.
LAST_READS = 16


class _Mode(enum.Enum):
    OPENING = "opening"
    IDLE = "idle"  # in the pool
    HEAD = "head"  # an exchange waits for its answer
    BODY = "body"  # and receives it
    TUNNEL = "tunnel"  # the exchange became a relay
    CLOSED = "closed"


_OPENING, _IDLE, _HEAD, _BODY, _TUNNEL, _CLOSED = _Mode  # a look-up in an enumeration costs ten times one in a module


@implementer(IPushProducer, IHandshakeListener, IHalfCloseableProtocol)
class BackendConnection(Protocol):
    """One connection to one backend. ``key`` says who may use it: b"" for everybody, else a PROXY header."""

    transport: Any  #: ITCPTransport, IConsumer and IPushProducer

    def __init__(self, member: Member, sweep: Sweep, *, answer: float, idle: float, key: bytes = b"") -> None:
        self.member = member
        self.key = key
        self.used = False  #: it has answered before: the backend may be closing it while we write
        self.answered = False  #: bytes of the answer in progress have come
        self.deadline = NEVER
        self.opened: Deferred[None] | None = Deferred()  #: None when it has fired
        self._sweep = sweep
        self._turn = sweep.turn
        self._begun = -1  # the turn at whose end the head of the exchange's request is sent
        self._answer_allowance = sweep.period + answer
        self._idle_allowance = sweep.period + idle
        self._mode = _OPENING
        self._exchange: Exchange | None = None
        self._sent = True
        self._interim = 0
        self._collector: HeadCollector | None = None
        self._reader: BodyReader | None = None
        self._relay: Relay | None = None
        self._reading_paused = False
        self._reusable = False

    # What an exchange does with it.

    def begin(self, exchange: Exchange, data: bytes, sent: bool) -> None:
        """Serve ``exchange``: ``data`` is its head and what there is of its body, ``sent`` says that this is all."""
        self._exchange = exchange
        self._mode = _HEAD
        self.answered = False
        self._sent = sent
        self.deadline = self._sweep.now + self._answer_allowance if sent else NEVER
        self._write(data)
        self._begun = self._turn.current or -1

    def send(self, data: bytes, sent: bool) -> None:
        """More of the request."""
        if sent:
            self._sent = True
            self.deadline = self._sweep.now + self._answer_allowance
        if data:
            self._write(data)

    def pause_answer(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self.deadline = NEVER
            self.transport.pauseProducing()

    def resume_answer(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            if self._mode is _HEAD or self._mode is _BODY:
                self.deadline = self._sweep.now + self._answer_allowance
            self.transport.resumeProducing()

    def abandon(self) -> None:
        """The client is gone: nobody waits for this answer."""
        self._exchange = None
        self.close()

    def become_tunnel(self, relay: Relay) -> None:
        """From here on every byte belongs to ``relay``, which registers its own producers."""
        self.transport.unregisterProducer()
        self._mode = _TUNNEL
        self._relay = relay
        relay.replace(self)
        self._exchange = None
        self.deadline = NEVER
        self._sweep.forget(self)

    def close(self) -> None:
        """End it now, also what is still to be written."""
        if self._mode is not _CLOSED:
            self._mode = _CLOSED
            self._sweep.forget(self)
            self.member.forget(self)
            if self.transport is not None:
                self.transport.unregisterProducer()
                self.transport.abortConnection()

    # What Twisted tells.

    def connectionMade(self) -> None:
        set_no_delay(self.transport)
        self.transport.registerProducer(self, True)
        self._write = self._sweep.turn.writer(self.transport)
        self._sweep.watch(self)
        if not ISSLTransport.providedBy(self.transport):
            self._open()

    def handshakeCompleted(self) -> None:
        self._open()

    def _open(self) -> None:
        if self._mode is _OPENING:
            self._mode = _IDLE
            opened, self.opened = self.opened, None
            assert opened is not None
            opened.callback(None)

    def dataReceived(self, data: bytes) -> None:
        mode = self._mode
        try:
            if mode is _HEAD:
                self._read_head(data)
            elif mode is _BODY:
                self._read_body(data)
            elif mode is _TUNNEL:
                self._relay.backend_data(data)  # type: ignore[union-attr]
            else:
                self.close()  # bytes that nobody asked for
        except BadAnswer as error:
            self._fail(error)
        except MalformedBody as error:
            self._fail(BadAnswer(f"the backend's answer is malformed: {error}"))

    def pauseProducing(self) -> None:
        """The backend does not take what we write."""
        if self._exchange is not None:
            self.deadline = self._sweep.now + self._answer_allowance
            self._exchange.pause_request()

    def resumeProducing(self) -> None:
        if self._exchange is not None:
            waiting = self._sent and not self._reading_paused
            self.deadline = self._sweep.now + self._answer_allowance if waiting else NEVER
            self._exchange.resume_request()

    def stopProducing(self) -> None:
        """The connection is lost; ``connectionLost`` follows.

        A backend that answers early and closes resets what we still write. Where writing is the first to see that, the
        answer is still to be read: the transport forgets it after this.
        """
        below = getattr(self.transport, "transport", self.transport)  # under TLS
        if IReadDescriptor.providedBy(below):
            for _ in range(LAST_READS):
                if self._exchange is None or below.doRead() is not None:
                    break

    def readConnectionLost(self) -> None:
        """The backend will send no more. Only a tunnel lives on."""
        if self._mode is _TUNNEL:
            self._relay.backend_half_closed()  # type: ignore[union-attr]
        elif self._mode is not _CLOSED:
            self._ended(clean=True)
            self.close()

    def writeConnectionLost(self) -> None:
        """Only the relay closes a writing side, and knows it."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 (Twisted's own default)
        mode, self._mode = self._mode, _CLOSED
        self._sweep.forget(self)
        if mode is _TUNNEL:
            self._relay.backend_lost(reason)  # type: ignore[union-attr]
        elif mode is _OPENING:
            assert self.opened is not None
            self.opened.errback(reason)
        elif mode is not _CLOSED:
            self.member.forget(self)
            self._mode = mode
            self._ended(clean=reason.check(ConnectionDone) is not None)
            self._mode = _CLOSED

    def expired(self) -> None:
        """The sweep found our deadline past: the backend is silent, or the pool kept us long enough."""
        if self._exchange is None:
            self.close()
        else:
            self._fail(BackendSilent("the backend does not answer in time"))

    # Answers.

    def _read_head(self, data: bytes) -> None:
        if self._begun == self._turn.current and self.used:  # our request has not left: these belong to an old answer
            self._ended(clean=False)
            self.close()
            return
        self.answered = True
        exchange = self._exchange
        assert exchange is not None
        while data:
            if self._collector is not None:
                split = self._collector.feed(data)
                if split is None:
                    return
                self._collector = None
                data = split[0] + split[1]
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._collector = HeadCollector(is_request=False, limit=exchange.cluster.limits.head)
                self._collector.feed(data)
                return
            head = parse_response_head(data[:end], exchange.head.method, exchange.cluster.limits.head)
            if head.status >= 200:
                self._interim = 0
                self._answer(exchange, head, data, end)
                return
            data = data[end:]
            if head.status == 101:
                exchange.switched(head, data)
                return
            self._interim += 1
            if self._interim > exchange.cluster.limits.interim:
                raise BadAnswer("the backend sends interim answers without end")
            exchange.interim(head)

    def _answer(self, exchange: Exchange, head: ResponseHead, data: bytes, at: int) -> None:
        """``head`` was read, and ends ``at`` in ``data``."""
        body = head.body
        end = at + body
        if body >= 0 and end <= len(data):
            self._finish(head.keep_alive and end == len(data))
            exchange.answer(head, data[at:end], True)
            return
        reader = self._reader = read_body(body)
        self._mode = _BODY
        self._reusable = head.keep_alive
        content = reader.feed(data[at:])
        if reader.ended:
            self._finish(head.keep_alive and not reader.rest)
        elif self._sent:
            self.deadline = self._sweep.now + self._answer_allowance
        exchange.answer(head, content, reader.ended, reader.trailers)

    def _read_body(self, data: bytes) -> None:
        exchange, reader = self._exchange, self._reader
        assert exchange is not None and reader is not None
        content = reader.feed(data)
        if reader.ended:
            self._finish(self._reusable and not reader.rest)
            exchange.answer_more(content, True, reader.trailers)
        else:
            if not self._reading_paused:
                self.deadline = self._sweep.now + self._answer_allowance
            exchange.answer_more(content, False)

    def _finish(self, reusable: bool) -> None:
        """The answer is whole: into the pool, or away."""
        self._exchange = None
        self._reader = None
        if reusable and self._sent:
            self._mode = _IDLE
            self.used = True
            self.deadline = self._sweep.now + self._idle_allowance
            if self._reading_paused:
                self.resume_answer()
            self.member.keep(self)
        else:
            self.close()

    def _ended(self, *, clean: bool) -> None:
        """The backend closed. For an answer without a length that is its end, if it was no accident."""
        exchange, reader = self._exchange, self._reader
        self._exchange = None
        if exchange is None:
            return
        if self._mode is _BODY and reader is not None and clean and reader.complete_at_close():
            exchange.answer_more(b"", True)
        else:
            exchange.lost(self, BackendLost("the backend closed the connection before its answer was complete"))

    def _fail(self, error: HTTPError) -> None:
        exchange, self._exchange = self._exchange, None
        self.answered = True
        self.close()
        if exchange is not None:
            exchange.lost(self, error)


async def open_connection(
    member: Member, sweep: Sweep, *, answer: float, idle: float, preface: bytes = b""
) -> BackendConnection:
    """A new connection to ``member``, its TLS handshake done. ``preface`` (a PROXY header) goes before everything.

    Raises what the endpoint raises (``ConnectError``, ``TimeoutError``, TLS errors …).
    """
    connection = BackendConnection(member, sweep, answer=answer, idle=idle, key=preface)
    try:
        await member.connect(connection, connection.opened, preface)
    except BaseException:
        connection.close()
        raise
    return connection
