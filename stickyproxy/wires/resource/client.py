"""A request of twisted.web as the client's side of an exchange. Floor 4. RFC 9110, RFC 9112.

The head is written anew as twisted.web has read it and judged as that of any other frontend (``sansio.http1``), so that
backends never see what another face would refuse. The answer is what ``sansio.forwarding`` makes of it; its framing is
twisted.web's, which knows no trailers: they are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from zope.interface import implementer

from stickyproxy.addresses import connection_of, peer_of
from stickyproxy.errors import BadRequest, HTTPError
from stickyproxy.exchange.connection import BackendConnection
from stickyproxy.exchange.exchange import Exchange
from stickyproxy.model import CHUNKED, Field, RequestHead, ResponseHead
from stickyproxy.sansio.forwarding import (
    check_hops,
    error_page,
    forward_answer,
    forward_interim,
    forward_request,
    request_id_of,
)
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.proxyprotocol import proxy_header
from stickyproxy.sansio.upgrade import check_request, is_upgrade, reserved_bits
from stickyproxy.sweep import NEVER
from stickyproxy.wires.resource.request import AffinityRequest, abort, close_afterwards
from stickyproxy.wires.resource.tunnel import Seat, Tunnel, find_seat

if TYPE_CHECKING:
    from stickyproxy.wires.resource.resource import AffinityResource

#: Bytes of kept content that are read and sent at once.
PIECE = 64 * 1024
#: Fields in an answer of ours that are twisted.web's to say.
_FRAMING = frozenset(((b"transfer-encoding", b"chunked"), (b"connection", b"keep-alive"), (b"connection", b"close")))


class _KeptContent:
    """Sends on what twisted.web has kept, as fast as it is taken."""

    def __init__(self, content: BinaryIO, size: int, send: Callable[[bytes, bool], object]) -> None:
        self._content = content
        self._left = size
        self._send = send
        self._paused = self._sending = False

    def read(self) -> tuple[bytes, bool]:
        """The next piece, and whether it is the last."""
        piece = self._content.read(PIECE)
        self._left -= len(piece)
        return piece, self._left <= 0

    def go_on(self) -> None:
        if not self._sending:
            self._sending = True
            while self._left > 0 and not self._paused:
                self._send(*self.read())
            self._sending = False

    def pause_content(self) -> None:
        self._paused = True

    def resume_content(self) -> None:
        self._paused = False
        self.go_on()

    def drop(self) -> None:
        self._left = 0


@implementer(IPushProducer)
class WebClient:
    """One request to ``resource``. Answers it, whatever happens."""

    def __init__(self, resource: AffinityResource, request: Any) -> None:
        self.deadline = NEVER
        self._resource = resource
        self._request = request
        self._exchange: Exchange | None = None
        self._content: AffinityRequest | _KeptContent | None = None
        self._received = 0
        self._seat: Seat | None = None

    # The request.

    def begin(self) -> None:
        """Judge the request and have it exchanged."""
        try:
            self._start()
        except HTTPError as error:
            close_afterwards(self._request)
            self.failed(error)

    def _start(self) -> None:
        resource, request = self._resource, self._request
        cluster = resource.cluster
        streamed = isinstance(request, AffinityRequest) and request.streams
        size = 0 if streamed else request.content.seek(0, 2)
        head = self._judge(size)
        check_hops(head)
        peer, host = peer_of(request.getClientAddress()), peer_of(request.getHost())
        connection = connection_of(request.channel.transport)
        identity = Identity(peer, host.port, request.isSecure(), resource.trusted, connection=connection)
        offer = check_request(head) if head.upgrade is not None and is_upgrade(head) else None
        if offer is not None:
            self._seat = find_seat(request.channel)
        data = forward_request(
            head,
            identity,
            hide=cluster.hide,
            request_id=request_id_of(head, identity, resource.request_id()),
            upgrade=offer is not None,
        )
        arrival = identity.arrival(head)
        preface = b""
        if cluster.send_proxy_protocol:
            preface = proxy_header(cluster.send_proxy_protocol, peer, host)
        exchange = self._exchange = Exchange(
            cluster, self, arrival, head, data, resource.sweep, offer=offer, preface=preface
        )
        request.notifyFinish().addErrback(self._lost)
        if streamed:
            self._content = request
            request.stream_to(self._send)
            exchange.start(b"", False)
        else:
            request.content.seek(0)
            kept = self._content = _KeptContent(request.content, size, exchange.send)
            exchange.start(*kept.read())
            kept.go_on()

    def _judge(self, size: int) -> RequestHead:
        """The head of the request. ``size`` is that of its content, where it has come already. Raises ``HTTPError``."""
        request, limits = self._request, self._resource.limits
        http2 = request.clientproto == b"HTTP/2"
        lines = [b"%b %b %b" % (request.method, request.uri, b"HTTP/1.1" if http2 else request.clientproto)]
        fields = request.requestHeaders
        for name, values in fields.getAllRawHeaders():
            if http2 and name.lower() == b"cookie":  # RFC 9113 section 8.2.3
                values = [b"; ".join(values)]
            # twisted.web has sent the 100 already.
            if name.lower() != b"expect" or [value.lower() for value in values] != [b"100-continue"]:
                lines += [b"%b: %b" % (name, value) for value in values]
        if size and not (fields.hasHeader(b"content-length") or fields.hasHeader(b"transfer-encoding")):
            lines.append(b"Content-Length: %d" % size)
        head = parse_request_head(b"\r\n".join(lines) + b"\r\n\r\n", limits)
        if limits.body is not None and max(head.body, size) > limits.body:
            raise BadRequest("the content is larger than allowed", status=413)
        if self._resource.strip_prefix and head.target != b"*":
            path, mark, query = head.target.partition(b"?")
            rest = path.split(b"/")[1 + len(request.prepath) :]
            head = head._replace(target=b"/" + b"/".join(rest) + mark + query)
        return head

    def _send(self, data: bytes, ended: bool) -> None:
        """More of a streamed content."""
        assert self._exchange is not None
        limit = self._resource.limits.body
        self._received += len(data)
        if limit is not None and self._received > limit:
            self._exchange.client_lost()
            self.failed(BadRequest("the content is larger than allowed", status=413))
        else:
            self._exchange.send(data, ended)

    def _lost(self, _: Failure) -> None:
        """The client is gone."""
        self._over()
        assert self._exchange is not None
        self._exchange.client_lost()

    # IPushProducer: the answer, as the channel sees it.

    def pauseProducing(self) -> None:
        """The client does not take what we write."""
        if self._exchange is not None:
            self.deadline = self._resource.sweep.after(self._resource.send_timeout)
            self._resource.sweep.watch(self)
            self._exchange.pause_answer()

    def resumeProducing(self) -> None:
        if self._exchange is not None:
            self.deadline = NEVER
            self._exchange.resume_answer()

    def stopProducing(self) -> None:
        """The connection is lost; ``_lost`` follows."""

    def expired(self) -> None:
        """The sweep's word: the client takes nothing of its answer."""
        abort(self._request)

    # ClientSide: what the exchange tells.

    def pause_request(self) -> None:
        if self._content is not None:
            self._content.pause_content()

    def resume_request(self) -> None:
        if self._content is not None:
            self._content.resume_content()

    def interim(self, head: ResponseHead) -> None:
        """1xx, which twisted.web has no word for. The 100 was its own."""
        request = self._request
        if head.status != 100 and isinstance(request.channel, HTTPChannel) and request.clientproto == b"HTTP/1.1":
            request.channel.write(forward_interim(head))

    def answer(
        self, head: ResponseHead, content: bytes, ended: bool, trailers: Sequence[Field], set_cookie: bytes | None
    ) -> None:
        assert self._exchange is not None
        request = self._request
        self._set_head(
            forward_answer(
                head,
                body=head.body if head.body >= 0 else CHUNKED,
                client_minor=1,
                keep_alive=True,
                set_cookie=set_cookie,
                date=datetimeToString(),
                head_only=request.method == b"HEAD",
            )
        )
        if not ended:
            request.registerProducer(self, True)
        self.answer_more(content, ended, trailers)

    def answer_more(self, content: bytes, ended: bool, trailers: Sequence[Field]) -> None:
        self._request.write(content)
        if ended:
            self._finish()

    def failed(self, error: HTTPError) -> None:
        request = self._request
        if request.startedWriting:
            self._over()
            abort(request)
            return
        page = error_page(error, keep_alive=True, head_only=request.method == b"HEAD", date=datetimeToString())
        head, _, content = page.partition(b"\r\n\r\n")
        self._set_head(head + b"\r\n\r\n")
        request.write(content)
        self._finish()

    def switched(
        self, head: ResponseHead, connection: BackendConnection, early: bytes, set_cookie: bytes | None
    ) -> None:
        exchange, resource, request = self._exchange, self._resource, self._request
        assert exchange is not None and self._seat is not None
        request.setResponseCode(101)
        out = forward_answer(
            head,
            body=0,
            client_minor=1,
            keep_alive=True,
            set_cookie=set_cookie,
            date=datetimeToString(),
            upgrade=True,
        )
        self._over()
        tunnel = Tunnel(self._seat, exchange, resource)
        tunnel.begin(request, out, connection, early, reserved_bits(head))

    # Ends.

    def _set_head(self, head: bytes) -> None:
        """Give the request a complete head of ours, without framing. What others have set before stays."""
        request = self._request
        headers = request.responseHeaders
        first, *lines = head[:-4].split(b"\r\n")
        request.setResponseCode(int(first[9:12]), first[13:])
        request.defaultContentType = None
        headers.removeHeader(b"server")
        seen = {b"connection"}
        for line in lines:
            name, _, value = line.partition(b": ")
            lower = name.lower()
            if lower == b"set-cookie":  # Request.write would put its own in the place of ours
                request.cookies.append(value)
            elif (lower, value) not in _FRAMING:
                if lower not in seen:
                    seen.add(lower)
                    headers.removeHeader(name)
                headers.addRawHeader(name, value)

    def _finish(self) -> None:
        self._over()
        self._request.unregisterProducer()
        self._request.finish()

    def _over(self) -> None:
        self._resource.sweep.forget(self)
        if isinstance(self._content, _KeptContent):
            self._content.drop()
