"""Probes that run, in memory: when, how many at a time, what they say and what comes of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stickyproxy.cluster import Cluster
from stickyproxy.config.named import Named, Probe
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.errors import ProbeFailed
from stickyproxy.extensions import find_extensions, make
from stickyproxy.interfaces import IProbe, IProbeConnection, IProbed
from stickyproxy.member import Member
from stickyproxy.model import Backend
from stickyproxy.probes import ProbeConnection, Probed, probing_of
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.proxyprotocol import header_v2
from stickyproxy.testing import MemoryEndpoint, MemoryTransport, check_probe

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Even(Random):
    """No chance."""

    def random(self) -> float:
        return 0.0

    def randbytes(self, n: int) -> bytes:
        return b"the sample nonce"[:n]


class Site:
    """A cluster that is probed, on endpoints in memory."""

    def __init__(self, probe: Probe, names: str = "ab", slots: int = 64, **cluster: Any) -> None:
        self.clock = Clock()
        self.endpoints = {name: MemoryEndpoint() for name in names}
        backends = tuple(Backend(name, f"tcp:127.0.0.1:{9000 + position}") for position, name in enumerate(names))
        self.members = {
            backend.id: Member(backend, self.endpoints[backend.id], self.clock, connect_timeout=5)
            for backend in backends
        }
        spec = ClusterSpec("app", backends, probe=probe, **cluster)
        self.cluster = Cluster(spec, self.members.values(), NoAffinity(), RoundRobin())
        self.probing = probing_of(self.cluster, spec, self.clock, find_extensions(), Even(), DeferredSemaphore(slots))
        self.probing.startService()
        self.wait(0)

    def wait(self, seconds: float) -> None:
        self.clock.pump([1 / 64] * round(seconds * 64) or [0])

    def asked(self, name: str = "a") -> MemoryTransport:
        """The last connection to it."""
        return self.endpoints[name].transports[-1]

    def standing(self, name: str = "a") -> str:
        health = self.members[name].health
        assert health is not None
        return health.probed.standing.value


def http(**more: Any) -> Probe:
    return Probe("http", options={"path": "/healthz"}, **more)


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Callable[..., Site]:
    def start(*arguments: Any, **more: Any) -> Site:
        site = Site(*arguments, **more)

        def stop() -> None:
            site.probing.stopService()
            for endpoint in site.endpoints.values():
                for transport in endpoint.transports:
                    transport.lose()
            assert not site.clock.getDelayedCalls()

        request.addfinalizer(stop)
        return site

    return start


@pytest.fixture
def logged() -> Iterator[Callable[[], list[str]]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: [formatEvent(event) for event in events]
    globalLogPublisher.removeObserver(events.append)


def test_a_backend_that_fails_and_comes_back(site: Callable[..., Site], logged: Callable[[], list[str]]) -> None:
    """Down after three failures, up again after two successes; told once each, with the reason and the time."""
    it = site(http(interval=2.0), "a")
    for status in (b"200 OK", b"500 No", b"500 No", b"503 Really", b"200 OK", b"204 Yes"):
        assert it.asked().take().startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        it.asked().deliver(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        it.wait(2)
    assert it.standing() == "up"
    assert logged() == [
        "Backend a of app is up",
        "Backend a of app is down: it answers 503",
        "No backend of app is up",
        "Backend a of app is up again, after 4.0 s",
    ]


def test_only_who_is_up_is_chosen(site: Callable[..., Site]) -> None:
    """New clients go to those that are up; what is not known yet is as good as up."""
    it = site(http(), "abc")

    def chosen() -> set[str]:
        return {it.cluster.select(None).candidate.id for _ in range(6)}  # type: ignore[union-attr]

    untouched = it.cluster.select
    assert chosen() == {"a", "b", "c"}
    it.asked("a").deliver(OK)
    it.asked("b").deliver(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    assert it.standing("b") == "down" and it.standing("c") == "unknown"
    assert chosen() == {"a", "c"}
    it.asked("c").deliver(OK)
    assert "down for 0 s (it answers 404)" in repr(it.members["b"])
    for _ in range(2):
        it.wait(2)
        for name in "abc":
            it.asked(name).deliver(OK)
    assert it.cluster.select == untouched and "up for 0 s" in repr(it.members["b"])


@pytest.mark.parametrize(("policy", "served"), [("try", {"a", "b"}), ("fail", set())])
def test_when_all_are_down(site: Callable[..., Site], policy: str, served: set[str]) -> None:
    """All of them are tried, or nobody is served, as I like it."""
    it = site(http(), when_all_down=policy)
    for name in "ab":
        it.asked(name).deliver(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    choices = [it.cluster.select(None) for _ in range(4)]
    assert {choice.candidate.id for choice in choices if choice is not None} == served  # type: ignore[union-attr]


def test_times(site: Callable[..., Site]) -> None:
    """Probes begin an interval apart, faster while a backend is down; a slow one is never asked twice at a time."""
    it = site(http(interval=2.0, interval_down=0.5, timeout=3.0, fall=1), "a")
    it.wait(0.25)
    it.asked().deliver(OK)
    it.wait(1.5)
    assert len(it.endpoints["a"].transports) == 1
    it.wait(0.25)
    assert len(it.endpoints["a"].transports) == 2
    it.wait(2.75)
    assert len(it.endpoints["a"].transports) == 2 and it.standing() == "up"  # and its answer does not come
    it.wait(0.3)
    assert it.standing() == "down" and "no verdict within 3 s" in repr(it.members["a"])
    assert len(it.endpoints["a"].transports) == 3
    it.asked().deliver(OK)
    it.wait(0.55)
    assert len(it.endpoints["a"].transports) == 4


def test_jitter() -> None:
    """Each probe is early by another share of the interval, never late."""
    clock, endpoint = Clock(), MemoryEndpoint(error=ConnectError())
    member = Member(Backend("a", "tcp:h:1"), endpoint, clock, connect_timeout=5)
    begun: list[float] = []

    @implementer(IProbe)
    class Noting:
        async def probe(self, backend: Any) -> None:
            begun.append(clock.seconds())

    spec = ClusterSpec("app", (Backend("a", "tcp:h:1"),), probe=Probe("tcp", interval=1.0, jitter=0.5))
    cluster = Cluster(spec, [member], NoAffinity(), RoundRobin())
    probing = probing_of(cluster, spec, clock, find_extensions(), Random(4))
    probing._probe = Noting()
    probing.startService()
    clock.pump([0.01] * 3000)
    probing.stopService()
    gaps = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert 0.5 <= min(gaps) < 0.6 and 0.9 < max(gaps) <= 1.02
    assert not clock.getDelayedCalls()


def test_not_all_at_once(site: Callable[..., Site]) -> None:
    """So many probes at a time and no more; waiting for one's turn is not the backend's fault."""
    it = site(http(timeout=1.0), "abcd", slots=2)
    begun = [name for name in "abcd" if it.endpoints[name].transports]
    assert len(begun) == 2
    for name in begun:
        it.asked(name).deliver(OK)
    assert all(it.endpoints[name].transports for name in "abcd")
    it.wait(0.5)
    for name in set("abcd") - set(begun):
        it.asked(name).deliver(OK)
    assert {it.standing(name) for name in "abcd"} == {"up"}


def test_a_stop_ends_what_is_in_progress(site: Callable[..., Site]) -> None:
    """When the service stops no probe goes on, and nothing is told of those that were cut."""
    it = site(http(), "a")
    it.asked().take()
    it.probing.stopService()
    it.asked().turn()
    assert it.standing() == "unknown"
    it.wait(10)
    assert len(it.endpoints["a"].transports) == 1
    it.probing.startService()  # and it may begin again
    it.wait(0)
    it.asked().deliver(OK)
    assert it.standing() == "up"


def test_what_a_probe_sends_first(site: Callable[..., Site]) -> None:
    """Where backends expect a PROXY header a probe has one: that of a connection of the proxy's own."""
    it = site(http(), "a", send_proxy_protocol=2)
    assert it.asked().take().startswith(header_v2(None, None) + b"GET /healthz ")


