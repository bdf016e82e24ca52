"""HTTP/1.1 to clients: reads requests, has them exchanged, writes answers in order. Floor 4. RFC 9110, RFC 9112.

One request at a time: what a client pipelines waits, unread beyond one read of the transport, until the answer before
it is written. What is read and what is refused is decided by ``sansio.http1`` and ``sansio.body``, who answers by
``exchange``, what both sides see by ``sansio.forwarding``; this moves the bytes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.addresses import peer_of, set_no_delay
from stickyproxy.errors import BadRequest, HTTPError
from stickyproxy.exchange.connection import BackendConnection
from stickyproxy.exchange.exchange import Exchange
from stickyproxy.model import Field, Peer, RequestHead, ResponseHead
from stickyproxy.relay import Relay, half_close
from stickyproxy.sansio.forwarding import check_hops, forward_interim, forward_request, forward_trailers
from stickyproxy.sansio.http1 import HeadCollector, parse_request_head
from stickyproxy.sansio.proxyprotocol import proxy_header
from stickyproxy.sansio.upgrade import Offer, check_request, is_upgrade
from stickyproxy.sweep import NEVER
from stickyproxy.wires.http.answers import AnswerWriter
from stickyproxy.wires.http.content import TOO_LARGE, Content

if TYPE_CHECKING:
    from stickyproxy.wires.http.factory import HTTPFrontendFactory

#: Seconds that a client has to read the last answer of a connection, while what it still sends is thrown away.
LINGER = 30.0

#: Fields that are to be looked at before a request is passed on.
_RARE = frozenset((b"upgrade", b"sec-websocket-key", b"max-forwards"))
_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")  # before a request line: RFC 9112 section 2.2


class _Mode(enum.Enum):
    """What the client's bytes are."""

    HEAD = "head"  # a request's head, or nothing yet
    BODY = "body"  # the body of the request that is being exchanged
    ANSWER = "answer"  # the next requests: this one is whole, its answer is not
    TUNNEL = "tunnel"  # the relay's
    LINGER = "linger"  # thrown away: the last answer is written
    CLOSED = "closed"


_HEAD, _BODY, _ANSWER, _TUNNEL, _LINGER, _CLOSED = _Mode  # a look-up in an enumeration costs ten times one in a module


@implementer(IPushProducer, IHalfCloseableProtocol)
class HTTPFrontend(Protocol):
    """One client's connection. ``peer`` is who it is, which behind a PROXY header is not ``transport.getPeer()``."""

    transport: Any  #: ITCPTransport, IConsumer and IPushProducer
    factory: HTTPFrontendFactory

    def __init__(self, factory: HTTPFrontendFactory, peer: Peer) -> None:
        self.factory = factory
        self.peer = peer
        self.deadline = NEVER
        self._mode = _HEAD
        self._buffer = b""  # what came behind the request in progress
        self._advancing = False
        self._reading = True
        self._draining = False  # the client has not yet taken what was written
        self._ended = False  # the client will send no more
        self._collector: HeadCollector | None = None
        self._content: Content | None = None
        self._request: RequestHead | None = None
        self._exchange: Exchange | None = None
        self._relay: Relay | None = None
        self._keep_alive = True

    # Twisted's side.

    def connectionMade(self) -> None:
        factory = self.factory
        factory.connections.add(self)
        set_no_delay(self.transport)
        self.transport.registerProducer(self, True)
        self._identity = factory.identify(self.peer, peer_of(self.transport.getHost()))
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
        if self._mode is _HEAD and self._collector is None:
            self._linger()
        elif (self._mode is _HEAD or self._mode is _BODY) and not self._answer.status:
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
                    data = _EMPTY_LINES.sub(b"", data, 1)
                end = data.find(b"\r\n\r\n") + 4
                if end < 4:
                    if data:
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
                if head_bytes[0] == 0x0D:  # an empty line came in two pieces
                    self._buffer = head_bytes + rest + self._buffer
                    return
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
        self._keep_alive = head.keep_alive
        limit = self.factory.limits.body
        if limit is not None and head.body > limit:
            raise BadRequest(TOO_LARGE, status=413)
        offer = None
        if not _RARE.isdisjoint(head.named):
            check_hops(head)
            offer = check_request(head) if is_upgrade(head) else None
        whole = 0 <= head.body <= len(rest)
        if whole:
            self._mode = _ANSWER
            self.deadline = NEVER
            if head.body != len(rest):
                self._hold(rest[head.body :])
                rest = rest[: head.body]
        exchange = self._exchange = self._exchange_of(head, offer)
        if whole:
            exchange.start(rest, True)
        else:
            self._mode = _BODY
            self._content = Content(head.body, limit)
            self.deadline = self.factory.sweep.now + self.factory.body_allowance
            self._read_body(rest, exchange.start)

    def _exchange_of(self, head: RequestHead, offer: Offer | None) -> Exchange:
        factory, identity = self.factory, self._identity
        cluster = factory.route(head)
        data = forward_request(head, identity, cluster.affinity.cookie, self._answer.request_id, offer is not None)
        version = cluster.send_proxy_protocol
        preface = proxy_header(version, self.peer, peer_of(self.transport.getHost())) if version else b""
        return Exchange(cluster, self, identity.arrival(head), head, data, factory.sweep, offer, preface)

    def _read_body(self, data: bytes, send: Callable[[bytes, bool, Sequence[Field]], None] | None = None) -> None:
        content, exchange = self._content, self._exchange
        assert content is not None and exchange is not None
        try:
            piece = content.feed(data)
        except BadRequest as error:
            self._refuse(error)
            return
        reader = content.reader
        if reader.ended:
            self._mode = _ANSWER
            self._content = None
            self.deadline = NEVER
            if reader.rest:
                self._hold(reader.rest)
        elif self._reading:
            self.deadline = self.factory.sweep.now + self.factory.body_allowance
        (send or exchange.send)(piece, reader.ended, forward_trailers(reader.trailers) if reader.trailers else ())

    def _hold(self, data: bytes) -> None:
        """Keep what belongs to the next request, and read no more until it is its turn."""
        self._buffer += data
        self._set_reading(False)

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
        exchange, factory = self._exchange, self.factory
        assert exchange is not None
        ended = self._answer.switch(exchange, head, set_cookie)
        self.transport.unregisterProducer()
        factory.sweep.forget(self)
        idle, sweep = factory.timeouts.tunnel, factory.sweep
        relay = self._relay = Relay(self.transport, connection.transport, idle=idle, sweep=sweep, ended=ended)
        self._mode = _TUNNEL
        self._exchange = self._request = None
        connection.become_tunnel(relay)
        buffer, self._buffer = self._buffer, b""
        relay.start(from_client=buffer, from_backend=early)

    # Ends.

    def _answered(self) -> None:
        """The answer is written: on to the next request, or close."""
        if self.factory.record is not None:
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
        self.deadline = self.factory.sweep.after(LINGER)
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
