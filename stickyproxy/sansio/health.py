"""Is a backend well? What probes say of it, and what its clients meet. Floor 2, pure: the time is an argument.

Two memories of each backend, which know nothing of one another and nothing of what an operator wants of it
(``model.BackendState``): ``Health`` is what probes found, ``Ejection`` what became of connections and requests.

From        one probe well                  one probe failed
UNKNOWN     UP                              DOWN
UP          UP, failures forgotten          DOWN, if it is the ``fall``-th in a row
DOWN        UP, if it is the ``rise``-th    DOWN, successes forgotten

Ejection is the circuit breaker, with the three states that one has:

From        to       when
IN          OUT      too many failures in a row, or too large a share of what was asked lately (closed → open)
OUT         TRIAL    its time is over (open → half-open): ``trials`` clients are let in, and nobody else
TRIAL       OUT      one of them fails, for twice as long
TRIAL       IN       so many of them go well
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import attrs

from stickyproxy.sansio.recent import Recent


class Standing(enum.Enum):
    """What probes found. ``UNKNOWN``: none has ended yet; it is served as if it were up."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Health(NamedTuple):
    """What probes found of one backend."""

    standing: Standing = Standing.UNKNOWN
    since: float = 0.0  #: when that began, by the clock of ``now`` below
    reason: str = ""  #: of the last failure, as far as it still counts
    run: int = 0  #: results in a row that speak against ``standing``


@attrs.frozen
class Thresholds:
    """How many results in a row change the standing; the very first one does alone."""

    rise: int = 2
    fall: int = 3


def probed(health: Health, failure: str | None, thresholds: Thresholds, now: float) -> Health:
    """``health`` after a probe that ended ``now``; ``failure`` says why it failed, None: it did not."""
    finding = Standing.UP if failure is None else Standing.DOWN
    if finding is health.standing:
        return health._replace(reason=failure or "", run=0)
    needed = {Standing.UNKNOWN: 1, Standing.UP: thresholds.fall, Standing.DOWN: thresholds.rise}[health.standing]
    if health.run + 1 < needed:
        return health._replace(reason=failure or health.reason, run=health.run + 1)
    return Health(finding, now, failure or "")


@attrs.frozen
class Ejecting:
    """When a backend is taken out for what its clients meet; durations are in seconds."""

    failures: int = 5  #: in a row
    time: float = 10.0  #: for which it is out the first time, and twice as long each time after
    longest: float = 300.0  #: but no longer; a backend that was in for as long begins anew
    max_share: float = 0.5  #: of the backends that may be out
    failure_rate: float | None = None  #: of what was asked in ``window``, if that was at least ``least``
    window: float = 10.0
    least: int = 20
    trials: int = 1  #: clients that must go well after it was out


class Ejection(NamedTuple):
    """What became of connections to a backend, and of requests that it had."""

    unreached: int = 0  #: connections in a row that failed
    unserved: int = 0  #: answers in a row that failed, or that did not come
    dropped: int = 0  #: WebSockets in a row that it closed because of itself
    until: float = 0.0  #: it is out until then
    times: int = 0  #: how often it has been out of late


def connected(ejection: Ejection) -> Ejection:
    """A connection was made. That says nothing of answers: a backend may take connections and serve nobody."""
    return ejection._replace(unreached=0) if ejection.unreached else ejection


def served(ejection: Ejection) -> Ejection:
    """A good answer came. What came before it does not count any more.

    But for WebSockets that it closed: the handshake of the next one always goes well before it does.
    """
    return ejection._replace(unreached=0, unserved=0) if ejection.unreached or ejection.unserved else ejection


def kept(ejection: Ejection) -> Ejection:
    """A WebSocket ended as it should."""
    return ejection._replace(dropped=0) if ejection.dropped else ejection


def failed(ejection: Ejection, *, reached: bool, now: float) -> Ejection:
    """A connection failed, or (``reached``) an answer. While it is out that is no news."""
    if now < ejection.until:
        return ejection
    if reached:
        return ejection._replace(unserved=ejection.unserved + 1)
    return ejection._replace(unreached=ejection.unreached + 1)


def dropped(ejection: Ejection, now: float) -> Ejection:
    """It closed a WebSocket because of itself."""
    return ejection if now < ejection.until else ejection._replace(dropped=ejection.dropped + 1)


def is_due(ejection: Ejection, rules: Ejecting, now: float) -> bool:
    """Whether there are too many failures in a row. Each of the three kinds has its row, and they add up."""
    return now >= ejection.until and ejection.unreached + ejection.unserved + ejection.dropped >= rules.failures


class Rate:
    """What share of that which a backend was asked has failed of late."""

    __slots__ = ("_asked", "_failed", "_least", "_most")

    def __init__(self, most: float, window: float, least: int) -> None:
        self._most = most
        self._least = least
        self._asked = Recent(window)
        self._failed = Recent(window)

    def add(self, now: float, *, failed: bool) -> None:
        """Something went well, or ``failed``."""
        self._asked.add(now)
        if failed:
            self._failed.add(now)

    def is_due(self, now: float) -> bool:
        """Whether that is too much."""
        asked = self._asked.count(now)
        return asked >= self._least and self._failed.count(now) >= self._most * asked


def ejected(ejection: Ejection, rules: Ejecting, now: float) -> Ejection:
    """It is taken out ``now``."""
    times = ejection.times if now - ejection.until <= rules.longest else 0
    seconds = min(rules.time * 2 ** min(times, 30), rules.longest)
    return ejection._replace(until=now + seconds, times=times + 1)


def room(members: int, rules: Ejecting) -> int:
    """How many of so many may be out: the share rounded down, but one of several, and never the only one."""
    return max(1, int(members * rules.max_share)) if members > 1 else 0
