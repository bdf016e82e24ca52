"""Affinity by a cookie in which the application names the backend (HAProxy: ``cookie NAME``, no more). Floor 2.

Nothing is signed: a client may name any backend of the cluster, and gets it unless that is in maintenance. So this is
for applications that do not mind, or that check by themselves who comes.
"""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Arrival
from stickyproxy.sansio.cookies import find


@implementer(IAffinity)
class PassiveAffinity:
    """The value of the cookie ``name`` is the id of a backend; anything else is as if absent."""

    remembers, renews = True, False
    cookie: bytes | None = None

    def __init__(self, name: str) -> None:
        self._mark = name.encode("ascii") + b"="
        self._ids: dict[bytes, str] = {}

    def members(self, ids: Iterable[str]) -> None:
        self._ids = {id.encode(): id for id in ids}

    def recall(self, arrival: Arrival) -> str | None:
        head = arrival.head
        fields = None if head is None else head.named.get(b"cookie")
        named = None if fields is None else find(fields, self._mark)
        return None if named is None else self._ids.get(named)

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        """The application sets the cookie."""
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        """The application ends the cookie."""
        return None
