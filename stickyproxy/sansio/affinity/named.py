"""Affinity by a key that is the id of a backend, which the application has made part of something of its own. Floor 2.

Nothing is remembered, and every process agrees: whoever made the key, as an event's id ``a-17``, has said who serves.
"""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Arrival
from stickyproxy.sansio.keys import KeyFinder


@implementer(IAffinity)
class NamedAffinity:
    """Who shows the id of a backend of the cluster goes there; who shows anything else is bound to nobody."""

    remembers = True
    renews = False
    cookie: bytes | None = None

    def __init__(self, find_key: KeyFinder) -> None:
        self._find_key = find_key
        self._ids: dict[bytes | None, str] = {}

    def members(self, ids: Iterable[str]) -> None:
        self._ids = {id.encode(): id for id in ids}

    def recall(self, arrival: Arrival) -> str | None:
        return self._ids.get(self._find_key(arrival))

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        return None
