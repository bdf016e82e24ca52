"""Token buckets, one for each client address. Floor 2, pure: time is an argument.

The generic cell rate algorithm (ITU-T I.371, annex A), as in nginx ``limit_req``: of a bucket only the time is kept at
which it will be full again, so that a bucket that is full needs no memory, and none is ever refilled by a timer.

The table of buckets is bounded. Where it is full of buckets that are not, the one that lacks least makes room: whoever
wants his own forgotten would have to spend more from every other address than he has spent from his own.
"""

from __future__ import annotations

import heapq

from stickyproxy.sansio.networks import block_of

#: Addresses whose buckets are kept, 20 MB of them at most.
SIZE = 1 << 16


class TokenBuckets:
    """``requests`` in ``per`` seconds for each key, ``burst`` of them at once. ``size`` keys are remembered."""

    __slots__ = ("_depth", "_due", "_full", "_interval", "_size")

    def __init__(self, requests: int, per: float, burst: int, size: int = SIZE) -> None:
        self._interval = per / requests
        self._depth = self._interval * (burst + 0.001)  # sums of floats are not exact
        self._size = size
        self._full: dict[str, float] = {}  # when the bucket is full again
        self._due: list[tuple[float, str]] = []  # a heap of the same keys: each is full then, or later

    def take(self, key: str, now: float) -> float:
        """Take a token from the bucket of ``key``: 0 if there was one, else the seconds until there is one.

        ``now`` in seconds. A clock that is set back makes nobody wait for longer than an empty bucket does.
        """
        full = self._full.get(key)
        if full is None:
            self._add(key, now + self._interval)
            return 0.0
        empty = now + self._depth
        full = now + self._interval if full < now else full + self._interval
        if full > empty + self._interval:  # the clock was set back
            self._full[key] = empty
            return self._interval
        if full > empty:
            return full - empty
        self._full[key] = full
        return 0.0

    def __len__(self) -> int:
        return len(self._full)

    def _add(self, key: str, full: float) -> None:
        due, now = self._due, full - self._interval
        for _ in range(2):  # one more than comes: the table shrinks, by little at a time
            if due and due[0][0] <= now:
                self._forget_first(now)
        while len(self._full) >= self._size:
            self._forget_first(due[0][0])
        self._full[key] = full
        heapq.heappush(due, (full, key))

    def _forget_first(self, until: float) -> None:
        """Forget the first of the heap if it is full ``until`` then; else it goes where it belongs."""
        key = self._due[0][1]
        full = self._full[key]
        if full <= until:
            heapq.heappop(self._due)
            del self._full[key]
        else:
            heapq.heapreplace(self._due, (full, key))


def bucket_of(address: str) -> str:
    """Whose bucket a client takes from: that of its IPv4 address, or of its /64, which one host may have whole."""
    return block_of(address) or address
