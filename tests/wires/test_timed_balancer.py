"""A balancer that wants to know how long backends take is told; what counts is the head of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from house import House
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock
from zope.interface import implementer

from stickyproxy.cluster import Cluster
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.interfaces import ITimedBalancer
from stickyproxy.member import Member
from stickyproxy.model import Arrival, Backend
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryEndpoint, MemoryTransport
from stickyproxy.wires.tcp import TCPFrontendFactory

Make = Callable[..., House]
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"


@implementer(ITimedBalancer)
class Told:
    """Takes the first, and keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float | None]] = []

    def choose(self, candidates: Sequence[Any], arrival: Arrival) -> Any:
        return candidates[0]

    def answered(self, candidate: Any, seconds: float | None) -> None:
        self.heard.append((candidate.id, seconds and round(seconds, 1)))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def it(house: Make, told: Told) -> House:
    it = house(affinity=NoAffinity())
    it.cluster.__init__(ClusterSpec("app", ()), it.cluster.members.values(), it.cluster.affinity, told)  # type: ignore[misc]
    return it


def test_the_head_of_an_answer_counts(it: House, told: Told) -> None:
    """From the request to the head of its answer; how long the content takes is another matter."""
    client = it.client()
    client.deliver(GET)
    it.wait(0.3)
    it.accepted().deliver(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert told.heard == []
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    it.wait(1)
    it.accepted().deliver(b"ok")
    client.deliver(GET)
    it.wait(0.5)
    it.accepted().deliver(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert told.heard == [("a", 0.3), ("a", 0.5)]


def test_a_websocket_is_timed_to_its_handshake(it: House, told: Told) -> None:
    """The 101 is the answer of a WebSocket."""
    client = it.client()
    client.deliver(
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    it.wait(0.2)
    it.accepted().deliver(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    assert client.take().startswith(b"HTTP/1.1 101 ") and told.heard == [("a", 0.2)]
    client.lose()


def test_who_cannot_be_reached_or_leaves(it: House, told: Told) -> None:
    """A backend that refuses, closes without an answer, is silent or does not make sense has failed."""
    it.endpoints["a"].error = ConnectError()
    client = it.client()
    client.deliver(GET)
    it.accepted("b").deliver(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert told.heard == [("a", None), ("b", 0.0)]
    it.endpoints["a"].error = None
    client.deliver(POST)
    it.accepted("a").lose()
    assert told.heard[2:] == [("a", None)] and client.take()
    client = it.client()
    client.deliver(GET)
    it.wait(100)
    assert told.heard[3:] == [("a", None)] and client.take()
    client.deliver(GET)
    it.accepted("a").deliver(b"SSH-2.0\r\n")
    assert told.heard[4:] == [("a", None)] and client.take()
    client.deliver(GET)
    it.accepted("a").deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    it.accepted("a").lose()
    assert told.heard[5:] == [("a", 0.0)]


def test_the_keep_alive_race_is_no_failure(it: House, told: Told) -> None:
    """A backend that closes a kept connection just as it is used again has not failed."""
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(b"HTTP/1.1 204 No Content\r\n\r\n")
    client.deliver(GET)
    it.accepted().lose()
    it.accepted().deliver(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert told.heard == [("a", 0.0), ("a", 0.0)]


def test_nobody_is_told_who_does_not_ask(house: Make) -> None:
    """A cluster whose balancer does not want to know measures nothing."""
    assert house().cluster.timed is None


def test_tcp(told: Told) -> None:
    """For TCP it is the time until the backend is connected."""
    clock = Clock()
    endpoints = {"a": MemoryEndpoint(hold=True), "b": MemoryEndpoint(hold=True)}
    members = [Member(Backend(id, ""), endpoint, clock, connect_timeout=5) for id, endpoint in endpoints.items()]
    factory = TCPFrontendFactory(Cluster(ClusterSpec("t", ()), members, NoAffinity(), told), Sweep(clock, 0.5))

    def connect() -> MemoryTransport:
        return MemoryTransport(factory.buildProtocol(IPv4Address("TCP", "203.0.113.9", 5)))

    clients = [connect()]
    clock.advance(0.4)
    endpoints["a"].accept()
    clients.append(connect())
    endpoints["a"].refuse(ConnectError())
    clock.advance(0.1)
    endpoints["b"].accept()
    clients.append(connect())
    for client in clients:
        client.lose()
    clock.advance(1)
    for transport in endpoints["a"].transports + endpoints["b"].transports:
        transport.turn()
    assert told.heard == [("a", 0.4), ("a", None), ("b", 0.1)] and not factory.connections
