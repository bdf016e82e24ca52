"""Sessions under change: what each policy does when a backend is down, drains or has too much."""

from __future__ import annotations

import pytest

from stickyproxy.conformance import MemoryCandidate, make_arrival
from stickyproxy.errors import SessionLost
from stickyproxy.model import Arrival, BackendState, Outcome
from stickyproxy.sansio.affinity import TableAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.policy import NEWCOMERS, Policies, PolicySelection
from stickyproxy.sansio.selection import Choice
from stickyproxy.sansio.sessions import SessionTable

UP, DRAIN, MAINTENANCE = BackendState.UP, BackendState.DRAIN, BackendState.MAINTENANCE
ANN, BOB = make_arrival(1), make_arrival(2)


class Cluster:
    """Three backends, clients known by their addresses, and a clock."""

    def __init__(self, **policies: object) -> None:
        self.now = 1000.0
        self.members = {id: MemoryCandidate(id) for id in "abc"}
        self.affinity = TableAffinity(find_key("source"), "source", SessionTable(lambda: self.now))
        self.selection = PolicySelection(
            self.members,
            self.affinity,
            RoundRobin(),
            Policies(**policies),  # type: ignore[arg-type]
            lambda: self.now,
        )

    def select(self, arrival: Arrival = ANN, tried: str = "") -> tuple[str, Outcome] | None:
        choice = self.selection.select(arrival, frozenset(tried))
        if choice is None:
            return None
        assert isinstance(choice, Choice)
        self.why = choice.broken.why if choice.broken is not None else None
        return choice.candidate.id, choice.outcome


def test_strangers_on_a_unix_socket_do_not_come_together() -> None:
    """Who has no address is not taken for the same new client as everybody else without one."""
    cluster = Cluster(together=0.05)
    stranger = ANN._replace(client="unix")
    chosen = [cluster.select(stranger) for _ in range(3)]
    assert {each[0] for each in chosen if each is not None} == set("abc")


def test_nobody_is_moved_to_a_backend_that_was_not_reached() -> None:
    """A session that was to leave for a backend that is down stays where it is: that is tried once, not again."""
    cluster = Cluster(rebalance=60)
    cluster.now += 600
    cluster.affinity.bind(ANN, "a")
    cluster.members["a"].active = 90
    chosen = cluster.select()
    assert chosen is not None and chosen[0] in "bc"
    assert cluster.why == "rebalanced"
    assert cluster.select(tried="bc") == ("a", Outcome.KEPT)


@pytest.mark.parametrize(
    ("policies", "outcome"),
    [
        ({}, Outcome.REBOUND),
        ({"when_down": "wait"}, Outcome.REBOUND),  # when the grace is over
        ({"return_home": True}, Outcome.AWAY),
    ],
)
def test_down(policies: dict[str, object], outcome: Outcome) -> None:
    """A client whose backend cannot be reached is served by another: for good, or until its own is back."""
    cluster = Cluster(**policies)
    cluster.affinity.bind(ANN, "b")
    assert cluster.select() == ("b", Outcome.KEPT)
    chosen = cluster.select(tried="b")
    assert chosen is not None
    assert chosen[0] in "ac" and chosen[1] is outcome
    assert cluster.select(tried="abc") is None


def test_away_is_one_place() -> None:
    """While its own backend is down, a client that is to return is with one other, and not with each in turn."""
    cluster = Cluster(return_home=True)
    visitors = [make_arrival(number) for number in range(40)]
    for visitor in visitors:
        cluster.affinity.bind(visitor, "b")
    away = [cluster.select(visitor, tried="b") for visitor in visitors]
    assert [cluster.select(visitor, tried="b") for visitor in reversed(visitors)] == away[::-1]
    assert {*away} == {("a", Outcome.AWAY), ("c", Outcome.AWAY)}


