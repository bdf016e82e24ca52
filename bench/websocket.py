"""WebSocket echo backend and load, one epoll loop each, on frames made beforehand. RFC 6455.

``python -m bench.websocket serve PORT PORT`` and ``… load PORT …``. Messages are masked with a key of zeros, so that
payload and masked payload are one, and an echo is a slice: the generator must cost less than what it measures.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import select
import socket
import ssl
import time
from array import array
from typing import NamedTuple

from bench.figures import percentile

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_READ = 4096


class Frames(NamedTuple):
    """One binary message of a fixed size: as the client sends it (masked), and as the server does."""

    masked: bytes
    plain: bytes


def frames(size: int) -> Frames:
    """Both forms of a message of ``size`` bytes (below 64 KiB), whole, unfragmented. RFC 6455 section 5.2."""
    length, extended = (size, b"") if size < 126 else (126, size.to_bytes(2, "big"))
    payload = bytes(1 + index % 255 for index in range(size))
    masked = bytes([0x82, 0x80 | length]) + extended + bytes(4) + payload
    return Frames(masked, bytes([0x82, length]) + extended + payload)


def accept_token(key: bytes) -> bytes:
    """``Sec-WebSocket-Accept`` for a key. RFC 6455 section 4.2.2."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def field(head: bytes, name: bytes) -> bytes:
    """The value of the first field of that name (lower-case) in a message's head; empty if there is none."""
    for line in head.split(b"\r\n")[1:]:
        before, _, value = line.partition(b":")
        if before.strip().lower() == name:
            return value.strip()
    return b""


class Echo:
    """Backends named a, b, … that echo messages of exactly ``size`` bytes."""

    def __init__(self, ports: list[int], size: int) -> None:
        sent = frames(size)
        self._size = size
        self._length = len(sent.masked)
        self._header = sent.plain[: len(sent.plain) - size]
        self._at_once = max(_READ, 2 * self._length)
        self._poll = select.epoll()
        self._listeners: dict[int, tuple[socket.socket, bytes]] = {}
        self._peers: dict[int, socket.socket] = {}
        self._rests: dict[int, bytes] = {}
        for port, name in zip(ports, b"abcdefgh", strict=False):
            listener = socket.create_server(("127.0.0.1", port), backlog=1024)
            self._listeners[listener.fileno()] = (listener, bytes([name]))
            self._poll.register(listener.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        """For ever."""
        peers, listeners, poll, echo = self._peers, self._listeners, self._poll, self._echo
        while True:
            for number, _ in poll.poll():
                if number in listeners:
                    self._accept(*listeners[number])
                    continue
                try:
                    echo(number, peers[number])
                except OSError:
                    poll.unregister(number)
                    peers.pop(number).close()
                    self._rests.pop(number, None)

    def _accept(self, listener: socket.socket, name: bytes) -> None:
        """Read the client's handshake and answer it. The answer names the backend."""
        peer = listener.accept()[0]
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.settimeout(5.0)
        with contextlib.suppress(OSError):
            key = field(read_head(peer), b"sec-websocket-key")
            peer.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\nX-Backend: %b\r\n\r\n" % (accept_token(key), name)
            )
            self._peers[peer.fileno()] = peer
            self._poll.register(peer.fileno(), select.EPOLLIN)

    def _echo(self, number: int, peer: socket.socket) -> None:
        data = peer.recv(self._at_once)
        if self._rests:
            data = self._rests.pop(number, b"") + data
        size, length, header = self._size, self._length, self._header
        if len(data) == length:
            peer.send(header + data[-size:])
            return
        if not data:
            raise ConnectionResetError
        whole, rest = divmod(len(data), length)
        if rest:
            self._rests[number] = data[-rest:]
        ends = range(length, whole * length + 1, length)
        peer.sendall(b"".join(header + data[end - size : end] for end in ends))


def read_head(connection: socket.socket) -> bytes:
    """A message's head, with the blank line. Raises ConnectionError when the connection ends before it."""
    head = b""
    while b"\r\n\r\n" not in head:
        if not (data := connection.recv(_READ)):
            raise ConnectionError(f"the connection was lost after {head[:200]!r}")
        head += data
    return head


