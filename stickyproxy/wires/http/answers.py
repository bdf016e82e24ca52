"""What goes out to a client, and what the access log says of it. Floor 4. RFC 9112 section 6 for the framing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from stickyproxy.errors import HTTPError
from stickyproxy.exchange.connection import BackendConnection
from stickyproxy.exchange.exchange import Exchange
from stickyproxy.member import Member
from stickyproxy.model import (
    CHUNKED,
    UNTIL_CLOSE,
    Field,
    HTTPEntry,
    Outcome,
    RelayEntry,
    RequestHead,
    ResponseHead,
    Trace,
)
from stickyproxy.relay import Relay, RelayEnd
from stickyproxy.sansio.body import chunk, last_chunk
from stickyproxy.sansio.forwarding import error_page, forward_answer, forward_trailers, request_id_of
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.upgrade import reserved_bits
from stickyproxy.tally import BATCH
from stickyproxy.tunnel import WebSocketTunnel

if TYPE_CHECKING:
    from stickyproxy.wires.http.factory import HTTPFrontendFactory

#: nginx's word for a request whose client left before it was answered; only the access log shows it.
CLIENT_LEFT = 499
_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much


class AnswerWriter:
    """Writes the answers of one connection, one after another. ``status`` is 0 until the one in progress has begun."""

    __slots__ = (
        "_began",
        "_chunked",
        "_factory",
        "_identity",
        "_request",
        "_sent",
        "_write",
        "received",
        "request_id",
        "status",
        "trace",
    )

    def __init__(self, factory: HTTPFrontendFactory, transport: Any, identity: Identity) -> None:
        self._factory = factory
        self._write = factory.sweep.turn.writer(transport)
        self._identity = identity
        self._request: RequestHead | None = None
        self._chunked = False
        self._sent = 0
        self._began = 0.0
        self.request_id = b""  #: of the request
        self.trace: Trace | None = None  #: of the request, where traces are followed
        self.received = 0  #: bytes of its content
        self.status = 0

    def expect(self, request: RequestHead | None) -> None:
        """The next answer is to ``request``, or to something that could not be read."""
        factory = self._factory
        self._request = request
        self.status = self._sent = self.received = 0
        self.request_id = factory.request_id()
        if self._identity.trusted and request is not None:
            self.request_id = request_id_of(request, self._identity, self.request_id)
        tracing = factory.tracing
        self.trace = None
        if tracing is not None and request is not None:
            self.trace = tracing.trace(request, trusted=self._identity.trusted)
        self._began = factory.now() if factory.tally is not None or factory.record is not None else 0.0

    def begin(
        self,
        head: ResponseHead,
        content: bytes,
        ended: bool,
        trailers: Sequence[Field],
        keep_alive: bool,
        set_cookie: bytes | None,
    ) -> bool:
        """Write an answer's head and what there is of its content. Whether the connection can go on after it."""
        request = self._request
        assert request is not None
        body = head.body
        if body < 0:
            body = CHUNKED if request.minor else UNTIL_CLOSE
            keep_alive = keep_alive and body == CHUNKED
        self._chunked = body == CHUNKED
        self.status = head.status
        date = b"" if b"date" in head.named else self._factory.date()
        head_only = request.method == b"HEAD"
        out = forward_answer(head, body, request.minor, keep_alive, set_cookie, date, head_only)
        if content:
            self._sent += len(content)
            out += chunk(content) if self._chunked else content
        if ended and self._chunked:
            out += last_chunk(forward_trailers(trailers) if trailers else ())
        self._write(out)
        return keep_alive

    def go_on(self, content: bytes, ended: bool, trailers: Sequence[Field]) -> None:
        """Write more content."""
        self._sent += len(content)
        if self._chunked:
            content = chunk(content) if content else b""
            if ended:
                content += last_chunk(forward_trailers(trailers) if trailers else ())
        if content:
            self._write(content)

    def refuse(self, error: HTTPError, *, keep_alive: bool) -> None:
        """Write an answer of our own."""
        self.status = error.status
        head_only = self._request is not None and self._request.method == b"HEAD"
        page = error_page(error, keep_alive=keep_alive, head_only=head_only, date=self._factory.date())
        self._sent = len(page) - page.index(b"\r\n\r\n") - 4
        self._write(page)

    def switch(
        self,
        exchange: Exchange,
        head: ResponseHead,
        set_cookie: bytes | None,
        transport: Any,
        connection: BackendConnection,
    ) -> Relay:
        """Write a verified 101, and join the two connections. The end of the tunnel tells the log and the backend."""
        self._write_101(head, set_cookie)
        self.record(exchange)
        request, self._request = self._request, None  # an idle tunnel costs as little memory as it can
        assert request is not None and exchange.choice is not None
        factory, member = self._factory, exchange.choice.candidate
        ended: Callable[[RelayEnd], None] = member.tunnel_ended
        if factory.record is not None:
            client, served_by = self._identity.client(request), _served_by(exchange)
            request = request._replace(plain=[], named={})
            ended = partial(_tunnel_ended, factory, client, served_by, member, request, self.request_id, self.trace)
        transport.unregisterProducer()
        idle, sweep, among = factory.timeouts.tunnel, factory.sweep, [factory.connections, member.tunnels]
        if factory.tally is not None:
            relays = factory.tally.relay(member.cluster, member.id, "websocket")
            ended = relays.watch(ended)
            among.append(relays.open)
        relay = WebSocketTunnel(
            transport,
            connection.transport,
            idle=idle,
            sweep=sweep,
            ended=ended,
            among=tuple(among),
            reserved=reserved_bits(head),
            care=factory.websocket,
        )
        connection.become_tunnel(relay)
        return relay

    def _write_101(self, head: ResponseHead, set_cookie: bytes | None) -> None:
        self.status = 101
        date = b"" if b"date" in head.named else self._factory.date()
        self._write(forward_answer(head, 0, 1, True, set_cookie, date, upgrade=True))

    def left(self, exchange: Exchange) -> None:
        """The client left before the answer was over."""
        self.status = self.status or CLIENT_LEFT
        self.record(exchange)

    def record(self, exchange: Exchange | None) -> None:
        """Tell who counts, and the access log, that the answer is over."""
        factory, request = self._factory, self._request
        tally, record = factory.tally, factory.record
        if tally is None and record is None:
            return
        ended = factory.now()
        duration = ended - self._began
        if tally is not None:
            pending = tally.pending
            who = None if exchange is None else exchange.choice or exchange.cluster
            answers = pending[who, self.status]
            answers.append((self.received, self._sent, duration))
            if len(answers) >= BATCH or len(pending) >= BATCH:
                tally.flush()
        if record is not None:
            client = self._identity.client(request) if exchange is None else exchange.arrival.client
            told = client, request, self.status, self._sent, ended, duration
            record(_new(HTTPEntry, (*told, *_served_by(exchange), self.request_id, factory.name, self.trace)))


def _tunnel_ended(
    factory: HTTPFrontendFactory,
    client: str,
    served_by: tuple[str, str, Outcome],
    member: Member,
    request: RequestHead,
    request_id: bytes,
    trace: Trace | None,
    end: RelayEnd,
) -> None:
    member.tunnel_ended(end)
    if factory.record is not None:
        received, sent, seconds, first, reason, code, messages_received, messages_sent = end
        now, name = factory.now(), factory.name
        entry = RelayEntry(client, "websocket", received, sent, now, seconds, *served_by, first, request, request_id)
        told = entry._replace(frontend=name, code=code, reason=reason.value, trace=trace)
        if code is not None or messages_received or messages_sent:  # else nobody has counted them
            told = told._replace(messages_received=messages_received, messages_sent=messages_sent)
        factory.record(told)


def _served_by(exchange: Exchange | None) -> tuple[str, str, Outcome]:
    """For the log: cluster, backend, outcome."""
    if exchange is None:
        return "", "", Outcome.NONE
    choice = exchange.choice
    if choice is None:
        return exchange.cluster.name, "", Outcome.NONE
    return exchange.cluster.name, choice.candidate.id, choice.outcome
