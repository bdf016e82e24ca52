"""What clients meet takes a backend out, and what a client gets whose backend is down by probes or ejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectError
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config.health import Eject
from stickyproxy.config.named import Probe
from stickyproxy.config.sessions import Sessions
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.config.specs import Limits
from stickyproxy.member import Member
from stickyproxy.model import Arrival, Backend, Outcome
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.health import Thresholds
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryEndpoint, MemoryTransport
from stickyproxy.wires.tcp import TCPFrontendFactory

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HEAD = parse_request_head(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", Limits())
ONCE = Thresholds(1, 1)


def status(code: int) -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % code


def bound(it: House, backend: str) -> bytes:
    """A request of a client that is bound to ``backend``."""
    set_cookie = it.cluster.affinity.bind(Arrival("192.0.2.1", False, HEAD), backend)
    assert set_cookie is not None
    return GET[:-2] + b"Cookie: " + set_cookie.partition(b";")[0] + b"\r\n\r\n"


def probed(it: House, backend: str, failure: str | None) -> None:
    """A probe of ``backend`` has ended."""
    health = it.cluster.members[backend].health
    assert health is not None
    health.probe_ended(failure, ONCE)


def ejected(it: House) -> set[str]:
    return set() if it.cluster.health is None else set(it.cluster.health.down)


def ask(it: House, answer: bytes, request: bytes = GET) -> None:
    """A client of a: what that answers, b"" for closing instead."""
    client = it.client()
    client.deliver(bound(it, "a") if request is GET else request)
    transport = it.accepted("a")
    transport.deliver(answer)
    transport.lose()
    client.lose()
    it.wait(0.1)


@pytest.mark.parametrize("answer", [status(500), status(503), b"", b"SSH-2.0\r\n", OK[:-1]])
def test_answers_that_fail_take_a_backend_out(house: Make, answer: bytes) -> None:
    """Three in a row, of whatever kind; then it is out for a while, and back."""
    it = house({"eject": Eject(failures=3, time=10.0)})
    ask(it, answer)
    ask(it, answer)
    ask(it, status(404))  # a good answer, if not a welcome one
    for _ in range(2):
        ask(it, answer)
    for code in (501, 505, 200):
        ask(it, status(code))
    for _ in range(3):
        assert not ejected(it)
        ask(it, answer)
        if answer == OK[:-1]:  # its head was a good answer
            return
    assert ejected(it) == {"a"}
    assert "ejected for 10 s more" in repr(it.cluster.members["a"])
    client = it.client()
    client.deliver(bound(it, "a"))
    assert it.accepted("b").take().startswith(b"GET ")
    client.lose()
    it.wait(10)
    assert not ejected(it)
    ask(it, b"")
    assert ejected(it) == {"a"} and "ejected for 20 s more" in repr(it.cluster.members["a"])


def test_silence_and_refused_handshakes_count(house: Make) -> None:
    """An answer that does not come in time, and a WebSocket that is not accepted as it should."""
    it = house({"eject": Eject(failures=3)})
    for _ in range(2):
        client = it.client()
        client.deliver(UPGRADE)
        it.accepted("a" if len(it.endpoints["a"].transports) else "b")
        client.lose()
    it = house({"eject": Eject(failures=2)})
    cookie = bound(it, "a")[len(GET) - 2 :]
    ask(it, status(500), UPGRADE[:-2] + cookie)
    client = it.client()
    client.deliver(bound(it, "a"))
    it.wait(62)
    assert client.take().startswith(b"HTTP/1.1 504 ") and ejected(it) == {"a"}


def test_who_cannot_be_reached_is_not_tried_each_time(house: Make) -> None:
    """After some refused connections nobody waits for that backend; the other one is never taken out besides."""
    it = house({"eject": Eject(failures=2, time=10.0)})
    it.endpoints["a"].error = ConnectError("nobody there")
    for _ in range(6):
        client = it.client()
        client.deliver(GET)
        it.accepted("b").deliver(OK)
        assert client.take().startswith(b"HTTP/1.1 200")
        client.lose()
    assert it.endpoints["a"].attempts == 2 and ejected(it) == {"a"}
    for _ in range(4):
        client = it.client()
        client.deliver(GET)
        it.accepted("b").deliver(status(500))
    assert ejected(it) == {"a"}
    it.cluster.stop()
    assert "nobody there" in repr(it.cluster.members["a"])


def test_the_keep_alive_race_is_no_failure(house: Make) -> None:
    """A kept connection that is closed just as it is used again says nothing of the backend."""
    it = house({"eject": Eject(failures=1)})
    client = it.client()
    for _ in range(3):
        client.deliver(bound(it, "a"))
        it.accepted("a").deliver(OK)
        client.deliver(bound(it, "a"))
        it.accepted("a").lose()
        it.accepted("a").deliver(OK)
    assert not ejected(it)


def test_tcp_counts_connections() -> None:
    """For TCP a connection ends the row of those that failed."""
    clock, endpoints = Clock(), {name: MemoryEndpoint() for name in "ab"}
    members = [Member(Backend(id, ""), endpoint, clock, connect_timeout=5) for id, endpoint in endpoints.items()]
    cluster = Cluster(ClusterSpec("t", (), eject=Eject(failures=2)), members, NoAffinity(), RoundRobin())
    factory = TCPFrontendFactory(cluster, Sweep(clock, 0.5))
    clients = []
    for attempt, error in enumerate((ConnectError(), None, ConnectError(), ConnectError()), 1):
        assert cluster.health is not None and not cluster.health.down
        endpoints["a"].error = error
        while endpoints["a"].attempts < attempt:
            clients.append(MemoryTransport(factory.buildProtocol(IPv4Address("TCP", "203.0.113.9", 5))))
    assert cluster.health is not None and cluster.health.down == {"a"}
    cluster.stop()
    for client in clients:
        client.lose()


# What a client gets whose backend is down by its probe: what he gets where it cannot be reached.


def site(house: Make, **more: Any) -> House:
    it = house({"probe": Probe("tcp"), "sessions": Sessions(**more)})
    probed(it, "a", None)
    probed(it, "b", "no answer")
    return it


def test_rebind(house: Make) -> None:
    """Another one at once, for good; nobody tries his own first."""
    it = site(house)
    client = it.client()
    client.deliver(bound(it, "b"))
    it.accepted("a").deliver(OK)
    assert b"Set-Cookie: SRV=" in client.take() and it.endpoints["b"].attempts == 0
    assert it.entries[-1].outcome is Outcome.REBOUND


def test_fail(house: Make) -> None:
    """503 at once."""
    it = site(house, when_down="fail")
    client = it.client()
    client.deliver(bound(it, "b"))
    assert client.take().startswith(b"HTTP/1.1 503 ") and it.endpoints["b"].attempts == 0


def test_return_home(house: Make) -> None:
    """Another one for as long as it takes, with one's cookie kept."""
    it = site(house, return_home=True)
    client = it.client()
    request = bound(it, "b")
    client.deliver(request)
    it.accepted("a").deliver(OK)
    assert b"Set-Cookie" not in client.take()
    probed(it, "b", None)
    client.deliver(request)
    it.accepted("b").deliver(OK)
    assert b"Set-Cookie" not in client.take()
    assert [entry.outcome for entry in it.entries] == [Outcome.AWAY, Outcome.KEPT]


