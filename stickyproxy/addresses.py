"""Transports of every kind, TCP, TLS and Unix sockets: who is at their other end. Floor 3."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress, ISSLTransport

from stickyproxy.model import Connection, Peer

TLVs = tuple[tuple[int, bytes], ...]


def peer_of(address: IAddress | None) -> Peer:
    """Who ``address`` names: host and port of TCP, ``Peer("unix", 0)`` for everything else."""
    host = getattr(address, "host", None)
    return Peer("unix", 0) if host is None else Peer(host, address.port)  # type: ignore[union-attr]


class _Proxied:
    """An address that a PROXY header has told, equal to any other one, with all else that the header told."""

    tlvs: TLVs = ()
    host: str
    port: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IPv4Address | IPv6Address) and (self.host, self.port) == (other.host, other.port)

    def __hash__(self) -> int:
        return hash((self.host, self.port))


class ProxiedIPv4Address(_Proxied, IPv4Address):
    """A client behind a proxy that has told more of it than its address."""


class ProxiedIPv6Address(_Proxied, IPv6Address):
    """The same for IPv6."""


def proxied_address(peer: Peer, tlvs: TLVs) -> IAddress:
    """What a factory is told of a client that a PROXY header names."""
    if peer.host == "unix":
        unix: IAddress = UNIXAddress(None)
        return unix
    if not tlvs:
        return (IPv6Address if ":" in peer.host else IPv4Address)("TCP", peer.host, peer.port)
    told = (ProxiedIPv6Address if ":" in peer.host else ProxiedIPv4Address)("TCP", peer.host, peer.port)
    told.tlvs = tlvs
    return told


def connection_of(transport: Any, tlvs: TLVs = ()) -> Connection | None:
    """What the handshake of a client's ``transport`` and a PROXY header told; None where they told nothing."""
    name = digest = None
    if ISSLTransport.providedBy(transport):
        name = getattr(transport, "server_name", None)  # Twisted's own TLS transport has none
        certificate: Any = transport.getPeerCertificate()
        digest = bytes.fromhex(certificate.digest("sha256").replace(b":", b"").decode()) if certificate else None
    if name is None and digest is None and not tlvs:
        return None
    return Connection(name.encode() if name else None, digest, tlvs)


def set_no_delay(transport: Any) -> None:
    """What was read is sent on now: who sends it has already decided how to bundle it. Only TCP has such a delay."""
    if isinstance(transport.getHost(), IPv4Address | IPv6Address):
        transport.setTcpNoDelay(True)