@pytest.mark.parametrize("error", [ConnectError("nobody there"), None])
def test_tcp(site: Callable[..., Site], error: Exception | None) -> None:
    """It takes a connection, or it does not; nothing is sent."""
    it = site(Probe("tcp"), "a")
    assert it.standing() == "up" and it.asked().written == b""
    it.endpoints["a"].error = error
    it.wait(6)
    assert it.standing() == ("down" if error else "up")
    if error:
        assert "nobody there" in repr(it.members["a"])


SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@pytest.mark.parametrize("ping", [False, True])
def test_websocket(site: Callable[..., Site], ping: bool) -> None:
    """A handshake, perhaps a ping and its pong, and a close of 1000."""
    it = site(Probe("websocket", options={"path": "/ws", "ping": ping}), "a")
    assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" in it.asked().take()
    it.asked().deliver(SWITCH)
    if ping:
        assert it.asked().take()[:2] == b"\x89\x88" and it.standing() == "unknown"
        it.asked().deliver(b"\x81\x02hi\x8a\x08the samp")
    assert it.standing() == "up" and it.asked().take()[:2] == b"\x88\x82"
    it.wait(2)
    it.asked().deliver(SWITCH.replace(b"s3pP", b"aaaa") if not ping else SWITCH)
    it.asked().lose(None if not ping else ConnectionLost())
    assert "WebSocket handshake" in repr(it.members["a"]) if not ping else "non-clean" in repr(it.members["a"])


