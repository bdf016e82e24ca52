"""TCP connections of the reactor: the stream with addresses, socket options and ``startTLS``. Floor 2."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import _newtls
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.tcp import _getrealname
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.reactor.stream import Stream
from stickyproxy.reactor.streamsocket import StreamSocket

if TYPE_CHECKING:
    from stickyproxy.reactor.ports import Connector, Port
    from stickyproxy.reactor.uv import UVReactor


@implementer(ITCPTransport, ITLSTransport, ISystemHandle, IConsumer, IPushProducer, ILoggingContext)
class Connection(Stream):
    """What both ends of a TCP connection have in common."""

    TLS = False
    _tlsClientDefault: bool

    @property
    def _origin(self) -> str:
        """For the log: which connection this is."""
        return "client"

    def __init__(self, reactor: UVReactor, sock: StreamSocket, protocol: Any, peer: IPv4Address | IPv6Address) -> None:
        super().__init__(reactor, sock, protocol)
        self._peer = peer

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._peer

    def getHost(self) -> IPv4Address | IPv6Address:
        """Our own address; it stays known when the connection is over."""
        name = self._native.get_extra_info("sockname") if self._native is not None else self.socket.getsockname()
        return type(self._peer)("TCP", *_getrealname(name))

    def getHandle(self) -> socket.socket:
        return self.socket

    def fileno(self) -> int:
        """The descriptor, which belongs to libuv; -1 when it is closed."""
        return self.socket.fileno()

    def getTcpNoDelay(self) -> bool:
        return bool(self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """On by default, for libuv sets it."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)

    def logPrefix(self) -> str:
        protocol = getattr(self, "protocol", None)
        name = protocol.logPrefix() if ILoggingContext.providedBy(protocol) else type(protocol).__name__
        return f"{name},{self._origin}"

    @property
    def logstr(self) -> str:
        return self.logPrefix()

    # ITLSTransport: Twisted's TLS on top. What follows goes through it then, and its own bytes through Stream.

    def startTLS(self, context_factory: Any, normal: bool = True) -> None:
        """Speak TLS from here on; ``normal``: the client of the connection is the client of the handshake."""
        _newtls.startTLS(self, context_factory, normal, Stream)
        self.write = self._write_tls  # type: ignore[method-assign]

    def _write_tls(self, data: bytes) -> None:
        self.protocol.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        if not self.TLS:
            super().writeSequence(data)
        elif self.connected:
            self.protocol.writeSequence(data)

    def loseConnection(self) -> None:
        if not self.TLS:
            super().loseConnection()
        elif self.connected and not self.disconnecting:
            self.protocol.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.TLS and self.connected:
            self.protocol.registerProducer(producer, streaming)
        else:
            super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self.TLS and self.connected:
            self.protocol.unregisterProducer()
        else:
            super().unregisterProducer()


class ServerConnection(Connection):
    """A connection that a port has accepted."""

    _tlsClientDefault = False

    def __init__(
        self,
        reactor: UVReactor,
        sock: StreamSocket,
        protocol: Any,
        peer: IPv4Address | IPv6Address,
        server: Port | None,
        number: int,
    ) -> None:
        super().__init__(reactor, sock, protocol, peer)
        self.server = server
        self.sessionno = number
        self._kind = type(protocol).__name__

    @property
    def _origin(self) -> str:
        return f"{self.sessionno},{self._peer.host}"

    def __repr__(self) -> str:
        return f"<{self._kind} #{self.sessionno} on {self.getHost().port}>"


class ClientConnection(Connection):
    """A connection that a connector has made; the connector learns how it ends."""

    _tlsClientDefault = True

    def __init__(
        self,
        reactor: UVReactor,
        sock: StreamSocket,
        protocol: Any,
        peer: IPv4Address | IPv6Address,
        connector: Connector,
        destination: tuple[Any, ...],
    ) -> None:
        super().__init__(reactor, sock, protocol, peer)
        self.connector = connector
        self.addr = destination

    def __repr__(self) -> str:
        return f"<{type(self)} to {self.addr} at {id(self):x}>"

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        try:
            super().connectionLost(reason)
        finally:
            self.connector.connectionLost(reason)
