"""Twisted's reactor on libuv: TCP connections are moved by uvloop's own transports. Floor 2.

Useful to any Twisted program: ``twistd --reactor=stickyproxy-uv web``, or before anything imports the reactor::

    from stickyproxy.reactor.uv import install
    install()

It needs uvloop. All but TCP is inherited from Twisted's asyncio reactor: UNIX sockets, UDP, processes, threads, timers.
"""
