"""How many connections a frontend takes, in all and from one client address. Floor 2, pure.

What HAProxy has as ``maxconn`` and ``src_conn_cur``, nginx as ``limit_conn``. ``Admission`` counts those of one
process, ``SharedAdmission`` those of all processes that share the memory it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stickyproxy.errors import HTTPError
from stickyproxy.sansio.cells import PLACE, WAYS, halves, tags
from stickyproxy.sansio.networks import NOBODY, Networks, block_of

_LATER = b"Retry-After: 5\r\n"
#: Why a connection is not admitted.
FULL = HTTPError("there are as many connections as this server takes", status=503, fields=_LATER)
CROWDED = HTTPError("there are as many connections from this address as this server takes", status=429, fields=_LATER)
#: Bytes of a ``Tally``: room for the connections of about 30,000 addresses.
BYTES = PLACE << 16
_HEAD = 8 * 8


class Admission:
    """Counts the connections of one frontend. None: as many as come.

    ``per_address`` is for an IPv4 address, or a /64 of IPv6; for none in ``exempt``, who stand for many clients, and
    for nobody without an address (a Unix socket).
    """

    def __init__(self, limit: int | None, per_address: int | None, exempt: Networks = NOBODY) -> None:
        self.open = 0  #: admitted, and not yet left
        self._by_block: Counter[str] = Counter()
        self._limit, self._per_address, self._exempt = limit, per_address, exempt

    def configure(self, limit: int | None, per_address: int | None, exempt: Networks = NOBODY) -> None:
        """What holds for the next connections. Under another rule for addresses their counts begin anew."""
        if (per_address, exempt) != (self._per_address, self._exempt):
            self._by_block.clear()
        self._limit = limit
        self._per_address = per_address
        self._exempt = exempt

    def admit(self, host: str) -> HTTPError | None:
        """Count a connection of ``host`` (as text), who ``leave``s later; or say why there is no room for it."""
        block = self._block(host)
        if block is not None and self._by_block[block] + self._elsewhere(block) >= self._per_address:  # type: ignore[operator]
            return CROWDED
        if self._limit is not None and self.open + self._elsewhere(None) >= self._limit:
            return FULL
        self._count(block, 1)
        return None

    def leave(self, host: str) -> None:
        """An admitted connection of ``host`` is gone."""
        self._count(self._block(host), -1)

    def _count(self, block: str | None, change: int) -> None:
        self.open += change
        if block is not None:
            self._by_block[block] += change
            if self._by_block[block] <= 0:  # who leaves may have come under another rule
                del self._by_block[block]

    def _elsewhere(self, block: str | None) -> int:
        """How many connections other processes have, of ``block`` or, None, in all."""
        return 0

    def _block(self, host: str) -> str | None:
        return None if self._per_address is None or host in self._exempt else block_of(host)


class SharedAdmission(Admission):
    """Counts those of other processes, too. Each writes into a tally of its own, and reads all.

    ``own`` and ``others``: memory of zeros, ``BYTES`` each, or what those processes have written there with the same
    ``secret``. Two processes that decide at the same instant may each admit one: there are never more than the limit
    and one for each other process. Who dies is no longer counted when his tally is filled with zeros. An address that
    finds no room in its tally is counted by each process for itself: nobody is refused for that.
    """

    def __init__(
        self,
        limit: int | None,
        per_address: int | None,
        exempt: Networks,
        own: memoryview,
        others: Sequence[memoryview],
        secret: bytes,
    ) -> None:
        super().__init__(limit, per_address, exempt)
        self._own = Tally(own)
        self._others = tuple(map(Tally, others))
        self._tag = tags(secret)

    def _count(self, block: str | None, change: int) -> None:
        super()._count(block, change)
        self._own.words[0] = self.open
        if block is not None:
            self._own.set(self._tag(block), self._by_block.get(block, 0))

    def _elsewhere(self, block: str | None) -> int:
        if block is None:
            return sum(other.words[0] for other in self._others)
        tag = self._tag(block)
        return sum(other.count(tag) for other in self._others if other.words[0])


class Tally:
    """The connections of one process, in all (``words[0]``) and by tag. One process writes, the others read."""

    __slots__ = ("_counts", "_sets", "_tags", "words")

    def __init__(self, memory: memoryview) -> None:
        self.words = memory[:_HEAD].cast("Q")
        self._tags, counts, self._sets = halves(memory[_HEAD:])
        self._counts = counts.cast("Q")

    def count(self, tag: int) -> int:
        """How many connections have ``tag``."""
        at = self._place(tag, tag)
        return 0 if at < 0 else self._counts[at]

    def set(self, tag: int, count: int) -> None:
        """``tag`` has so many connections; none: its place is free. Without a place left nothing is written."""
        at = self._place(tag, tag)
        if at >= 0:
            self._counts[at] = count
            if not count:
                self._tags[at] = 0
        elif count and (at := self._place(tag, 0)) >= 0:
            self._counts[at] = count  # before the tag: nobody counts what a former tag had
            self._tags[at] = tag

    def _place(self, tag: int, wanted: int) -> int:
        """Where ``wanted`` stands in the set of ``tag``; -1: nowhere."""
        first = tag % self._sets * WAYS
        there: list[int] = self._tags[first : first + WAYS].tolist()
        return first + there.index(wanted) if wanted in there else -1
