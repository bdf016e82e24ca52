"""Where TCP connections come from: Twisted's own ports and connectors, which give each socket to libuv. Floor 2.

Binding, accepting (also when descriptors run out), resolving, connecting, timeouts and all errors stay Twisted's.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.failure import Failure

from stickyproxy.reactor.connection import ClientConnection, ServerConnection
from stickyproxy.reactor.streamsocket import StreamSocket

if TYPE_CHECKING:
    from stickyproxy.reactor.uv import UVReactor


class _Listener:
    """What accepts for a port, without a detour by Python's plain sockets."""

    def __init__(self, sock: socket.socket, family: socket.AddressFamily) -> None:
        self._accept = sock._accept  # type: ignore[attr-defined]
        self._family = family

    def accept(self) -> tuple[StreamSocket, Any]:
        descriptor, name = self._accept()
        return StreamSocket(self._family, descriptor), name


class Port(tcp.Port):
    """Listens as Twisted's port does."""

    reactor: UVReactor
    _listener: _Listener

    def startListening(self) -> None:
        super().startListening()
        self._listener = _Listener(self.socket, self.addressFamily)

    def doRead(self) -> None:
        """Accept what waits: at most as many as a while ago there were, which follows the traffic."""
        accepted = 0
        with tcp._BuffersLogs(self._logger.namespace, self._logger.observer) as log:
            arrivals = tcp._accept(log, range(self.numberAccepts), self._listener, tcp._reservedFD)
            for accepted, (sock, name) in enumerate(arrivals, 1):  # noqa: B007 - counted after the loop
                try:
                    peer = self._buildAddr(tcp._getrealname(name))
                    ServerConnection(self.reactor, sock, peer, self.factory, self).start()
                except OSError as error:  # the client was faster
                    log.info("Could not take a connection from {peer}: {error}", peer=name, error=error)
                    sock.close()
        self.numberAccepts = self.numberAccepts + 20 if accepted == self.numberAccepts else max(1, accepted)


class Dial(tcp.Client):
    """An attempt to connect, which gives its socket away when it has succeeded."""

    reactor: UVReactor
    connector: Connector

    def startReading(self) -> None:
        """A connect is over when one can write: one registration is enough."""

    def resolveAddress(self) -> None:  # noqa: N802 - Twisted's name
        if self._requiresResolution:
            super().resolveAddress()
            return
        try:
            self._setRealAddress(self.addr)
        except Exception:
            self.failIfNotConnected(Failure())

    def _connectDone(self) -> None:
        ClientConnection(self, StreamSocket(self.addressFamily, self.socket.detach())).start()


class Connector(tcp.Connector):
    """Connects as Twisted's connector does."""

    def _makeTransport(self) -> Dial:
        return Dial(self.host, self.port, self.bindAddress, self, self.reactor)


def adopt_connection(descriptor: int, family: int, factory: Any, reactor: UVReactor) -> ServerConnection:
    """A connection around a connected socket of someone else; its descriptor is duplicated, as Twisted does."""
    sock = StreamSocket(socket.AddressFamily(family), os.dup(descriptor))
    peer = (IPv6Address if family == socket.AF_INET6 else IPv4Address)("TCP", *tcp._getpeername(sock))
    connection = ServerConnection(reactor, sock, peer, factory)
    connection.start()
    return connection
