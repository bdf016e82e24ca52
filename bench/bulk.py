"""Large bodies: a reader that takes downloads as they come, and a slow peer at either end of an upload or download.

``python -m bench.bulk serve PORT PORT --rate BYTES`` is a backend: it sends ``GET /bulk/SIZE`` as fast as it can and
reads a PUT at ``rate``. ``… get PORT`` reads 100 MiB answers over kept connections, and ``… put PORT`` sends 100 MiB
bodies; ``… up PORT`` and ``… down PORT`` move one body past a slow peer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import selectors
import socket
import threading
import time

from bench.websocket import field

_CHUNK = 256 * 1024
_MIB = 1024 * 1024
_BODY = 100 * _MIB


class Pace:
    """Says how long to pause so that ``rate`` bytes a second are not exceeded."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._begun = time.monotonic()
        self.done = 0

    def took(self, count: int) -> None:
        """``count`` bytes went by: sleep as long as they should have taken."""
        self.done += count
        ahead = self._begun + self.done / self._rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The next message's head, and what of its body came with it. Both are empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(_CHUNK)):
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _serve_one(connection: socket.socket, rate: float) -> None:
    with connection, contextlib.suppress(OSError):
        while (message := _head(connection))[0]:
            head, rest = message
            method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
            if method == b"PUT":
                _read(connection, int(field(head, b"content-length")) - len(rest), Pace(rate))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            else:
                size = int(target.rpartition(b"/")[2])
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                send_zeros(connection, size)


def _read(connection: socket.socket, size: int, pace: Pace) -> None:
    """Read ``size`` bytes at that pace. Raises ConnectionResetError if they do not all come."""
    buffer = memoryview(bytearray(_CHUNK))
    while size:
        if not (came := connection.recv_into(buffer, min(size, _CHUNK))):
            raise ConnectionResetError(f"the connection was lost with {size} bytes to come")
        size -= came
        pace.took(came)


def send_zeros(connection: socket.socket, size: int) -> None:
    """Send ``size`` bytes as fast as they are taken."""
    chunk = memoryview(bytes(_CHUNK))
    while size:
        size -= connection.send(chunk[: min(size, _CHUNK)])


def serve(ports: list[int], rate: float) -> None:
    """The backend, a thread for each connection, for ever."""

    def accept(listener: socket.socket) -> None:
        while True:
            threading.Thread(target=_serve_one, args=(listener.accept()[0], rate), daemon=True).start()

    for port in ports:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    threading.Event().wait()


def _ask(connection: socket.socket, port: int, line: str, cookie: str, more: str = "") -> None:
    connection.sendall(f"{line} HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: {cookie}\r\n{more}\r\n".encode())


def _ok(connection: socket.socket) -> tuple[int, int]:
    """The length of a 200 answer's body, and how much of it came with the head."""
    head, rest = _head(connection)
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"answered with {head[:200]!r}")
    return int(field(head, b"content-length")), len(rest)


