"""Transports of every kind, TCP, TLS and Unix sockets: who is at their other end. Floor 3."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from stickyproxy.model import Peer


def peer_of(address: IAddress | None) -> Peer:
    """Who ``address`` names: host and port of TCP, ``Peer("unix", 0)`` for everything else."""
    host = getattr(address, "host", None)
    return Peer("unix", 0) if host is None else Peer(host, address.port)  # type: ignore[union-attr]


def set_no_delay(transport: Any) -> None:
    """What was read is sent on now: who sends it has already decided how to bundle it. Only TCP has such a delay."""
    if isinstance(transport.getHost(), IPv4Address | IPv6Address):
        transport.setTcpNoDelay(True)
