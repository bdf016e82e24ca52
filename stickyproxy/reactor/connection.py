"""TCP connections of the reactor: the stream with addresses, socket options and ``startTLS``. Floor 2."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import _newtls
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import _getrealname
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.reactor.stream import Stream
from stickyproxy.reactor.streamsocket import StreamSocket

if TYPE_CHECKING:
    from stickyproxy.reactor.ports import Dial, Port
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

    def __init__(self, reactor: UVReactor, sock: StreamSocket, peer: IPv4Address | IPv6Address) -> None:
        super().__init__(reactor, sock)
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
    """A connection that ``server`` has accepted; an adopted one has none."""

    _tlsClientDefault = False
    _kind = "connection"

    def __init__(
        self,
        reactor: UVReactor,
        sock: StreamSocket,
        peer: IPv4Address | IPv6Address,
        factory: Any,
        server: Port | None = None,
    ) -> None:
        super().__init__(reactor, sock, peer)
        self.server = server
        self.sessionno = peer.port
        self._factory = factory

    def build(self) -> Any:
        try:
            protocol = self._factory.buildProtocol(self._peer)
        except Exception:
            self._log.failure("{factory} has built no protocol for {peer}", factory=self._factory, peer=self._peer)
            return None
        self._kind = type(protocol).__name__
        if protocol is not None and self.server is not None:
            self.sessionno = self.server.sessionno
            self.server.sessionno += 1
        return protocol

    @property
    def _origin(self) -> str:
        return f"{self.sessionno},{self._peer.host}"

    def __repr__(self) -> str:
        return f"<{self._kind} #{self.sessionno} on {self.getHost().port}>"


class ClientConnection(Connection):
    """A connection that ``dial`` has made; its connector learns how it ends."""

    _tlsClientDefault = True
    connector: Any

    def __init__(self, dial: Dial, sock: StreamSocket) -> None:
        super().__init__(dial.reactor, sock, dial.getPeer())
        self.addr = dial.addr
        self._dial: Dial | None = dial

    def build(self) -> Any:
        dial, self._dial = self._dial, None
        self.connector = getattr(dial, "connector", None)  # without, if it was stopped in the last moment
        if dial is None or self.connector is None:
            return None
        try:
            protocol = self.connector.buildProtocol(self._peer)
        except Exception:
            failure = Failure()
            self._log.failure("{factory} has built no protocol", failure, factory=self.connector.factory)
            dial.failIfNotConnected(ConnectError(string=failure))
            return None
        dial.connected = 1
        self.connector.transport = self
        if protocol is None:
            self.disconnecting = 1
            return Protocol()
        return protocol

    def __repr__(self) -> str:
        return f"<{type(self)} to {self.addr} at {id(self):x}>"

    def connectionLost(self, reason: Failure) -> None:
        if self.disconnected:
            return
        try:
            super().connectionLost(reason)
        finally:
            if self._dial is not None:
                self._dial.failIfNotConnected(ConnectError(string=reason))
            else:
                self.connector.connectionLost(reason)
