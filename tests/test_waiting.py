"""Limits of backends, and the queue of those that wait for a place."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config.health import Eject
from stickyproxy.config.limits import Queue
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.conformance import make_arrival
from stickyproxy.errors import NoPlace
from stickyproxy.layers import part_of
from stickyproxy.member import Member
from stickyproxy.model import Backend, BackendState, Outcome
from stickyproxy.sansio.affinity import TableAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.selection import Choice
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.testing import MemoryEndpoint


class Town:
    """A cluster that knows clients by their addresses: client 0 is bound to a, 1 to b, 2 to c, others to nobody."""

    def __init__(self, backends: str = "abc", **keys: Any) -> None:
        self.clock = Clock()
        each = {"max_connections": 1, **keys}
        self.spec = ClusterSpec("app", tuple(Backend(id, "") for id in backends), **each)
        members = [Member(backend, MemoryEndpoint(), self.clock, connect_timeout=5) for backend in self.spec.backends]
        table = SessionTable(self.clock.seconds, idle=1e6, lifetime=None, size=1000, memory=10**6)
        self.affinity = TableAffinity(find_key("source"), "app", table)
        self.cluster = Cluster(self.spec, members, self.affinity, RoundRobin())
        for number, id in enumerate(backends):
            self.affinity.bind(make_arrival(number), id)
        self.served: list[tuple[int, str]] = []
        self.refused: list[int] = []
        self.waits: dict[int, Deferred[None]] = {}

    def come(self, number: int) -> Deferred[None]:
        """Client ``number``, who stays where he is served."""

        async def visit() -> None:
            choice = await self.cluster.choose(make_arrival(number))
            assert choice is not None
            choice.candidate.active += 1
            self.served.append((number, choice.candidate.id))

        def ended(result: Any) -> None:
            self.waits.pop(number, None)
            if result is not None:
                result.trap(NoPlace, CancelledError)
                if result.check(NoPlace):
                    assert result.value.status == 503 and b"Retry-After" in result.value.fields
                    self.refused.append(number)

        visiting = Deferred.fromCoroutine(visit())
        self.waits[number] = visiting
        visiting.addBoth(ended)
        return visiting

    def member(self, id: str) -> Member:
        return self.cluster.members[id]


def test_everybody_has_a_turn() -> None:
    """Who is bound waits for his own, others for any; who came first is first, and who leaves is forgotten."""
    town = Town()
    for number in (10, 11, 12):
        town.come(number)
    assert len(town.served) == 3
    for number in (1, 13, 0, 14, 15):
        town.come(number)
    town.waits[14].cancel()
    assert len(town.served) == 3 and town.cluster.layers.limits.waiting(None) == 2
    town.member("a").leave()  # 13 came before 0
    town.member("c").leave()
    town.member("a").leave()
    town.member("b").leave()
    assert town.served[3:] == [(13, "a"), (15, "c"), (0, "a"), (1, "b")]
    assert not town.refused and not town.clock.getDelayedCalls()


def test_the_queue_has_an_end() -> None:
    """Past its size, and past its time, the answer is 503 with Retry-After."""
    town = Town("a", queue=Queue(size=2, timeout=3.0))
    for number in range(10, 14):
        town.come(number)
    assert town.refused == [13]
    town.clock.advance(2)
    town.member("a").leave()
    town.clock.advance(1)
    assert town.refused == [13, 12] and [number for number, _ in town.served] == [10, 11]
    town = Town("a", queue=Queue(size=0))
    town.come(10)
    town.come(11)
    assert town.refused == [11]


def test_what_changes_meanwhile() -> None:
    """A backend that is ejected, drained, taken away or given back: those who wait for it get what others get."""
    town = Town(eject=Eject(failures=1, max_share=1.0))
    for number in (10, 11, 12):
        town.come(number)
    town.come(0)
    health = town.member("a").health
    assert health is not None
    health.lost("no answer")
    town.member("b").leave()
    assert town.served[-1] == (0, "b")
    town.member("c").set_state(BackendState.DRAIN)
    town.come(13)
    town.member("c").leave()  # takes no new clients
    assert (13, "c") not in town.served
    town.come(2)
    assert town.served[-1] == (2, "c")
    town.member("c").leave()
    town.member("c").set_state(BackendState.UP)
    assert town.served[-1] == (13, "c")
    town.come(14)
    more = ClusterSpec("app", (*town.spec.backends, Backend("d", "")), max_connections=1, slow_start=9.0)
    new = Member(Backend("d", ""), MemoryEndpoint(), town.clock, connect_timeout=5)
    town.cluster.configure(more, [*town.cluster.members.values(), new], town.affinity, town.cluster.balancer)
    assert town.served[-1] == (14, "d") and new.warming is not None
    town.come(15)
    without = ClusterSpec("app", more.backends)
    town.cluster.configure(without, town.cluster.members.values(), town.affinity, town.cluster.balancer)
    assert town.served[-1][0] == 15


def test_own_limits_and_backups() -> None:
    """A backend may have a limit of its own, and a backup serves when all others are full, if I want that."""
    for use, expected in (("full", "d"), ("down", None)):
        town = Town("ab")
        backends = (Backend("a", "", max_connections=2), Backend("b", ""), Backend("d", "", backup=True))
        spec = ClusterSpec("app", backends, max_connections=1, use_backups=use)  # type: ignore[arg-type]
        members = [Member(each, MemoryEndpoint(), town.clock, connect_timeout=5) for each in backends]
        town.cluster = Cluster(spec, members, town.affinity, RoundRobin())
        for number in range(10, 14):
            town.come(number)
        counts = Counter(id for _, id in town.served)
        assert counts == {"a": 2, "b": 1} | ({"d": 1} if expected else {})
        town.member("a").set_state(BackendState.DRAIN)
        town.member("b").set_state(BackendState.DRAIN)
        if not expected:
            assert town.served[-1] == (13, "d")


def test_where_nothing_is_limited_nothing_is_in_the_way() -> None:
    """A cluster without a limit selects as ever, and its backends tell nobody who leaves."""
    town = Town(max_connections=None)
    assert town.cluster.select is town.cluster.layers._select and town.member("a").awaited is None
    selected = town.cluster.select(make_arrival(0))
    assert isinstance(selected, Choice) and selected.outcome is Outcome.KEPT


@pytest.mark.parametrize(("limit", "count"), [(10, 3), (4, 4), (7, 2), (1, 1)])
def test_processes_share_a_limit(limit: int, count: int) -> None:
    """Together they serve as many as the file says, each about as many as the others."""
    parts = [part_of(limit, (index, count)) for index in range(count)]
    assert sum(parts) == limit and max(parts) - min(parts) <= 1
    town = Town("a", max_connections=limit)
    cluster = Cluster(town.spec, town.cluster.members.values(), town.affinity, RoundRobin(), share=(count - 1, count))
    assert cluster.members["a"].limit == limit // count


class Rush(RuleBasedStateMachine):
    """Whatever comes, leaves and changes: nobody is lost, no limit is passed, no place is free that somebody wants."""

    def __init__(self) -> None:
        super().__init__()
        self.town = Town(queue=Queue(size=4, timeout=3.0), max_connections=2)
        self.number = 3
        self.came = 0

    @rule(bound=st.none() | st.integers(0, 2))
    def come(self, bound: int | None) -> None:
        number = self.number
        if bound is not None:  # many clients of one address
            number = bound + 3000 * self.number
            self.town.affinity.bind(make_arrival(number), "abc"[bound])
        self.number += 1
        self.came += 1
        self.town.come(number)

    @rule(id=st.sampled_from("abc"))
    def leave(self, id: str) -> None:
        if self.town.member(id).active:
            self.town.member(id).leave()

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.town.waits:
            self.town.waits[data.draw(st.sampled_from(sorted(self.town.waits)))].cancel()
            self.came -= 1

    @rule(id=st.sampled_from("abc"), state=st.sampled_from(BackendState))
    def operate(self, id: str, state: BackendState) -> None:
        if state is BackendState.UP or any(m.state is BackendState.UP for m in self.others(id)):
            self.town.member(id).set_state(state)
            self.town.cluster.members_changed()

    @rule(seconds=st.sampled_from([0.5, 2.0]))
    def wait(self, seconds: float) -> None:
        self.town.clock.advance(seconds)

    def others(self, id: str) -> list[Member]:
        return [member for other, member in self.town.cluster.members.items() if other != id]

    @invariant()
    def holds(self) -> None:
        town, waiting = self.town, self.town.cluster.layers.limits.waiting
        assert len(town.served) + len(town.refused) + len(town.waits) == self.came
        assert len(town.waits) == sum(waiting(place) for place in (None, "a", "b", "c")) <= 4
        for id, member in town.cluster.members.items():
            assert 0 <= member.active <= 2
            if member.active < 2 and member.state is not BackendState.MAINTENANCE:
                assert not waiting(id)
                assert member.state is not BackendState.UP or not waiting(None)
        assert len(town.clock.getDelayedCalls()) == len(town.waits)


TestRush = Rush.TestCase
TestRush.settings = settings(max_examples=60, stateful_step_count=40)
