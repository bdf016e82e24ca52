"""HTTP/1.1 to clients: reads requests, has them exchanged, writes answers in order. Floor 4. RFC 9110, RFC 9112.

One request at a time: what a client pipelines waits, unread beyond one read, until the answer before it is written. In
``sansio``, ``http1`` and ``body`` decide what is read, ``forwarding`` what both sides see; ``exchange``, who answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.addresses import TLVs, set_no_delay
from stickyproxy.errors import BadRequest, HTTPError
from stickyproxy.exchange.connection import BackendConnection
from stickyproxy.exchange.exchange import Exchange
from stickyproxy.model import Field, Peer, RequestHead, ResponseHead
from stickyproxy.relay import Relay, half_close
from stickyproxy.sansio.forwarding import forward_interim, forward_trailers
from stickyproxy.sansio.http1 import EMPTY_LINES, HeadCollector, parse_request_head
from stickyproxy.sweep import NEVER
from stickyproxy.wires.http.answers import AnswerWriter
from stickyproxy.wires.http.content import TOO_LARGE, Content
from stickyproxy.wires.http.modes import LAST_CALL, QUIET, Mode
from stickyproxy.wires.http.rare import RARE, look_at

if TYPE_CHECKING:
    from stickyproxy.wires.http.factory import HTTPFrontendFactory

_HEAD, _BODY, _ANSWER, _TUNNEL, _LINGER, _CLOSED = Mode  # a look-up in an enumeration costs ten times one in a module


@implementer(IPushProducer, IHalfCloseableProtocol)
class HTTPFrontend(Protocol):
    """One client's connection. ``peer`` is who it is, which behind a PROXY header is not ``transport.getPeer()``."""

    transport: Any  #: ITCPTransport, IConsumer and IPushProducer
    factory: HTTPFrontendFactory
    tlvs: TLVs = ()  #: what a PROXY header told beside the addresses
    _drained: int | None = None  # the code for a WebSocket that is still to begin; 0: its frontend's

    def __init__(self, factory: HTTPFrontendFactory, peer: Peer) -> None:
        self.factory = factory
        self.peer = peer
        self.deadline = NEVER
        self._mode = _HEAD
        self._buffer = b""  # what came behind the request in progress
        self._advancing, self._reading = False, True
        self._draining = False  # the client has not yet taken what was written
        self._ended = False  # the client will send no more
        self._collector: HeadCollector | None = None
        self._content: Content | None = None
        self._request: RequestHead | None = None
        self._exchange: Exchange | None = None
        self._relay: Relay | None = None
        self._keep_alive, self._requests_left = True, factory.limits.requests
        self._overrun, self._linger_until = False, NEVER  # the one: more was pipelined than may wait, and is lost

    # Twisted's side.

    def connectionMade(self) -> None:
        factory = self.factory
        factory.connections.add(self)
        set_no_delay(self.transport)
        self.transport.registerProducer(self, True)
        self._identity = factory.identify(self.peer, self.transport, self.tlvs)
        self._answer = AnswerWriter(factory, self.transport, self._identity)
        self.deadline = factory.sweep.after(factory.timeouts.head)
        factory.sweep.watch(self)

    def dataReceived(self, data: bytes) -> None:
        mode = self._mode
        if mode is _HEAD and (self._advancing or self._draining):
            self._buffer += data
        elif mode is _HEAD:
            self._read_head(data)
            if self._buffer:
                self._advance()
        elif mode is _TUNNEL:
            self._relay.client_data(data)  # type: ignore[union-attr]
        elif mode is _BODY:
            self._read_body(data)
        elif mode is _ANSWER:
            self._hold(data)
        elif mode is _LINGER:
            self.deadline = min(self._linger_until, self.factory.sweep.after(QUIET))

    def pauseProducing(self) -> None:
        """The client does not take what we write."""
        self._draining = True
        self.deadline = self.factory.sweep.after(self.factory.timeouts.send)
        if self._exchange is not None:
            self._exchange.pause_answer()
        elif self._mode is _HEAD:
            self._set_reading(False)

    def resumeProducing(self) -> None:
        self._draining = False
        if self._exchange is not None:
            awaited = self._mode is _BODY and self._reading
            self.deadline = self.factory.sweep.now + self.factory.body_allowance if awaited else NEVER
            self._exchange.resume_answer()
        elif self._mode is _HEAD:
            self._await_request()
            if self._collector is not None:
                self.deadline = self.factory.sweep.after(self.factory.timeouts.head)

    def stopProducing(self) -> None: ...

    def readConnectionLost(self) -> None:
        """The client will send no more. A whole request is answered all the same."""
        if self._mode is _TUNNEL:
            self._relay.client_half_closed()  # type: ignore[union-attr]
        elif self._mode is _ANSWER:
            self._keep_alive = False
            self._ended = True
        elif self._mode is _BODY and self._answer.status:
            self.abort()  # the answer is cut off, too
        elif self._mode is not _CLOSED:
            self._close()

    def writeConnectionLost(self) -> None: ...

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 (Twisted's own default)
        self.factory.connections.discard(self)
        self.factory.sweep.forget(self)
        if self._mode is _TUNNEL:
            self._relay.client_lost(reason)  # type: ignore[union-attr]
        else:
            self._leave()

    def expired(self) -> None:
        """The sweep found our deadline past."""
        if self._mode is _HEAD and self._collector is None and not self._draining:
            self._linger()
        elif (self._mode is _HEAD and not self._draining) or (self._mode is _BODY and not self._answer.status):
            self._refuse(BadRequest("the request did not come in time", status=408))
        elif self._mode is _LINGER:
            self._close()
        else:
            self.abort()

    def abort(self) -> None:
        """End the connection now; an answer in progress does not look complete."""
        if self._mode is _TUNNEL:
            self._relay.abort()  # type: ignore[union-attr]
            return
        self._leave()
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def drain(self, code: int | None = None) -> None:
        """End with the answer to the request that is under way, or about to come; an idle connection at once."""
        self._requests_left, self._keep_alive, self._drained = 1, False, code or 0
        if self._mode is _TUNNEL:
            self._relay.drain(code)  # type: ignore[union-attr]
        elif self._mode is _HEAD and self._collector is None and not self._buffer:
            now, kept = self.factory.sweep.now, self.factory.keep_alive_allowance
            self.deadline = min(self.deadline, LAST_CALL + (self.deadline - kept if self._answer.request_id else now))
            if self.deadline <= now:
                self._linger()

    def is_served_by(self, member: object) -> bool:
        """Whether ``member`` is answering its request."""
        return self._exchange is not None and self._exchange.is_with(member)

    # Requests.

    def _advance(self) -> None:
        """Go through what was pipelined, as far as answers are there; then read on."""
        self._advancing = True
        while self._buffer and self._mode is _HEAD and not self._draining:
            data, self._buffer = self._buffer, b""
            self._read_head(data)
        self._advancing = False
        if self._mode is _HEAD and not self._draining:
            self._set_reading(True)

    def _read_head(self, data: bytes) -> None:
        factory = self.factory
        try:
            if self._collector is None:
                if data[0] == 0x0D:
                    data = EMPTY_LINES.sub(b"", data, 1)
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    if data:
                        if self._answer.request_id:  # of the first request, the time runs from the accept
                            self.deadline = factory.sweep.after(factory.timeouts.head)
                        self._collector = factory.collector()
                        self._collector.feed(data)
                    return
                head_bytes, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
            else:
                split = self._collector.feed(data)
                if split is None:
                    return
                self._collector = None
                head_bytes, rest = split
            head = parse_request_head(head_bytes, factory.limits)
            self._request = head
            self._answer.expect(head)
            self._begin(head, rest)
        except HTTPError as error:
            if self._mode is _ANSWER:
                self.failed(error)
            else:
                self._refuse(error)

    def _begin(self, head: RequestHead, rest: bytes) -> None:
        factory, limits = self.factory, self.factory.limits
        self._keep_alive = head.keep_alive
        if self._requests_left is not None:
            self._requests_left -= 1
            self._keep_alive = head.keep_alive and self._requests_left > 0
        if limits.body is not None and head.body > limits.body:
            raise BadRequest(TOO_LARGE, status=413)
        offer = None if RARE.isdisjoint(head.named) else look_at(head)
        whole = 0 <= head.body <= len(rest)
        if whole:
            self._mode = _ANSWER
            self.deadline = NEVER
            if head.body != len(rest):
                self._hold(rest[head.body :])
                rest = rest[: head.body]
        exchange = self._exchange = factory.exchange(self, head, offer, self._identity, self._answer)
        if whole:
            self._answer.received = head.body
            exchange.start(rest, True)
        else:
            self._mode = _BODY
            self._content = Content(head.body, limits)
            self.deadline = factory.sweep.now + factory.body_allowance
            self._set_reading(True)  # what was pipelined is used up, and this wants more
            self._read_body(rest, exchange.start)

    def _read_body(self, data: bytes, send: Callable[[bytes, bool, Sequence[Field]], None] | None = None) -> None:
        content, exchange = self._content, self._exchange
        assert content is not None and exchange is not None
        try:
            piece = content.feed(data)
        except BadRequest as error:
            self._refuse(error)
            return
        self._answer.received += len(piece)
        reader = content.reader
        if reader.ended:
            self._mode = _ANSWER
            self._content = None
            self.deadline = NEVER
            if reader.rest:
                self._hold(reader.rest)
        elif self._reading:
            self.deadline = self.factory.body_deadline(self.deadline, len(piece))
        trailers = forward_trailers(reader.trailers, exchange.head) if reader.trailers else ()
        (send or exchange.send)(piece, reader.ended, trailers)

    def _hold(self, data: bytes) -> None:
        """Keep what belongs to the next requests, and read no more until it is their turn; too much has none."""
        self._set_reading(False)
        if len(self._buffer) + len(data) <= self.factory.limits.pipelined:
            self._buffer += data
        else:
            self._buffer = b""
            self._overrun, self._keep_alive = True, False

    def _set_reading(self, reading: bool) -> None:
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    # ClientSide: what the exchange tells.

    def pause_request(self) -> None:
        if self._mode is _BODY:
            self.deadline = NEVER
            self._set_reading(False)

    def resume_request(self) -> None:
        if self._mode is _BODY:
            self.deadline = self.factory.sweep.now + self.factory.body_allowance
            self._set_reading(True)

    def interim(self, head: ResponseHead) -> None:
        if self._request is not None and self._request.minor == 1:
            self.transport.write(forward_interim(head))

    def answer(
        self, head: ResponseHead, content: bytes, ended: bool, trailers: Sequence[Field], set_cookie: bytes | None
    ) -> None:
        keep_alive = self._keep_alive and self._mode is _ANSWER
        self._keep_alive = self._answer.begin(head, content, ended, trailers, keep_alive, set_cookie)
        if ended:
            self._answered()

    def answer_more(self, content: bytes, ended: bool, trailers: Sequence[Field]) -> None:
        self._answer.go_on(content, ended, trailers)
        if ended:
            self._answered()

    def failed(self, error: HTTPError) -> None:
        if self._answer.status:
            self.abort()
            return
        self._keep_alive = self._keep_alive and self._mode is _ANSWER
        self._answer.refuse(error, keep_alive=self._keep_alive)
        self._answered()

    def switched(
        self, head: ResponseHead, connection: BackendConnection, early: bytes, set_cookie: bytes | None
    ) -> None:
        assert self._exchange is not None
        relay = self._relay = self._answer.switch(self._exchange, head, set_cookie, self.transport, connection)
        self.factory.sweep.forget(self)
        self.factory.connections.discard(self)  # the relay is there for us
        relay.replace(self)
        self._mode = _TUNNEL
        self._exchange = self._request = None
        buffer, self._buffer = self._buffer, b""
        relay.start(from_client=buffer, from_backend=early)
        if self._overrun:
            relay.abort()
        elif self._drained is not None:
            relay.drain(self._drained or None)

    # Ends.

    def _answered(self) -> None:
        """The answer is written: on to the next request, or close."""
        if self.factory.tally is not None or self.factory.record is not None:
            self._answer.record(self._exchange)
        self._exchange = self._request = None
        if not self._keep_alive or self._mode is not _ANSWER:
            self._linger()
            return
        self._mode = _HEAD
        if self._draining:
            self._set_reading(False)
        else:
            self._await_request()

    def _await_request(self) -> None:
        self.deadline = self.factory.sweep.now + self.factory.keep_alive_allowance
        if not self._advancing and (self._buffer or not self._reading):
            self._advance()

    def _refuse(self, error: HTTPError) -> None:
        """A request that is not, or not wholly, understood: where the next one begins is unknown."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
        if self._request is None:
            self._answer.expect(None)
        elif self._answer.status:
            self.abort()
            return
        self._answer.refuse(error, keep_alive=False)
        self._answer.record(exchange)
        self._request = None
        self._linger()

    def _linger(self) -> None:
        """Close so that the client can read the last answer: a close with unread bytes would reset the connection."""
        self._buffer = b""
        self._collector = self._content = None
        if self._ended:
            self._close()
            return
        self._mode = _LINGER
        after = self.factory.sweep.after
        self._linger_until = after(self.factory.timeouts.linger)
        self.deadline = min(self._linger_until, after(QUIET))
        self.transport.unregisterProducer()
        half_close(self.transport)
        self._set_reading(True)

    def _close(self) -> None:
        """Read no more, and be gone when the client has taken all; it has no longer for that than for any answer."""
        self._leave()
        self.deadline = self.factory.sweep.after(self.factory.timeouts.send)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _leave(self) -> None:
        """Forget the request in progress: the client is gone, or as good as gone."""
        self._mode = _CLOSED
        self.deadline = NEVER
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
            self._answer.left(exchange)
        self._request = None
