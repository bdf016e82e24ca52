"""A case of the corpus in memory: one client, one backend, and a next request that must get its own answer."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
from answers_judge import Case, Ended, Sees, Then, judge, ok
from house import House
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.logger import globalLogPublisher
from twisted.web.server import Request, Site

from stickyproxy.config import specs
from stickyproxy.model import Backend
from stickyproxy.testing import MemoryTransport
from stickyproxy.wires.resource import AffinityRequest, AffinityResource

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
PEER = IPv4Address("TCP", "198.51.100.7", 40000)


def open_house(count: int = 1) -> House:
    """A frontend before so many backends."""
    backends = tuple(Backend(name, "tcp:127.0.0.1:9001") for name in "abc"[:count])
    return House(specs.Frontend("web", ("tcp:8080",), "app"), specs.Cluster("app", backends))


class Face:
    """How a client gets to the backends of ``house``: by its frontend, or by a site of twisted.web."""

    def __init__(self, house: House, request_factory: Any = None) -> None:
        self.house = house
        self._site = None
        if request_factory is not None:
            resource = AffinityResource(house.cluster, house.clock)
            self._site = Site(resource, requestFactory=request_factory, reactor=house.clock)
            self._site.logFile = io.StringIO()

    def client(self) -> MemoryTransport:
        if self._site is None:
            return self.house.client()
        return MemoryTransport(self._site.buildProtocol(PEER), peer=PEER)

    def adapt(self, sees: Sees) -> Sees:
        """What comes through: twisted.web says 100 itself."""
        if self._site is None:
            return sees
        return attrs.evolve(sees, interim=tuple(status for status in sees.interim if status != 100))


FACES: dict[str, Callable[[House], Face]] = {
    "HTTPFrontend": Face,
    "AffinityRequest": partial(Face, request_factory=AffinityRequest),
    "Request": partial(Face, request_factory=Request),
}


def end_of(client: MemoryTransport) -> Ended:
    """How the connection of ``client`` has ended."""
    client.turn()
    if client.aborted:
        return Ended.ABRUPTLY
    return Ended.CLEANLY if client.half_closed or not client.connected else Ended.NOT


def say(backend: MemoryTransport, pieces: Iterable[bytes], then: Then) -> None:
    """The backend's part, as far as it is let."""
    for piece in pieces:
        if backend.connected and not backend.aborted:
            backend.deliver(piece)
    backend.turn()
    if backend.connected and then is Then.CLOSES:
        backend.half_close()
    elif backend.connected and then is Then.RESETS:
        backend.lose(ConnectionLost())


@contextmanager
def quiet() -> Iterator[None]:
    """No failure is logged meanwhile."""
    failures: list[Any] = []
    observer = lambda event: failures.append(event) if "log_failure" in event else None  # noqa: E731
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)
    assert not failures


def play(case: Case, pieces: Iterable[bytes], face: Callable[[House], Face] = Face) -> None:
    """Have the backend say ``pieces``; raise ``AssertionError`` where somebody sees what he may not."""
    with quiet():
        _play(case, pieces, face(open_house()))


def _play(case: Case, pieces: Iterable[bytes], face: Face) -> None:
    it = face.house
    client = face.client()
    client.deliver(case.request)
    backend = it.accepted()
    assert backend.take().startswith(case.method + b" /case/")
    say(backend, pieces, case.then)
    if case.then is Then.WAITS:
        it.wait(61 if case.sees.status == 504 or not case.sees.whole else 0)
    ended = end_of(client)
    face.adapt(case.sees).check(judge(client.take(), case.method, ended), ended)
    if case.later:
        say(backend, [case.later], Then.WAITS)
    backend.turn()
    assert backend.connected is case.kept
    assert (client.take(), it.cluster.members["a"].active) == (b"", 0)
    if ended is not Ended.NOT:
        client = face.client()
    client.deliver(NEXT)
    assert (it.accepted() is backend) is case.kept
    assert it.endpoints["a"].attempts == 1 + (not case.kept)
    assert it.accepted().take().startswith(b"GET /next ")
    it.accepted().deliver(ok(1))
    seen = judge(client.take(), b"GET", end_of(client))
    assert (seen.status, seen.content, seen.whole, seen.rest) == (200, b"own 1", True, b"")


def play_early(case: Case, pieces: Iterable[bytes], face: Callable[[House], Face]) -> None:
    """The same in the middle of a POST: that ends both connections, and the rest of it reaches nobody."""
    with quiet():
        _play_early(case, pieces, face(open_house()))


def _play_early(case: Case, pieces: Iterable[bytes], face: Face) -> None:
    it = face.house
    client = face.client()
    head = b"POST /case/ HTTP/1.%d\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    client.deliver(head % case.minor + b"hello")
    backend = it.accepted()
    assert backend.take().endswith(b"\r\n\r\nhello")
    say(backend, pieces, case.then)
    ended = end_of(client)
    face.adapt(case.sees).check(judge(client.take(), b"POST", ended), ended)
    assert ended is not Ended.NOT
    if client.connected:
        client.deliver(b"world" + NEXT)
    backend.turn()
    assert not backend.connected and it.endpoints["a"].attempts == 1
    assert (client.take(), backend.take(), it.cluster.members["a"].active) == (b"", b"", 0)
    client = face.client()
    client.deliver(NEXT)
    it.accepted().deliver(ok(1))
    assert client.take().endswith(b"own 1")
