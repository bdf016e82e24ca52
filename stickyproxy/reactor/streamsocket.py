"""The Python side of a descriptor that libuv owns. Floor 2."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvloop


class StreamSocket(socket.socket):
    """The socket of a stream: once that has it, the descriptor is libuv's, and closing it loses the connection."""

    __slots__ = ("family", "stream")

    family: socket.AddressFamily
    type = socket.SOCK_STREAM  # both are known, and Python is slow in finding names for their numbers

    def __init__(self, family: socket.AddressFamily, descriptor: int) -> None:
        super().__init__(family, socket.SOCK_STREAM, 0, descriptor)
        self.family = family
        self.stream: Any = None

    def give_to(self, loop: uvloop.Loop, stream: Any) -> None:
        """Let libuv own the descriptor, for ``stream`` (an ``asyncio.Protocol``). Raises ``OSError``."""
        taking: Any = loop.connect_accepted_socket(lambda: stream, self)
        taking.send(None).add_done_callback(partial(_finish, taking))
        self.stream = stream

    def close(self) -> None:
        if self.stream is not None:
            self.stream.abandon()
        else:
            super().close()

    def arrived(self) -> Iterator[bytes]:
        """What has arrived and was not read, when the connection is reset."""
        while True:
            try:
                data = self.recv(64 * 1024)
            except OSError:
                return
            if not data:
                return
            yield data


def _finish(taking: Any, waiter: Any) -> None:
    """uvloop's coroutine has been waiting for ``connection_made``; left unfinished it would close the connection."""
    try:
        taking.send(None)
    except StopIteration:
        pass
