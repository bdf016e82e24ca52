"""Clients that want too much, of a real proxy: refusals that can be read, and slow attacks while others are served."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from clients import STRANGER, configuration, connect, port_of, read_all, read_until, trusting, wait_until
from parts import TROUBLE, Backend, Program, Proxy

MIB = 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CUSTOMERS = 20
LORIS = 500
#: Seconds: below this the p99 of a customer's request must stay, unless this machine is slower even without an attack.
FAST = 0.1
#: The same where attackers make the kernel that both ends share work as hard as the proxy.
SERVED = 1.0


class Site(NamedTuple):
    """A proxy that the tests of this module share; its frontends are named by what they limit."""

    proxy: Proxy
    authority: ssl.SSLContext

    def open(self, frontend: str, source: str = "127.0.0.1") -> socket.socket:
        plain = connect(port_of(self.proxy, frontend), source=source, timeout=30)
        return self.authority.wrap_socket(plain, server_hostname="localhost") if frontend == "secure" else plain


@pytest.fixture(scope="module")
def _site(
    certificate: Callable[..., Path], authority_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with Backend("a") as backend, Backend("b") as streams, Backend("t", tcp=True) as other:
        toml = configuration(
            [backend],
            "access_log = false",
            'frontend.slow.timeouts = { head = "3s", body = "3s", send = "3s" }',
            'frontend.slow.limits.body_rate = "500B"',
            'frontend.slow.routes = [{ path = "/stream", cluster = "streams" }]',
            f'cluster.streams.backends.b = "{streams.endpoint}"',
            "frontend.body.limits.body = 1000",
            "frontend.requests.limits.requests = 2",
            "frontend.full.limits.connections = 2",
            "frontend.address.limits.connections_per_address = 1",
            "frontend.secure.limits = { connections = 1, body = 1000 }",
            'frontend.tcp = { listen = "tcp:0:interface=127.0.0.1", protocol = "tcp", cluster = "tcp" }',
            f'cluster.tcp.backends.t = "{other.endpoint}"',
            frontends=("slow", "body", "requests", "full", "address"),
            certificate=certificate("localhost"),
        ).replace('protocol = "tcp", ', 'protocol = "tcp", limits = { connections = 1 }, ')
        with Proxy(tmp_path_factory.mktemp("site"), toml) as proxy:
            yield Site(proxy, trusting(authority_file))


@pytest.fixture
def site(_site: Site) -> Iterator[Site]:
    yield _site
    assert not TROUBLE.search(_site.proxy.log), _site.proxy.log


def ask(connection: socket.socket) -> bytes:
    """The answer's head to a GET, on a connection that goes on."""
    connection.sendall(GET)
    return read_until(connection, b"\r\n\r\n")


# Refusals that can be read.


@pytest.mark.parametrize("frontend", ["body", "secure"])
def test_a_refused_upload_can_read_why(site: Site, frontend: str) -> None:
    """I send 32 MiB where 1000 bytes are allowed, and only then read: the 413 is there, and a clean end behind it."""
    with site.open(frontend) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (32 * MIB))
        for _ in range(32):
            client.sendall(bytes(MIB))
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"\r\nConnection: close\r\n" in answer


def test_the_last_request(site: Site) -> None:
    """Of three pipelined requests two are served, as many as a connection may have, and the second answer says so."""
    with site.open("requests") as client:
        client.sendall(GET * 3)
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200 OK") == 2 and answers.count(b"\r\nConnection: close\r\n") == 1


@pytest.mark.parametrize(
    ("frontend", "room", "status"), [("full", 2, b"503"), ("secure", 1, b"503"), ("address", 1, b"429")]
)
def test_no_room(site: Site, frontend: str, room: int, status: bytes) -> None:
    """One connection too many is told so, in TLS too, while it still sends; when another leaves, the next is served."""
    there = [site.open(frontend) for _ in range(room)]
    assert all(ask(client).startswith(b"HTTP/1.1 200 ") for client in there)
    with site.open(frontend) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % MIB)
        client.sendall(bytes(MIB))
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 %b " % status) and b"\r\nRetry-After: 5\r\n" in answer
    if frontend == "address":
        with site.open(frontend, STRANGER) as stranger:
            assert ask(stranger).startswith(b"HTTP/1.1 200 ")
    there.pop().close()

    def served() -> bool:
        with site.open(frontend) as client:
            return ask(client).startswith(b"HTTP/1.1 200 ")

    wait_until(served)
    for client in there:
        client.close()


