"""Deadlines of many connections, looked at together a few times a second. Floor 3.

A ``callLater`` for each request costs more than the request's parsing. Here a connection that has work to time sets its
``deadline`` attribute, which costs an addition, and one timed call for the whole process compares all of them.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from stickyproxy.reactor.turn import Turn

#: The ``deadline`` of what has none.
NEVER = float("inf")


class Expiring(Protocol):
    """What a ``Sweep`` watches."""

    deadline: float

    def expired(self) -> None: ...


class Sweep:
    """Calls ``expired()`` of every watched object whose ``deadline`` is past, at most ``period`` seconds late.

    ``now`` is the clock's time at the last sweep, so up to ``period`` old: a deadline is ``after(seconds)``, which
    allows for that, and never fires early. ``expired`` may watch and forget at will.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, period: float = 0.5) -> None:
        self.now: float = clock.seconds()
        self.period = period
        self.turn = Turn.of(clock)  #: of the same clock
        self._clock = clock
        self._watched: set[Expiring] = set()
        self._call: IDelayedCall | None = None

    @classmethod
    def for_timeouts(cls, clock: IReactorTime, timeouts: list[float]) -> Sweep:
        """A sweep fine enough for the shortest of ``timeouts`` (seconds)."""
        return cls(clock, _period(timeouts))

    def adapt(self, timeouts: list[float]) -> None:
        """Be fine enough for these too: never coarser than before, for what is watched counts on the period it had."""
        self.period = min(self.period, _period(timeouts))

    def after(self, seconds: float) -> float:
        """The deadline that lies ``seconds`` ahead."""
        if self._call is None:  # nothing was watched, so ``now`` is as old as the last sweep
            self.now = self._clock.seconds()
        return self.now + self.period + seconds

    def seconds(self) -> float:
        """The time right now, by the same clock."""
        return self._clock.seconds()

    def watch(self, expiring: Expiring) -> None:
        """Look at ``expiring.deadline`` from now on."""
        self._watched.add(expiring)
        if self._call is None:
            self._sweep()

    def forget(self, expiring: Expiring) -> None:
        """Look at it no more. Forgetting twice is fine."""
        self._watched.discard(expiring)

    def _sweep(self) -> None:
        self.now = now = self._clock.seconds()
        self._call = None
        for expiring in [one for one in self._watched if one.deadline <= now]:
            if expiring in self._watched:
                try:
                    expiring.expired()
                except Exception:
                    self._log.failure("A deadline of {expiring!r} could not be kept", expiring=expiring)
        if self._watched:
            self._call = self._clock.callLater(self.period, self._sweep)


def _period(timeouts: list[float]) -> float:
    return max(0.02, min([0.5, *(seconds / 4 for seconds in timeouts)]))
