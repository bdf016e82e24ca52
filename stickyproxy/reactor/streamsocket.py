"""The Python side of a descriptor that libuv owns. Floor 2."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any


class StreamSocket(socket.socket):
    """The socket of a stream: once that has it, the descriptor is libuv's, and closing it loses the connection."""

    __slots__ = ("family", "stream")

    family: socket.AddressFamily
    type = socket.SOCK_STREAM  # both are known, and Python is slow in finding names for their numbers

    def __init__(self, family: socket.AddressFamily, descriptor: int) -> None:
        super().__init__(family, socket.SOCK_STREAM, 0, descriptor)
        self.family = family
        self.stream: Any = None

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