class Upgraded(NamedTuple):
    """A WebSocket just opened: the backend that it got, and the cookie that came with the 101 (empty if none)."""

    connection: socket.socket
    backend: str
    cookie: str


def upgrade(port: int, path: str, cookie: str, tls: ssl.SSLContext | None = None) -> Upgraded:
    """Open a WebSocket through the proxy on ``port``. Raises ConnectionError when the answer is not a right 101."""
    connection = socket.create_connection(("127.0.0.1", port), 10.0)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is not None:
        connection = tls.wrap_socket(connection, server_hostname="localhost")
    key = base64.b64encode(os.urandom(16))
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".encode()
        + f"Cookie: {cookie}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n\r\n".encode()
    )
    head = read_head(connection)
    if not head.startswith(b"HTTP/1.1 101") or field(head, b"sec-websocket-accept") != accept_token(key):
        raise ConnectionError(f"the handshake was answered with {head[:200]!r}")
    given = field(head, b"set-cookie").partition(b";")[0].decode("latin-1")
    return Upgraded(connection, field(head, b"x-backend").decode("latin-1"), given)


class Result(NamedTuple):
    """What a load reports: as the wrk script does."""

    requests: int
    rate: float
    p99_ms: float
    errors: int


class Load:
    """WebSockets with one message under way on each. Another answer is an error, and so is a lost one."""

    def __init__(self, port: int, sockets: int, size: int, cookie: str) -> None:
        self.errors = 0
        self._sent = frames(size)
        self._at_once = max(_READ, 2 * len(self._sent.plain))
        self._poll = select.epoll()
        opened = [upgrade(port, f"/ws/{n}-{os.getpid()}", cookie).connection for n in range(sockets)]
        self._open = {connection.fileno(): connection for connection in opened}
        self._times: dict[int, float] = {}
        self._rests: dict[int, bytes] = {}
        for number, connection in self._open.items():
            self._poll.register(number, select.EPOLLIN)
            self._times[number] = time.perf_counter()
            connection.sendall(self._sent.masked)

    def run(self, seconds: float) -> Result:
        """Go on for so long. What is unanswered for two seconds at the end is an error."""
        taken = array("d")
        clock, times, message, plain = time.perf_counter, self._times, self._sent.masked, self._sent.plain
        begun = now = clock()
        while now < begun + seconds and self._open:
            for number, _ in self._poll.poll(1.0):
                connection = self._open[number]
                try:
                    data = connection.recv(self._at_once)
                    if data == plain or self._completes(number, data):
                        now = clock()
                        taken.append(now - times[number])
                        times[number] = now
                        connection.send(message)
                except OSError:
                    self.errors += 1
                    self._poll.unregister(number)
                    self._open.pop(number).close()
            now = clock()
        stuck = sum(now - times[number] > 2.0 for number in self._open)
        ordered = sorted(taken)
        p99 = percentile(ordered, 0.99) * 1000
        return Result(len(ordered), len(ordered) / (now - begun), p99, self.errors + stuck)

    def _completes(self, number: int, data: bytes) -> bool:
        """Whether the message is whole, now that ``data`` came. Raises ConnectionError when it is another."""
        got = self._rests.pop(number, b"") + data
        if not data or not self._sent.plain.startswith(got):
            raise ConnectionError
        if len(got) < len(self._sent.plain):
            self._rests[number] = got
            return False
        return True


def main() -> None:
    """The command line that the bench uses."""
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)
    serving = roles.add_parser("serve")
    serving.add_argument("ports", type=int, nargs="+")
    loading = roles.add_parser("load")
    loading.add_argument("port", type=int)
    loading.add_argument("--sockets", type=int, default=64)
    loading.add_argument("--seconds", type=float, default=4.0)
    loading.add_argument("--warm", type=float, default=0.3)
    loading.add_argument("--cookie", default="SRV=none")
    for role in (serving, loading):
        role.add_argument("--size", type=int, default=64)
    chosen = parser.parse_args()
    if chosen.role == "serve":
        Echo(chosen.ports, chosen.size).serve()
    else:
        load = Load(chosen.port, chosen.sockets, chosen.size, chosen.cookie)
        load.run(chosen.warm)
        print("ready", flush=True)
        print(json.dumps(load.run(chosen.seconds)._asdict()))


if __name__ == "__main__":
    main()
