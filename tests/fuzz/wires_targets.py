"""Fuzz targets that move bytes: the HTTP frontend and its backend connections, PROXY headers, TLS, the access log."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import h11
import trustme
from fuzz_judges import Backend, pieces, read_answers, steady
from house import House
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stickyproxy import model
from stickyproxy.config import specs
from stickyproxy.sansio.loglines import line_of
from stickyproxy.sansio.masking import SECRETS, mask_of
from stickyproxy.sansio.proxyprotocol import proxy_header
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryTransport
from stickyproxy.tls import CertificateStore, server_connection_creator, tls_factory
from stickyproxy.wires.proxyprotocol import ProxyProtocolFactory

_LINE = re.compile(
    r"[0-9a-f.:]+ - - \[[0-9A-Za-z/:+ ]+\] \"(?:[^\"\\]|\\.)*\" (?:[0-9]{3}|-) [0-9]+ "
    r"\"(?:[^\"\\]|\\.)*\" \"(?:[^\"\\]|\\.)*\" "
    r"cluster=\S+ backend=\S+ ms=[0-9.]+ affinity=\S+ id=\S+"
    r"( received=[0-9]+ sent=[0-9]+ closed=\w+( code=\S+ messages=\S+)?)?"
)


def make_house() -> House:
    """As the fixture of the wires has it; trusted proxies, so that identity fields are read."""
    backends = tuple(model.Backend(name, f"tcp:127.0.0.1:{port}") for name, port in (("a", 9001), ("b", 9002)))
    frontend = specs.Frontend("web", ("tcp:8080",), "app", trusted_proxies=("198.51.100.0/24",))
    return House(frontend, specs.Cluster("app", backends))


def check_end(house: House, client: MemoryTransport) -> None:
    """When the client is gone nothing of it is left, but what stands in the log."""
    if client.connected:
        client.lose()
    house.cluster.close_idle()
    for endpoint in house.endpoints.values():
        for transport in endpoint.transports:
            transport.turn()
            assert not transport.connected, "a backend's connection is left over"
    assert not house.factory.connections
    assert not house.sweep._watched, "somebody is watched for ever"
    assert all(member.active == 0 for member in house.cluster.members.values()), "a backend counts a request for ever"
    check_log(house)


_COMBINED, _JSON = (line_of(form, mask_of(SECRETS)) for form in ("combined", "json"))


def check_log(house: House) -> None:
    """Whatever was asked: a line is a line, and none of its fields can be forged."""
    for entry in house.entries:
        line = _COMBINED(entry)
        assert line.isascii() and line.isprintable() and _LINE.fullmatch(line), line
        told = json.loads(_JSON(entry))
        assert told["client"] == entry.client and "\n" not in _JSON(entry)


# Requests: the first byte is the size of the pieces in which the others arrive (0: whole).


def requests(data: bytes) -> None:
    """Any bytes of a client: h11 reads at the backends what it was, in any split, and answers that it understands."""
    if data:
        steady(_ask, data[1:], data[0])


def _ask(data: bytes, size: int) -> object:
    house = make_house()
    client = house.client()
    seen: list[tuple[MemoryTransport, Backend]] = []

    def look() -> None:
        news = True
        while news:
            news = False
            for endpoint in house.endpoints.values():
                for transport in endpoint.transports:
                    backend = next((one for at, one in seen if at is transport), None)
                    if backend is None:
                        backend = Backend(transport)
                        seen.append((transport, backend))
                    news = backend.look() or news
                    client.turn()

    for piece in pieces(data, size):
        if not client.connected:
            break
        client.deliver(piece)
        look()
    if client.connected:
        client.half_close()
        look()
    ended = client.half_closed or not (client.connected or client.aborted)
    whole = [request for _, backend in seen for request in backend.requests]
    heads = [entry.head for entry in house.entries]
    methods = [b"GET" if head is None else head.method for head in heads]
    answers = read_answers(client.written, methods, ended=ended and not client.aborted)
    for answer in answers:
        assert answer.start[0] in (200, 400, 404, 408, 413, 414, 417, 426, 431, 501, 502, 505), answer
    check_end(house, client)
    # Which of several faults is found first, and so the status, may depend on the split: that one is found may not
    told = [
        "refused" if b"no-store" in dict(one.fields).get(b"cache-control", b"") else one.start[0] for one in answers
    ]
    return sorted(map(repr, (r for r in whole if r.whole))), told


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
REQUESTS = [
    b"\x00" + GET,
    b"\x01" + GET + GET,
    b"\x05POST /x?y=%20 HTTP/1.1\r\nHost: example.org:80\r\nContent-Length: 5\r\n\r\nhello" + GET,
    b"\x03POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n" + GET,
    b"\x00GET http://a/b HTTP/1.0\r\nConnection: keep-alive\r\nCookie: a=b; SRV=x\r\n\r\n" + GET,
    b"\x07OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: x, close\r\nX: y\r\nTE: trailers\r\nVia: 1.1 x\r\n\r\n",
    b"\x00PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx\r\n" + GET,
    (
        b'\x00GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4, 198.51.100.9\r\nForwarded: for=x;host="a"\r\n'
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Request-ID: a\r\nX_Real_IP: 1\r\n\r\n"
    ),
    (
        b"\x00GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    ),
    b"\x00TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
]

# Answers: the first byte tells which request it answers and how the connection ends, the second the split.

_ASKED = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    REQUESTS[8][1:],
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello",
]


def answers(data: bytes) -> None:
    """Any bytes of a backend: an answer that h11 reads the same, or a 502, or an abort; the next one is not touched."""
    if len(data) > 1:
        choice, size = data[0], data[1]
        asked = _ASKED[choice % len(_ASKED)]
        steady(lambda body, size: _answer(asked, body, size, clean=choice < 128), data[2:], size)


def _answer(asked: bytes, data: bytes, size: int, *, clean: bool) -> object:
    house = make_house()
    client = house.client()
    client.deliver(asked)
    backend = house.accepted()
    backend.take()
    for piece in pieces(data, size):
        if not backend.connected:
            break
        backend.deliver(piece)
    answered = client.written
    is_tunnel = answered.startswith(b"HTTP/1.1 101 ")
    again = b""
    if client.connected and not (
        client.disconnecting or client.half_closed or is_tunnel or house.endpoints["b"].attempts
    ):
        again = _ask_again(house, client, backend)
    if backend.connected:
        backend.lose(ConnectionDone() if clean else ConnectionLost())
    house.wait(1)
    client.turn()
    got = client.written
    cut_off = client.aborted
    check_end(house, client)
    if is_tunnel:
        return got
    _compare(asked, data, got, answered, cut_off=cut_off, clean=clean, again=bool(again))
    judged = read_answers(got, [asked.split(b" ")[0]], ended=not cut_off)
    # What is wrong behind the head may be seen before that is sent on, or after
    return [one._replace(fields=()) for one in judged if one.whole and one.start[0] != 502]


def _ask_again(house: House, client: MemoryTransport, backend: MemoryTransport) -> bytes:
    """The next client's answer is its own, if the connection is used again at all."""
    before = len(client.written)
    if not client.written or house.factory.connections == set():
        return b""
    [protocol] = house.factory.connections
    if protocol._mode.name != "HEAD" or not backend.connected:
        return b""
    other = house.client()
    other.deliver(b"GET /again HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    served = next(t for e in house.endpoints.values() for t in e.transports if b"/again" in t.take())
    served.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")
    assert other.written.endswith(b"\r\n\r\nagain") and other.written.count(b"HTTP/1.1") == 1, other.written
    assert len(client.written) == before
    if other.connected:
        other.lose()
    return b"again"


def _compare(
    asked: bytes, data: bytes, got: bytes, answered: bytes, *, cut_off: bool, clean: bool, again: bool
) -> None:
    """What the client reads as whole is what h11 reads from the backend as whole, or an answer of our own."""
    method = asked.split(b" ")[0]
    read = [one for one in read_answers(got, [method], ended=not cut_off) if one.whole]
    if cut_off or not read:
        return
    assert len(read) == 1, f"more than one answer: {got!r}"
    if read[0].start[0] in (502, 503, 504) and b"no-store" in got:
        return
    try:
        theirs = read_answers(data, [method], ended=clean and not again)
    except h11.RemoteProtocolError:
        return  # llhttp takes what h11 does not, such as a reason phrase in UTF-8
    whole = [one for one in theirs if one.whole]
    if whole:
        assert read[0].start == whole[0].start
        assert read[0].content == whole[0].content, (read[0], whole[0])
    elif method != b"HEAD":
        raise AssertionError(f"an answer that is not whole looks whole: {got!r}")


ANSWERS = [
    b"\x00\x00HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"\x00\x01HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n",
    b"\x00\x03HTTP/1.1 200 OK\r\n\r\nuntil the close",
    b"\x80\x03HTTP/1.0 200 OK\r\n\r\nuntil the reset",
    b"\x00\x00HTTP/1.1 103 X\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"\x01\x00HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close, x\r\nX: y\r\n\r\n",
    b"\x02\x00HTTP/1.1 304 Not Modified\r\nDate: now\r\nVia: 1.0 x\r\nContent-Length: 7\r\n\r\n",
    b"\x00\x00HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    (
        b"\x04\x00HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: b\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=8\r\n\r\n\x81\x02hi"
    ),
    b"\x04\x00HTTP/1.1 426 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"\x06\x00HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
]