def test_wait(house: Make) -> None:
    """One's own as soon as it is up, untried before; others are served meanwhile, and who leaves is forgotten."""
    it = site(house, when_down="wait", grace=2.0)
    client, stranger, impatient = it.client(), it.client(), it.client()
    client.deliver(bound(it, "b"))
    impatient.deliver(bound(it, "b"))
    it.wait(1)
    impatient.lose()
    stranger.deliver(GET)
    it.accepted("a").deliver(OK)
    assert stranger.take() and client.take() == b"" and it.endpoints["b"].attempts == 0
    probed(it, "b", None)
    it.wait(0.3)
    it.accepted("b").deliver(OK)
    assert client.take().startswith(b"HTTP/1.1 200") and it.endpoints["b"].attempts == 1
    assert [entry.outcome for entry in it.entries[1:]] == [Outcome.NEW, Outcome.KEPT]


def test_waiting_has_an_end(house: Make) -> None:
    """When the grace is over another one serves."""
    it = site(house, when_down="wait", grace=1.0)
    client = it.client()
    client.deliver(bound(it, "b"))
    it.wait(0.7)
    assert not it.endpoints["a"].transports
    it.wait(0.6)
    it.accepted("a").deliver(OK)
    assert b"Set-Cookie: SRV=" in client.take() and it.endpoints["b"].attempts == 0


def test_all_down_is_as_none(house: Make) -> None:
    """Where all are down everybody gets his own, also who would wait for it."""
    for policy in ("rebind", "wait", "fail"):
        it = site(house, when_down=policy)
        probed(it, "a", "no answer")
        client = it.client()
        client.deliver(bound(it, "b"))
        it.accepted("b").deliver(OK)
        assert client.take().startswith(b"HTTP/1.1 200 ")


def test_idle_connections_to_who_is_down_are_closed(house: Make) -> None:
    """They may be as dead as the backend is; what is in progress goes on."""
    it = site(house)
    probed(it, "b", None)
    client, other = it.client(), it.client()
    client.deliver(bound(it, "b"))
    other.deliver(bound(it, "b"))
    idle, busy = it.endpoints["b"].transports
    idle.deliver(OK)
    probed(it, "b", "no answer")
    idle.turn()
    busy.deliver(OK)
    assert other.take().startswith(b"HTTP/1.1 200 ") and "idle connections 1" in repr(it.cluster.members["b"])


def test_it_is_explained(house: Make) -> None:
    """Who asks why is told who is not well, and for what reason."""
    it = house({"probe": Probe("tcp")}, trusted_proxies=("198.51.100.7/32",))
    probed(it, "b", "no answer")
    client = it.client()
    client.deliver(GET[:-2] + b"X-Sticky-Explain: 1\r\n\r\n")
    it.accepted("a").deliver(OK)
    assert b"X-Sticky-Explain: backend b is not well: down for 0 s (no answer)\r\n" in client.take()


def test_it_is_not_in_the_way(house: Make) -> None:
    """A cluster without probe and ejection has nothing of it; nor has one where all are up."""
    it = house()
    assert it.cluster.health is None and it.cluster.members["a"].health is None
    it = site(house)
    around = it.cluster.select
    probed(it, "b", None)
    assert it.cluster.select != around and it.cluster.select is it.cluster.layers._select
