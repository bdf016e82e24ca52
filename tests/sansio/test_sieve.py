"""Who may have the next new client: slow start, limits and backups, whatever the balancer."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from stickyproxy.conformance import MemoryCandidate, check_balancer, make_arrival
from stickyproxy.interfaces import IBalancer
from stickyproxy.sansio.balancing import ConsistentHash, LeastConnections, RandomTwo, RoundRobin
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.sieve import Sieve, Sifting

BALANCERS = {
    "round-robin": RoundRobin,
    "least-connections": LeastConnections,
    "random-two": lambda: RandomTwo(Random(1)),
    "consistent-hash": lambda: ConsistentHash(find_key("source")),
}


class Street:
    """Three backends, and a clock."""

    def __init__(self, balancer: IBalancer, **sifting: object) -> None:
        self.now = 1000.0
        self.members = [MemoryCandidate(id, weight) for id, weight in (("a", 2), ("b", 1), ("c", 1))]
        self.sieve = Sieve(balancer, Sifting(**sifting), lambda: self.now)  # type: ignore[arg-type]
        self.clients = 0

    def come(self, count: int, leave: bool = False) -> Counter[str]:
        """So many new clients: who has them. They stay, if they do not ``leave``."""
        chosen: Counter[str] = Counter()
        for _ in range(count):
            self.clients += 1
            one = self.sieve.choose(self.members, make_arrival(self.clients))
            chosen[one.id] += 1
            one.active += not leave
        return chosen


@pytest.mark.parametrize("name", BALANCERS)
def test_slow_start(name: str) -> None:
    """Who comes up has a tenth of its share, half of it after half the time, and all of it in the end."""
    street = Street(BALANCERS[name](), slow_start=30.0)
    a = street.members[0]
    street.come(400)
    a.warming = street.now
    counts = []
    for _ in range(4):
        for each in street.members:  # as busy as it should be, but for a, whom idleness makes attractive
            each.active = 0 if each is a else 100
        counts.append(street.come(1000, leave=True)["a"] / 1000)
        street.now += 15
    assert counts[0] == pytest.approx(0.2 / 2.2, abs=0.01)
    assert counts[1] == pytest.approx(1 / 3, abs=0.03)
    assert counts[2] > 0.4 and counts[3] > 0.4 and a.warming is None


def test_slow_start_of_everybody() -> None:
    """Where all have only just come up, or one is all there is, nobody waits for anything."""
    street = Street(RoundRobin(), slow_start=30.0)
    for each in street.members:
        each.warming = street.now
    assert street.come(400) == {"a": 200, "b": 100, "c": 100}
    street.members = street.members[:1]
    assert street.come(10) == {"a": 10}


def test_who_is_full_is_passed_over() -> None:
    """Limits hold as long as somebody has room; then the balancer may name anybody."""
    street = Street(RoundRobin())
    street.members[0].limit = 3
    street.members[1].limit = 2
    assert street.come(10) == {"a": 3, "b": 2, "c": 5}
    street.members[2].limit = 5
    assert sum(street.come(4).values()) == 4


@pytest.mark.parametrize("when_full", [True, False])
def test_backups(when_full: bool) -> None:
    """A backup serves nobody while another can; whether one that is full can is my choice."""
    street = Street(RoundRobin(), backups_when_full=when_full)
    a, b, c = street.members
    c.backup = True
    a.limit = b.limit = 2
    assert street.come(4) == {"a": 2, "b": 2}
    assert set(street.come(4)) == ({"c"} if when_full else {"a", "b"})
    street.members = [c]
    assert street.come(1) == {"c": 1}


def test_it_is_a_balancer() -> None:
    """With nothing to sift everybody gets his share by weight, as before."""
    check_balancer(lambda: Sieve(RoundRobin(), Sifting(), lambda: 0.0))
    check_balancer(lambda: Sieve(LeastConnections(), Sifting(5.0), lambda: 0.0))
