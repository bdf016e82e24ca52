"""The same backend for the same key, everywhere and always: HAProxy ``hash-type consistent``. Floor 2, pure.

By rendezvous hashing (``sansio.rendezvous``): a backend that goes takes only its own keys with it, and one that comes
takes its share and no more.

With ``load`` no backend has more than so many times its share of what is open (V. Mirrokni, M. Thorup and
M. Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016): a key whose backend is full goes to its next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TypeVar

from zope.interface import implementer

from stickyproxy.interfaces import IBalancer
from stickyproxy.model import Arrival
from stickyproxy.sansio.balancing.round_robin import RoundRobin
from stickyproxy.sansio.keys import KeyFinder
from stickyproxy.sansio.rendezvous import Draws, number_of
from stickyproxy.sansio.selection import Candidate

C = TypeVar("C", bound=Candidate)

#: Keys whose best backend is remembered while the backends are the same, so that drawing is not done for every request.
REMEMBERED = 8192


@implementer(IBalancer)
class ConsistentHash:
    """``find_key`` finds the key of an arrival (``sansio.keys``); those without one are served in turn.

    It is the same in every process and after a restart, for the same ids and weights. ``load``: more than 1.
    """

    def __init__(self, find_key: KeyFinder, load: float | None = None) -> None:
        if load is not None and load <= 1:
            raise ValueError(f"load {load}: expected more than 1")
        self._find_key = find_key
        self._load = load
        self._draws = Draws()
        self._in_turn = RoundRobin()
        self._ids: list[str] = []
        self._weights: list[int] = []
        self._best: dict[int, int] = {}  # from the number of a key to a position among these

    def choose(self, candidates: Sequence[C], arrival: Arrival) -> C:
        key = self._find_key(arrival)
        if key is None:
            return self._in_turn.choose(candidates, arrival)
        number = number_of(key)
        ids, weights = [each.id for each in candidates], [each.weight for each in candidates]
        if ids != self._ids or weights != self._weights:
            self._ids, self._weights = ids, weights
            self._best.clear()
        at = self._best.get(number)
        if at is None:
            if len(self._best) >= REMEMBERED:
                self._best.clear()
            at = self._best[number] = self._draw(number, candidates)
        if self._load is not None:
            share = self._load * (1 + sum([each.active for each in candidates])) / sum(weights)
            if candidates[at].active >= ceil(share * weights[at]):
                room = [each for each in candidates if each.active < ceil(share * each.weight)]
                return room[self._draw(number, room)]
        return candidates[at]

    def _draw(self, number: int, candidates: Sequence[Candidate]) -> int:
        """Who draws best."""
        drawn = self._draws(number, candidates)
        return drawn.index(max(drawn))