# PROXY headers: the first byte is the size of the pieces.


class _Told(Protocol):
    def __init__(self, addr: Any, told: list[Any]) -> None:
        self._told = told
        told.append([addr, b""])

    def dataReceived(self, data: bytes) -> None:
        self._told[-1][1] += data


def proxy_headers(data: bytes) -> None:
    """Any bytes of a proxy: one address and all that is behind the header, or no connection at all."""
    if data:
        told = steady(_introduce, data[1:], data[0])
        assert isinstance(told, list)
        for addr, rest in told:
            if not isinstance(addr, UNIXAddress) and not addr.host.startswith("::ffff:"):  # which we send on as IPv4
                source = model.Peer(addr.host, addr.port)
                for version in (1, 2):
                    again = proxy_header(version, source, source) + rest  # type: ignore[arg-type]
                    assert _introduce(again, 0) == [[addr, rest]]


def _introduce(data: bytes, size: int) -> list[Any]:
    told: list[Any] = []
    factory = Factory()
    factory.buildProtocol = lambda addr: _Told(addr, told)  # type: ignore[method-assign,assignment,return-value]
    clock = Clock()
    outer = ProxyProtocolFactory(factory, ["198.51.100.0/24"], Sweep(clock, 0.1), 1.0)
    peer = IPv4Address("TCP", "198.51.100.7", 40000)
    transport = MemoryTransport(outer.buildProtocol(peer), peer=peer)
    for piece in pieces(data, size):
        if transport.connected:
            transport.deliver(piece)
    if transport.connected:
        transport.lose()
    assert not transport.written
    return told


