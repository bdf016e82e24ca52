"""HTTP for the admin API: twisted.web's parser and connections, and nothing of its pages, logs and tracebacks. Floor 5.

Every answer is JSON, mistakes by RFC 9457 (``application/problem+json``), but for the page and the metrics. What comes
is bounded before it is looked at: connections, bodies, and the time in which they come.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http

from stickyproxy.addresses import peer_of
from stickyproxy.control.door import Door
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.routes import TOML, Call, Content, Problem, Route, RouteTable
from stickyproxy.control.writing import pieces

#: Bytes of a body, of JSON and of a configuration; more is 413.
LARGEST, LARGEST_TOML = 64 * 1024, 4 * 1024 * 1024
#: Bytes of a body that are read and thrown away for the sake of the answer.
PATIENCE = 16 * 1024 * 1024
#: Connections at a time; seconds that one may be silent, or take for a whole request; and for taking an answer.
CONNECTIONS, IDLE, SLOW = 256, 60.0, 300.0
_STATUS = {"unknown": 404, "invalid": 422, "conflict": 409, "unavailable": 503}
_ALWAYS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)
#: What the page may do: run and show what comes from here, and ask here.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Pause = Callable[[], Awaitable[object]]


class Stream:
    """An answer that goes on until its client ends it (``request.notifyFinish``); ``start`` begins to write."""

    def __init__(self, kind: str, start: Callable[[Request], object]) -> None:
        self.kind = kind
        self.start = start


class Request(http.Request):
    """One request."""

    _log = Logger()
    channel: Any
    content: Any
    _size = 0
    _kept = LARGEST

    def __init__(self, channel: Any, site: Site) -> None:
        super().__init__(channel)
        self.site = site
        self._gone = False

    # What comes.

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()  # never a file
        if length != 0 and self.site.door.knows(self._fields):
            self._kept = LARGEST_TOML
        if length is not None and length > PATIENCE:
            self._size = length
            self.channel.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > PATIENCE:
            self.channel.loseConnection()
        elif self._size <= self._kept:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._size > PATIENCE:
            return
        self.channel.answering = True
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self.query = path.partition(b"?")
        self.notifyFinish().addErrback(self._lost)
        Deferred.fromCoroutine(self._process()).addErrback(self._failed)

    def _lost(self, _: Failure) -> None:
        self._gone = True

    # What goes.

    async def _process(self) -> None:
        await self.channel.flowing()
        if self._gone:
            return
        try:
            found = await self._answer()
        except Problem as problem:
            self._tell(problem)
        except Refusal as refusal:
            more = {"mistakes": refusal.mistakes} if refusal.mistakes else {}
            self._tell(Problem(_STATUS[refusal.kind], refusal.text, more=more))
        else:
            await self._write(found)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("The admin API could not answer {path}", failure, path=self.path)
        if not self._gone and not self.startedWriting:
            self._tell(Problem(500, "this is a mistake of the proxy; its log has more"))

    async def _answer(self) -> Any:
        fields = self._fields
        local_socket = not hasattr(self.getHost(), "host")
        self.site.door.check_site(fields, self.isSecure(), local_socket)
        method = self.method.decode("ascii", "replace")
        if method == "OPTIONS":
            raise self.site.table.options(self.path)
        route, names = self.site.table.find(method, self.path)
        address = peer_of(self.client).host
        by = "" if route.free else self.site.door.who(fields, address, changes=route.changes, local=self.site.local)
        accept = b", ".join(self._fields(b"accept")).decode("ascii", "replace")
        call = Call(names, query_of(route, self.query), self._body(route), by, accept)
        return await route.answer(call)

    def _fields(self, name: bytes) -> list[bytes]:
        return list(self.requestHeaders.getRawHeaders(name) or ())

    def _body(self, route: Route) -> Any:
        """The content as ``route`` takes it. Raises ``Problem``."""
        if self._size > (self._kept if route.takes is TOML else LARGEST):
            raise Problem(413, "the body is too large")
        data = self.content.getvalue()
        if route.takes is None:
            if data:
                raise Problem(400, "no body is expected")
            return None
        return body_of(route, data, (self._fields(b"content-type") or [b""])[0])

    def _tell(self, problem: Problem) -> None:
        phrase = HTTPStatus(problem.status).phrase
        about = {"type": "about:blank", "title": phrase, "status": problem.status, "detail": problem.detail}
        data = b"" if problem.status == 204 else json.dumps({**about, **problem.more}).encode() + b"\n"
        self._head("application/problem+json", problem.fields, problem.status)
        if data:
            self.setHeader(b"Content-Length", b"%d" % len(data))
        self.write(data)
        self.finish()

    def _head(self, kind: str, fields: Iterable[tuple[str, str]] = (), status: int = 200) -> None:
        self.setResponseCode(status, HTTPStatus(status).phrase.encode())
        self.setHeader(b"Date", http.datetimeToString())
        for name, value in (*_ALWAYS, ("Content-Type", kind), *fields):
            self.setHeader(name.encode(), value.encode())

    async def _write(self, found: Any) -> None:
        if isinstance(found, Stream):
            self._head(found.kind)
            found.start(self)
            return
        if isinstance(found, Content):
            self._head(found.type, found.fields)
            parts = [found.data]
        else:
            self._head("application/json")
            parts = [part async for part in pieces(found, self.site.pause)]
            parts.append(b"\n")
        if self._gone:
            return
        self.setHeader(b"Content-Length", b"%d" % sum(map(len, parts)))
        self.write(b"".join(parts))
        self.finish()


def query_of(route: Route, query: bytes) -> dict[str, str]:
    """The parameters of a query, each known and there once. Raises ``Problem``."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise Problem(400, "the query is malformed") from None
    for name, value in pairs:
        if name not in route.query:
            known = ", ".join(route.query)
            raise Problem(422, f"unknown parameter; expected one of: {known}" if known else "no parameter is expected")
        if len(value) > route.query[name].longest:
            raise Problem(422, f"the parameter {name} is too long")
    if len(dict(pairs)) < len(pairs):
        raise Problem(422, "a parameter is there twice")
    return dict(pairs)


