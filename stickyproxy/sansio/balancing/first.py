"""One backend filled up after the other, so that the last ones can sleep: HAProxy ``balance first``. Floor 2, pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from zope.interface import implementer

from stickyproxy.interfaces import IBalancer
from stickyproxy.model import Arrival
from stickyproxy.sansio.selection import Candidate

C = TypeVar("C", bound=Candidate)


@implementer(IBalancer)
class First:
    """The first one with fewer than ``fill`` open requests and tunnels for each of its weight, else the least loaded.

    The order is that of the candidates: of the configuration.
    """

    def __init__(self, fill: int) -> None:
        self._fill = fill

    def choose(self, candidates: Sequence[C], arrival: Arrival) -> C:
        fill = self._fill
        for each in candidates:
            if each.active < fill * each.weight:
                return each
        return min(candidates, key=_load)


def _load(candidate: Candidate) -> float:
    return candidate.active / candidate.weight
