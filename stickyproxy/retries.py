"""The retries of a cluster, as far as its budget allows them. Floor 3.

Nothing is counted before the first one; then requests are, until a while after the last (``sansio.retrybudget``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from twisted.logger import Logger

from stickyproxy.model import Arrival
from stickyproxy.sansio.retrybudget import RetryBudget
from stickyproxy.sansio.selection import Selected

if TYPE_CHECKING:
    from stickyproxy.member import Member


class Retries:
    """Counts them. ``changed`` is told when ``select`` is to stand before ``inner``, or (False) need not any more."""

    _log = Logger()

    def __init__(
        self, cluster: str, members: Mapping[str, Member], seconds: Callable[[], float], changed: Callable[[], object]
    ) -> None:
        self.inner: Callable[..., Selected[Member]]
        self.share: float | None = None  #: of the requests that may be retried; None: as many as there are
        self.counting = False
        self._cluster = cluster
        self._members = members
        self._seconds = seconds
        self._changed = changed
        self._budget = RetryBudget(0.0)
        self._spent = False

    def allowed(self) -> bool:
        """Whether one may be tried again, which is counted."""
        if self.share is None:
            return True
        self._budget.share = self.share
        allowed = self._budget.retry(self._seconds(), sum(each.active for each in self._members.values()))
        if not self.counting:
            self._count(True)
        if not allowed and not self._spent:
            self._spent = True
            self._log.warn("So many requests of {cluster} are tried again that others are not", cluster=self._cluster)
        return allowed

    def select(self, arrival: Arrival, tried: AbstractSet[str] = frozenset()) -> Selected[Member]:
        """Who serves ``arrival``, which is counted if it is new."""
        if not tried:
            now = self._seconds()
            self._budget.request(now)
            if not self._budget.counts(now):
                self._spent = False
                self._count(False)
        return self.inner(arrival, tried)

    def _count(self, counting: bool) -> None:
        self.counting = counting
        self._changed()
