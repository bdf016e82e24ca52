"""A backend, drained: who may still come, who is told to go, and what is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

import pytest
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config import specs
from stickyproxy.config.named import Named
from stickyproxy.control.drained import BackendSubject, session_count
from stickyproxy.control.draining import COUNTING, TICK, Connection, Drain, Manner, Stage
from stickyproxy.member import Member
from stickyproxy.model import Arrival, Backend, BackendState
from stickyproxy.sansio.affinity import ChainAffinity, CookieAffinity, NoAffinity
from stickyproxy.sansio.affinity.table import TableAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.selection import Choice
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing, Tokens
from stickyproxy.testing import MemoryEndpoint

BACKENDS = (Backend("a", "tcp:127.0.0.1:1"), Backend("b", "tcp:127.0.0.1:2"))


class Tunnel:
    """An open tunnel of a member; it ends when it is told to, if ``polite``."""

    def __init__(self, member: Member, polite: bool = True) -> None:
        self.member = member
        self.polite = polite
        self.told: list[int | None] = []
        member.tunnels.add(self)
        member.active += 1

    def drain(self, code: int | None = None) -> None:
        self.told.append(code)
        if self.polite:
            self.abort()

    def abort(self) -> None:
        self.member.tunnels.discard(self)
        self.member.active -= 1


class Request:
    """A request that ``member`` is answering, on a client's connection."""

    def __init__(self, member: Member) -> None:
        self.member = member
        member.active += 1

    def drain(self, code: int | None = None) -> None:
        raise AssertionError("the client's connection may go on")

    def abort(self) -> None:
        self.member.active -= 1


class House:
    """A cluster of two; clients are known by their addresses, in a table."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.table = SessionTable(self.clock.seconds, idle=60.0)
        self.affinity = TableAffinity(find_key("source"), "source", self.table)
        members = [Member(backend, MemoryEndpoint(), self.clock, connect_timeout=5) for backend in BACKENDS]
        self.cluster = Cluster(specs.Cluster("app", BACKENDS), members, self.affinity, RoundRobin())
        self.a, self.b = members

    def arrive(self, client: str) -> str | None:
        """Who serves ``client`` now."""
        arrival = Arrival(client, False, None)
        choice = self.cluster.select(arrival)
        assert isinstance(choice, Choice | None)
        if choice is not None:
            self.cluster.bind(arrival, choice)
        return choice.candidate.id if choice else None

    def drain(self, manner: Manner, serving: Callable[[Member], Iterable[Connection]] = lambda member: ()) -> Drain:
        return Drain(BackendSubject(self.cluster, self.a, serving), manner, self.clock, Random(1))

    def go(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)


def test_the_two_stages() -> None:
    """First bound clients stay and new ones go elsewhere; then it closes, and clients are bound anew as they come."""
    house = House()
    assert (house.arrive("192.0.2.1"), house.arrive("192.0.2.2")) == ("a", "b")
    tunnel = Tunnel(house.a)
    drain = house.drain(Manner(stay=10.0, window=1.0, code=1012))
    assert (drain.stage, house.a.state) == (Stage.STAYING, BackendState.DRAIN)
    house.go(5)
    assert [house.arrive(f"192.0.2.{number}") for number in (1, 2, 3, 4)] == ["a", "b", "b", "b"]
    assert (drain.left(), tunnel.told) == ((1, 1), [])
    house.go(6.5)
    assert (drain.stage, house.a.state, tunnel.told) == (Stage.DONE, BackendState.MAINTENANCE, [1012])
    assert house.arrive("192.0.2.1") == "b"


def test_it_is_over_when_everybody_has_gone() -> None:
    """Without a limit of time a drain waits until sessions and sockets have gone by themselves."""
    house = House()
    house.arrive("192.0.2.1")
    tunnel = Tunnel(house.a)
    drain = house.drain(Manner(stay=None))
    house.go(30)
    tunnel.abort()
    house.go(10)
    assert drain.stage is Stage.STAYING and drain.progress().remaining is None
    house.clock.advance(61)  # the session is idle too long
    house.go(COUNTING + 2 * TICK)
    assert (drain.stage, drain.left()) == (Stage.DONE, (0, 0))


def test_what_is_left_at_the_deadline() -> None:
    """WebSockets that do not close and requests that do not end are cut; those of another backend are not touched."""
    house = House()
    tunnel, other = Tunnel(house.a, polite=False), Tunnel(house.b)
    requests = [Request(house.a), Request(house.b)]
    drain = house.drain(Manner(window=0.0, deadline=2.0), lambda member: [r for r in requests if r.member is member])
    house.go(1)
    assert drain.left().sockets == 2 and tunnel.told == [None]
    house.go(1.5)
    assert (drain.stage, drain.cut, house.a.active, house.b.active, other.told) == (Stage.CUT, 2, 0, 2, [])


@pytest.mark.parametrize("before", list(BackendState))
def test_cancelled(before: BackendState) -> None:
    """Cancelled, the backend is what it was before."""
    house = House()
    house.a.set_state(before)
    Tunnel(house.a, polite=False)
    drain = house.drain(Manner(stay=1.0))
    house.go(2)
    assert house.a.state is BackendState.MAINTENANCE
    drain.cancel()
    assert (house.a.state, drain.stage) == (before, Stage.CANCELLED)


def test_somebody_decides_otherwise() -> None:
    """Set up again by hand, or by the file, it drains no more; and what was decided stands."""
    house = House()
    tunnel = Tunnel(house.a)
    drain = house.drain(Manner(stay=5.0))
    house.go(1)
    house.a.set_state(BackendState.UP)
    house.go(10)
    assert (drain.stage, house.a.state, tunnel.told) == (Stage.CANCELLED, BackendState.UP, [])


@pytest.mark.parametrize(
    ("links", "expected"),
    [((), 0), (("table",), 1), (("cookie",), None), (("table", "table"), 1), (("table", "cookie"), None)],
)
def test_how_many_sessions(links: Sequence[str], expected: int | None) -> None:
    """Sessions are counted where we keep them; where clients do, nobody knows; without affinity there are none."""
    house = House()
    house.arrive("192.0.2.1")
    tokens = Tokens(KeyRing([bytes(16)]), "app", b"SRV")
    cookie = CookieAffinity(CookieTemplate("SRV"), tokens, house.clock.seconds)
    made = [house.affinity if link == "table" else cookie for link in links]
    affinity = ChainAffinity(made) if len(made) > 1 else made[0] if made else NoAffinity()
    cluster = Cluster(specs.Cluster("app", BACKENDS, affinity=Named("x")), [house.a], affinity, RoundRobin())
    assert session_count(cluster, "a") == expected