class _Bodies:
    """100 MiB bodies moved over and over, on ``sockets`` connections at once. ``count`` is of their bytes."""

    def __init__(self, port: int, sockets: int, cookie: str) -> None:
        self.count = self.errors = self._asked = 0
        self._port = port
        self._cookie = cookie
        self._waiting = selectors.DefaultSelector()
        self._left: dict[socket.socket, int] = {}
        for _ in range(sockets):
            connection = socket.create_connection(("127.0.0.1", port), 15.0)
            self._waiting.register(connection, selectors.EVENT_READ)
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def _move(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def move(self, seconds: float) -> float:
        """Go on for so long, and say how long it was."""
        begun = now = time.monotonic()
        self.count = 0
        while now < begun + seconds and self._left:
            for key, _ in self._waiting.select(1.0):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    self._move(connection)
                except OSError:
                    self.errors += 1
                    self._waiting.unregister(connection)
                    del self._left[connection]
            now = time.monotonic()
        return now - begun


class Downloads(_Bodies):
    """Answers, read as they come."""

    _buffer = memoryview(bytearray(_CHUNK))

    def _begin(self, connection: socket.socket) -> None:
        self._asked += 1
        _ask(connection, self._port, f"GET /payload/{self._asked}", self._cookie)
        length, came = _ok(connection)
        self._left[connection] = length - came

    def _move(self, connection: socket.socket) -> None:
        if not (came := connection.recv_into(self._buffer, min(_CHUNK, self._left[connection]))):
            raise ConnectionResetError
        self.count += came
        self._left[connection] -= came
        if not self._left[connection]:
            self._begin(connection)


class Uploads(_Bodies):
    """Request bodies, sent as fast as they are taken."""

    _chunk = memoryview(bytes(_CHUNK))

    def _begin(self, connection: socket.socket) -> None:
        self._asked += 1
        _ask(connection, self._port, f"PUT /payload/{self._asked}", self._cookie, f"Content-Length: {_BODY}\r\n")
        self._left[connection] = _BODY
        self._waiting.modify(connection, selectors.EVENT_WRITE)

    def _move(self, connection: socket.socket) -> None:
        if not self._left[connection]:
            _ok(connection)
            self._begin(connection)
            return
        connection.setblocking(False)
        sent = connection.send(self._chunk[: min(_CHUNK, self._left[connection])])
        connection.settimeout(15.0)
        self.count += sent
        self._left[connection] -= sent
        if not self._left[connection]:
            self._waiting.modify(connection, selectors.EVENT_READ)


def _many(bodies: _Bodies, seconds: float, warm: float) -> dict[str, float]:
    """Move them for ``warm`` seconds, say "ready", and count for ``seconds``. A request is a body, or part of one."""
    bodies.move(warm)
    print("ready", flush=True)
    took = bodies.move(seconds)
    count = bodies.count / _BODY
    return {"requests": count, "rate": count / took, "errors": bodies.errors}


def slow(port: int, size: int, rate: float, direction: str, cookie: str) -> dict[str, float]:
    """Move ``size`` bytes past a slow peer: "up" to a backend, or "down" to us, who read at ``rate`` bytes a second.

    ``paced`` in the result is the share of the time that the slow peer's own pace explains: near 1, the proxy was held
    back all the time.
    """
    with socket.create_connection(("127.0.0.1", port), 30.0) as connection:
        _ask(connection, port, "GET /bulk/1", cookie)
        length, came = _ok(connection)
        _read(connection, length - came, Pace(rate))
        print("ready", flush=True)
        begun = time.monotonic()
        if direction == "up":
            _ask(connection, port, "PUT /bulk", cookie, f"Content-Length: {size}\r\n")
            send_zeros(connection, size)
            _ok(connection)
        else:
            _ask(connection, port, f"GET /bulk/{size}", cookie)
            length, came = _ok(connection)
            _read(connection, length - came, Pace(rate))
        seconds = time.monotonic() - begun
    bodies = size / _BODY
    return {"requests": bodies, "rate": bodies / seconds, "errors": 0, "paced": size / rate / seconds}


def main() -> None:
    """The command line that the bench uses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("serve", "get", "put", "up", "down"))
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--sockets", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--warm", type=float, default=0.3)
    parser.add_argument("--size", type=int, default=2 * 1024 * _MIB)
    parser.add_argument("--rate", type=float, default=64.0 * _MIB)
    parser.add_argument("--cookie", default="SRV=none")
    chosen = parser.parse_args()
    port = chosen.ports[0]
    if chosen.role == "serve":
        serve(chosen.ports, chosen.rate)
    elif chosen.role in ("get", "put"):
        kind = Downloads if chosen.role == "get" else Uploads
        print(json.dumps(_many(kind(port, chosen.sockets, chosen.cookie), chosen.seconds, chosen.warm)))
    else:
        print(json.dumps(slow(port, chosen.size, chosen.rate, chosen.role, chosen.cookie)))


if __name__ == "__main__":
    main()
