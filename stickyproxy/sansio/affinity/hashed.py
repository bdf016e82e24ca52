"""Affinity by a key that the client shows, computed (HAProxy: ``hash-type consistent``). Floor 2.

Nothing is remembered. Every backend has a rank for every key (``sansio.rendezvous``), and the first of them that may
serve does. When one is added or removed, about one in n clients moves, and nobody else. How busy a backend is does not
count, for that would move clients that are bound; ``balance = "consistent-hash"`` with ``load`` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from zope.interface import implementer

from stickyproxy.interfaces import IRankingAffinity
from stickyproxy.model import Arrival
from stickyproxy.sansio.keys import KeyFinder
from stickyproxy.sansio.rendezvous import Draws, number_of


class _Backend(NamedTuple):
    id: str
    weight: int


@implementer(IRankingAffinity)
class HashAffinity:
    """Who has the key that ``find_key`` finds goes to the first in its ranking; who has none is bound to nobody."""

    remembers = True
    renews = False
    cookie: bytes | None = None

    def __init__(self, find_key: KeyFinder) -> None:
        self._find_key = find_key
        self._backends: tuple[_Backend, ...] = ()  # that have keys
        self._idle: tuple[_Backend, ...] = ()  # that have none
        self._draws = Draws()
        self._ranking = lru_cache(maxsize=4096)(self._rank)

    def members(self, ids: Iterable[str]) -> None:
        self.weights(dict.fromkeys(ids, 1))

    def weights(self, weights: Mapping[str, int]) -> None:
        """A backend of weight 0 has no keys: who was its client by them is another's from now on."""
        self._backends = tuple(_Backend(id, weights[id]) for id in sorted(weights) if weights[id])
        self._idle = tuple(_Backend(id, 1) for id in sorted(weights) if not weights[id])
        self._ranking.cache_clear()

    def ranking(self, arrival: Arrival) -> Sequence[str]:
        key = self._find_key(arrival)
        return () if key is None else self._ranking(key)

    def recall(self, arrival: Arrival) -> str | None:
        ranking = self.ranking(arrival)
        return ranking[0] if ranking else None

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        return None

    def _rank(self, key: bytes) -> tuple[str, ...]:
        number = number_of(key)
        ranking: list[str] = []
        for backends in (self._backends, self._idle):
            drawn = dict(zip(backends, self._draws(number, backends), strict=True))
            ranking += [each.id for each in sorted(backends, key=drawn.__getitem__, reverse=True)]
        return tuple(ranking)
