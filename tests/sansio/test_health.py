"""Who is down: by probes, by what clients meet, and whom that leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import MemoryCandidate
from stickyproxy.model import BackendState
from stickyproxy.sansio.health import (
    Ejecting,
    Ejection,
    Health,
    Standing,
    Thresholds,
    connected,
    ejected,
    failed,
    is_due,
    probed,
    room,
    served,
)
from stickyproxy.sansio.selection import unavailable

UNKNOWN, UP, DOWN = Standing
RULES = Ejecting(failures=3, time=10.0, longest=60.0)


@pytest.mark.parametrize(
    ("before", "failure", "after"),
    [
        (Health(UNKNOWN, 1), None, Health(UP, 9)),
        (Health(UNKNOWN, 1), "no", Health(DOWN, 9, "no")),
        (Health(UP, 1), None, Health(UP, 1)),
        (Health(UP, 1), "no", Health(UP, 1, "no", 1)),
        (Health(UP, 1, "no", 1), "never", Health(UP, 1, "never", 2)),
        (Health(UP, 1, "no", 2), None, Health(UP, 1)),
        (Health(UP, 1, "no", 2), "never", Health(DOWN, 9, "never")),
        (Health(DOWN, 1, "no"), "never", Health(DOWN, 1, "never")),
        (Health(DOWN, 1, "no"), None, Health(DOWN, 1, "no", 1)),
        (Health(DOWN, 1, "no", 1), "never", Health(DOWN, 1, "never")),
        (Health(DOWN, 1, "no", 1), None, Health(UP, 9)),
    ],
)
def test_every_step(before: Health, failure: str | None, after: Health) -> None:
    """The first probe decides alone; then it takes ``fall`` failures or ``rise`` successes in a row."""
    assert probed(before, failure, Thresholds(rise=2, fall=3), 9) == after


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_against_the_definition(results: list[bool], rise: int, fall: int) -> None:
    """However probes end, a backend is what its last long enough row of equal ones says, and since then."""
    health, expected, since = Health(), UNKNOWN, 0.0
    for now, well in enumerate(results, 1):
        health = probed(health, None if well else "no", Thresholds(rise, fall), now)
        row = rise if well else fall
        if expected is UNKNOWN or (
            expected is not (UP if well else DOWN) and results[max(0, now - row) : now] == [well] * row
        ):
            expected, since = UP if well else DOWN, now
        assert (health.standing, health.since) == (expected, since)
        assert bool(health.reason) == (expected is DOWN or not well)


def out_of(ejection: Ejection, now: float) -> Ejection:
    """After as many failures as it takes."""
    while not is_due(ejection, RULES, now):
        ejection = failed(ejection, reached=False, now=now)
    return ejected(ejection, RULES, now)


def test_a_row_of_failures_of_either_kind() -> None:
    """Connections that fail and answers that fail count together; a good answer ends the row, a connection its own."""
    one = failed(failed(Ejection(), reached=True, now=1), reached=False, now=1)
    assert not is_due(one, RULES, 1)
    assert is_due(failed(one, reached=False, now=1), RULES, 1)
    assert served(one) == Ejection()
    assert connected(one) == Ejection(unserved=1)
    assert connected(Ejection(unserved=3)).unserved == 3  # it takes connections, and serves nobody


def test_each_time_twice_as_long() -> None:
    """Out for 10 s, 20 s, 40 s, 60 s: one failure is enough when it comes back."""
    now, ejection, seconds = 1000.0, Ejection(), []
    for _ in range(5):
        ejection = out_of(ejection, now)
        seconds.append(ejection.until - now)
        assert failed(ejection, reached=True, now=now + 1) == ejection  # who was in progress is no news
        now = ejection.until
        assert is_due(failed(ejection, reached=True, now=now), RULES, now)
    assert seconds == [10, 20, 40, 60, 60]
    assert out_of(served(ejection), now + 61).until == now + 61 + 10  # it was well for long enough
    assert out_of(served(ejection), now + 30).until == now + 30 + 60
    assert ejected(Ejection(times=10**6, until=now), RULES, now).until == now + 60


@pytest.mark.parametrize(
    ("members", "share", "out"), [(1, 1.0, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (10, 0.05, 1), (3, 1.0, 3)]
)
def test_at_most_a_share(members: int, share: float, out: int) -> None:
    """Half of the cluster, rounded down; one of several in any case, and never the only one."""
    assert room(members, Ejecting(max_share=share)) == out


@pytest.mark.parametrize(
    ("down", "tried", "fail_open", "expected"),
    [
        ("a", "", True, "a"),
        ("ab", "", True, ""),  # c drains and d has no weight: nobody could take a new client
        ("ab", "", False, "ab"),
        ("a", "b", True, ""),  # the last one cannot be reached
        ("abcd", "", True, ""),
    ],
)
def test_when_nobody_is_left(down: str, tried: str, fail_open: bool, expected: str) -> None:
    """While anybody can take a new client the others are not asked; then they are better than none, if I want that."""
    members = {id: MemoryCandidate(id) for id in "abcd"}
    members["c"].state, members["d"].weight = BackendState.DRAIN, 0
    assert unavailable(members, frozenset(down), frozenset(tried), fail_open) == frozenset(expected)
