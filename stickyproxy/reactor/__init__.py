"""Twisted's reactor on libuv: TCP connections are moved by uvloop's own transports. Floor 2.

Useful to any Twisted program: ``twistd --reactor=stickyproxy-uv web``, or before any other import of the reactor::

    from stickyproxy.reactor import install
    install()

It needs uvloop. All but TCP is inherited from Twisted's asyncio reactor: UNIX sockets, UDP, processes, threads, timers.
"""

from __future__ import annotations

from stickyproxy.reactor.reactor import UVReactor, install

__all__ = ["UVReactor", "install"]
