"""What stands in for the reactor where endpoints listen, and Unix ports that leave alone what is others'. Floor 5."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorSocket,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

if TYPE_CHECKING:
    from stickyproxy.control.sockets import Sockets


@implementer(IReactorTCP, IReactorSSL, IReactorUNIX, IReactorSocket, IReactorTime)
class StandIn:
    """The reactor, to the endpoint of ``description``. What is not here an endpoint cannot have."""

    def __init__(self, sockets: Sockets, description: str) -> None:
        self._sockets = sockets
        self._description = description

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> IListeningPort:
        opened = partial(self._sockets.open_tcp, port, factory, backlog, interface)
        return self._sockets.take(self._description, factory, opened)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface)

    def listenUNIX(
        self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> IListeningPort:
        opened = partial(self._sockets.open_unix, address, factory, backlog, mode, wantPID)
        return self._sockets.take(self._description, factory, opened)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: Any) -> IListeningPort:
        return self._sockets.take(
            self._description, factory, lambda: [self._sockets.adopt(fileDescriptor, addressFamily, factory)]
        )

    def seconds(self) -> float:
        now: float = self._sockets.reactor.seconds()
        return now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> Any:  # noqa: A002
        return self._sockets.reactor.callLater(delay, callable, *args, **kw)

    def getDelayedCalls(self) -> Any:
        return self._sockets.reactor.getDelayedCalls()

    def connectTCP(self, *_: object, **__: object) -> Any:
        """An endpoint that listens does not connect."""
        raise TypeError("it connects where it should listen")

    connectSSL = connectUNIX = adoptStreamConnection = adoptDatagramPort = connectTCP


class AdoptedUNIX(unix.Port):
    """A socket that somebody else has opened: its mode and backlog are left alone, and its file, unless it is ours."""

    owned = False  #: to be removed at the end

    def startListening(self) -> None:
        sock: Any = self._preexistingSocket
        self._preexistingSocket = None
        self.factory.doStart()  # type: ignore[union-attr]
        self.socket = sock
        self.fileno = sock.fileno  # type: ignore[method-assign]
        self.connected = True
        self._shouldShutdown = False
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        if self.owned and not self._bindPath.startswith(b"\0"):
            with suppress(OSError):
                Path(os.fsdecode(self._bindPath)).unlink()
        tcp.Port.connectionLost(self, reason)


class _Held:
    """A port that nothing is accepted from here. It is not shut down: others may go on."""

    _shouldShutdown = False  # noqa: N815 - Twisted's name

    def startReading(self) -> None:
        """Not here."""

    def stopReading(self) -> None:
        """There is nothing to stop."""


class HeldUNIX(_Held, unix.Port):
    """It removes its file."""


class HeldAdoptedUNIX(_Held, AdoptedUNIX):
    """Somebody else has opened it."""
