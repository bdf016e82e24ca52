"""Other protocols through ``tcp`` frontends: Redis with its own clients, and raw sockets."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clients import (
    FRIEND,
    STRANGER,
    Script,
    Server,
    configuration,
    connect,
    port_of,
    read_all,
    read_until,
    reset,
    run,
    trusting,
    wait_until,
)
from OpenSSL import SSL
from parts import Backend, Program, Proxy, converse, free_port

Backends = Callable[..., list[Backend]]
PIECE = bytes(range(256)) * 4096
TCP = 'frontend.web.protocol = "tcp"'
SECURE = 'frontend.secure.protocol = "tcp"'


@pytest.fixture
def redis(needs: Callable[[str], str], program: Callable[..., Program], tmp_path: Path) -> Server:
    """A redis-server that keeps nothing."""
    port = free_port()
    server = program(
        *(needs("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path),
    )
    server.wait_for("Ready to accept connections")
    return Server("redis", port)


@pytest.fixture(params=["plain", "tls"])
def through(
    request: pytest.FixtureRequest,
    proxy: Callable[..., Proxy],
    redis: Server,
    certificate: Callable[..., Path],
    authority_file: Path,
) -> list[str]:
    """The arguments by which Redis' own clients find it through the proxy."""
    if request.param == "plain":
        return ["-p", str(port_of(proxy(configuration([redis], TCP, cookie=False))))]
    toml = configuration([redis], SECURE, cookie=False, frontends=(), certificate=certificate("127.0.0.1"))
    return ["-p", str(port_of(proxy(toml), "secure")), "--tls", "--cacert", str(authority_file)]


# Redis


@pytest.mark.needs("redis-server", "redis-cli")
def test_redis_cli(through: list[str], needs: Callable[[str], str]) -> None:
    """redis-cli sets and gets, a large value from its standard input too."""
    cli = [needs("redis-cli"), *through]
    assert run(*cli, "SET", "greeting", "hello").stdout == b"OK\n"
    assert run(*cli, "GET", "greeting").stdout == b"hello\n"
    large = b"x" * 5_000_000
    assert run(*cli, "-x", "SET", "large", input_=large).stdout == b"OK\n"
    assert run(*cli, "GET", "large").stdout == large + b"\n"
    assert run(*cli, "--pipe", input_=b"SET a 1\r\nSET b 2\r\n").stdout.endswith(b"errors: 0, replies: 2\n")


@pytest.mark.needs("redis-server", "redis-benchmark")
def test_redis_benchmark(through: list[str], needs: Callable[[str], str]) -> None:
    """redis-benchmark with 20 clients, pipelined and not, ends without an error."""
    for pipeline in ("1", "16"):
        ended = run(needs("redis-benchmark"), *through, "-n", "4000", "-c", "20", "-P", pipeline, "-q", "-t", "set,get")
        assert ended.returncode == 0, ended.stderr
        assert len(re.findall(rb"(SET|GET): [\d.]+ requests per second", ended.stdout)) == 2
        assert b"rror" not in ended.stdout + ended.stderr


@pytest.mark.needs("redis-server", "redis-cli")
def test_published_messages_arrive(
    through: list[str], needs: Callable[[str], str], program: Callable[..., Program]
) -> None:
    """A subscription stays open and hears what another client publishes."""
    subscriber = program(needs("redis-cli"), *through, "SUBSCRIBE", "news")
    subscriber.wait_for("^1$")  # the number of its subscriptions
    for number in range(3):
        assert run(needs("redis-cli"), *through, "PUBLISH", "news", f"message {number}").stdout == b"1\n"
        subscriber.wait_for(f"message {number}")


# Raw


@pytest.fixture
def echo(proxy: Callable[..., Proxy], backends: Backends) -> Callable[..., tuple[int, Proxy, list[Backend]]]:
    """``port, proxy, backends = echo("a", "b", lines=[…])``: TCP echoes behind a proxy."""

    def start(*names: str, lines: list[str] | None = None, **more: Any) -> tuple[int, Proxy, list[Backend]]:
        servers = backends(*names, tcp=True)
        running = proxy(configuration(servers, TCP, *(lines or []), cookie=False, **more))
        return port_of(running), running, servers

    return start


