"""What can be asked of a TLS transport: the addresses and TCP options below, and what the handshake found. Floor 2."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509

from stickyproxy.tls.records import was_resumed


class TLSLayer:
    """The asking half of ``TLSTransport``.

    What TLS knows is None before the handshake is done, and after the connection is gone.
    """

    __slots__ = ("__weakref__", "_connection", "transport", "wrappedProtocol")

    def __init__(self, wrapped_protocol: Any) -> None:
        self.wrappedProtocol = wrapped_protocol
        self.transport: Any = None
        self._connection: Any = None

    @property
    def protocol(self) -> Any:
        """The protocol within, by the name that it has on a TCP transport. It may be changed, as there."""
        return self.wrappedProtocol

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        self.wrappedProtocol = protocol

    def getPeer(self) -> Any:
        return self.transport.getPeer()

    def getHost(self) -> Any:
        return self.transport.getHost()

    def getTcpNoDelay(self) -> bool:
        return self.transport.getTcpNoDelay()  # type: ignore[no-any-return]

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.transport.setTcpNoDelay(enabled)

    def getTcpKeepAlive(self) -> bool:
        return self.transport.getTcpKeepAlive()  # type: ignore[no-any-return]

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.transport.setTcpKeepAlive(enabled)

    def getPeerCertificate(self) -> X509 | None:
        return self._connection and self._connection.get_peer_certificate()  # type: ignore[no-any-return]

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol that ALPN chose."""
        return (self._connection and self._connection.get_alpn_proto_negotiated()) or None

    @property
    def server_name(self) -> str | None:
        """The name that the client asked for by SNI, as A-labels in lower case."""
        name = self._connection and self._connection.get_servername()
        return name.decode("ascii", "replace").lower() if name else None

    @property
    def version(self) -> str | None:
        """What is spoken: ``TLSv1.3``, say."""
        return self._connection and self._connection.get_protocol_version_name()  # type: ignore[no-any-return]

    @property
    def resumed(self) -> bool | None:
        """Whether the handshake went on with a session of before."""
        return self._connection and was_resumed(self._connection)

    def getHandle(self) -> SSL.Connection | None:
        return self._connection  # type: ignore[no-any-return]