def test_ones_own_probe() -> None:
    """A probe of my own talks in turns, and what it raises is the reason."""

    @implementer(IProbe)
    class Redis:
        async def probe(self, backend: Any) -> None:
            connection = await backend.connect()
            connection.write(b"PING\r\n")
            answer = await connection.read()
            if answer != b"+PONG\r\n":
                raise ProbeFailed("it does not pong")

    clock, endpoint = Clock(), MemoryEndpoint()
    member = Member(Backend("r", "tcp:h:1"), endpoint, clock, connect_timeout=5)
    probed = Probed(member, "h", b"", clock)
    verifyObject(IProbed, probed)
    verifyObject(IProbeConnection, ProbeConnection(clock))
    verifyObject(IProbe, Redis())
    for answer, expected in ((b"+PONG\r\n", None), (b"-ERR\r\n", ProbeFailed)):
        outcome: list[Any] = []
        Deferred.fromCoroutine(Redis().probe(probed)).addBoth(outcome.append)
        assert endpoint.transports[-1].take() == b"PING\r\n"
        endpoint.transports[-1].deliver(answer)
        assert outcome == [None] if expected is None else outcome[0].check(expected)
    probed.close()
    for transport in endpoint.transports:
        transport.turn()
    assert not clock.getDelayedCalls()


def test_every_probe_is_one() -> None:
    """What is installed keeps the contract, with its defaults."""
    found = find_extensions().of(IProbe)
    assert {"tcp", "http", "websocket"} <= set(found)
    for name in ("http", "websocket"):
        verifyObject(IProbe, make(found[name], {"path": "/"}, random=Random(1)))
    verifyObject(IProbe, make(found["tcp"], {}))
    assert attrs.asdict(Probe("tcp"))["links"] == () and isinstance(Probe("tcp"), Named)


def test_the_contract() -> None:
    """The kit says of a probe whether it keeps its contract; those that come with stickyproxy do."""
    http = {"path": "/healthz", "body": re.compile(b"fine")}
    made = find_extensions().of(IProbe)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    check_probe(
        lambda: made["http"].make(**http),
        {b"GET /healthz HTTP/1.1\r\n": [head[:9], head[9:] + b"fi", b"ne"]},
        {b"GET ": [head.replace(b"200", b"503") + b"fine"], b"GET /": [head + b"sick"], b"G": [head], b"GE": []},
    )
    check_probe(made["tcp"].make, {b"": []}, {})

    class Deaf:
        """Is content with everything, and asks nobody."""

        async def probe(self, backend: object) -> None:
            """It is well."""

    for probe in (implementer(IProbe)(Deaf), made["tcp"].make):
        with pytest.raises(AssertionError, match="expected that"):
            check_probe(probe, {b"": [b"fine"]}, {b"": [b"sick"]})