def test_half_close_passes_both_ways(echo: Callable[..., Any]) -> None:
    """I send everything and close my half; all comes back, then the backend's goodbye, then the end."""
    port, _, _ = echo("a")
    assert converse(port, b"hello", end=True) == b"a\nhellobye\n"
    assert converse(port, b"", end=True) == b"a\nbye\n"
    with connect(port) as client:
        sent, received = 0, bytearray()
        client.settimeout(0.01)
        while sent < 8 * len(PIECE):
            try:
                sent += client.send(PIECE)
            except TimeoutError:
                received += client.recv(1 << 20)
        client.settimeout(10)
        client.shutdown(socket.SHUT_WR)
        received += read_all(client)
        assert len(received) == sent + 6
        assert received.endswith(b"bye\n")


def test_half_close_passes_through_tls(
    proxy: Callable[..., Proxy], backends: Backends, certificate: Callable[..., Path]
) -> None:
    """With TLS a close_notify is my half-close: the rest of the answer still comes."""
    servers = backends("a", tcp=True)
    toml = configuration(servers, SECURE, cookie=False, frontends=(), certificate=certificate("localhost"))
    with connect(port_of(proxy(toml), "secure")) as plain:
        plain.settimeout(None)
        client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), plain)
        client.set_connect_state()
        client.sendall(b"hello")
        assert read_until(client, b"hello") == b"a\nhello"  # type: ignore[arg-type]
        client.shutdown()
        assert read_until(client, b"bye\n") == b"bye\n"  # type: ignore[arg-type]
        with pytest.raises(SSL.ZeroReturnError):
            client.recv(1)


def test_large_streams_pass_both_ways_at_once(
    proxy: Callable[..., Proxy], backends: Backends, certificate: Callable[..., Path], authority_file: Path
) -> None:
    """32 MiB echo through TLS, byte for byte."""
    servers = backends("a", tcp=True)
    toml = configuration(servers, SECURE, cookie=False, frontends=(), certificate=certificate("localhost"))
    with connect(port_of(proxy(toml), "secure")) as plain:
        with trusting(authority_file).wrap_socket(plain, server_hostname="localhost") as client:
            assert read_until(client, b"\n") == b"a\n"
            for _ in range(32):
                client.sendall(PIECE)
                received = bytearray()
                while len(received) < len(PIECE):
                    received += client.recv(len(PIECE))
                assert received == PIECE


def test_abrupt_loss_passes_through(proxy: Callable[..., Proxy]) -> None:
    """A reset on one side is a reset on the other within a second, whichever side it was; no orderly end is faked."""
    lost: list[type[Exception]] = []

    def play(connection: socket.socket) -> None:
        connection.sendall(b"hello")
        if connection.recv(10) == b"vanish":
            reset(connection)
            return
        try:
            connection.recv(1)
        except ConnectionResetError:
            lost.append(ConnectionResetError)

    with Script(play) as script:
        port = port_of(proxy(configuration([script], TCP, cookie=False)))
        with connect(port) as client:
            assert client.recv(5) == b"hello"
            client.sendall(b"vanish")
            began = time.monotonic()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert time.monotonic() - began < 1
        client = connect(port)
        assert client.recv(5) == b"hello"
        client.sendall(b"stay")
        reset(client)
        assert wait_until(lambda: lost == [ConnectionResetError]) < 1


def test_silent_relay_ends(echo: Callable[..., Any]) -> None:
    """Silence in both directions for ``tunnel`` ends a relay; one that speaks goes on."""
    port, _, _ = echo("a", lines=['frontend.web.timeouts.tunnel = "1500ms"'])
    with connect(port) as silent, connect(port) as speaking:
        assert (silent.recv(2), speaking.recv(2)) == (b"a\n", b"a\n")
        began = time.monotonic()
        while not select.select([silent], [], [], 0.4)[0]:
            speaking.sendall(b"x")
            assert speaking.recv(1) == b"x"
            assert time.monotonic() - began < 5
        assert silent.recv(1) == b""
        assert 1.4 < time.monotonic() - began < 4
        speaking.sendall(b"y")
        assert speaking.recv(1) == b"y"


