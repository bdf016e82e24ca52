"""A fuzz target of what happens in which order: clients and backends that talk, stop reading, half-close and vanish."""

from __future__ import annotations

from house import House
from twisted.internet.error import ConnectionDone, ConnectionLost
from wires_targets import check_log

from stickyproxy import model
from stickyproxy.config import specs
from stickyproxy.testing import MemoryTransport

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_SWITCHED = (
    b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
#: What clients say, and backends.
ASKED = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    b"hello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    _UPGRADE,
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"\r\n",
    b"G",
    b"x" * 3000,
]
ANSWERED = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"2\r\nok\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    _SWITCHED,
    b"HTTP/1.1 413 No\r\nContent-Length: 3000\r\n\r\n" + b"y" * 1000,
    b"y" * 1000,
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"H",
]

#: Who has half-closed in this conversation, and says no more.
_ENDED: list[MemoryTransport] = []


def conversations(data: bytes) -> None:
    """Pairs of bytes, what happens and to whom: nothing goes wrong, and when all are gone nothing is left of them."""
    backends = tuple(model.Backend(name, f"tcp:127.0.0.1:{port}") for name, port in (("a", 9001), ("b", 9002)))
    limits = specs.Limits(pipelined=200, requests=4)
    house = House(specs.Frontend("web", ("tcp:8080",), "app", limits=limits), specs.Cluster("app", backends))
    clients: list[MemoryTransport] = []
    _ENDED.clear()
    if data[:1] and data[0] & 1:
        for endpoint in house.endpoints.values():
            endpoint.high_water = 100
    for what, whom in zip(data[1:80:2], data[2:80:2], strict=False):
        if not clients or (what == 255 and len(clients) < 4):
            clients.append(house.client(high_water=100 if whom & 1 else None))
        _happen(what, house, clients[whom % len(clients)], whom)
    _end(house, clients)


def _happen(what: int, house: House, client: MemoryTransport, whom: int) -> None:
    reached = [transport for endpoint in house.endpoints.values() for transport in endpoint.transports]
    backend = reached[whom % len(reached)] if reached else None
    kind, what = what % 16, what // 16
    if kind < 5:
        _tell(client, ASKED[(what * 5 + kind) % len(ASKED)])
    elif kind < 10:
        _tell(backend, ANSWERED[(what * 5 + kind) % len(ANSWERED)])
    elif kind == 10:
        _tell(client, None)
    elif kind == 11:
        _tell(backend, None)
    elif kind < 14:
        peer = client if kind == 12 else backend
        if peer is not None and peer.connected:
            peer.lose(ConnectionDone() if what & 1 else ConnectionLost())
    elif kind == 14:
        client.drain(50 if what & 1 else None)
        if backend is not None and what & 2:
            backend.drain()
    else:
        _connect(house, "ab"[whom & 1], what) if what else house.wait(whom / 8)


def _tell(peer: MemoryTransport | None, what: bytes | None) -> None:
    """``peer`` says something, or (None) that this was all."""
    if peer is None or not peer.connected or peer in _ENDED:
        return
    if what is None:
        _ENDED.append(peer)
        peer.half_close()
    else:
        peer.deliver(what)


def _connect(house: House, name: str, what: int) -> None:
    """A backend begins to take its time, or takes or refuses a connection."""
    endpoint = house.endpoints[name]
    if what & 4 and endpoint._waiting:
        endpoint.refuse(ConnectionLost())
    elif what & 2 and endpoint._waiting:
        endpoint.accept()
    elif what & 1:
        endpoint.hold = not endpoint.hold


def _end(house: House, clients: list[MemoryTransport]) -> None:
    for client in clients:
        if client.connected:
            client.lose()
    house.wait(2)
    house.cluster.close_idle()
    house.wait(1)
    transports = [transport for endpoint in house.endpoints.values() for transport in endpoint.transports]
    assert not any(endpoint._waiting for endpoint in house.endpoints.values()), "a connection is awaited for nobody"
    for seconds in (1, 12):  # a WebSocket that breaks the rules is told so, and waited for
        for transport in transports:
            transport.drain()
            transport.turn()
        if seconds == 1 or any(transport.connected for transport in transports):
            house.wait(seconds)
    for transport in transports:
        transport.turn()
    assert not any(transport.connected for transport in transports), "a backend's connection is left over"
    assert not house.factory.connections
    assert not house.sweep._watched, "somebody is watched for ever"
    assert all(member.active == 0 for member in house.cluster.members.values()), "a backend counts a request for ever"
    check_log(house)


CONVERSATIONS = [
    bytes([0, 0, 0, 5, 0]),
    bytes([1, 16, 1, 7, 0, 5, 0, 14, 0, 0, 0]),
    bytes([0, 17, 0, 6, 0, 10, 0, 8, 0, 11, 0]),
    bytes([0, 31, 0, 0, 1, 0, 0, 47, 0, 15, 1, 12, 0]),
    bytes([1, 1, 1, 2, 1, 7, 0, 30, 1, 8, 0, 15, 9]),
]
