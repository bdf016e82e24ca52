"""Who of those that are up may have the next new client: what stands before a balancer. Floor 2, pure.

Balancers know nothing of it. Clients that are bound do not come by here.

* Who is full (``limit``) is passed over, as long as somebody has room.
* ``backup``: only where nobody else is left; or, if that is wanted, nobody else has room (HAProxy ``backup``).
* Slow start: who has only just come up has a share that grows from a tenth to the whole of its weight. It earns that
  share with each new client, and one client is what it takes to be offered to the balancer: so it holds for all of
  them, those that prefer who is idle as well as those that go by a key (HAProxy ``slowstart``, nginx ``slow_start``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from zope.interface import implementer

from stickyproxy.interfaces import IBalancer
from stickyproxy.model import Arrival
from stickyproxy.sansio.selection import has_room

#: The share of its weight that a backend begins with.
LEAST = 0.1


@attrs.frozen
class Sifting:
    """``slow_start``: in how many seconds a backend comes to its whole weight; 0: at once.

    ``rooms``: some of the backends have a limit, or are backups.
    """

    slow_start: float = 0.0
    backups_when_full: bool = False
    rooms: bool = True


@implementer(IBalancer)
class Sieve:
    """``balancer`` for those that ``sifting`` leaves. ``clock()`` gives seconds."""

    def __init__(self, balancer: IBalancer, sifting: Sifting, clock: Callable[[], float]) -> None:
        self._balancer = balancer
        self._sifting = sifting
        self._clock = clock
        self._credit: dict[str, float] = {}  # clients that those who start slowly have earned

    def choose(self, candidates: Sequence[Any], arrival: Arrival) -> Any:
        able = self._with_room(candidates) if self._sifting.rooms else candidates
        if self._sifting.slow_start:
            able = self._warm(able)
        chosen = self._balancer.choose(able, arrival)
        if chosen.id in self._credit:
            self._credit[chosen.id] -= 1
        return chosen

    def _with_room(self, candidates: Sequence[Any]) -> Sequence[Any]:
        first = [each for each in candidates if not each.backup] or candidates
        room = [each for each in first if has_room(each)]
        if not room and self._sifting.backups_when_full:
            room = [each for each in candidates if has_room(each)]
        return room or first

    def _warm(self, candidates: Sequence[Any]) -> Sequence[Any]:
        """Those of them that have earned a client, or need not; all, if nobody has."""
        if not [each for each in candidates if each.warming is not None]:
            return candidates
        now = self._clock()
        shares = [self._share(each, now) for each in candidates]
        if min(shares) == 1:
            return candidates
        total = sum(each.weight * share for each, share in zip(candidates, shares, strict=True))
        able = []
        for each, share in zip(candidates, shares, strict=True):
            if share < 1:
                earned = min(self._credit.get(each.id, 0.0) + each.weight * share / total, 2.0)
                self._credit[each.id] = earned
                if earned < 1:
                    continue
            able.append(each)
        return able or candidates

    def _share(self, candidate: Any, now: float) -> float:
        if candidate.warming is None:
            return 1.0
        share: float = (now - candidate.warming) / self._sifting.slow_start
        if share < 1:
            return max(LEAST, share)
        candidate.warming = None
        self._credit.pop(candidate.id, None)
        return 1.0
