"""Affinity by a key that the client shows, computed (HAProxy: ``hash-type consistent``). Floor 2.

Nothing is remembered. Every backend has a rank for every key (rendezvous hashing), and the first of them that may serve
does. When one is added or removed, about one in n clients moves, and nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b

from zope.interface import implementer

from stickyproxy.interfaces import IRankingAffinity
from stickyproxy.model import Arrival
from stickyproxy.sansio.keys import KeyFinder


@implementer(IRankingAffinity)
class HashAffinity:
    """Who has the key that ``find_key`` finds goes to the first in its ranking; who has none is bound to nobody."""

    remembers = True
    renews = False
    cookie: bytes | None = None

    def __init__(self, find_key: KeyFinder) -> None:
        self._find_key = find_key
        self._ids: tuple[bytes, ...] = ()
        self._ranking = lru_cache(maxsize=4096)(self._rank)

    def members(self, ids: Iterable[str]) -> None:
        self._ids = tuple(id.encode() for id in ids)
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
        ranks = {id: blake2b(key, digest_size=8, key=blake2b(id, digest_size=16).digest()).digest() for id in self._ids}
        return tuple(id.decode() for id in sorted(self._ids, key=ranks.__getitem__))
