"""What the clients of live tests share: the configuration that they meet, where it listens, how they see answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import select
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from parts import Proxy

#: Loopback addresses that are not 127.0.0.1, to be somebody else.
STRANGER, FRIEND = "127.0.0.66", "127.0.0.77"
RESET = struct.pack("ii", 1, 0)
#: A WebSocket handshake and its answer by hand; both want an empty line.
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())
    + b"\r\n"
)


class Backendlike(Protocol):
    """What ``configuration`` takes: a ``parts.Backend``, a ``Server``, a ``Script``."""

    @property
    def name(self) -> str: ...

    @property
    def endpoint(self) -> str: ...


class Server(NamedTuple):
    """A backend that somebody else runs."""

    name: str
    port: int

    @property
    def endpoint(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"


def configuration(
    backends: Iterable[Backendlike],
    *lines: str,
    frontends: Iterable[str] = ("web",),
    cookie: bool = True,
    certificate: Path | None = None,
) -> str:
    """A file of dotted keys: ``frontends`` on ports of their own, all of cluster ``app``; ``lines`` say more.

    With ``certificate`` there is a frontend ``secure`` beside them. ``cookie``: affinity by cookie.
    """
    told = [f'cluster.app.backends.{backend.name} = "{backend.endpoint}"' for backend in backends]
    if cookie:
        told.append('cluster.app.affinity.by = "cookie"')
    names = list(frontends)
    if certificate is not None:
        names.append("secure")
        told.append(f'frontend.secure.tls.certificates = ["{certificate}"]')
    for name in names:
        told.append(f'frontend.{name}.listen = "tcp:0:interface=127.0.0.1"')
        told.append(f'frontend.{name}.cluster = "app"')
    return "\n".join([*told, *lines, ""])


def port_of(proxy: Proxy, frontend: str = "web") -> int:
    """The port on which a frontend listens."""
    return int(proxy.wait_for(rf"Frontend {frontend} listens on .*port=(\d+)")[0][1])


def trusting(authority_file: Path) -> ssl.SSLContext:
    """A client's context that believes the tests' authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority_file)
    return context


def connect(port: int, *, source: str = "127.0.0.1", timeout: float = 10) -> socket.socket:
    """A plain connection to 127.0.0.1, from another loopback address if wanted."""
    return socket.create_connection(("127.0.0.1", port), timeout, source_address=(source, 0))


def reset(connection: socket.socket) -> None:
    """Vanish: the peer gets a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    received = bytearray()
    while piece := connection.recv(65536):
        received += piece
    return bytes(received)


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes until ``end`` has come."""
    received = bytearray()
    while end not in received:
        piece = connection.recv(65536)
        assert piece, f"closed after {bytes(received[-500:])!r}, without {end!r}"
        received += piece
    return bytes(received)


def hung_up(connection: socket.socket, timeout: float = 10) -> bool:
    """Whether the connection is reset within that time, which one that does not read sees no other way."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(timeout * 1000))


def body_of(answer: bytes) -> Any:
    """The JSON in an answer with Content-Length, the last of several."""
    return json.loads(answer[answer.rindex(b"\r\n\r\n") + 4 :])


def field(record: dict[str, Any], name: str) -> str | None:
    """The value of a field that a backend says it got; None: it got none. Twice is a failure."""
    values = [value for got, value in record["headers"] if got.lower() == name.lower()]
    assert len(values) < 2, f"{name} came {len(values)} times"
    return values[0] if values else None


def wait_until(true: Callable[[], bool], timeout: float = 10) -> float:
    """Ask until it is so; returns the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < timeout, f"not so after {timeout} s"
        time.sleep(0.01)
    return time.monotonic() - began


def run(*arguments: str | Path, timeout: float = 30, input_: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """A client program to its end."""
    return subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, timeout=timeout, input=input_, check=False
    )


def start_and_fail(directory: Path, toml: str) -> tuple[int, str]:
    """How a proxy ends that can not start: its status, and all that it said. The file is ``bad.toml``."""
    path = directory / "bad.toml"
    path.write_text(toml)
    ended = run(Path(sys.executable).with_name("twistd"), "-n", "--pidfile=", "stickyproxy", "--config", path)
    return ended.returncode, (ended.stdout + ended.stderr).decode()


async def all_of(coroutines: Iterable[Awaitable[Any]], seconds: float) -> list[Any]:
    """Run them together, for so long at most; the first failure ends it."""
    async with asyncio.timeout(seconds):
        return list(await asyncio.gather(*coroutines))


class Script:
    """A server in a thread that treats every connection as ``play(connection)`` does, and then closes it."""

    def __init__(self, play: Callable[[socket.socket], object], name: str = "script") -> None:
        self.name = name
        self.failures: list[Exception] = []
        self._play = play
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(20)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._play(connection)
            except Exception as failure:  # told to the test at the end
                self.failures.append(failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        assert self.failures == []
