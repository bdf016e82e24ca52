"""Kits of applications over the HTTP wire: what they read passes unchanged, and the next request goes home."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectError
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.server import Site

from stickyproxy.extensions import find_extensions, make
from stickyproxy.interfaces import IAffinity
from stickyproxy.sansio.affinity import ChainAffinity, NoAffinity
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.testing import MemoryTransport
from stickyproxy.wires.resource import AffinityRequest, AffinityResource

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

OPEN = b'0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000}'
POLL = b"/socket.io/?EIO=4&transport=polling"
UNTIL_CLOSE = b"X-Length: unknown"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def request(target: bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", b"Host: example.org", *fields, b"", b""))


def kit(name: str, sessions: SessionTable) -> IAffinity:
    made: IAffinity = make(find_extensions().of(IAffinity)[name], {}, cluster="app", sessions=sessions)
    return made


@pytest.fixture
def sessions() -> SessionTable:
    return SessionTable(lambda: 0.0)


def answered(it: House, framing: bytes, pieces: int, backend: str = "b") -> bytes:
    """What a client sees of a handshake."""
    client = it.client()
    client.deliver(request(POLL))
    content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(OPEN), OPEN) if b"chunked" in framing else OPEN
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + content
    size = len(answer) // pieces + 1
    for start in range(0, len(answer), size):
        it.accepted(backend).deliver(answer[start : start + size])
    if framing == UNTIL_CLOSE:
        it.accepted(backend).lose()
    return client.take()


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 1000])
@pytest.mark.parametrize("framing", [b"Content-Length: %d" % len(OPEN), b"Transfer-Encoding: chunked", UNTIL_CLOSE])
def test_engineio_over_the_wire(house: Make, sessions: SessionTable, framing: bytes, pieces: int, chain: bool) -> None:
    """However a handshake comes, the client sees it unchanged, and its next poll reaches the same backend."""
    affinity = kit("engine.io", sessions)
    it = house(affinity=ChainAffinity([NoAffinity(), affinity]) if chain else affinity)
    it.client().deliver(request(b"/"))  # to "a": the next is the turn of "b"
    assert answered(it, framing, pieces) == answered(house(affinity=NoAffinity()), framing, pieces, "a")
    other = it.client()
    for _ in range(3):
        other.deliver(request(POLL + b"&sid=abc"))
        it.accepted("b").deliver(OK)
        assert other.take().endswith(b"ok")


def test_engineio_in_a_site(house: Make, sessions: SessionTable) -> None:
    """In my own site a client without cookies is known by its sid as well."""
    it = house(affinity=kit("engine.io", sessions))
    resource = AffinityResource(it.cluster, it.clock)
    site = Site(resource, requestFactory=AffinityRequest, reactor=it.clock)
    peer = IPv4Address("TCP", "198.51.100.7", 40000)
    client = MemoryTransport(site.buildProtocol(peer), peer=peer)
    client.deliver(request(POLL))
    for piece in (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OPEN), OPEN[:10], OPEN[10:]):
        it.accepted("a").deliver(piece)
    assert client.take().endswith(OPEN)
    for _ in range(3):
        client.deliver(request(POLL + b"&sid=abc"))
        it.accepted("a").deliver(OK)
        assert client.take().endswith(b"ok")
    assert not it.endpoints["b"].transports


def test_an_answer_that_is_cut_off(house: Make, sessions: SessionTable) -> None:
    """A backend that goes away within its handshake: the client's answer does not look complete, nothing is learned."""
    it = house(affinity=kit("engine.io", sessions))
    client = it.client()
    client.deliver(request(POLL))
    it.accepted("a").deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + OPEN[:20])
    it.accepted("a").lose()
    it.wait(1)
    assert client.take().endswith(OPEN[:20]) and client.disconnecting
    assert len(sessions) == 0


def test_a_long_poll_is_not_kept(house: Make, sessions: SessionTable) -> None:
    """What is no handshake passes at once, is not gathered, and is told one time only."""
    logged: list[LogEvent] = []
    globalLogPublisher.addObserver(logged.append)
    it = house(affinity=kit("engine.io", sessions))
    client = it.client()
    for name in ("a", "b"):
        client.deliver(request(POLL))
        backend = it.accepted(name)
        backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 100)
        assert client.take().endswith(b"x" * 100)
        for _ in range(89):
            backend.deliver(b"y" * 100)
            assert client.take() == b"y" * 100
    globalLogPublisher.removeObserver(logged.append)
    told = [event for event in logged if "Engine.IO" in (event.get("log_format") or "")]
    assert len(told) == 1
    assert len(sessions) == 0


def test_mcp_over_the_wire(house: Make, sessions: SessionTable) -> None:
    """An MCP session stays; when its backend is down its requests get 404, and initialize finds another backend."""
    it = house(affinity=kit("mcp", sessions))
    client, session = it.client(), b"Mcp-Session-Id: s1"
    made = b"HTTP/1.1 200 OK\r\nMcp-Session-Id: %b\r\nContent-Length: 2\r\n\r\nok"
    client.deliver(request(b"/mcp", b"Content-Length: 0", method=b"POST"))
    it.accepted("a").deliver(made % b"s1")
    client.take()
    for method in (b"POST", b"GET", b"PUT"):
        client.deliver(request(b"/mcp", session, method=method))
        it.accepted("a").deliver(OK)
        assert client.take().startswith(b"HTTP/1.1 200")
    it.accepted("a").lose()
    it.endpoints["a"].error = ConnectError()
    for _ in range(2):
        client.deliver(request(b"/mcp", session, b"Content-Length: 0", method=b"POST"))
        assert client.take().startswith(b"HTTP/1.1 404 Not Found\r\n")
    client.deliver(request(b"/mcp", b"Content-Length: 0", method=b"POST"))
    it.accepted("b").deliver(made % b"s2")
    assert client.take().startswith(b"HTTP/1.1 200")
    client.deliver(request(b"/mcp", b"Mcp-Session-Id: s2", method=b"DELETE"))
    it.accepted("b").deliver(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert client.take().startswith(b"HTTP/1.1 204")
    assert [session.keys for session in sessions.sessions()] == [(b"mcp\0s1",)]
