"""Affinity by a session that the application keeps in memory, under an id in its requests. Floor 2.

The id is believed when the application believes it: a session is learned where it was made, or where a request with its
id went well. So an id that somebody made up takes no room, and one that nobody knows any more is not pinned to who said
so. What an application needs beyond that is in a class of its own: ``EngineIOAffinity``, ``MCPAffinity``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAnsweringAffinity, ISessionStore
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.keys import KeyFinder, bounded


@implementer(IAnsweringAffinity)
class ApplicationAffinity:
    """``find_key`` finds the id in requests; ``space`` is what the application is called."""

    remembers = True
    renews = False
    cookie: bytes | None = None

    def __init__(self, find_key: KeyFinder, space: str, sessions: ISessionStore) -> None:
        self._find_key = find_key
        self.space = space.encode() + b"\0"  #: what stands before its keys in the store
        self._sessions = sessions
        self._confirmed: Arrival | None = None

    def members(self, ids: Iterable[str]) -> None:
        """A session of a backend that went stays known as such."""

    def recall(self, arrival: Arrival) -> str | Awaitable[str | None] | None:
        key = self._find_key(arrival)
        if key is None:
            return None
        found: str | Awaitable[str | None] | None = self._sessions.find(self.space + key)
        return found

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        self._confirmed = arrival if head.status < 300 else None
        return head

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        """It follows ``answered`` at once: what did not go well binds nobody."""
        if arrival is self._confirmed and (key := self._find_key(arrival)) is not None:
            self._sessions.bind((self.space + key,), backend_id, lifetime)
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        key = self._find_key(arrival)
        if key is not None:
            self._sessions.forget(self.space + key)
        return None

    def _learn(self, id: bytes, backend_id: str) -> None:
        """``backend_id`` has made the session ``id``."""
        key = bounded(id)
        if key is not None:
            self._sessions.bind((self.space + key,), backend_id)
