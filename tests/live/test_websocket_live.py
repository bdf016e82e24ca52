"""WebSockets as two client libraries speak them, plain and over TLS, through a real proxy."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
import pytest
from clients import (
    ACCEPTED,
    HANDSHAKE,
    KEY,
    STRANGER,
    Backendlike,
    Script,
    Server,
    body_of,
    configuration,
    connect,
    field,
    port_of,
    read_all,
    read_until,
    reset,
    trusting,
)
from OpenSSL import SSL
from parts import Backend, Proxy, converse
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.server import ServerConnection, serve

MIB = 1024 * 1024
pytestmark = pytest.mark.parametrize("scheme", ["ws", "wss"])


class Client:
    """A connection of the ``websockets`` library, in a loop of its own.

    Its variant for threads reads in one and writes in another, which Python's TLS sockets do not stand.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.connection: ClientConnection = self._wait(open_websocket(url, **options))
        except BaseException:
            self._end()
            raise

    def _wait(self, awaitable: Awaitable[Any], timeout: float = 20) -> Any:
        async def wait() -> Any:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(timeout)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def send(self, message: str | bytes | Iterable[bytes]) -> None:
        self._wait(self.connection.send(message))

    def recv(self) -> str | bytes:
        message: str | bytes = self._wait(self.connection.recv())
        return message

    def ping(self) -> None:
        """Until the pong is there."""

        async def ping() -> None:
            await (await self.connection.ping())

        self._wait(ping())

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._wait(self.connection.close(code, reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        finally:
            self._end()


class Place(NamedTuple):
    """Where a proxy is, as the test of one scheme sees it."""

    url: str
    port: int
    tls: ssl.SSLContext | None

    def open(self, path: str = "/live", **options: Any) -> Client:
        return Client(self.url + path, ssl=self.tls, **options)

    def raw(self, source: str = "127.0.0.1") -> socket.socket:
        plain = connect(self.port, source=source)
        return plain if self.tls is None else self.tls.wrap_socket(plain, server_hostname="localhost")


Start = Callable[..., Place]


@pytest.fixture
def start(proxy: Callable[..., Proxy], certificate: Callable[..., Path], authority_file: Path, scheme: str) -> Start:
    def begin(backends: list[Backendlike], *lines: str) -> Place:
        if scheme == "ws":
            port = port_of(proxy(configuration(backends, *lines)))
            return Place(f"ws://localhost:{port}", port, None)
        running = proxy(configuration(backends, *lines, frontends=(), certificate=certificate("localhost")))
        port = port_of(running, "secure")
        return Place(f"wss://localhost:{port}", port, trusting(authority_file))

    return begin


@contextmanager
def server(treat: Callable[[ServerConnection], None], **options: Any) -> Iterator[Server]:
    """A server of the ``websockets`` library in threads; it compresses, and knows close codes."""
    listening = socket.create_server(("127.0.0.1", 0))
    with serve(treat, sock=listening, **options) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield Server("thread", listening.getsockname()[1])
        running.shutdown()
    thread.join()


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def test_messages_of_all_sizes_come_back(backends: Callable[..., list[Backend]], start: Start) -> None:
    """What I send comes back as it was: text and bytes, empty, small and a mebibyte, fragmented too."""
    messages: list[str | bytes] = ["", "grüezi", b"\0\xff", os.urandom(125), os.urandom(126), os.urandom(70000)]
    messages += [os.urandom(MIB), "x" * MIB]
    with start(backends("a", "b")).open(max_size=None) as client:
        assert json.loads(client.recv())["target"] == "/live"
        for message in messages:
            client.send(message)
            assert client.recv() == message
        client.send(iter([b"one ", b"two ", b"three"]))
        assert client.recv() == b"one two three"
        client.ping()


def test_aiohttp_speaks_through_it(backends: Callable[..., list[Backend]], start: Start) -> None:
    """aiohttp opens twenty at once, each on the backend of its first message, and all echo a mebibyte."""
    place = start(backends("a", "b"))

    async def talk() -> str:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{place.url}/x", ssl=place.tls or True, max_msg_size=0) as client:
                record = json.loads(await client.receive_str())
                for message in (b"small", os.urandom(MIB)):
                    await client.send_bytes(message)
                    assert await client.receive_bytes() == message
            assert client.close_code == 1000
            return str(record["backend"])

    async def everybody() -> list[str]:
        async with asyncio.timeout(30):
            return await asyncio.gather(*(talk() for _ in range(20)))

    assert sorted(asyncio.run(everybody())) == ["a"] * 10 + ["b"] * 10


def test_backend_is_told_who_upgrades(backends: Callable[..., list[Backend]], start: Start) -> None:
    """An upgrade carries the same client identity as any request, and the cookie that was set by its 101."""
    place = start(backends("a", "b"))
    with place.raw(STRANGER) as plain:
        plain.sendall(HANDSHAKE + b"X-Forwarded-For: 192.0.2.1\r\nCookie: mine=1\r\n\r\n")
        told = read_until(plain, b"}")
    head, record = told.split(b"\r\n\r\n", 1)[0].decode(), json.loads(told[told.index(b"{") :])
    assert field(record, "X-Forwarded-For") == STRANGER
    assert field(record, "X-Forwarded-Proto") == ("https" if place.tls else "http")
    assert field(record, "Host") == "x"
    assert field(record, "Cookie") == "mine=1"
    cookie = head.split("Set-Cookie: ")[1].split(";")[0]
    assert ("Secure" in head) is (place.tls is not None)
    for _ in range(3):
        with place.open(additional_headers={"Cookie": cookie}) as client:
            assert json.loads(client.recv())["backend"] == record["backend"]
            assert client.connection.response is not None
            assert "Set-Cookie" not in client.connection.response.headers


def test_subprotocol_is_agreed_on(backends: Callable[..., list[Backend]], start: Start) -> None:
    """The backend picks one of the subprotocols that I offer."""
    place = start(backends("a"))
    with place.open(subprotocols=["other", "chat"]) as client:
        assert client.connection.subprotocol == "chat"
    with place.open() as client:
        assert client.connection.subprotocol is None


def test_compression_is_agreed_on_end_to_end(start: Start) -> None:
    """permessage-deflate is between my client and the backend: compressed frames pass as they are."""
    with server(echo, max_size=None) as compressing:
        place = start([compressing])
        with place.open(max_size=None) as client:
            assert [extension.name for extension in client.connection.protocol.extensions] == ["permessage-deflate"]
            for message in ("a" * MIB, os.urandom(MIB), "short"):
                client.send(message)
                assert client.recv() == message
        with place.open(compression=None) as client:
            assert client.connection.protocol.extensions == []


@pytest.mark.parametrize("code", [1000, 4321])
def test_close_codes_pass_through(start: Start, code: int) -> None:
    """Whoever closes, the other is told the same code and reason."""
    seen: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def close_when_asked(connection: ServerConnection) -> None:
        try:
            if connection.recv() == "close":
                connection.close(code, "from the backend")
            connection.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            seen.put((closed.rcvd.code, closed.rcvd.reason))

    with server(close_when_asked) as backend:
        place = start([backend])
        with place.open() as client:
            client.send("stay")
            client.close(code, "from the client")
        assert seen.get(timeout=5) == (code, "from the client")
        with place.open() as client:
            client.send("close")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "from the backend")


def test_bad_handshakes_do_not_bother_the_backend(backends: Callable[..., list[Backend]], start: Start) -> None:
    """A wrong version is answered 426 and what is right, other faults 400; the backend hears of none."""
    (backend,) = backends("a")
    place = start([backend])

    def ask(request: bytes) -> bytes:
        return converse(place.port, request + b"\r\n", tls=place.tls)

    wrong = ask(HANDSHAKE.replace(b"Version: 13", b"Version: 8"))
    assert wrong.startswith(b"HTTP/1.1 426 ")
    assert b"Sec-WebSocket-Version: 13\r\n" in wrong
    for broken in (
        HANDSHAKE.replace(KEY, b"short"),
        HANDSHAKE.replace(b"Sec-WebSocket-Key: " + KEY + b"\r\n", b""),
        HANDSHAKE + b"Sec-WebSocket-Key: " + KEY + b"\r\n",
        HANDSHAKE.replace(b"GET", b"POST"),
    ):
        assert ask(broken).startswith(b"HTTP/1.1 400 ")
    assert body_of(converse(backend.port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"))["total"] == 1


def test_refusal_of_the_backend_is_seen(backends: Callable[..., list[Backend]], start: Start) -> None:
    """A backend that says 403 with a page instead of 101: my client has both."""
    place = start(backends("a"))
    with pytest.raises(InvalidStatus) as refused:
        place.open("/?code=403&header=X-Why:closed")
    answer = refused.value.response
    assert (answer.status_code, answer.headers["X-Why"]) == (403, "closed")
    assert json.loads(answer.body or b"")["backend"] == "a"

    async def knock() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                await session.ws_connect(f"{place.url}/?code=401", ssl=place.tls or True)
            except aiohttp.WSServerHandshakeError as error:
                return error.status
        return 0

    assert asyncio.run(knock()) == 401


@pytest.mark.parametrize(
    "lie",
    [
        ACCEPTED.replace(b"Accept: ", b"Accept: A"),
        ACCEPTED + b"Sec-WebSocket-Protocol: never-offered\r\n",
        ACCEPTED + b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
        ACCEPTED.replace(b"Upgrade: websocket\r\n", b""),
    ],
    ids=["key", "subprotocol", "extension", "upgrade"],
)
def test_lying_backend_is_a_bad_gateway(start: Start, lie: bytes) -> None:
    """A 101 that does not answer my handshake is no 101."""

    def play(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(lie + b"\r\n")

    with Script(play) as script, start([script]).raw() as client:
        client.sendall(HANDSHAKE + b"\r\n")
        assert read_until(client, b"Gateway").startswith(b"HTTP/1.1 502 ")


def test_bytes_right_behind_the_handshake_arrive(start: Start) -> None:
    """Who does not wait for the 101 loses nothing, nor does a backend that speaks in the same breath."""

    def play(connection: socket.socket) -> None:
        assert read_until(connection, b"\r\n\r\n").endswith(b"\r\n\r\n")
        connection.sendall(ACCEPTED + b"\r\n\x82\x07at once")
        early, later = b"\x82\x85\0\0\0\0early", b"\x82\x85\0\0\0\0later"
        assert read_until(connection, b"later") == early + later
        connection.sendall(b"\x82\x10, and earlylater")

    with Script(play) as script, start([script]).raw() as client:
        client.sendall(HANDSHAKE + b"\r\n\x82\x85\0\0\0\0early")
        head, _, tunnel = read_until(client, b"at once").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ") and tunnel == b"\x82\x07at once"
        client.sendall(b"\x82\x85\0\0\0\0later")
        assert read_until(client, b"later") == b"\x82\x10, and earlylater"
        assert read_until(client, b"\xf6") == b"\x88\x02\x03\xf6"  # it has left without a Close: 1014


def test_half_close_passes_through(start: Start) -> None:
    """I close my half: the backend sees the end of my stream, and I still get what it has to say."""

    def play(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(ACCEPTED + b"\r\n")
        connection.sendall(b"\x82\x13got " + read_all(connection)[6:])

    with Script(play) as script:
        place = start([script])
        with connect(place.port) as plain:
            client: Any = plain
            if (
                place.tls is not None
            ):  # the ssl module knows no half-close; OpenSSL does: its shutdown sends close_notify
                plain.settimeout(None)
                client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), plain)
                client.set_connect_state()
            client.sendall(HANDSHAKE + b"\r\n")
            read_until(client, b"\r\n\r\n")
            client.sendall(b"\x82\x8f\0\0\0\0everything I do")
            client.shutdown(*([socket.SHUT_WR] if client is plain else []))
            assert read_until(client, b"I do").startswith(b"\x82\x13got everything I do")


def test_loss_of_the_client_is_seen_by_the_backend(start: Start) -> None:
    """My machine vanishes: the backend knows within a second."""
    lost: queue.SimpleQueue[tuple[float, Exception]] = queue.SimpleQueue()

    def wait(connection: ServerConnection) -> None:
        connection.send("ready")
        try:
            connection.recv()
        except ConnectionClosed as closed:
            lost.put((time.monotonic(), closed))

    with server(wait) as backend, start([backend]).raw() as client:
        client.sendall(HANDSHAKE + b"\r\n")
        read_until(client, b"ready")
        began = time.monotonic()
        reset(client)
        when, closed = lost.get(timeout=5)
    assert when - began < 1
    assert isinstance(closed, ConnectionClosedError) and closed.rcvd is None


def test_loss_of_the_backend_is_seen_by_the_client(backends: Callable[..., list[Backend]], start: Start) -> None:
    """The backend is killed: my client knows within a second, and by the code (1014) that it may come again."""
    (backend,) = backends("a")
    with start([backend]).open() as client:
        client.recv()
        began = time.monotonic()
        backend.kill()
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv()
    assert time.monotonic() - began < 1
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1014


def test_silent_tunnel_ends(backends: Callable[..., list[Backend]], start: Start, scheme: str) -> None:
    """Silence of a WebSocket ends it after ``tunnel``; who speaks stays, and HTTP's timeouts do not touch it."""
    frontend = "web" if scheme == "ws" else "secure"
    timeouts = 'tunnel = "1500ms", head = "500ms", keep_alive = "500ms", body = "500ms", send = "500ms"'
    place = start(backends("a"), f"frontend.{frontend}.timeouts = {{ {timeouts} }}")
    with place.open(ping_interval=None) as silent, place.open(ping_interval=0.5) as speaking:
        silent.recv()
        speaking.recv()
        began = time.monotonic()
        with pytest.raises(ConnectionClosed) as closed:
            silent.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
        assert 1.4 < time.monotonic() - began < 3
        speaking.send("still here")
        assert speaking.recv() == "still here"


def test_open_websockets_count_for_the_balancer(backends: Callable[..., list[Backend]], start: Start) -> None:
    """least-connections: while a WebSocket is open on one backend, new clients go to the other."""
    place = start(backends("a", "b"), 'cluster.app.balance = "least-connections"')
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with place.open() as client:
        busy = json.loads(client.recv())["backend"]
        served = [body_of(converse(place.port, request, tls=place.tls))["backend"] for _ in range(4)]
    assert {"a", "b"} - set(served) == {busy}
