"""Listening sockets, apart from who accepts from them: one process opens them, and others accept. Floor 5.

An endpoint string is Twisted's, and may be of any kind whose endpoint listens by ``listenTCP``, ``listenSSL``,
``listenUNIX`` or ``adoptStreamPort`` of the reactor that it is made with. ``Sockets`` stands in for that reactor, so
that what the endpoint says of the socket (interface, backlog, mode …) holds where it is opened, and what it puts
around the protocol (``haproxy:``, ``ssl:`` …) where connections are accepted.

For TCP there is a socket for each worker, all on one port (SO_REUSEPORT), where the system spreads connections over
them: docs/workers.md has the figures. All workers have all of them, so that each can act for another; where there is
one socket only, all accept from that, one connection at a time.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import unix
from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, execute, fail, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from zope.interface import implementer

from stickyproxy.control.ports import AdoptedUNIX, HeldAdoptedUNIX, HeldUNIX, StandIn
from stickyproxy.errors import StickyproxyError
from stickyproxy.listening import clear_left, server_endpoint

#: Where sockets of one port share its connections evenly; elsewhere the last one gets them all.
_SPREADS = sys.platform == "linux"


class CannotShare(StickyproxyError):
    """An endpoint that several processes cannot listen on together."""


def places(acting: Iterable[int], workers: int, sockets: int) -> set[int]:
    """Of so many sockets, those from which a worker accepts that acts for the workers ``acting`` (1 to ``workers``)."""
    mine = set(acting)
    return {place % sockets for place in range(max(sockets, workers)) if place % workers + 1 in mine}


class Sockets:
    """The listening sockets of this process, by their places: endpoint strings, or ``listening.places_of`` these.

    ``accepting``: connections are accepted from them here; else they are held for others. ``opening``: they are opened
    here where none is given, ``copies`` of each where that is possible; else only those that are given can be had.
    """

    def __init__(self, reactor: Any, *, accepting: bool, opening: bool, copies: int = 1) -> None:
        self.reactor = reactor
        self.accepting = accepting
        self.opening = opening
        self.copies = copies if _SPREADS else 1
        self._given: dict[str, list[socket.socket]] = {}
        self._groups: list[Group] = []
        self._acting: tuple[frozenset[int], int] = (frozenset((1,)), 1)

    def listen(self, description: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Have ``factory`` serve an endpoint string: ``listening.Listen``.

        Fails with ``CannotShare`` for one that needs more of a reactor than sockets.
        """
        known = description in self._given or not self.opening
        if known and description.startswith("systemd:"):  # our environment says nothing of these
            return execute(self.take, description, factory, None)
        try:
            return server_endpoint(StandIn(self, description), description).listen(factory)
        except (TypeError, AttributeError) as error:
            return fail(CannotShare(f"several processes cannot listen on it together ({error})"))

    def listen_here(self, description: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """As ``listen``, for what this process serves itself whoever else accepts: the admin API."""
        accepting, self.accepting = self.accepting, True
        try:
            return self.listen(description, factory)
        finally:
            self.accepting = accepting

    def give(self, description: str, sock: socket.socket) -> None:
        """``sock`` listens on ``description``, perhaps beside others; it belongs to this from now on."""
        sock.setblocking(False)
        self._given.setdefault(description, []).append(sock)

    def held(self) -> list[tuple[str, socket.socket]]:
        """All that are listened on, as they can be given to another process."""
        self._groups = [group for group in self._groups if not group.closed]
        return [(group.description, port.socket) for group in self._groups for port in group.ports]

    def act_for(self, workers: Iterable[int], count: int) -> None:
        """Accept what is there for these of ``count`` workers."""
        self._acting = (frozenset(workers), count)
        for group in self._groups:
            group.accept(*self._acting)

    def forget(self) -> list[str]:
        """Close those that were given, and that nobody has asked for. Returns the files that they have."""
        given, self._given = self._given, {}
        files = []
        for socks in given.values():
            for sock in socks:
                if sock.family == socket.AF_UNIX:
                    files.append(str(sock.getsockname()))
                sock.close()
        return files

    def release(self) -> None:
        """All are another's now: they are closed here, and go on there."""
        for group in self._groups:
            for port in group.ports:
                port._shouldShutdown = False
                if isinstance(port, unix.Port):
                    port._bindPath = b"\0"  # no file of ours

    # For the endpoints.

    def take(self, description: str, factory: Any, open_: Callable[[], list[Any]] | None) -> Group:
        """Ports on the sockets that were given for ``description``, else those that ``open_`` makes."""
        if description in self._given:
            ports = []
            for sock in self._given.pop(description):
                with sock:  # a port has a duplicate
                    ports.append(self.adopt(sock.fileno(), sock.family, factory))
        elif open_ is not None and self.opening:
            ports = open_()
        else:
            raise CannotShare("there is no socket for it")
        group = Group(description, ports)
        self._groups.append(group)
        if self.accepting:
            group.accept(*self._acting)
        return group

    def adopt(self, descriptor: int, family: int, factory: Any) -> Any:
        """A port on a duplicate of the listening socket ``descriptor``."""
        if family != socket.AF_UNIX:
            if not self.accepting:
                return Held(socket.fromfd(descriptor, family, socket.SOCK_STREAM))
            return self.reactor.adoptStreamPort(descriptor, family, factory)
        kind = AdoptedUNIX if self.accepting else HeldAdoptedUNIX
        port = kind._fromListeningDescriptor(self.reactor, descriptor, factory)
        port.owned = self.opening
        port.startListening()
        return port

    def open_tcp(self, port: int, factory: Any, backlog: int, interface: str) -> list[Any]:
        """Ports of TCP. The first is opened alone, to find out whether another program has it."""
        if self.accepting:
            return [self.reactor.listenTCP(port, factory, backlog, interface)]
        try:
            alone = listening(interface, port, backlog, shared=False)
            if self.copies == 1:
                return [Held(alone)]
            port = alone.getsockname()[1]
            alone.close()
            return [Held(listening(interface, port, backlog, shared=True)) for _ in range(self.copies)]
        except OSError as error:
            raise CannotListenError(interface, port, error) from error

    def open_unix(self, address: str, factory: Any, backlog: int, mode: int, want_pid: bool) -> list[Any]:
        """A port of Unix, which has its file alone."""
        clear_left(address)
        if self.accepting:
            return [self.reactor.listenUNIX(address, factory, backlog, mode, want_pid)]
        port = HeldUNIX(address, factory, backlog, mode, self.reactor, want_pid)  # type: ignore[arg-type]
        port.startListening()
        return [port]


def listening(interface: str, port: int, backlog: int, *, shared: bool) -> socket.socket:
    """A socket of TCP as Twisted's port makes it, ``shared`` with others on the same port. Raises ``OSError``."""
    address: Any = (interface, port)
    family = socket.AF_INET
    if isIPv6Address(interface):
        family = socket.AF_INET6
        address = socket.getaddrinfo(interface, port, family, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)[0][4]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.setblocking(False)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


@implementer(IListeningPort)
class Group:
    """The ports of one listener: what an endpoint gives to who listens."""

    def __init__(self, description: str, ports: list[Any]) -> None:
        self.description = description
        self.ports = ports
        self.closed = False

    def accept(self, acting: Iterable[int], workers: int) -> None:
        """Accept from those that are for the workers ``acting``."""
        if self.closed:
            return
        ours, crowd = places(acting, workers, len(self.ports)), len(self.ports) < workers
        for place, port in enumerate(self.ports):
            if crowd and "doRead" not in vars(port):
                port.doRead = _one_by_one(port)
            if place in ours:
                port.startReading()
            else:
                port.stopReading()

    def startListening(self) -> None:
        """It does."""

    def stopListening(self) -> Deferred[Any]:
        self.closed = True
        return gatherResults([maybeDeferred(port.stopListening) for port in self.ports])

    def getHost(self) -> Any:
        return self.ports[0].getHost()


def _one_by_one(port: Any) -> Callable[[], Any]:
    """Twisted accepts all that wait, at most as many as a while ago; nobody else would get any of them."""
    accept = port.doRead

    def accept_one() -> Any:
        port.numberAccepts = 1
        return accept()

    return accept_one


class Held:
    """A listening socket that nothing is accepted from here: connections wait in the kernel for those who do."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    def stopListening(self) -> None:
        """Close it here; it is not shut down, for others may go on."""
        self.socket.close()

    def getHost(self) -> Any:
        kind = IPv6Address if self.socket.family == socket.AF_INET6 else IPv4Address
        return kind("TCP", *self.socket.getsockname()[:2])
