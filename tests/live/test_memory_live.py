"""Slow peers cost the proxy no memory: 200 MiB pass, and it grows by less than 16. The bench has the same with 2 GB."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clients import (
    ACCEPTED,
    HANDSHAKE,
    Script,
    body_of,
    configuration,
    connect,
    port_of,
    read_all,
    read_until,
    trusting,
)
from parts import Backend, Proxy

MIB = 1024 * 1024
SIZE, GROWTH = 200 * MIB, 16 * MIB
RATE = 100 * MIB  # a second, for the slow side: the other could do many times that (a backend sleeps at least a ms)


@contextmanager
def small_growth(proxy: Proxy) -> Iterator[None]:
    """What happens within lets the proxy grow by less than 16 MiB, seen all the time."""
    before = proxy.rss()
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, proxy.rss())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
    assert peak - before < GROWTH, f"it grew by {(peak - before) / MIB:.1f} MiB"


class Place:
    """A proxy that has served before, and connections to it."""

    def __init__(self, proxy: Proxy, scheme: str, authority: Path) -> None:
        self.proxy = proxy
        self.port = port_of(proxy, "web" if scheme == "http" else "secure")
        self._tls = trusting(authority) if scheme == "https" else None

    def open(self) -> socket.socket:
        plain = connect(self.port, timeout=60)
        return plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture
def start(
    proxy: Callable[..., Proxy], certificate: Callable[..., Path], authority_file: Path, scheme: str
) -> Callable[..., Place]:
    def begin(backend: Backend | Script, *lines: str) -> Place:
        running = proxy(configuration([backend], *lines, certificate=certificate("localhost")))
        return Place(running, scheme, authority_file)

    return begin


def warm(place: Place) -> None:
    """A little of both directions, so that what is made once is made."""
    with place.open() as client:
        client.sendall(b"POST /sink HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % MIB + bytes(MIB))
        read_until(client, b'"}')
        client.sendall(b"GET /stream?n=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % MIB)
        read_all(client)


@pytest.mark.parametrize(("scheme", "framing"), [("http", "length"), ("https", "chunked")])
def test_upload_to_a_slow_backend(
    backends: Callable[..., list[Backend]], start: Callable[..., Place], framing: str
) -> None:
    """I send as fast as I can, the backend reads slowly, the proxy makes me wait."""
    place = start(*backends("a"))
    warm(place)
    piece = bytes(MIB)
    with small_growth(place.proxy), place.open() as client:
        head = b"POST /sink?rate=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" % (4 * RATE)
        if framing == "length":
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % SIZE)
        else:
            client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            piece = b"%x\r\n%b\r\n" % (MIB, piece)
        for _ in range(SIZE // MIB):
            client.sendall(piece)
        if framing == "chunked":
            client.sendall(b"0\r\n\r\n")
        assert body_of(read_all(client))["length"] == SIZE


@pytest.mark.parametrize(("scheme", "framing"), [("https", ""), ("http", "&chunked=1"), ("http", "&until_close=1")])
def test_download_to_a_slow_client(
    backends: Callable[..., list[Backend]], start: Callable[..., Place], framing: str
) -> None:
    """The backend sends as fast as it can, I read slowly, the proxy makes it wait."""
    place = start(*backends("a"))
    warm(place)
    with small_growth(place.proxy), place.open() as client:
        client.sendall(b"GET /stream?n=%d%b HTTP/1.1\r\nHost: x\r\n" % (SIZE, framing.encode()))
        client.sendall(b"Connection: close\r\n\r\n")
        began, received = time.monotonic(), 0
        while piece := client.recv(MIB):
            received += len(piece)
            time.sleep(max(0.0, began + received / RATE - time.monotonic()))  # this is what a slow client does
    assert SIZE < received < SIZE * 1.01


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_echo_that_nobody_reads(backends: Callable[..., list[Backend]], start: Callable[..., Place]) -> None:
    """I send without reading what comes back: soon I can send no more."""
    place = start(*backends("a"))
    warm(place)
    with small_growth(place.proxy), place.open() as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % SIZE)
        client.settimeout(0.5)
        sent = 0
        with pytest.raises((TimeoutError, ssl.SSLWantWriteError)):  # everything between us is full
            while sent < SIZE:
                sent += client.send(bytes(MIB))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("slow", ["client", "backend"])
def test_websocket_with_a_slow_side(start: Callable[..., Place], slow: str) -> None:
    """A WebSocket is read only as fast as its other end takes it, whichever is the slow one."""
    got: list[int] = []

    def pour(connection: socket.socket) -> None:
        """One frame that is as large as all of it, header included."""
        plain, masked = b"\x82\x7f" + (SIZE - 10).to_bytes(8), b"\x82\xff" + (SIZE - 14).to_bytes(8) + bytes(4)
        connection.sendall((plain if slow == "client" else masked).ljust(MIB, b"\0"))
        for _ in range(SIZE // MIB - 1):
            connection.sendall(bytes(MIB))

    def sip(connection: socket.socket, received: int = 0) -> int:
        began = time.monotonic()
        while received < SIZE and (piece := connection.recv(MIB)):
            received += len(piece)
            time.sleep(max(0.0, began + received / RATE - time.monotonic()))
        return min(received, SIZE)  # without the Close behind it

    def play(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(ACCEPTED + b"\r\n")
        if slow == "client":
            pour(connection)
        else:
            got.append(sip(connection))

    with Script(play) as script:
        place = start(script)
        with small_growth(place.proxy), place.open() as client:
            client.sendall(HANDSHAKE + b"\r\n")
            early = read_until(client, b"\r\n\r\n").partition(b"\r\n\r\n")[2]
            if slow == "client":
                got.append(sip(client, len(early)))
            else:
                pour(client)
                read_all(client)
    assert got == [SIZE]
