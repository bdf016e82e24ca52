"""What a parent decides: who accepts for whom, and when the next process follows."""

from __future__ import annotations

import pytest

from stickyproxy.control.fleet import acting_for, pause
from stickyproxy.control.sockets import places


@pytest.mark.parametrize(
    ("ready", "expected"),
    [
        ({1, 2, 3}, {1: [1], 2: [2], 3: [3]}),
        ({1, 3}, {1: [1, 2], 3: [3]}),
        ({2}, {2: [2, 1, 3]}),
        (set(), {}),
    ],
)
def test_somebody_accepts_for_who_is_not_there(ready: set[int], expected: dict[int, list[int]]) -> None:
    """Each accepts for itself; those that are missing are divided among the others."""
    assert acting_for(ready, 3) == expected


@pytest.mark.parametrize("workers", range(1, 7))
@pytest.mark.parametrize("sockets", range(1, 7))
def test_every_socket_is_accepted_from(workers: int, sockets: int) -> None:
    """However many sockets there are, each has somebody, and nobody is without one."""
    mine = [places([number], workers, sockets) for number in range(1, workers + 1)]
    assert set().union(*mine) == set(range(sockets))
    assert all(mine)
    assert places(range(1, workers + 1), workers, sockets) == set(range(sockets))
    if workers == sockets:
        assert [len(places_) for places_ in mine] == [1] * workers


def test_the_next_process_follows_at_once_and_then_ever_later() -> None:
    """The first time at once; then half a second, twice as long each time, and never longer than half a minute."""
    assert [pause(soon) for soon in range(10)] == [0, 0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pause(10_000) == 30
