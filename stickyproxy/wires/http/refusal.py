"""What HTTP clients are told for whom there is no room. Floor 4. RFC 9110 section 15.6.4, RFC 6585 section 4.

Nothing of a request is judged: the first bytes, whatever they are, are answered. An answer before that would meet a
client that has not asked yet, and many take that for an error of its own.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.addresses import peer_of
from stickyproxy.errors import HTTPError
from stickyproxy.member import Member
from stickyproxy.model import HTTPEntry, Peer
from stickyproxy.relay import half_close
from stickyproxy.sansio.forwarding import error_page
from stickyproxy.sweep import NEVER
from stickyproxy.wires.http.factory import HTTPFrontendFactory

#: Seconds that a client has to ask and to read the answer; after that, for its system to take it.
ALLOWANCE = 5.0


class RefusalFactory(Factory):
    """Answers every client with ``error``, and ends its connection so that it can read that."""

    noisy = False

    def __init__(self, frontend: HTTPFrontendFactory, error: HTTPError) -> None:
        self.frontend = frontend
        self.error = error

    def buildProtocol(self, addr: IAddress | None) -> Refusal:  # type: ignore[override]
        return Refusal(self, peer_of(addr))


@implementer(IHalfCloseableProtocol)
class Refusal(Protocol):
    """A connection that there is no room for."""

    transport: Any
    factory: RefusalFactory

    def __init__(self, factory: RefusalFactory, peer: Peer) -> None:
        self.factory = factory
        self.peer = peer
        self.deadline = NEVER
        self._answered = self._closing = False

    def connectionMade(self) -> None:
        frontend = self.factory.frontend
        frontend.connections.add(self)
        frontend.sweep.watch(self)
        self.deadline = frontend.sweep.after(ALLOWANCE)

    def dataReceived(self, data: bytes) -> None:
        if self._answered:
            return  # what is unread when we close would take the answer back
        self._answered = True
        frontend, error = self.factory.frontend, self.factory.error
        page = error_page(error, keep_alive=False, head_only=data.startswith(b"HEAD "), date=frontend.date())
        self.transport.write(page)
        half_close(self.transport)
        if frontend.record is not None:
            sent = len(page) - page.index(b"\r\n\r\n") - 4
            entry = HTTPEntry(self.peer.host, None, error.status, sent, frontend.now(), 0.0)
            frontend.record(entry._replace(frontend=frontend.name))

    def readConnectionLost(self) -> None:
        self._close()

    def writeConnectionLost(self) -> None:
        """That was us."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.frontend.connections.discard(self)
        self.factory.frontend.sweep.forget(self)

    def expired(self) -> None:
        """The sweep's word: it has had its time."""
        if self._closing:
            self.abort()
        else:
            self._close()

    def abort(self) -> None:
        """End the connection now."""
        self.transport.abortConnection()

    def drain(self, code: int | None = None) -> None:
        """It ends by itself, and soon."""

    def is_served_by(self, member: Member) -> bool:
        """No backend has to do with it."""
        return False

    def _close(self) -> None:
        self._closing = True
        self.deadline = self.factory.frontend.sweep.after(ALLOWANCE)
        self.transport.loseConnection()
