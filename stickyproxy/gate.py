"""Who may come in at a frontend or a route, by the client's address: the list first, then the rate. Floor 3.

The decisions are those of ``sansio.access`` and ``sansio.ratelimit``; this joins them with a clock and with the memory
that processes share, and says what a client who stays out is told. TCP has no words for it: there the connection ends.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from stickyproxy.config.access import Access
from stickyproxy.errors import HTTPError
from stickyproxy.sansio.access import AccessList
from stickyproxy.sansio.ratelimit import TokenBuckets
from stickyproxy.sharing import Memory, Region


class Gate:
    """The ``allow``, ``deny`` and ``rate`` of one table. ``seconds`` is a clock. ValueError as of ``AccessList``.

    The rate is counted in ``region`` of ``memory``; None: it is this gate's alone.
    """

    def __init__(
        self, spec: Access, seconds: Callable[[], float], memory: Memory | None = None, region: Region | None = None
    ) -> None:
        self._seconds = seconds
        self._admits = AccessList(spec.allow, spec.deny).admits if spec.allow or spec.deny else None
        rate = spec.rate
        self._take: Callable[[str, float], float] | None = None
        if rate is not None:
            cells = None if memory is None or region is None else memory.cells(region)
            secret = os.urandom(16) if memory is None else memory.secret
            self._take = TokenBuckets(rate.requests, rate.per, rate.burst, cells, secret).take

    def check(self, client: str, sure: bool = True) -> None:
        """Let ``client`` in, an address as text, or raise ``HTTPError``: 403 or 429.

        Not ``sure``: it may be anyone behind the proxy of that address. No list can tell, so every list refuses him.
        """
        if self._admits is not None and not (sure and self._admits(client)):
            raise HTTPError("this address may not come in here", status=403)
        if self._take is not None:
            wait = self._take(client, self._seconds())
            if wait:
                again = b"Retry-After: %d\r\n" % max(1, math.ceil(wait))
                raise HTTPError("too many requests from this address", status=429, fields=again)
