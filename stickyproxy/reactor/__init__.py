"""Twisted's reactor on libuv: TCP connections are moved by uvloop's own transports. Floor 2.

Useful to any Twisted program: ``twistd --reactor=stickyproxy-uv web``, or before anything imports the reactor::

    from stickyproxy.reactor import install
    install()

All but TCP is inherited from Twisted's asyncio reactor: UNIX sockets, UDP, processes, threads, timers, signals.
"""

from __future__ import annotations


def install() -> None:
    """Make a ``UVReactor`` the reactor of this process.

    Raises ``ImportError`` without uvloop, and ``ReactorAlreadyInstalledError``.
    """
    from twisted.internet.main import installReactor

    from stickyproxy.reactor.uv import UVReactor

    installReactor(UVReactor())
