"""Affinities that do more than recall and bind: elsewhere, strict, looking at answers, writing into cookies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface import implementer

from stickyproxy.config.sessions import Sessions
from stickyproxy.config.specs import Limits, Route
from stickyproxy.interfaces import IAffinity, IAnsweringAffinity, IHidingAffinity, IStrictAffinity
from stickyproxy.model import GONE, Arrival, Outcome, ResponseHead
from stickyproxy.sansio.fields import changed
from stickyproxy.sansio.http1 import parse_request_head

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Home: here\r\n\r\nok"

HEAD = parse_request_head(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", Limits())


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
    def lost_status(self, arrival: Arrival) -> int:
        assert arrival.head is not None
        return 404 if arrival.head.target != b"/lenient" else 0


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
    for other, backend in ((b"/lenient", "a"), (b"/", "b")):
        client.deliver(get(other))
        it.accepted(backend).deliver(OK)
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


def sessions(**policies: object) -> dict[str, object]:
    return {"sessions": Sessions(**policies)}  # type: ignore[arg-type]


def bound(it: House, backend: str) -> bytes:
    """The cookie of a client that is bound to ``backend``."""
    set_cookie = it.cluster.affinity.bind(Arrival("192.0.2.1", False, HEAD), backend)
    assert set_cookie is not None
    return b"Cookie: " + set_cookie.partition(b";")[0]


def test_waiting_for_ones_own(house: Make) -> None:
    """With the policy to wait, a client whose backend restarts is served by it as soon as it is back."""
    it = house(sessions(when_down="wait", grace=2.0))
    it.endpoints["b"].error = ConnectError()
    client, stranger = it.client(), it.client()
    client.deliver(get(b"/", bound(it, "b")))
    it.wait(1.5)
    assert client.take() == b"" and not it.endpoints["a"].transports
    stranger.deliver(get())
    it.accepted("a").deliver(OK)
    assert stranger.take().startswith(b"HTTP/1.1 200")
    it.endpoints["b"].error = None
    it.wait(0.3)
    it.accepted("b").deliver(OK)
    assert client.take().startswith(b"HTTP/1.1 200")
    assert [entry.outcome for entry in it.entries] == [Outcome.NEW, Outcome.KEPT]


def test_waiting_has_an_end(house: Make) -> None:
    """When the time to wait is over another backend serves; who leaves before is not waited for."""
    it = house(sessions(when_down="wait", grace=1.0))
    it.endpoints["b"].error = ConnectError()
    client, impatient = it.client(), it.client()
    client.deliver(get(b"/", bound(it, "b")))
    impatient.deliver(get(b"/", bound(it, "b")))
    it.wait(0.5)
    impatient.lose()
    it.wait(1.0)
    assert len(it.endpoints["a"].transports) == 1
    it.accepted("a").deliver(OK)
    assert b"Set-Cookie: SRV=" in client.take()


def test_nobody_else_serves(house: Make) -> None:
    """With the policy to fail, a client whose backend is down gets 503, and keeps its cookie."""
    it = house(sessions(when_down="fail"))
    it.endpoints["b"].error = ConnectError()
    client = it.client()
    client.deliver(get(b"/", bound(it, "b")))
    answer = client.take()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"Set-Cookie" not in answer


def test_back_home(house: Make) -> None:
    """With ``return_home`` a client is elsewhere only while its backend is down, and its cookie stays."""
    it = house(sessions(return_home=True))
    it.endpoints["b"].error = ConnectError()
    client, cookie = it.client(), bound(it, "b")
    client.deliver(get(b"/", cookie))
    it.accepted("a").deliver(OK)
    assert b"Set-Cookie" not in client.take()
    it.endpoints["b"].error = None
    client.deliver(get(b"/", cookie))
    it.accepted("b").deliver(OK)
    assert b"Set-Cookie" not in client.take()
    assert [entry.outcome for entry in it.entries] == [Outcome.AWAY, Outcome.KEPT]


@pytest.mark.parametrize(
    ("field", "set_cookie", "then"),
    [
        (b"Sticky-Move: b", b"Set-Cookie: SRV=", "b"),
        (b"Sticky-Release: 1", b"; Max-Age=0\r\n", None),
        (b"Sticky-TTL: 60", b"; Max-Age=60\r\n", "a"),
    ],
)
def test_steered_by_the_backend(house: Make, field: bytes, set_cookie: bytes, then: str | None) -> None:
    """Where it may, a backend moves a session, ends it or gives it a lifetime; the client sees the cookie alone."""
    it = house(sessions(steering=True))
    client = it.client()
    client.deliver(get(b"/", bound(it, "a")))
    it.accepted("a").deliver(OK.replace(b"X-Home: here", field))
    answer = client.take()
    assert set_cookie in answer and b"Sticky-" not in answer
    given = answer.partition(b"Set-Cookie: ")[2].partition(b";")[0]
    arrival = Arrival("192.0.2.1", False, HEAD._replace(named={b"cookie": [given]}))
    recalled = it.cluster.affinity.recall(arrival)
    assert recalled == then


def test_a_substitute_does_not_keep_whom_it_gives_a_lifetime(house: Make) -> None:
    """Who is away from home stays bound to it, whatever another backend says of the time."""
    it = house(sessions(steering=True, return_home=True))
    it.endpoints["b"].error = ConnectError()
    client = it.client()
    client.deliver(get(b"/", bound(it, "b")))
    it.accepted("a").deliver(OK.replace(b"X-Home: here", b"Sticky-TTL: 60"))
    assert b"Set-Cookie" not in client.take()


def test_clients_cannot_steer(house: Make) -> None:
    """No backend is told by a client what it might say back, and no answer's end says it to a client."""
    it = house(sessions(steering=True))
    client = it.client()
    client.deliver(get(b"/", b"Sticky-Move: b", b"sticky-pin: 1"))
    backend = it.accepted("a")
    assert b"sticky-" not in backend.take().lower()
    backend.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSticky-Move: b\r\nDigest: 1\r\n\r\n")
    answer = client.take()
    assert b"Digest: 1" in answer and b"Sticky-" not in answer


