"""The one that is likely to answer first: nginx ``least_time header``, Finagle's EWMA. Floor 2, pure.

What a backend is likely to take is the average of what it took, the newer counting more (an exponentially weighted
moving average over ``window`` seconds), for each of the requests that it has already, and this one, by its weight.

A backend that is slow is not asked, and so could never show that it is fast again. Therefore what is thought of one
that is not asked falls, towards half of what the fastest takes: one ten times as slow is tried again after three
windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from typing import NamedTuple, TypeVar

from zope.interface import implementer

from stickyproxy.interfaces import ITimedBalancer
from stickyproxy.model import Arrival
from stickyproxy.sansio.balancing.round_robin import RoundRobin
from stickyproxy.sansio.selection import Candidate

C = TypeVar("C", bound=Candidate)

#: Seconds; what is faster is not told apart.
FLOOR = 0.0001
#: Seconds that one takes which does not answer, or as many as the slowest if that is more.
FAILED = 10.0


class _Taken(NamedTuple):
    seconds: float  # the average
    at: float  # when it was last heard of


@implementer(ITimedBalancer)
class LeastTime:
    """``clock()`` gives seconds; ``window`` is how many of them an average spans, roughly.

    Nobody knows how long a new backend takes: half of what the fastest takes, until it has answered. In turn among
    equals.
    """

    def __init__(self, clock: Callable[[], float], window: float) -> None:
        self._clock = clock
        self._window = window
        self._taken: dict[str, _Taken] = {}
        self._among_equals = RoundRobin()

    def choose(self, candidates: Sequence[C], arrival: Arrival) -> C:
        now, window, taken = self._clock(), self._window, self._taken
        known = [taken.get(each.id) for each in candidates]
        hoped = min([each.seconds for each in known if each is not None], default=FLOOR) / 2
        least = float("inf")
        equals: list[C] = []
        for each, took in zip(candidates, known, strict=True):
            share = (each.active + 1) / each.weight
            cost = hoped * share
            if took is not None and cost < least:  # nobody costs less than what is hoped
                cost += (took.seconds - hoped) * exp(min(0.0, took.at - now) / window) * share
            if cost < least:
                least = cost
                equals = [each]
            elif cost == least:
                equals.append(each)
        if len(taken) > 2 * len(candidates) + 64:  # ids that went for good
            self._taken = {each.id: taken[each.id] for each in candidates if each.id in taken}
        return equals[0] if len(equals) == 1 else self._among_equals.choose(equals, arrival)

    def answered(self, candidate: Candidate, seconds: float | None) -> None:
        now, taken = self._clock(), self._taken
        before = taken.get(candidate.id)
        if seconds is None:
            average = max([FAILED, *[each.seconds for each in taken.values()]])
        else:
            average = max(seconds, FLOOR)
            if before is not None:
                average += (before.seconds - average) * exp(min(0.0, before.at - now) / self._window)
        taken[candidate.id] = _Taken(average, now)
