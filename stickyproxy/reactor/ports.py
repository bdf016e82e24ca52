"""Where TCP connections come from: Twisted's own ports and connectors, which give each socket to libuv. Floor 2.

Binding, accepting (also when descriptors run out), resolving, connecting, timeouts and all errors stay Twisted's.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Protocol
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
                    self._arrived(sock, name)
                except Exception:
                    self._logger.failure("A connection from {peer} was refused", peer=name)
                    sock.close()
        self.numberAccepts = self.numberAccepts + 20 if accepted == self.numberAccepts else max(1, accepted)

    def _arrived(self, sock: StreamSocket, name: Any) -> None:
        peer = self._buildAddr(tcp._getrealname(name))
        assert self.factory is not None
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            sock.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        ServerConnection(self.reactor, sock, protocol, peer, self, number).start()


class _Dial(tcp.Client):
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
        connector, peer = self.connector, self.getPeer()
        protocol = connector.buildProtocol(peer)
        sock = StreamSocket(self.addressFamily, self.socket.detach())
        self.connected = 1  # so that neither timeout nor stopConnecting concerns us
        connection = ClientConnection(self.reactor, sock, protocol or Protocol(), peer, connector, self.addr)
        connector.transport = connection  # type: ignore[assignment]
        if protocol is None:
            connection.loseConnection()
        connection.start()


class Connector(tcp.Connector):
    """Connects as Twisted's connector does."""

    def _makeTransport(self) -> _Dial:
        return _Dial(self.host, self.port, self.bindAddress, self, self.reactor)


def adopt_connection(descriptor: int, family: int, factory: Any, reactor: UVReactor) -> ServerConnection | None:
    """A connection around a connected socket of someone else; its descriptor is duplicated, as Twisted does."""
    sock = StreamSocket(socket.AddressFamily(family), os.dup(descriptor))
    name = tcp._getpeername(sock)
    peer = (IPv6Address if family == socket.AF_INET6 else IPv4Address)("TCP", *name)
    protocol = factory.buildProtocol(peer)
    if protocol is None:
        sock.close()
        return None
    connection = ServerConnection(reactor, sock, protocol, peer, None, peer.port)
    connection.start()
    return connection
