"""Drain as a deploy sees it: what is asked to end and when, what is cut, who is told."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from stickyproxy.control.drained import ConnectionsSubject
from stickyproxy.control.draining import RATE, TICK, Drain, Drains, Manner, Progress, Stage, spread


class House:
    """Connections on a clock of their own. Each takes ``patience`` seconds to end; None: it does not."""

    def __init__(self, tunnels: int = 0, requests: int = 0, patience: float | None = 0.0) -> None:
        self.clock = Clock()
        self.open: set[Guest] = set()
        self.tunnels: set[Guest] = set()
        self.told: list[tuple[float, int | None]] = []
        self.cut = 0
        for number in range(tunnels + requests):
            self.add(number < tunnels, patience)

    def add(self, tunnel: bool, patience: float | None = 0.0) -> Guest:
        guest = Guest(self, patience)
        self.open.add(guest)
        if tunnel:
            self.tunnels.add(guest)
        return guest

    def drain(self, **manner: object) -> Drain:
        subject = ConnectionsSubject("web", lambda: self.open, lambda: self.tunnels)
        return Drain(subject, Manner(**manner), self.clock, Random(1))  # type: ignore[arg-type]

    def go(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)


class Guest:
    """A connection."""

    def __init__(self, house: House, patience: float | None) -> None:
        self.house = house
        self.patience = patience

    def drain(self, code: int | None = None) -> None:
        self.house.told.append((self.house.clock.seconds(), code))
        if self.patience is not None:
            self.house.clock.callLater(self.patience, self.leave)

    def abort(self) -> None:
        self.house.cut += 1
        self.leave()

    def leave(self) -> None:
        self.house.open.discard(self)
        self.house.tunnels.discard(self)


def result(waited: Deferred[Progress]) -> Progress | None:
    """What it has fired with, if it has."""
    found: list[Progress] = []
    waited.addCallback(found.append)
    return found[0] if found else None


def test_nothing_to_drain() -> None:
    """Where nobody is, there is nothing to wait for: an idle process ends at once."""
    house = House()
    drain = house.drain()
    assert (drain.stage, house.clock.getDelayedCalls()) == (Stage.DONE, [])
    progress = result(drain.done)
    assert progress == ("web", "done", None, 0, 0, 0, 0.0, None)


@given(st.floats(0, 100), st.integers(1, 500), st.integers())
def test_spread_is_even_with_jitter(window: float, count: int, seed: int) -> None:
    """However many there are, each part of the window has its share of them, and no two windows are alike."""
    times = spread(1000.0, window, count, Random(seed))
    for place, when in enumerate(times):
        assert place * window / count <= when - 1000.0 + 1e-6 and when - 1000.0 <= (place + 1) * window / count + 1e-6


def test_websockets_are_told_over_the_window_and_the_rest_at_once() -> None:
    """1000 WebSockets over five seconds: 200 in each of them; keep-alive connections need no window."""
    house = House(tunnels=1000, requests=50)
    drain = house.drain(window=5.0, code=1012)
    assert [when for when, _ in house.told[:60]].count(0.0) in range(50, 60)
    house.go(6)
    assert drain.stage is Stage.DONE and {code for _, code in house.told} == {1012}
    assert drain.told == len(house.told) == 1050
    told = [when for when, _ in house.told if when]
    for second in range(5):
        assert 190 <= sum(second <= when < second + 1 for when in told) <= 210


def test_few_are_told_soon() -> None:
    """Without a window, three WebSockets do not wait for five seconds: a hundred are told in one."""
    house = House(tunnels=3)
    drain = house.drain()
    house.go(3 / RATE + 2 * TICK)
    assert drain.stage is Stage.DONE


def test_very_many_have_half_of_the_time() -> None:
    """Without a window 10,000 WebSockets are told in time: there is as much left for their answers."""
    house = House(tunnels=10_000)
    drain = house.drain(deadline=10.0)
    house.go(4)
    assert drain.stage is Stage.CLOSING and 7500 < drain.told < 8500
    house.go(1.2)
    assert drain.stage is Stage.DONE and house.cut == 0


def test_who_comes_in_between() -> None:
    """A request that became a WebSocket during the drain is told as well, in what is left of the window."""
    house = House(tunnels=10)
    drain = house.drain(window=2.0)
    house.go(1)
    late = [house.add(tunnel=True) for _ in range(10)]
    later = house.add(tunnel=False)
    house.go(2 * TICK)
    assert later not in house.open and any(guest in house.open for guest in late)
    house.go(1.2)
    assert drain.stage is Stage.DONE and drain.told == 21
    assert max(when for when, _ in house.told) <= 2.0 + 2 * TICK


@pytest.mark.parametrize("cut", [True, False])
def test_deadline(cut: bool) -> None:
    """Who has not gone by the deadline is cut off, unless that is not wanted; and who waits is told which it was."""
    house = House(tunnels=2, requests=1, patience=None)
    house.add(tunnel=True)
    drain = house.drain(window=0.0, deadline=3.0, cut=cut)
    one, other = drain.done, drain.done
    house.go(1)
    assert (drain.progress().sockets, drain.progress().remaining) == (3, pytest.approx(2.0))
    house.go(2.5)
    for waited in (one, other):
        progress = result(waited)
        assert progress is not None
        assert (progress.stage, progress.told, progress.cut) == (("cut", 4, 3) if cut else ("left", 4, 0))
    assert (len(house.open), house.cut, house.clock.getDelayedCalls()) == ((0, 3, []) if cut else (3, 0, []))


def test_no_deadline() -> None:
    """Without a deadline a download may take its hour."""
    house = House()
    house.add(tunnel=False, patience=3600.0)
    drain = house.drain(deadline=None)
    house.go(3590)
    assert drain.stage is Stage.CLOSING
    house.go(11)
    assert drain.stage is Stage.DONE


def test_hurry() -> None:
    """A second SIGTERM: the deadline is now."""
    house = House(tunnels=5, patience=None)
    drain = house.drain(deadline=1000.0)
    house.go(1)
    drain.hurry()
    house.go(2 * TICK)
    assert (drain.stage, house.cut) == (Stage.CUT, 5)


def test_cancelled() -> None:
    """Cancelled: nobody else is told to end, nobody is cut, and who waits is told."""
    house = House(tunnels=100, patience=None)
    drain = house.drain(window=10.0)
    waited = drain.done
    house.go(5)
    told = drain.told
    drain.cancel()
    drain.cancel()
    house.go(60)
    progress = result(waited)
    assert progress is not None and progress.stage == "cancelled"
    assert (drain.told, house.cut, len(house.open)) == (told, 0, 100) and 40 < told < 60


def test_waiting_may_be_given_up() -> None:
    """A client of the API that hangs up while it waits ends its waiting, not the drain."""
    house = House(requests=1, patience=1.0)
    drain = house.drain()
    one, other = drain.done, drain.done
    one.addErrback(lambda failure: failure.trap(CancelledError))
    one.cancel()
    house.go(2)
    assert result(other) is not None and drain.stage is Stage.DONE


def test_one_that_cannot_be_ended() -> None:
    """A connection that raises keeps nobody else from his end."""
    house = House(requests=3)
    bad = house.add(tunnel=False)
    bad.drain = bad.abort = lambda *_: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    drain = house.drain(deadline=1.0)
    house.go(1.5)
    assert (drain.stage, house.open) == (Stage.CUT, {bad})


def test_several_at_the_same_time() -> None:
    """Two frontends drain side by side; a second drain of the same one takes the place of the first."""
    house = House(tunnels=1, patience=None)
    drains = Drains(house.clock, Random(1))
    web, tcp = (ConnectionsSubject(name, lambda: house.open, lambda: house.tunnels) for name in ("web", "tcp"))
    first, second = drains.start(web, Manner(deadline=1.0)), drains.start(tcp, Manner(deadline=2.0))
    third = drains.start(web, Manner(deadline=3.0))
    assert first.stage is Stage.CANCELLED and drains.find("web") is third and set(drains) == {second, third}
    house.go(2.5)
    assert (second.stage, third.stage) == (Stage.CUT, Stage.DONE)
    for number in range(300):
        drains.start(ConnectionsSubject(str(number), set, set), Manner())
    assert len(list(drains)) <= 102 and drains.find("299") is not None
