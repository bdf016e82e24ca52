"""Transports of every kind, TCP, TLS and Unix sockets: who is at their other end. Floor 3."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, ISSLTransport

from stickyproxy.model import Connection, Peer


def peer_of(address: IAddress | None) -> Peer:
    """Who ``address`` names: host and port of TCP, ``Peer("unix", 0)`` for everything else."""
    host = getattr(address, "host", None)
    return Peer("unix", 0) if host is None else Peer(host, address.port)  # type: ignore[union-attr]


def connection_of(transport: Any) -> Connection | None:
    """What the handshake of a client's ``transport`` told; None without TLS, or where it told nothing."""
    if not ISSLTransport.providedBy(transport):
        return None
    name = getattr(transport, "server_name", None)  # Twisted's own TLS transport has none
    certificate: Any = transport.getPeerCertificate()
    if name is None and certificate is None:
        return None
    digest = bytes.fromhex(certificate.digest("sha256").replace(b":", b"").decode()) if certificate else None
    return Connection(name.encode() if name else None, digest)


def set_no_delay(transport: Any) -> None:
    """What was read is sent on now: who sends it has already decided how to bundle it. Only TCP has such a delay."""
    if isinstance(transport.getHost(), IPv4Address | IPv6Address):
        transport.setTcpNoDelay(True)