def body_of(route: Route, data: bytes, declared: bytes) -> Any:
    """The JSON object or the TOML text of a body. Raises ``Problem``."""
    kind = declared.partition(b";")[0].strip().lower()
    wanted = (b"application/toml", b"text/plain") if route.takes is TOML else (b"application/json",)
    if kind not in wanted:
        names = b" or ".join(wanted).decode()
        raise Problem(415, f"expected a body of {names}", fields=[("Accept", names.replace(" or", ","))])
    try:
        if route.takes is TOML:
            return data.decode()
        body = json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        what = "UTF-8" if isinstance(error, UnicodeDecodeError) else "JSON"
        raise Problem(400, f"the body is not {what}") from None
    if not isinstance(body, dict):
        raise Problem(422, "expected a JSON object")
    return body


def _refuse(constant: str) -> None:
    raise ValueError(constant)


class _Channel(http.HTTPChannel):
    """A connection that its site knows of. Who does not take his answers gets no others, and is not read from."""

    site: Site
    transport: Any
    answering = False  #: a request is there; else nothing is lost but time with this connection
    _begun = False  # a request has, since when its time runs
    _late: IDelayedCall | None = None  # until when what was written is to be taken, if that is too much already

    def connectionMade(self) -> None:
        self.site.channels[self] = None
        self._flow: list[Deferred[None]] = []
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.pop(self, None)
        super().connectionLost(reason)
        self._flows()

    def resetTimeout(self) -> None:  # noqa: N802 - Twisted's name
        """A request has its time as a whole, from its first byte: it does not begin anew with each."""
        if not self._begun:
            self._begun = True
            super().resetTimeout()

    def requestDone(self, request: http.Request) -> None:  # noqa: N802 - Twisted's name
        self._begun = self.answering = False
        super().requestDone(request)

    async def flowing(self) -> None:
        """As soon as there is room for an answer, or nobody to have it."""
        if self._late is not None:
            self._flow.append(Deferred())
            await self._flow[-1]

    def pauseProducing(self) -> None:
        super().pauseProducing()
        self._networkProducer.pauseProducing()  # also while a request is answered: what comes would be kept
        if self._late is None:
            self._late = self.callLater(SLOW, self.drop)

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._networkProducer.resumeProducing()
        self._flows()

    def _flows(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()
        flow, self._flow = self._flow, []
        for each in flow:
            each.callback(None)

    def end(self) -> None:
        """Take no other request. An answer that has begun and not ended is a stream, which would go on for ever."""
        if not self.answering:
            self.loseConnection()
        elif self.requests and self.requests[0].startedWriting:
            self.drop()
        else:
            self.persistent = False

    def drop(self) -> None:
        """End it at once."""
        self.site.channels.pop(self, None)
        self.transport.abortConnection()


class Site(http.HTTPFactory):
    """What the connections of one listener share. ``local``: only this machine reaches it, so that reading is open."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # HTTP/1.1 alone

    def __init__(self, table: RouteTable, door: Door, clock: IReactorTime, pause: Pause, *, local: bool) -> None:
        super().__init__(timeout=IDLE, reactor=clock)
        self.table = table
        self.door = door
        self.pause = pause
        self.local = local
        self.channels: dict[_Channel, None] = {}  #: in the order in which they came

    def close(self) -> None:
        """Nobody is served here any more: each connection ends at once, or with the answer that is under way."""
        for channel in list(self.channels):
            channel.end()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self.channels) >= CONNECTIONS:  # nobody keeps operators out by being there
            waiting = next((channel for channel in self.channels if not channel.answering), None)
            if waiting is None:
                return None
            waiting.drop()
        channel: Any = super().buildProtocol(addr)
        channel.site = self
        channel.requestFactory = lambda channel, queued=0: Request(channel, self)
        return channel

    def startFactory(self) -> None:
        """There is no log to be opened."""

    def log(self, request: http.Request) -> None:
        """What is changed is logged where it is changed."""
