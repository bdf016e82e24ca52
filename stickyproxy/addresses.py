"""Twisted's addresses as ``model.Peer``. Floor 3."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress

from stickyproxy.model import Peer


def peer_of(address: IAddress | None) -> Peer:
    """Who ``address`` names: host and port of TCP, ``Peer("unix", 0)`` for everything else."""
    host = getattr(address, "host", None)
    return Peer("unix", 0) if host is None else Peer(host, address.port)  # type: ignore[union-attr]
