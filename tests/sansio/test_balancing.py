"""The balancers, by what they do in the long run and in the next moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from stickyproxy.conformance import MemoryCandidate, check_balancer, make_arrival
from stickyproxy.interfaces import IBalancer
from stickyproxy.sansio.balancing import (
    ConsistentHash,
    First,
    LeastConnections,
    LeastTime,
    RandomTwo,
    RoundRobin,
)
from stickyproxy.sansio.keys import find_key

ARRIVAL = make_arrival()


def picks(balancer: IBalancer, candidates: list[MemoryCandidate], times: int) -> str:
    return "".join(balancer.choose(candidates, ARRIVAL).id for _ in range(times))


def named(ids: str, *weights: int) -> list[MemoryCandidate]:
    return [MemoryCandidate(id, weight) for id, weight in zip(ids, weights or (1,) * len(ids), strict=True)]


@pytest.mark.parametrize(
    ("make", "weighted"),
    [
        (RoundRobin, True),
        (LeastConnections, True),
        (lambda: RandomTwo(Random(1)), True),
        (lambda: LeastTime(lambda: 1000.0, 10.0), True),
        (lambda: ConsistentHash(find_key("header:X-None")), True),
        (lambda: ConsistentHash(find_key("source")), False),
        (lambda: ConsistentHash(find_key("source"), 1.1), False),
        (lambda: First(5), False),
    ],
)
def test_contract(make: Callable[[], IBalancer], weighted: bool) -> None:
    """Every balancer that comes with stickyproxy keeps the contract that it asks of yours."""
    check_balancer(make, weighted=weighted)


def test_round_robin_in_turn() -> None:
    """Equal backends take turns."""
    assert picks(RoundRobin(), named("abc"), 7) == "abcabca"


def test_round_robin_is_smooth() -> None:
    """A heavy backend gets its share spread out, not in one go (the sequence that nginx documents)."""
    assert picks(RoundRobin(), named("abc", 5, 1, 1), 14) == "aabacaa" * 2


def test_round_robin_with_one_away() -> None:
    """While a backend is away the others share what was its own, and when it is back nobody floods it."""
    a, b, c = candidates = named("abc")
    balancer = RoundRobin()
    picks(balancer, candidates, 4)
    assert 49 <= Counter(picks(balancer, [a, c], 100))["a"] <= 51
    back = picks(balancer, candidates, 30)
    assert max(Counter(back[at : at + 6])["b"] for at in range(24)) <= 3
    assert 9 <= Counter(back)["b"] <= 11


def test_round_robin_new_backend_is_not_flooded() -> None:
    """A backend that is added to a busy cluster gets its share from the start, not all at once."""
    a, b = named("ab")
    balancer = RoundRobin()
    picks(balancer, [a, b], 1001)
    assert "ccc" not in picks(balancer, [a, b, *named("c")], 30)


def test_round_robin_retries_do_not_skew() -> None:
    """A dead backend whose every turn is retried elsewhere leaves the others with equal shares."""
    candidates = named("abcd")
    balancer = RoundRobin()
    served: Counter[str] = Counter()
    for _ in range(300):
        chosen = balancer.choose(candidates, ARRIVAL)
        if chosen.id == "a":
            chosen = balancer.choose(candidates[1:], ARRIVAL)
        served[chosen.id] += 1
    assert all(95 <= served[id] <= 105 for id in "bcd")


def test_round_robin_forgets_who_went() -> None:
    """A cluster whose backends come and go for years does not fill memory."""
    balancer = RoundRobin()
    for number in range(5000):
        picks(balancer, named([f"b{number}", f"b{number + 1}"]), 1)  # type: ignore[arg-type]
    assert len(balancer._credit) <= 70


def test_round_robin_new_weight() -> None:
    """A changed weight counts from the next choice on."""
    a, b = candidates = named("ab")
    balancer = RoundRobin()
    picks(balancer, candidates, 10)
    a.weight = 9
    assert 88 <= Counter(picks(balancer, candidates, 100))["a"] <= 92


@pytest.mark.parametrize(
    ("active", "weights", "chosen"),
    [
        ((3, 1, 2), (1, 1, 1), "b"),
        ((4, 1, 1), (8, 1, 1), "a"),
        ((0, 0, 1), (1, 1, 9), "a"),
        ((2, 6, 1), (1, 4, 1), "c"),
    ],
)
def test_least_connections(active: tuple[int, ...], weights: tuple[int, ...], chosen: str) -> None:
    """The backend with the fewest open requests for its weight is next."""
    candidates = named("abc", *weights)
    for candidate, busy in zip(candidates, active, strict=True):
        candidate.active = busy
    assert picks(LeastConnections(), candidates, 1) == chosen


def test_least_connections_when_idle() -> None:
    """An idle cluster is used in turn, by weight, and not its first backend alone."""
    assert Counter(picks(LeastConnections(), named("abc", 1, 2, 1), 40)) == {"a": 10, "b": 20, "c": 10}


def test_least_connections_under_load() -> None:
    """With requests that come and end at random, open ones stay in proportion to the weights."""
    random = Random(7)
    candidates = named("abcd", 1, 1, 2, 4)
    balancer = LeastConnections()
    open_requests: list[MemoryCandidate] = []
    for _ in range(2000):
        chosen = balancer.choose(candidates, ARRIVAL)
        chosen.active += 1
        open_requests.append(chosen)
        if len(open_requests) > 80:
            open_requests.pop(random.randrange(80)).active -= 1
    assert all(abs(each.active - 10 * each.weight) <= 1 for each in candidates)


def test_random_two_takes_the_less_loaded() -> None:
    """Of two backends the one with fewer open requests for its weight is next, always."""
    a, b = candidates = named("ab", 1, 3)
    a.active, b.active = 2, 5
    assert picks(RandomTwo(Random(1)), candidates, 50) == "b" * 50
    b.active = 7
    assert picks(RandomTwo(Random(1)), candidates, 50) == "a" * 50
    assert picks(RandomTwo(Random(1)), [a], 3) == "aaa"


def test_random_two_when_idle() -> None:
    """An idle cluster gets new clients at random, by weight."""
    shares = Counter(picks(RandomTwo(Random(1)), named("abc", 1, 2, 5), 8000))
    assert [round(shares[id] / 1000) for id in "abc"] == [1, 2, 5]


def test_random_two_never_the_most_loaded() -> None:
    """Two different ones are compared: the most loaded of three is never taken."""
    candidates = named("abc")
    candidates[1].active = 3
    shares = Counter(picks(RandomTwo(Random(1)), candidates, 3000))
    assert shares["b"] == 0 and abs(shares["a"] - shares["c"]) < 200


def test_first_fills_up() -> None:
    """The second backend is used when the first is full, by its weight, and the least loaded when all are."""
    a, b, c = candidates = named("abc", 1, 2, 1)
    chosen = ""
    balancer = First(2)
    for _ in range(8):
        one = balancer.choose(candidates, ARRIVAL)
        one.active += 1
        chosen += one.id
    assert chosen == "aabbbbcc"
    b.active = 3
    assert balancer.choose(candidates, ARRIVAL) is b
    a.active, b.active, c.active = 9, 5, 8
    assert balancer.choose(candidates, ARRIVAL) is b