def test_client_stays_by_its_address(echo: Callable[..., Any]) -> None:
    """Affinity ``source``: one address, one backend; another address may have another."""
    port, _, _ = echo("a", "b", "c", lines=['cluster.app.affinity.by = "source"'])

    def served(source: str) -> bytes:
        with connect(port, source=source) as client:
            return read_until(client, b"\n")

    sources = [f"127.0.0.{number}" for number in range(10, 40)]
    first = [served(source) for source in sources]
    assert set(first) == {b"a\n", b"b\n", b"c\n"}
    assert [served(source) for source in sources] == first


def test_dead_backend_is_passed_over(echo: Callable[..., Any]) -> None:
    """A backend that refuses connections costs nobody anything: another one serves."""
    port, _, (a, _) = echo("a", "b")
    a.kill()
    assert [converse(port, b"x", end=True) for _ in range(4)] == [b"b\nxbye\n"] * 4


def test_no_backend_at_all(echo: Callable[..., Any]) -> None:
    """Nobody there: the connection is closed, without a byte."""
    port, _, (a,) = echo("a")
    a.kill()
    assert converse(port, b"") == b""


def test_loss_of_the_backend_reaches_the_client(echo: Callable[..., Any]) -> None:
    """The backend is killed: the client knows within a second."""
    port, _, (a,) = echo("a")
    with connect(port) as client:
        assert client.recv(2) == b"a\n"
        began = time.monotonic()
        a.kill()
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
        assert time.monotonic() - began < 1


# The PROXY protocol


@pytest.mark.parametrize("version", [1, 2])
def test_backend_is_told_who_the_client_is(echo: Callable[..., Any], version: int) -> None:
    """``send_proxy_protocol``: the header comes first and names the client's address and port."""
    port, _, _ = echo("a", lines=[f"cluster.app.send_proxy_protocol = {version}"])
    with connect(port, source=STRANGER) as client:
        mine = client.getsockname()[1]
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        header = read_all(client).removeprefix(b"a\n").removesuffix(b"hellobye\n")
    if version == 1:
        assert header == f"PROXY TCP4 {STRANGER} 127.0.0.1 {mine} {port}\r\n".encode()
    else:
        addresses = socket.inet_aton(STRANGER) + socket.inet_aton("127.0.0.1")
        ports = mine.to_bytes(2, "big") + port.to_bytes(2, "big")
        assert header == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + addresses + ports


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tls", [False, True])
def test_identity_goes_through_two_proxies(
    proxy: Callable[..., Proxy],
    backends: Backends,
    certificate: Callable[..., Path],
    authority_file: Path,
    version: int,
    tls: bool,
) -> None:
    """PROXY between two of us, before TLS too: the inner one binds by the client's own address, and tells it on."""
    name = "secure" if tls else "web"
    inner = proxy(
        configuration(
            backends("a", "b", tcp=True),
            *(TCP, SECURE, f'frontend.{name}.accept_proxy_protocol = ["127.0.0.1"]'),
            *('cluster.app.affinity.by = "source"', "cluster.app.send_proxy_protocol = 1"),
            cookie=False,
            certificate=certificate("localhost"),
        )
    )
    outer = port_of(
        proxy(
            configuration(
                [Server("inner", port_of(inner, name))],
                *(TCP, f"cluster.app.send_proxy_protocol = {version}"),
                cookie=False,
            )
        )
    )

    def served(source: str) -> bytes:
        with connect(outer, source=source) as plain:
            mine = plain.getsockname()[1]
            client = trusting(authority_file).wrap_socket(plain, server_hostname="localhost") if tls else plain
            told = read_until(client, b"\r\n")
            assert f"PROXY TCP4 {source} 127.0.0.1 {mine} ".encode() in told
            return told[:1]

    sources = [f"127.0.0.{number}" for number in range(10, 20)]
    first = [served(source) for source in sources]
    assert set(first) == {b"a", b"b"}
    assert [served(source) for source in sources] == first


@pytest.mark.parametrize(
    "header", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 x y 1 2\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"]
)
def test_missing_or_broken_proxy_header_is_dropped(echo: Callable[..., Any], header: bytes) -> None:
    """From whom a PROXY header is required, nothing else gets through; others need none."""
    port, _, _ = echo("a", lines=[f'frontend.web.accept_proxy_protocol = ["{FRIEND}"]'])
    with connect(port, source=FRIEND) as client:
        client.sendall(header)
        try:
            assert read_all(client) == b""
        except ConnectionResetError:
            pass
    with connect(port) as client:
        assert client.recv(2) == b"a\n"