def test_down_and_nobody_else() -> None:
    """Where nobody else may serve it, the client of a backend that cannot be reached is told so; others are served."""
    cluster = Cluster(when_down="fail")
    cluster.affinity.bind(ANN, "b")
    with pytest.raises(SessionLost) as caught:
        cluster.select(tried="b")
    assert caught.value.status == 503
    assert cluster.select(BOB, tried="b") is not None
    cluster.members["b"].state = MAINTENANCE
    assert cluster.select() is not None  # an operator has moved its clients on purpose


def test_maintenance_and_removal() -> None:
    """In maintenance, or gone, means rebound at once, whatever the policy for what is down."""
    cluster = Cluster(when_down="wait", return_home=True)
    cluster.affinity.bind(ANN, "b")
    cluster.members["b"].state = MAINTENANCE
    chosen = cluster.select()
    assert chosen is not None and chosen[1] is Outcome.REBOUND
    del cluster.members["b"]
    chosen = cluster.select()
    assert chosen is not None and chosen[1] is Outcome.REBOUND


def test_drain_has_an_end() -> None:
    """Bound clients stay with a draining backend until its time is over; new ones never come to it."""
    cluster = Cluster(drain=60)
    cluster.affinity.bind(ANN, "b")
    cluster.members["b"].state, cluster.members["b"].since = DRAIN, 1000.0
    cluster.now += 60
    assert cluster.select() == ("b", Outcome.KEPT)
    assert {cluster.select(make_arrival(number)) for number in range(10, 20)} == {
        ("a", Outcome.NEW),
        ("c", Outcome.NEW),
    }
    cluster.now += 1
    chosen = cluster.select()
    assert chosen is not None and chosen[0] != "b" and chosen[1] is Outcome.REBOUND
    assert cluster.why == "drained"


def test_no_weight() -> None:
    """A backend of weight 0 keeps its clients, and gets no others."""
    cluster = Cluster(drain=1)
    cluster.affinity.bind(ANN, "b")
    cluster.members["b"].weight = 0
    assert cluster.select() == ("b", Outcome.KEPT)
    assert all(cluster.select(make_arrival(number)) != ("b", Outcome.NEW) for number in range(10, 20))


def test_born_together() -> None:
    """First requests of one address within the window go to one backend, before any is bound; later ones do not."""
    cluster = Cluster(together=0.05)
    first = cluster.select()
    assert [cluster.select() for _ in range(5)] == [first] * 5
    assert cluster.select(BOB) != first  # the balancer goes on
    cluster.now += 0.06
    assert cluster.select() != first
    again = cluster.select()
    assert again is not None
    cluster.members[again[0]].state = DRAIN
    other = cluster.select()
    assert other is not None and other != again
    cluster.members[again[0]].state = UP
    cluster.members[other[0]].weight = 0  # it takes no new clients
    assert cluster.select() != other


def test_newcomers_are_bounded() -> None:
    """However many addresses come within the window, few of them are remembered."""
    cluster = Cluster(together=1000.0)
    for number in range(NEWCOMERS + 500):
        cluster.select(Arrival(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", False))
    assert len(cluster.selection._newcomers) <= NEWCOMERS
    cluster.now += 2000
    for number in range(NEWCOMERS):
        cluster.select(Arrival(f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}", False))
    assert all(client.startswith("11.") for client in cluster.selection._newcomers)


def test_rebalancing() -> None:
    """Sessions leave a backend that has far more than its share, so many a minute, and only that one."""
    cluster = Cluster(rebalance=2)
    for number in range(20):
        cluster.affinity.bind(make_arrival(number), "a")
    cluster.members["a"].active = 30
    cluster.now += 600
    moved = [cluster.select(make_arrival(number)) for number in range(20)]
    assert [one for one in moved if one != ("a", Outcome.KEPT)] == [("b", Outcome.REBOUND), ("c", Outcome.REBOUND)]
    cluster.now += 30
    moved = [cluster.select(make_arrival(number)) for number in range(20)]
    assert len([one for one in moved if one != ("a", Outcome.KEPT)]) == 1
    cluster.now += 600
    cluster.members["b"].active = cluster.members["c"].active = 28
    assert all(cluster.select(make_arrival(number)) == ("a", Outcome.KEPT) for number in range(20))
