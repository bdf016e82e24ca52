"""What clients get of limits, slow start, trials and the retry budget, over HTTP and TCP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config.health import Eject
from stickyproxy.config.limits import Queue
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.member import Member
from stickyproxy.model import Backend
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.health import Thresholds
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryEndpoint, MemoryTransport
from stickyproxy.wires.tcp import TCPFrontendFactory

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 500 Whatever\r\nContent-Length: 0\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def clients(it: House, count: int) -> list[MemoryTransport]:
    """So many, each of whom asks once."""
    came = [it.client() for _ in range(count)]
    for client in came:
        client.deliver(GET)
    return came


def actives(it: House) -> dict[str, int]:
    return {id: member.active for id, member in it.cluster.members.items()}


def test_requests_wait_for_a_place(house: Make) -> None:
    """Two at a time for each of two backends; the next are served when one of them is, on its connection."""
    it = house({"max_connections": 2, "queue": Queue(size=2, timeout=5.0)})
    first = clients(it, 4)
    second = clients(it, 3)
    assert actives(it) == {"a": 2, "b": 2}
    refusal = second[2].take()
    assert refusal.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 5\r\n" in refusal
    assert [client.take() for client in first + second[:2]] == [b""] * 6
    for transport in it.endpoints["a"].transports:
        transport.deliver(OK)
    assert len(it.endpoints["a"].transports) == 2 and actives(it) == {"a": 2, "b": 2}
    for id in "ab":
        for transport in it.endpoints[id].transports:
            transport.deliver(OK)
    assert all(client.take().startswith(b"HTTP/1.1 200 ") for client in first + second[:2])
    assert actives(it) == {"a": 0, "b": 0}


def test_who_leaves_or_waits_too_long(house: Make) -> None:
    """A client that leaves makes room in the queue; one that waits too long is told so, and keeps its connection."""
    it = house({"max_connections": 1, "queue": Queue(size=1, timeout=2.0)})
    clients(it, 2)
    (impatient,) = clients(it, 1)
    impatient.lose()
    (late,) = clients(it, 1)
    it.wait(2.1)
    answer = late.take()
    assert answer.startswith(b"HTTP/1.1 503 ") and not late.disconnecting
    assert it.cluster.layers.limits.waiting(None) == 0
    it.accepted("a").deliver(OK)
    late.deliver(GET)
    it.accepted("a").deliver(OK)
    assert late.take().startswith(b"HTTP/1.1 200 ") and actives(it) == {"a": 0, "b": 1}


def test_a_retry_keeps_its_place(house: Make) -> None:
    """A kept connection that closes as it is used again: its request goes on a new one, and nobody takes its place."""
    it = house({"max_connections": 1})
    first = clients(it, 2)
    it.accepted("a").deliver(OK)
    it.accepted("b").deliver(OK)
    again = clients(it, 2)
    waits = clients(it, 1)
    it.accepted("a").lose()
    assert actives(it) == {"a": 1, "b": 1} and len(it.endpoints["a"].transports) == 2
    it.accepted("a").deliver(OK)
    it.accepted("b").deliver(OK)
    it.accepted("a").deliver(OK)
    assert all(each.take().endswith(b"ok") for each in (*first, *again, *waits)) and actives(it) == {"a": 0, "b": 0}


def test_many_that_cannot_be_reached(house: Make) -> None:
    """Where the only backend refuses connections all at once, everybody who waits is told, one after the other."""
    it = house({"max_connections": 1, "queue": Queue(size=500), "backends": (Backend("a", "tcp:127.0.0.1:1"),)})
    it.endpoints["a"].hold = True
    came = clients(it, 400)
    it.endpoints["a"].error = ConnectError("no")
    it.endpoints["a"].refuse(ConnectError("no"))
    assert all(client.take().startswith(b"HTTP/1.1 502 ") for client in came) and actives(it) == {"a": 0}


def test_one_client_tries_who_was_out(house: Make) -> None:
    """After its time one request is let in, others go elsewhere; if it fails the backend is out for twice as long."""
    it = house({"eject": Eject(failures=1, time=10.0)})
    ask = clients(it, 2)
    it.accepted("a").deliver(BAD)
    it.accepted("b").deliver(OK)
    it.wait(10.1)
    assert "on trial" in repr(it.cluster.members["a"])
    ask = clients(it, 4)
    assert actives(it) == {"a": 1, "b": 3}
    it.accepted("a").deliver(BAD)
    assert it.cluster.health is not None and it.cluster.health.down == {"a"}
    assert "ejected for 20 s" in repr(it.cluster.members["a"])
    it.wait(20.1)
    clients(it, 2)
    for client in ask:
        client.lose()
    assert actives(it)["a"] == 1
    it.accepted("a").deliver(OK)
    assert it.cluster.health.out == frozenset()
    before = it.endpoints["a"].attempts
    clients(it, 4)
    assert it.endpoints["a"].attempts > before


def test_who_tries_and_leaves(house: Make) -> None:
    """A trial that ends without a verdict is followed by another."""
    it = house({"eject": Eject(failures=1, time=10.0, trials=2)})
    clients(it, 2)
    it.accepted("a").deliver(BAD)
    it.wait(10)
    for client in clients(it, 6):
        client.lose()
    assert it.cluster.health is not None and it.cluster.health.down == {"a"}
    it.wait(10)
    assert it.cluster.health.down == frozenset() and it.cluster.health.on_trial == {"a"}
    it.cluster.stop()


def test_a_rate_of_failures_takes_a_backend_out(house: Make) -> None:
    """Half of its answers are errors, but never two in a row: it is out when that is enough to be sure."""
    it = house({"eject": Eject(failures=5, failure_rate=0.5, least=10)})
    for number in range(12):
        if it.cluster.health is not None and it.cluster.health.down:
            break
        asked = clients(it, 2)
        it.accepted("a").deliver(BAD if number % 2 else OK)
        it.accepted("b").deliver(OK)
        assert all(client.take() for client in asked)
    assert number == 10 and it.cluster.health is not None and it.cluster.health.down == {"a"}
    it.cluster.stop()


def test_closed_websockets_count(house: Make) -> None:
    """A backend that ends WebSockets with 1011, 1012 or 1013 is out, though each handshake went well."""
    it = house({"eject": Eject(failures=3)})
    health = it.cluster.members["a"].health
    assert health is not None
    for code in (1011, 1000, 1012, 1013):
        health.answered(101)
        health.closed(code)
    health.closed(None)
    assert not health.down
    for code in (1011, 1012, 1013):
        health.answered(101)
        health.closed(code)
    assert health.down and "it closes WebSockets with 1013" in str(health)
    it.cluster.stop()


def test_websockets_take_a_backend_out(house: Make) -> None:
    """By what is on the wire: handshakes that are wrong, and Close frames of the backend, but not those of clients."""
    upgrade = GET[:-2] + (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    right = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    close, closed = b"\x88\x02\x03\xf3", b"\x88\x82\x00\x00\x00\x00\x03\xf3"
    backends = (Backend("a", "tcp:127.0.0.1:1"), Backend("b", "tcp:127.0.0.1:2", weight=0))

    def talk(answer: bytes, from_backend: bytes, from_client: bytes) -> None:
        client = it.client()
        client.deliver(upgrade)
        backend = it.accepted("a")
        backend.deliver(answer)
        if from_backend:
            backend.deliver(from_backend)
            client.deliver(from_client)
        elif from_client:
            client.deliver(from_client)
            backend.deliver(close)
        backend.lose()
        client.lose()
        it.wait(0.2)

    for talks in ([(right, close, closed)] * 2, [(right.replace(b"s3pP", b"none"), b"", b"")] * 2):
        it = house({"eject": Eject(failures=2), "backends": backends})
        assert it.cluster.health is not None
        talk(right, b"", closed)
        talk(*talks[0])
        assert not it.cluster.health.down
        talk(*talks[1])
        assert it.cluster.health.down == {"a"} and actives(it)["a"] == 0
        it.cluster.stop()
    it = house({"eject": Eject(failures=2), "backends": backends})
    for from_backend, from_client in ((close, closed), (b"", closed)) * 3:
        talk(right, from_backend, from_client)
    assert it.cluster.health is not None and not it.cluster.health.down


def test_slow_start_follows_an_outage(house: Make) -> None:
    """Who was down by its probe and comes up gets few new clients at first; bound ones are where they were."""
    it = house({"slow_start": 30.0, "eject": Eject()})
    health = it.cluster.members["a"].health
    assert health is not None
    health.probe_ended(None, Thresholds(1, 1))
    assert it.cluster.members["a"].warming is None  # a start is none
    health.probe_ended("no answer", Thresholds(1, 1))
    health.probe_ended(None, Thresholds(1, 1))
    clients(it, 44)
    few = actives(it)["a"]
    assert few in (3, 4)
    it.wait(30.1)
    clients(it, 40)
    assert actives(it)["a"] == few + 20


def test_a_dead_cluster_is_not_trampled(house: Make) -> None:
    """With every backend gone, retries are the share of the requests that I allow, and some a second besides."""
    backends = tuple(Backend(id, "tcp:127.0.0.1:1") for id in "abcdefgh")
    attempts = {}
    for share in (None, 0.2):
        it = house({"backends": backends, "retry_budget": share})
        for endpoint in it.endpoints.values():
            endpoint.error = ConnectError("gone")
        uncounted = it.cluster.select
        assert all(client.take().startswith(b"HTTP/1.1 502 ") for client in clients(it, 500))
        attempts[share] = sum(endpoint.attempts for endpoint in it.endpoints.values())
        assert (it.cluster.select == uncounted) is (share is None)
        for endpoint in it.endpoints.values():
            endpoint.error = None
        it.wait(30)
        clients(it, 1)
    assert it.cluster.select == uncounted  # a while after the last retry nothing is counted any more
    assert attempts[None] == 500 * 8 and 500 + 100 <= attempts[0.2] <= 500 + 100 + 102


def test_tcp_waits_and_is_closed() -> None:
    """A connection of TCP has to wait for its place, too; with none in time it is closed."""
    clock, endpoint = Clock(), MemoryEndpoint()
    member = Member(Backend("a", ""), endpoint, clock, connect_timeout=5)
    spec = ClusterSpec("t", (Backend("a", ""),), max_connections=1, queue=Queue(timeout=2.0))
    factory = TCPFrontendFactory(Cluster(spec, [member], NoAffinity(), RoundRobin()), Sweep(clock, 0.5))
    first, second, third = (
        MemoryTransport(factory.buildProtocol(IPv4Address("TCP", "203.0.113.9", number))) for number in (1, 2, 3)
    )
    assert endpoint.attempts == 1 and member.active == 1
    first.lose()
    endpoint.transports[0].lose()
    assert endpoint.attempts == 2 and member.active == 1
    second.deliver(b"hello")
    assert endpoint.transports[1].take() == b"hello"
    clock.pump([0.5] * 5)
    assert third.disconnecting
    assert member.active == 1
    second.lose()
    endpoint.transports[1].lose()
    assert member.active == 0
