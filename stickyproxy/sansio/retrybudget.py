"""How many retries a cluster may cost: a share of its requests, so that who is down is not trampled. Floor 2, pure.

Finagle's retry budget and Envoy's ``retry_budget``. Requests are counted only where retries are of late: until the
first one nothing is.
"""

from __future__ import annotations

from stickyproxy.sansio.recent import Recent

#: Seconds that count as of late.
WINDOW = 10.0
#: Retries a second that are allowed however few requests there are.
LEAST = 10


class RetryBudget:
    """Retries are at most ``share`` of the requests in ``WINDOW`` seconds, and ``LEAST`` a second beside that."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._requests = Recent(WINDOW)
        self._retries = Recent(WINDOW)
        self._until = float("-inf")  # requests are counted until then

    def counts(self, now: float) -> bool:
        """Whether requests are to be told."""
        return now < self._until

    def request(self, now: float) -> None:
        """A new request came."""
        self._requests.add(now)

    def retry(self, now: float, active: int) -> bool:
        """Whether one may be tried again now. ``active``: the requests that are open, which may not have been told."""
        if not self.counts(now):
            self._requests.add(now, active)
        self._until = now + 2 * WINDOW
        if self._retries.count(now) >= LEAST * WINDOW + self.share * self._requests.count(now):
            return False
        self._retries.add(now)
        return True
