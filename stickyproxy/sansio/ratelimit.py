"""Token buckets, one for each client address, shared by processes. Floor 2, pure: time is an argument.

The generic cell rate algorithm (ITU-T I.371, annex A), as in nginx ``limit_req``: of a bucket only the time is kept at
which it will be full again, so that none is ever refilled by a timer. It stands in a ``sansio.cells`` table, in memory
of our own or shared: processes that have the same take from the same buckets.

Where a set is full of buckets that are not, the one that lacks least makes room: whoever wants his own forgotten would
have to spend more from every other address of a set that he cannot know than he has spent from his own. Two processes
that take at the same instant from one bucket may count one token; two that make room in one set, forget one newcomer.
"""

from __future__ import annotations

from functools import lru_cache

from stickyproxy.sansio.cells import PLACE, WAYS, halves, tags
from stickyproxy.sansio.networks import block_of

#: Bytes of the table that a gate has: room for the buckets of about 60,000 addresses at a time.
BYTES = PLACE << 17


class TokenBuckets:
    """``requests`` in ``per`` seconds for each key, ``burst`` of them at once.

    ``cells``: memory of zeros, or what others have written there with the same ``secret``; None: ``BYTES`` of its own.
    """

    __slots__ = ("_depth", "_full", "_interval", "_place", "_tags")

    def __init__(
        self, requests: int, per: float, burst: int, cells: memoryview | None = None, secret: bytes = b""
    ) -> None:
        self._interval = per / requests
        self._depth = self._interval * (burst + 0.001)  # sums of floats are not exact
        self._tags, full, sets = halves(memoryview(bytearray(BYTES)) if cells is None else cells)
        self._full = full.cast("d")  # when the bucket is full again
        tag_of = tags(secret)

        def place(address: str) -> list[int]:
            """Its tag, where it stood last, and where its set begins."""
            tag = tag_of(bucket_of(address))
            first = tag % sets * WAYS
            return [tag, first, first]

        self._place = lru_cache(4096)(place)

    def take(self, address: str, now: float) -> float:
        """Take a token from the bucket of ``address``: 0 if there was one, else the seconds until there is one.

        ``now`` in seconds, of a clock that all processes have. One that is set back makes nobody wait for longer than
        an empty bucket does.
        """
        place = self._place(address)
        tag, at, _ = place
        if self._tags[at] != tag and (at := self._found(place)) < 0:
            self._add(place, now + self._interval)
            return 0.0
        full = self._full[at]
        empty = now + self._depth
        full = now + self._interval if full < now else full + self._interval
        if full > empty:
            if full > empty + self._interval:  # the clock was set back
                self._full[at] = empty
                return self._interval
            return full - empty
        self._full[at] = full
        return 0.0

    def _found(self, place: list[int]) -> int:
        tag, _, first = place
        found = self._tags[first : first + WAYS].tolist()
        if tag not in found:
            return -1
        place[1] = first + found.index(tag)
        return place[1]

    def _add(self, place: list[int], full: float) -> None:
        """The first of its set to be full again, or who has been so for longest, makes room."""
        tag, _, first = place
        times = self._full[first : first + WAYS].tolist()
        place[1] = at = first + times.index(min(times))
        self._full[at] = full  # before the tag: who had the place lacks one token for a moment, and not the other way
        self._tags[at] = tag


def bucket_of(address: str) -> str:
    """Whose bucket a client takes from: that of its IPv4 address, or of its /64, which one host may have whole."""
    return block_of(address) or address


class Bucket:
    """One bucket on its own: ``requests`` in ``per`` seconds, ``burst`` of them at once."""

    __slots__ = ("_depth", "_full", "_interval")

    def __init__(self, requests: int, per: float, burst: int) -> None:
        self._interval = per / requests
        self._depth = self._interval * (burst + 0.001)  # sums of floats are not exact
        self._full = 0.0  # when it is full again

    def take(self, now: float) -> bool:
        """Whether there was a token to take. ``now`` in seconds, of a clock that is never set back."""
        full = max(self._full, now) + self._interval
        if full > now + self._depth:
            return False
        self._full = full
        return True
