"""The less loaded of two at random: HAProxy ``balance random(2)``, nginx ``random two``. Floor 2, pure.

M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001): nearly as even as the least loaded of
all, and many proxies that do not know of each other do not all send to the same one.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import TypeVar

from zope.interface import implementer

from stickyproxy.interfaces import IBalancer
from stickyproxy.model import Arrival
from stickyproxy.sansio.selection import Candidate

C = TypeVar("C", bound=Candidate)


@implementer(IBalancer)
class RandomTwo:
    """Two different ones are drawn by weight, and the one with fewer open requests for its weight is taken."""

    def __init__(self, random: Random) -> None:
        self._random = random.random

    def choose(self, candidates: Sequence[C], arrival: Arrival) -> C:
        if len(candidates) == 1:
            return candidates[0]
        ends = list(accumulate([each.weight for each in candidates]))  # each has the numbers below its end
        at = bisect(ends, self._random() * ends[-1])
        one = candidates[at]
        begin = ends[at] - one.weight
        drawn = self._random() * (ends[-1] - one.weight)  # the numbers of the first one are cut out
        other = candidates[bisect(ends, drawn if drawn < begin else drawn + one.weight, hi=len(ends) - 1)]
        return one if one.active * other.weight <= other.active * one.weight else other
