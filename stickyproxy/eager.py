"""Writes that do not wait for the next turn of the reactor. Floor 3.

Twisted's own TCP transports only buffer in ``write``, register with epoll, send in the next turn, and unregister: two
system calls and a turn for what one ``send`` could do, and nearly always can, since a socket's buffer is seldom full.
Here the socket is tried first, where nothing is buffered before; what it does not take goes the usual way, with the
usual back-pressure. libuv's transports do that themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection


def eager_write(transport: Any) -> Callable[[bytes], object]:
    """A ``write`` for ``transport``: the transport's own, unless it is Twisted's TCP."""
    if not isinstance(transport, Connection) or transport.TLS:
        write: Callable[[bytes], object] = transport.write
        return write
    send = transport.socket.send
    buffer = transport.write

    def write_now(data: bytes) -> None:
        if transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting or not transport.connected:
            buffer(data)
            return
        try:
            sent = send(data)
        except OSError:  # full, or broken: the transport finds out which, and tells as usual
            buffer(data)
            return
        if sent < len(data):
            buffer(data[sent:])

    return write_now
