"""The fewest open requests for its weight: HAProxy ``balance leastconn``, nginx ``least_conn``. Floor 2, pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from zope.interface import implementer

from stickyproxy.interfaces import IBalancer
from stickyproxy.model import Arrival
from stickyproxy.sansio.balancing.round_robin import RoundRobin
from stickyproxy.sansio.selection import Candidate

C = TypeVar("C", bound=Candidate)


@implementer(IBalancer)
class LeastConnections:
    """The one with the fewest open requests and tunnels for its weight; in turn among equals."""

    def __init__(self) -> None:
        self._among_equals = RoundRobin()

    def choose(self, candidates: Sequence[C], arrival: Arrival) -> C:
        least = -1.0
        equals: list[C] = []
        for each in candidates:
            load = each.active / each.weight
            if load < least or not equals:
                least = load
                equals = [each]
            elif load == least:
                equals.append(each)
        return equals[0] if len(equals) == 1 else self._among_equals.choose(equals, arrival)
