"""Affinities that do more than recall and bind: elsewhere, strict, looking at answers, writing into cookies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer

from stickyproxy.interfaces import IAffinity, IAnsweringAffinity, IHidingAffinity, IStrictAffinity
from stickyproxy.model import GONE, Arrival, Outcome, ResponseHead
from stickyproxy.sansio.fields import changed

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Home: here\r\n\r\nok"


def get(path: bytes = b"/", *fields: bytes) -> bytes:
    return b"\r\n".join((b"GET " + path + b" HTTP/1.1", b"Host: example.org", *fields, b"", b""))


@implementer(IAffinity)
class ByPath:
    """The first letter of the path is the backend; it is asked for elsewhere where the path says so."""

    remembers, renews = True, False
    cookie: bytes | None = None

    def __init__(self) -> None:
        self.asked: list[Deferred[str | None]] = []
        self.bound: list[str] = []
        self.cancelled = 0

    def members(self, ids: Iterable[str]) -> None: ...

    def _count(self, deferred: Deferred[str | None]) -> None:
        self.cancelled += 1

    def recall(self, arrival: Arrival) -> str | Deferred[str | None] | None:
        assert arrival.head is not None
        if arrival.head.target == b"/elsewhere":
            self.asked.append(Deferred(self._count))
            return self.asked[-1]
        return arrival.head.target[1:].decode() or None

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        self.bound.append(backend_id)
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        return None


@implementer(IStrictAffinity)
class Strict(ByPath):
    lost_status = 404


@implementer(IHidingAffinity, IAnsweringAffinity)
class Writing(ByPath):
    def __init__(self) -> None:
        super().__init__()
        self.answers: list[tuple[str, int]] = []

    def hide(self, value: bytes) -> bytes:
        return value.replace(b"a~", b"")

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        self.answers.append((backend_id, head.status))
        return head._replace(plain=changed(head.plain, b"x-home", lambda value: value + b" at " + backend_id.encode()))


def test_only_who_is_elsewhere_waits(house: Make) -> None:
    """A look-up that has to wait holds up its own client; all others are served, and then so is he."""
    affinity = ByPath()
    it = house(affinity=affinity)
    waiting, other = it.client(), it.client()
    waiting.deliver(get(b"/elsewhere") + get(b"/a"))
    assert not it.endpoints["a"].transports and not it.endpoints["b"].transports
    other.deliver(get(b"/a"))
    it.accepted("a").deliver(OK)
    assert other.take().endswith(b"ok")
    affinity.asked[0].callback("b")
    assert it.accepted("b").take().startswith(b"GET /elsewhere ")
    it.accepted("b").deliver(OK)
    assert waiting.take().endswith(b"ok")
    assert len(it.endpoints["a"].transports) == 1  # the pipelined request came by the idle connection
    assert [entry.outcome for entry in it.entries] == [Outcome.KEPT] * 2


def test_idle_connections_serve_who_waited(house: Make) -> None:
    """Who waited for a look-up does not need a new connection to its backend."""
    affinity = ByPath()
    it = house(affinity=affinity)
    client = it.client()
    for turn in range(3):
        client.deliver(get(b"/elsewhere"))
        affinity.asked[turn].callback("a")
        it.accepted("a").deliver(OK)
        assert client.take().endswith(b"ok")
    assert len(it.endpoints["a"].transports) == 1


@pytest.mark.parametrize("answer", [None, GONE, "b"])
def test_elsewhere_nothing_is_known(house: Make, answer: str | None) -> None:
    """Whatever the look-up says, or if it comes late, the client gets a backend of the cluster."""
    affinity = ByPath()
    it = house(affinity=affinity)
    client = it.client()
    client.deliver(get(b"/elsewhere"))
    affinity.asked[0].callback(answer)
    served = "b" if answer == "b" else "a"
    it.accepted(served).deliver(OK)
    assert client.take().startswith(b"HTTP/1.1 200")
    assert affinity.bound == ([] if answer == "b" else ["a"])


def test_a_client_that_leaves_is_looked_up_no_more(house: Make) -> None:
    """A client that leaves while it is looked up: nobody connects for it, and nothing is logged as a defect."""
    affinity = ByPath()
    it = house(affinity=affinity)
    client = it.client()
    client.deliver(get(b"/elsewhere"))
    logged: list[LogEvent] = []
    globalLogPublisher.addObserver(logged.append)
    client.lose()
    globalLogPublisher.removeObserver(logged.append)
    assert affinity.cancelled == 1 and not logged
    assert not it.endpoints["a"].transports


def test_strict(house: Make) -> None:
    """Where nobody else may serve them, clients of a backend that is gone are told with the status of the affinity."""
    it = house(affinity=Strict())
    client = it.client()
    client.deliver(get(b"/a"))
    it.accepted("a").deliver(OK)
    client.take()
    client.deliver(get(b"/gone"))
    assert client.take().startswith(b"HTTP/1.1 404 Not Found\r\n")
    client.deliver(get(b"/"))
    it.accepted("a").deliver(OK)
    assert client.take().startswith(b"HTTP/1.1 200")


def test_answers_are_seen_and_cookies_written(house: Make) -> None:
    """An affinity sees each answer and changes its fields, and writes what the backend sees of the cookies."""
    affinity = Writing()
    it = house(affinity=affinity)
    client = it.client()
    client.deliver(get(b"/a", b"Cookie: x=y; ID=a~1"))
    assert b"Cookie: x=y; ID=1\r\n" in it.accepted("a").take()
    it.accepted("a").deliver(OK)
    assert b"X-Home: here at a\r\n" in client.take()
    assert affinity.answers == [("a", 200)]
