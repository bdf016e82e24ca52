"""How late the event loop is: what every client waits for beside its own work. Floor 5."""

from __future__ import annotations

from bisect import bisect_left

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from stickyproxy.control.metrics.families import LAG_BOUNDS

#: Seconds between two looks.
PERIOD = 0.25


class Lag(Service):
    """Looks at the lateness of a timer, again and again. ``last`` is in seconds, ``buckets`` as of a histogram."""

    def __init__(self, clock: IReactorTime) -> None:
        self.last = 0.0
        self.buckets: list[float] = [*[0] * (len(LAG_BOUNDS) + 1), 0.0]
        self._clock = clock
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._await()

    def stopService(self) -> None:
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _await(self) -> None:
        self._due = self._clock.seconds() + PERIOD
        self._call = self._clock.callLater(PERIOD, self._look)

    def _look(self) -> None:
        self.last = late = max(0.0, self._clock.seconds() - self._due)
        self.buckets[bisect_left(LAG_BOUNDS, late)] += 1
        self.buckets[-1] += late
        self._await()
