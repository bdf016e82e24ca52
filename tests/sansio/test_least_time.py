"""The balancer that goes by how long answers take, in a simulated cluster with a clock of its own."""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import MemoryCandidate, make_arrival
from stickyproxy.interfaces import ITimedBalancer
from stickyproxy.sansio.balancing import LeastTime

ARRIVAL = make_arrival()


class Scene:
    """Backends that take so many seconds for each answer, None: they give none."""

    def __init__(self, takes: dict[str, float | None], weights: dict[str, int] | None = None) -> None:
        self.now = 1000.0
        self.takes = takes
        self.candidates = [MemoryCandidate(id, (weights or {}).get(id, 1)) for id in takes]
        self.balancer = LeastTime(lambda: self.now, 10.0)
        self.open: list[tuple[float, int, MemoryCandidate, float | None]] = []

    def run(self, seconds: float, rate: float) -> Counter[str]:
        """Who was chosen while ``rate`` requests a second came."""
        chosen: Counter[str] = Counter()
        for number in range(int(seconds * rate)):
            self.now += 1 / rate
            while self.open and self.open[0][0] <= self.now:
                _, _, candidate, took = heappop(self.open)
                candidate.active -= 1
                self.balancer.answered(candidate, took)
            candidate = self.balancer.choose(self.candidates, ARRIVAL)
            candidate.active += 1
            chosen[candidate.id] += 1
            takes = self.takes[candidate.id]
            heappush(self.open, (self.now + (takes or 0.0), number, candidate, takes))
        return chosen


def test_it_says_what_it_is() -> None:
    """A cluster sees that this balancer wants to be told."""
    assert ITimedBalancer.providedBy(LeastTime(lambda: 0.0, 10.0))


def test_the_fast_one_serves_an_idle_cluster() -> None:
    """While requests are rare the fastest backend has nearly all of them."""
    scene = Scene({"a": 0.05, "b": 0.01, "c": 0.2})
    assert scene.run(100, 5)["b"] > 450


def test_shares_follow_speed_under_load() -> None:
    """When there is more to do than one can take, backends get what they manage."""
    scene = Scene({"a": 0.02, "b": 0.02, "c": 0.2})
    scene.run(5, 2000)
    shares = scene.run(10, 2000)
    assert abs(shares["a"] - shares["b"]) < 500
    assert 50 < shares["c"] < shares["a"] / 4


def test_weights_count() -> None:
    """Of two equally fast backends the one with three times the weight has three times the work."""
    scene = Scene({"a": 0.2, "b": 0.2}, {"b": 3})
    scene.run(20, 200)
    shares = scene.run(20, 200)
    assert 2.3 < shares["b"] / shares["a"] < 3.7


def test_a_slow_one_is_tried_again() -> None:
    """A backend that was slow is tried now and then, and has its share again when it is fast."""
    scene = Scene({"a": 0.1, "b": 0.01})
    scene.run(20, 10)
    tried = scene.run(100, 10)["a"]
    assert 1 <= tried <= 10
    scene.takes["a"] = 0.001
    scene.run(60, 10)
    assert scene.run(20, 10)["a"] > 190


def test_a_new_one_is_tried_at_once() -> None:
    """A backend that is added gets requests before the first of its answers is there, and not all of them."""
    scene = Scene({"a": 0.01, "b": 0.01})
    scene.run(20, 100)
    scene.takes["c"] = 5.0
    scene.candidates.append(MemoryCandidate("c"))
    assert 1 <= scene.run(4, 100)["c"] <= 12


def test_one_that_does_not_answer_is_left_alone() -> None:
    """A backend that cannot be reached is not the fastest, from the first try, and is tried again later."""
    scene = Scene({"dead": None, "a": 0.02, "b": 0.02})
    assert scene.run(10, 100)["dead"] <= 3
    assert 1 <= scene.run(200, 100)["dead"] <= 10
    scene.takes["dead"] = 0.01
    scene.run(100, 100)
    assert scene.run(10, 100)["dead"] > 300


def test_one_slow_answer_is_no_verdict() -> None:
    """Among many fast answers a slow one moves the average by little."""
    scene = Scene({"a": 0.01, "b": 0.01})
    scene.run(20, 200)
    scene.balancer.answered(scene.candidates[0], 3.0)
    scene.run(5, 200)
    assert scene.run(10, 200)["a"] > 500


def test_in_turn_when_nobody_is_known() -> None:
    """Before anybody has answered, backends get clients in turn, by weight."""
    scene = Scene({"a": 1.0, "b": 1.0, "c": 1.0})
    assert Counter(scene.balancer.choose(scene.candidates, ARRIVAL).id for _ in range(9)) == {"a": 3, "b": 3, "c": 3}


def test_who_went_is_forgotten() -> None:
    """A cluster whose backends come and go for years does not fill memory."""
    balancer = LeastTime(lambda: 0.0, 10.0)
    for number in range(5000):
        candidate = MemoryCandidate(f"b{number}")
        assert balancer.choose([candidate], ARRIVAL) is candidate
        balancer.answered(candidate, 0.1)
    assert len(balancer._taken) <= 70


@pytest.mark.parametrize("seed", range(3))
def test_a_clock_that_jumps(seed: int) -> None:
    """A time of day that is set back or far ahead breaks nothing."""
    random, scene = Random(seed), Scene({"a": 0.01, "b": 0.1, "c": 0.02})
    for _ in range(200):
        scene.now = random.choice([0.0, 1e9, scene.now, scene.now + 1, scene.now - 3600])
        chosen = scene.balancer.choose(scene.candidates, ARRIVAL)
        scene.balancer.answered(chosen, random.choice([None, 0.0, 0.01, 1e6]))
        assert all(0 < each.seconds < 1e7 for each in scene.balancer._taken.values())


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.floats(0, 1e6), st.floats(0, 1e9)), max_size=30))
def test_any_times(told: list[tuple[int, float | None, float]]) -> None:
    """Whatever was measured, somebody is chosen."""
    now = [0.0]
    balancer = LeastTime(lambda: now[0], 10.0)
    candidates = [MemoryCandidate(f"b{number}") for number in range(4)]
    for at, seconds, moment in told:
        now[0] = moment
        balancer.answered(candidates[at], seconds)
        assert balancer.choose(candidates, ARRIVAL) in candidates
