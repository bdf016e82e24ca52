"""How many connections a frontend takes, in all and from one client address. Floor 2, pure.

What HAProxy has as ``maxconn`` and ``src_conn_cur``, nginx as ``limit_conn``. One process counts its own.
"""

from __future__ import annotations

from collections import Counter

from stickyproxy.errors import HTTPError
from stickyproxy.sansio.networks import NOBODY, Networks, block_of

_LATER = b"Retry-After: 5\r\n"
#: Why a connection is not admitted.
FULL = HTTPError("there are as many connections as this server takes", status=503, fields=_LATER)
CROWDED = HTTPError("there are as many connections from this address as this server takes", status=429, fields=_LATER)


class Admission:
    """Counts the connections of one frontend. None: as many as come.

    ``per_address`` is for an IPv4 address, or a /64 of IPv6; for none in ``exempt``, who stand for many clients, and
    for nobody without an address (a Unix socket).
    """

    __slots__ = ("_by_block", "_exempt", "_limit", "_per_address", "open")

    def __init__(self, limit: int | None, per_address: int | None, exempt: Networks = NOBODY) -> None:
        self.open = 0  #: admitted, and not yet left
        self._limit = limit
        self._per_address = per_address
        self._exempt = exempt
        self._by_block: Counter[str] = Counter()

    def admit(self, host: str) -> HTTPError | None:
        """Count a connection of ``host`` (as text), who ``leave``s later; or say why there is no room for it."""
        block = self._block(host)
        if block is not None and self._by_block[block] >= self._per_address:  # type: ignore[operator]
            return CROWDED
        if self._limit is not None and self.open >= self._limit:
            return FULL
        if block is not None:
            self._by_block[block] += 1
        self.open += 1
        return None

    def leave(self, host: str) -> None:
        """An admitted connection of ``host`` is gone."""
        self.open -= 1
        block = self._block(host)
        if block is not None:
            self._by_block[block] -= 1
            if not self._by_block[block]:
                del self._by_block[block]

    def _block(self, host: str) -> str | None:
        return None if self._per_address is None or host in self._exempt else block_of(host)