PROXY_HEADERS = [
    b"\x00PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET",
    b"\x01PROXY TCP6 ::1 2001:db8::1 65535 0\r\n",
    b"\x00PROXY UNKNOWN x\r\nx",
    b"\x00" + proxy_header(2, model.Peer("192.0.2.1", 1), model.Peer("192.0.2.2", 2)) + b"x",
    b"\x05" + proxy_header(2, model.Peer("::1", 1), model.Peer("::2", 2)),
    b"\x00" + proxy_header(2, None, None) + b"x",
    b"\x00" + proxy_header(2, model.Peer("unix", 0), model.Peer("unix", 0)) + b"x",
]

# TLS: the first byte chooses the state (before, or after a handshake) and the second the split.


@cache
def _tls() -> tuple[Any, SSL.Context]:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "site.pem"
        trustme.CA().issue_cert("example.org").private_key_and_cert_chain_pem.write_to_path(str(path))
        creator = server_connection_creator(CertificateStore.load([path]))
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    return creator, context


class _Hears(Protocol):
    def __init__(self) -> None:
        self.heard = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


def tls_records(data: bytes) -> None:
    """Any bytes where TLS records belong: the protocol within hears nothing that its client did not say."""
    if len(data) < 2:
        return
    creator, context = _tls()
    clock = Clock()
    within: list[_Hears] = []
    factory = Factory()

    def build(addr: Any) -> _Hears:
        within.append(_Hears())
        return within[-1]

    factory.buildProtocol = build  # type: ignore[method-assign]
    outer = tls_factory(creator, factory, clock)
    transport = MemoryTransport()
    transport.protocol = outer.buildProtocol(None)
    assert transport.protocol is not None
    transport.protocol.makeConnection(transport)
    said = b""
    if data[0] & 3:
        client = SSL.Connection(context)
        client.set_connect_state()
        client.set_tlsext_host_name(b"example.org")
        _handshake(client, transport, clock)
        if data[0] & 1:
            said = b"hello"
            client.send(said)
            transport.deliver(client.bio_read(65536))
    for piece in pieces(data[2:], data[1]):
        if transport.connected:
            transport.deliver(piece)
            clock.advance(0)
            transport.turn()
    assert all(hears.heard == said for hears in within)
    clock.pump([1.0] * 20)
    transport.turn()
    if transport.connected:
        assert data[0] & 3, "a handshake has no end"
        transport.lose()
    assert not clock.getDelayedCalls()


def _handshake(client: SSL.Connection, transport: MemoryTransport, clock: Clock) -> None:
    for _ in range(4):
        try:
            client.do_handshake()
        except SSL.WantReadError:
            pass
        try:
            transport.deliver(client.bio_read(65536))
        except SSL.WantReadError:
            pass
        clock.advance(0)
        if answer := transport.take():
            client.bio_write(answer)


def _client_hello() -> bytes:
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
    client.set_connect_state()
    client.set_tlsext_host_name(b"example.org")
    try:
        client.do_handshake()
    except SSL.WantReadError:
        pass
    return client.bio_read(65536)


TLS_RECORDS = [
    b"\x00\x00" + _client_hello(),
    b"\x00\x01" + _client_hello()[:50],
    b"\x01\x00\x17\x03\x03\x00\x13" + bytes(19),
    b"\x01\x07\x15\x03\x03\x00\x02\x01\x00",
    b"\x02\x00\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    b"\x00\x00GET / HTTP/1.1\r\n\r\n",
    b"\x00\x00" + bytes(Random(1).randbytes(64)),
]
