"""Connections that there is no room for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol

from stickyproxy.sansio.admission import CROWDED, FULL, Admission
from stickyproxy.testing import MemoryTransport
from stickyproxy.wires.admission import REFUSALS, AdmissionFactory
from stickyproxy.wires.http import RefusalFactory
from stickyproxy.wires.proxyprotocol import ProxyProtocolFactory

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class Door:
    """The frontend of a house with an ``AdmissionFactory`` before it."""

    def __init__(self, it: House, limit: int | None, per_address: int | None = None) -> None:
        self.it = it
        self.admission = Admission(limit, per_address)
        refusing: dict[int, Any] = {error.status: RefusalFactory(it.factory, error) for error in (FULL, CROWDED)}
        self.factory = AdmissionFactory("web", it.factory, self.admission, it.sweep, refusing)

    def client(self, host: str = "198.51.100.7", factory: Any = None) -> MemoryTransport | None:
        peer = IPv4Address("TCP", host, 40000)
        built: Any = (factory or self.factory).buildProtocol(peer)
        return None if built is None else MemoryTransport(built, peer=peer)

    def open(self, host: str = "198.51.100.7") -> MemoryTransport:
        client = self.client(host)
        assert client is not None
        return client


def refused(door: Door) -> bytes:
    """What one more client is told; it leaves then."""
    client = door.open()
    client.deliver(GET)
    client.lose()
    return client.take()


def test_at_the_limit_and_past_it(house: Make) -> None:
    """The last that there is room for is served; the next is told 503 when it asks, and when to come again."""
    door = Door(house(), 2)
    first, second, third = door.open(), door.open(), door.open()
    for client in (first, second):
        client.deliver(GET)
        door.it.accepted("a" if client is first else "b").deliver(OK)
        assert b" 200 OK" in client.take()
    third.turn()
    assert third.written == b"" and not third.half_closed
    third.deliver(GET)
    answer = third.take()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 5\r\n" in answer and third.half_closed
    assert b"\r\nConnection: close\r\n" in answer
    third.half_close()
    third.turn()
    assert not third.connected and not third.aborted and door.factory.refusals == 0
    assert door.it.entries[-1].status == 503  # type: ignore[union-attr]
    first.lose()
    fourth = door.open()
    fourth.deliver(GET)
    assert door.admission.open == 2 and not fourth.half_closed


def test_one_address(house: Make) -> None:
    """Who has as many as one may have is told 429; others are served."""
    door = Door(house(), None, 2)
    mine = [door.open() for _ in range(3)]
    mine[2].deliver(b"HEAD / HTTP/1.1\r\n\r\n")
    head, _, content = mine[2].take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 ") and b"\r\nRetry-After: " in head and content == b""
    other = door.open("198.51.100.8")
    other.deliver(GET)
    assert b"GET / " in door.it.accepted().written


def test_the_address_of_a_proxy_header_counts(house: Make) -> None:
    """Behind a PROXY header it is the client whom it names who has too many, not the proxy."""
    door = Door(house(), None, 1)
    outer = ProxyProtocolFactory(door.factory, ["10.0.0.0/8"], door.it.sweep, 10.0)
    statuses = []
    for client_address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        client = door.client("10.0.0.1", outer)
        assert client is not None
        client.deliver(b"PROXY TCP4 %b 192.0.2.99 1 2\r\n" % client_address.encode() + GET)
        statuses.append(client.take()[9:12])
        last = client
    assert statuses == [b"", b"", b"429"] and door.admission.open == 2
    last.lose()
    assert door.admission.open == 2 and door.factory.refusals == 0


def test_a_tunnel_counts_as_long_as_it_lives(house: Make) -> None:
    """A WebSocket is a connection until its end, whichever side ends it, and not a moment longer."""
    door = Door(house(), 1)
    for ended_by_client in (True, False):
        client = door.open()
        client.deliver(UPGRADE)
        backend = door.it.accepted("a" if ended_by_client else "b")
        backend.deliver(SWITCHED)
        client.deliver(b"\x89\x84keyzping")
        assert b" 101 " in client.take() and backend.written.endswith(b"ping") and door.admission.open == 1
        assert b"503" in refused(door)
        (client if ended_by_client else backend).lose(ConnectionDone())
        client.turn()
        if not ended_by_client:  # it is told
            client.half_close()
            client.turn()
        backend.turn()
        assert not client.connected and door.admission.open == 0 and not door.it.factory.connections


def test_who_refuses_to_leave(house: Make) -> None:
    """A refused client that says nothing, or never stops, or takes nothing, is gone after a few seconds."""
    door = Door(house(), 1)
    served = door.open()
    silent, endless = door.open(), door.open()
    for _ in range(4):
        endless.deliver(GET * 100)
        door.it.wait(1)
    assert silent.connected and endless.connected
    door.it.wait(2)
    silent.turn()
    endless.turn()
    assert not silent.connected and not endless.connected and door.factory.refusals == 0
    assert silent.written == b"" and endless.written.count(b"HTTP/1.1 503 ") == 1 and not endless.aborted
    stuck = door.open()
    stuck.high_water = 1
    stuck.deliver(GET)
    door.it.wait(11)
    stuck.turn()
    assert stuck.aborted and served.connected
    assert door.it.factory.connections == {served.protocol._inner}


def test_many_are_not_even_told(house: Make) -> None:
    """However many come, so many are told at a time; the others are closed at once, and cost nothing."""
    door = Door(house(), 1)
    clients = [door.client() for _ in range(1 + REFUSALS + 5)]
    assert [client is not None for client in clients] == [True] * (1 + REFUSALS) + [False] * 5
    assert door.factory.refusals == REFUSALS and len(door.it.factory.connections) == 1 + REFUSALS
    assert clients[1] is not None
    clients[1].lose()
    assert door.client() is not None


def test_stopping_ends_the_refused_as_well(house: Make) -> None:
    """When the frontend stops, its refused clients are not waited for."""
    door = Door(house(), 1)
    clients = [door.open(), door.open()]
    for connection in list(door.it.factory.connections):
        connection.abort()
    for client in clients:
        client.turn()
    assert not door.it.factory.connections and door.admission.open == door.factory.refusals == 0


@pytest.mark.parametrize("builds", [True, False])
def test_other_protocols_are_closed_at_once(house: Make, builds: bool) -> None:
    """Where nothing could be told, a connection too many is closed; what the factory itself refuses is not counted."""
    it = house()
    inner = Factory.forProtocol(Protocol)
    if not builds:
        inner.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    factory = AdmissionFactory("cache", inner, Admission(1, None), it.sweep)
    address = IPv4Address("TCP", "198.51.100.7", 40000)
    assert [factory.buildProtocol(address) is not None for _ in range(2)] == [builds, False]
    assert factory.admission.open == builds
