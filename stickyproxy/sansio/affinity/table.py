"""Affinity by a key that the client shows, learned: adding a backend moves nobody. Floor 2. (HAProxy: ``stick on``.)

Two affinities with one store and one ``space`` know a client by the same key: a user's WebSockets in one cluster, say,
and its MQTT connections in another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAffinity, ISessionStore
from stickyproxy.model import Arrival
from stickyproxy.sansio.keys import KeyFinder


@implementer(IAffinity)
class TableAffinity:
    """Who has the key that ``find_key`` finds goes where ``sessions`` says; who has none is bound to nobody."""

    remembers = True
    renews = False
    cookie: bytes | None = None

    def __init__(self, find_key: KeyFinder, space: str, sessions: ISessionStore) -> None:
        self.sessions = sessions
        self._find_key = find_key
        self.space = space.encode() + b"\0"  #: what stands before its keys in the store

    def members(self, ids: Iterable[str]) -> None:
        """What is bound to a backend that went stays so, until somebody else serves it."""

    def key(self, arrival: Arrival) -> bytes | None:
        """The key of ``arrival`` as the store has it."""
        key = self._find_key(arrival)
        return None if key is None else self.space + key

    def in_space(self, key: bytes) -> bytes:
        """A key as the store has it."""
        return self.space + key

    def recall(self, arrival: Arrival) -> str | Awaitable[str | None] | None:
        key = self._find_key(arrival)
        if key is None:
            return None
        found: str | Awaitable[str | None] | None = self.sessions.find(self.space + key)
        return found

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        key = self.key(arrival)
        if key is not None:
            self.sessions.bind((key,), backend_id, lifetime)
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        key = self.key(arrival)
        if key is not None:
            self.sessions.forget(key)
        return None