def test_a_handshake_takes_room(site: Site) -> None:
    """Who only begins TLS has a connection like everybody; it is free again when the handshake fails."""
    with connect(port_of(site.proxy, "secure")) as begun:
        with site.open("secure") as client:
            assert ask(client).startswith(b"HTTP/1.1 503 ")
        begun.sendall(b"GET / HTTP/1.1\r\n\r\n")
        read_all(begun)
    with site.open("secure") as client:
        assert ask(client).startswith(b"HTTP/1.1 200 ")


def test_no_room_for_tcp(site: Site) -> None:
    """A TCP connection too many is closed at once; when the other has left, the next is served."""
    with site.open("tcp") as first:
        assert read_until(first, b"\n") == b"t\n"
        with site.open("tcp") as second:
            try:
                assert second.recv(100) == b""
            except ConnectionResetError:
                pass  # as abrupt as the reactor has it

    def served() -> bool:
        with site.open("tcp") as third:
            try:
                return third.recv(100) == b"t\n"
            except ConnectionResetError:
                return False

    wait_until(served)


# Slow attacks.


async def customer(port: int, until: float, times: list[float]) -> None:
    """Asks again and again on a kept connection; an answer other than 200, or a closed connection, is a failure."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < until:
            began = time.monotonic()
            writer.write(GET)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            assert head.startswith(b"HTTP/1.1 200 ") and length, head
            await asyncio.wait_for(reader.readexactly(int(length[1])), 10)
            times.append(time.monotonic() - began)
            await asyncio.sleep(0.04)
    finally:
        writer.close()


async def p99(port: int, seconds: float) -> float:
    """Of the requests of all customers, in seconds; the first failure of any is raised."""
    times: list[float] = []
    until = time.monotonic() + seconds
    await asyncio.gather(*(customer(port, until, times) for _ in range(CUSTOMERS)))
    assert len(times) >= CUSTOMERS
    return sorted(times)[math.ceil(len(times) * 0.99) - 1]


def quiet_p99(site: Site) -> float:
    """Without an attack: what this machine can do at the moment."""
    return asyncio.run(asyncio.wait_for(p99(port_of(site.proxy, "slow"), 1.5), 60))


def test_slowloris(site: Site, program: Callable[..., Program]) -> None:
    """500 connections send a head byte by byte for ever: each gets its 408 in time, and 20 customers notice nothing."""
    port, before = port_of(site.proxy, "slow"), quiet_p99(site)
    attack = program(sys.executable, Path(__file__).with_name("slowloris.py"), str(port), str(LORIS), "9")
    attack.wait_for("attacking")
    attacked = asyncio.run(asyncio.wait_for(p99(port, 6), 60))
    ((said, count),) = (found.groups() for found in attack.wait_for(r"ended {'([^']*)': (\d+)}$", timeout=30))
    assert said == "HTTP/1.1 408" and int(count) >= LORIS
    quiet = max(before, quiet_p99(site))
    print(f"slowloris: p99 of {CUSTOMERS} customers {attacked * 1000:.1f} ms, without it {quiet * 1000:.1f} ms")
    assert attacked < max(FAST, 3 * quiet)


@pytest.mark.needs("slowhttptest")
@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("slow headers", "-H -c 300 -r 200 -i 1 -x 24"),
        ("slow body", "-B -c 300 -r 200 -i 1 -s 8192 -x 10"),
        ("range", "-R -c 300 -r 200 -a 5 -b 2000"),
        ("slow read", "-X -c 200 -r 50 -w 512 -y 1024 -n 1 -z 32 -k 3"),
    ],
    ids=["slow headers", "slow body", "range", "slow read"],
)
def test_slowhttptest(
    site: Site, program: Callable[..., Program], needs: Callable[[str], str], attack: str, options: str
) -> None:
    """Hundreds of connections of each of its attacks: the service is there for its probe and for 20 customers."""
    port = port_of(site.proxy, "slow")
    url = f"http://127.0.0.1:{port}/stream?n=1000000"
    attacker = program(needs("slowhttptest"), *options.split(), "-l", "6", "-p", "3", "-u", url)
    attacked = asyncio.run(asyncio.wait_for(p99(port, 5), 60))
    attacker.wait_for("Exit status:", timeout=30)
    said = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", attacker.log)
    assert set(re.findall(r"service available: *(\w+)", said)) == {"YES"}, said
    print(f"{attack}: p99 of {CUSTOMERS} customers {attacked * 1000:.1f} ms")
    assert attacked < SERVED