def test_not_steered(house: Make) -> None:
    """Where it may not, nothing of it has an effect, and the client does not see it either."""
    it = house()
    client = it.client()
    client.deliver(get(b"/", bound(it, "a")))
    it.accepted("a").deliver(OK.replace(b"X-Home: here", b"Sticky-Move: b"))
    answer = client.take()
    assert b"Set-Cookie" not in answer and b"Sticky-" not in answer


def explained(answer: bytes) -> list[bytes]:
    return re.findall(rb"X-Sticky-Explain: ([^\r]*)\r\n", answer)


def test_explained_to_a_trusted_proxy(house: Make) -> None:
    """A trusted proxy that asks is told why: route, affinity, backends, and who served; the backend sees nothing."""
    it = house(trusted_proxies=("198.51.100.0/24",), routes=(Route("app", None, "/shop"),))
    client = it.client()
    client.deliver(get(b"/shop/1", b"X-Sticky-Explain: 1"))
    assert b"explain" not in it.accepted("a").take().lower()
    it.accepted("a").deliver(OK)
    assert explained(client.take()) == [
        b"route: host (any), path /shop leads to cluster app",
        b"affinity none: knows nothing of this client",
        b"backend a is up, weight 1, serves 0",
        b"backend b is up, weight 1, serves 0",
        b"served by a: the balancer round-robin chose it for a new client",
    ]
    it.endpoints["a"].error = it.endpoints["b"].error = ConnectError()
    it.cluster.close_idle()
    client.deliver(get(b"/", b"X-Sticky-Explain: 1"))
    answer = client.take()
    assert (
        answer.startswith(b"HTTP/1.1 502") and explained(answer)[0] == b"route: none matches, so it goes to cluster app"
    )


@pytest.mark.parametrize(
    "told", [b"X-Forwarded-For: 203.0.113.9", b"Forwarded: for=unknown", b"X-Real-IP: ::1", b"Via: 1.1 x"]
)
def test_not_explained_to_clients_of_a_trusted_proxy(house: Make, told: bytes) -> None:
    """A trusted proxy passes on whatever fields its clients make up: it is not told what they want to know."""
    it = house(trusted_proxies=("198.51.100.0/24",))
    client = it.client()
    client.deliver(get(b"/", b"X-Sticky-Explain: 1", told))
    it.accepted("a").deliver(OK)
    answer = client.take()
    assert answer.endswith(b"ok") and explained(answer) == []


def test_not_explained_to_strangers(house: Make) -> None:
    """Nobody else is told anything."""
    it = house()
    client = it.client()
    client.deliver(get(b"/", b"X-Sticky-Explain: 1"))
    assert b"explain" not in it.accepted("a").take().lower()
    it.accepted("a").deliver(OK)
    assert explained(client.take()) == []
