"""Whether a frontend has room for another connection, before any protocol. Floor 4.

It stands behind a PROXY header, whose address counts, and before TLS: a handshake under way is a connection, too. What
is admitted has nothing of this in its data path. What is not admitted is told so only where that is cheap: so many at
a time, and for so long, as the factories that tell them allow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.addresses import peer_of
from stickyproxy.errors import HTTPError
from stickyproxy.sansio.admission import Admission
from stickyproxy.sweep import Sweep

_log = Logger()

#: Connections that are not admitted and are being told so, at a time; more are closed at once.
REFUSALS = 64
#: Seconds between two words of the log: whoever is refused comes again.
PAUSE = 10.0


@implementer(IProtocolFactory)
class AdmissionFactory:
    """Connections for ``wrapped``, as far as ``admission`` has room for them.

    ``refusing``: by the status of the reason, factories of protocols that tell it; where there is none, the connection
    is closed at once. ``name`` is the frontend's.
    """

    def __init__(
        self,
        name: str,
        wrapped: IProtocolFactory,
        admission: Admission,
        sweep: Sweep,
        refusing: Mapping[int, IProtocolFactory] | None = None,
        refused: Counter[str] | None = None,
    ) -> None:
        self.name = name
        self.wrapped = wrapped
        self.admission = admission
        self.refusals = 0  #: that are being told
        self.refused: Counter[str] = Counter() if refused is None else refused  #: ``full`` or ``crowded``
        self._sweep = sweep
        self._refusing = refusing or {}
        self._untold = 0
        self._next_word = 0.0

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        host = peer_of(addr).host
        reason = self.admission.admit(host)
        if reason is None:
            return self._build(self.wrapped, addr, partial(self.admission.leave, host))
        self._tell(reason)
        refusing = self._refusing.get(reason.status)
        if refusing is None or self.refusals >= REFUSALS:
            return None
        self.refusals += 1
        return self._build(refusing, addr, self._told)

    def doStart(self) -> None:
        self.wrapped.doStart()

    def doStop(self) -> None:
        self.wrapped.doStop()

    def _build(self, factory: IProtocolFactory, addr: IAddress, left: Callable[[], None]) -> IProtocol | None:
        inner = factory.buildProtocol(addr)
        if inner is None:
            left()
            return None
        return _Counted(inner, left)

    def _told(self) -> None:
        self.refusals -= 1

    def _tell(self, reason: HTTPError) -> None:
        self._untold += 1
        self.refused["crowded" if reason.status == 429 else "full"] += 1
        now = self._sweep.seconds()
        if now >= self._next_word:
            self._next_word = now + PAUSE
            _log.warn(
                "Frontend {frontend} refuses connections ({count} since this was last told): {reason}",
                frontend=self.name,
                count=self._untold,
                reason=reason.detail,
            )
            self._untold = 0


@implementer(IProtocol, IHalfCloseableProtocol)
class _Counted:
    """Stands before ``inner`` to hear of its end; the bytes go past it."""

    __slots__ = ("_inner", "_left", "dataReceived")

    def __init__(self, inner: Any, left: Callable[[], None]) -> None:
        self._inner = inner
        self._left = left
        self.dataReceived = inner.dataReceived

    def makeConnection(self, transport: Any) -> None:
        self._inner.makeConnection(transport)

    def connectionMade(self) -> None:
        """``makeConnection`` of the inner one calls its own."""

    def readConnectionLost(self) -> None:
        self._inner.readConnectionLost()

    def writeConnectionLost(self) -> None:
        self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        self._left()
        self._inner.connectionLost(reason)
