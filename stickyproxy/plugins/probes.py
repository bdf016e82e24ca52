"""The probes that come with stickyproxy. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

import re
from random import Random
from typing import Annotated, Any, Literal

import attrs
from zope.interface import implementer

from stickyproxy.config.units import Kind, Place, Size, Told, expect_text, found
from stickyproxy.errors import ProbeFailed
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IProbe
from stickyproxy.sansio.patterns import bounded
from stickyproxy.sansio.probing import (
    CLOSE,
    PING,
    AnswerJudge,
    HeadReader,
    PongReader,
    Statuses,
    check_switch,
    client_frame,
    http_request,
    make_offer,
    websocket_request,
)

STATUSES = 'status codes such as "200-399" or "200, 204"'
TARGET = 'a path that begins with "/"'
HOST = "a host name, perhaps with a port"
ORIGIN = 'an origin such as "https://example.org"'


def _statuses(value: object, _: Place) -> Statuses:
    text = str(value) if type(value) is int else expect_text(value, STATUSES)
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([2-5][0-9]{2})(?:\s*-\s*([2-5][0-9]{2}))?\s*", part)
        if match is None or (match[2] or match[1]) < match[1]:
            raise ValueError(f'expected {STATUSES}, found "{text}"')
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return tuple(ranges)


def _write_statuses(statuses: Statuses) -> str:
    return ", ".join(f"{first}-{last}" if first < last else f"{first}" for first, last in statuses)


def _matching(shape: str, expected: str) -> Kind:
    """The kind of a text without anything that would end a line."""

    def read(value: object, _: Place) -> str:
        text = expect_text(value, expected)
        if not re.fullmatch(shape, text):
            raise ValueError(f'expected {expected}, found "{text}"')
        return text

    return Kind(expected, read)


def _pattern(value: object, _: Place) -> re.Pattern[bytes]:
    if not isinstance(value, str):
        raise ValueError(f"expected a regular expression, found {found(value)}")
    return bounded(value)


def _write_pattern(pattern: re.Pattern[bytes]) -> str:
    return pattern.pattern.decode()


StatusCodes = Annotated[Statuses, Kind(STATUSES, _statuses, _write_statuses)]
Target = Annotated[str, _matching(r"/[!\"$-~]*", TARGET)]
Host = Annotated[str | None, _matching(r"[A-Za-z0-9_.:\[\]-]+", HOST)]
Origin = Annotated[str | None, _matching(r"[!-~]+", ORIGIN)]
Token = Annotated[str | None, _matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "the name of a subprotocol")]
Pattern = Annotated[re.Pattern[bytes] | None, Kind("a regular expression", _pattern, _write_pattern)]


@implementer(IProbe)
class TCPProbe:
    """It takes a connection. On TLS it also proves who it is. Nothing is sent."""

    async def probe(self, backend: Any) -> None:
        await backend.connect()


@implementer(IProbe)
@attrs.frozen
class HTTPProbe:
    """A request, whose answer is judged."""

    path: str
    method: str
    host: str | None
    expect: Statuses
    body: re.Pattern[bytes] | None
    body_bytes: int

    async def probe(self, backend: Any) -> None:
        connection = await backend.connect()
        connection.write(http_request(self.method, self.path, self.host or _authority(backend.host)))
        judge = AnswerJudge(self.method.encode(), self.expect, self.body, self.body_bytes)
        while data := await connection.read():
            if judge.feed(data):
                return
        judge.ended()


@implementer(IProbe)
@attrs.frozen
class WebSocketProbe:
    """An opening handshake, verified, and perhaps a ping that wants its pong."""

    random: Random
    path: str
    host: str | None
    origin: str | None
    protocol: str | None
    ping: bool

    async def probe(self, backend: Any) -> None:
        connection = await backend.connect()
        offer = make_offer(self.random.randbytes(16), self.protocol)
        host = self.host or _authority(backend.host)
        connection.write(websocket_request(self.path, host, offer, self.origin))
        reader = HeadReader(b"GET")
        while (answer := reader.feed(await _more(connection))) is None:
            pass
        head, data = answer
        check_switch(offer, head)
        if self.ping:
            payload = self.random.randbytes(8)
            connection.write(client_frame(PING, payload, self.random.randbytes(4)))
            pong = PongReader(payload)
            while not pong.feed(data):
                data = await _more(connection)
        connection.write(client_frame(CLOSE, b"\x03\xe8", self.random.randbytes(4)))  # 1000


async def _more(connection: Any) -> bytes:
    data: bytes = await connection.read()
    if not data:
        raise ProbeFailed("it closes before its answer is complete")
    return data


def _authority(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _http(
    path: Annotated[Target, Told("What is asked for.", "HAProxy `http-check send uri`, nginx `uri`, Envoy `path`")],
    method: Annotated[
        Literal["GET", "HEAD", "OPTIONS"],
        Told("How.", "HAProxy `http-check send meth`, Envoy `method`"),
    ] = "GET",
    host: Annotated[
        Host,
        Told("The Host field. Absent: the `server_name` of `tls`, else the host of the endpoint.", "Envoy `host`"),
    ] = None,
    expect: Annotated[
        StatusCodes,
        Told("The statuses that are well.", "HAProxy `http-check expect status`, Envoy `expected_statuses`"),
    ] = ((200, 399),),
    body: Annotated[
        Pattern,
        Told(
            "What the content must have in it: a regular expression. Absent: the content is not read.",
            "HAProxy `http-check expect rstring`, nginx `match … body`, Envoy `receive`",
        ),
    ] = None,
    body_bytes: Annotated[Size, Told("In how many of its first bytes.", "Envoy `response_buffer_size`")] = 4096,
) -> HTTPProbe:
    """A request on a new connection; the status of its answer, and perhaps its content, say whether it is well."""
    return HTTPProbe(path, method, host, expect, body, body_bytes)


def _websocket(
    random: Random,
    path: Annotated[Target, Told("What is asked for.")],
    host: Annotated[Host, Told("As for `http`.")] = None,
    origin: Annotated[Origin, Told("The Origin field, for servers that want one. Absent: none.")] = None,
    protocol: Annotated[Token, Told("The subprotocol that is offered. Absent: none.")] = None,
    ping: Annotated[bool, Told("Whether a ping is sent, and its pong awaited.")] = False,
) -> WebSocketProbe:
    """A WebSocket: its handshake is verified, as for clients (RFC 6455), and it is closed with 1000."""
    return WebSocketProbe(random, path, host, origin, protocol, ping)


tcp = Extension("tcp", IProbe, TCPProbe)
http = Extension("http", IProbe, _http)
websocket = Extension("websocket", IProbe, _websocket)
