"""The affinity that binds nobody. Floor 2."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Arrival


@implementer(IAffinity)
class NoAffinity:
    """Every arrival is a stranger."""

    remembers = False
    cookie: bytes | None = None
    renews = False

    def members(self, ids: Iterable[str]) -> None:
        """Nothing to know."""

    def recall(self, arrival: Arrival) -> str | None:
        return None

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        return None
