"""TCP passthrough over real connections: half-close, resets, TLS on either side, HAProxy as a neighbour."""

from __future__ import annotations

import hashlib
import queue
import socket
import ssl
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, closing

import pytest
import trustme
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from stickyproxy.cluster import Cluster
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.member import Member
from stickyproxy.model import Backend
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.proxyprotocol import HeaderParser
from stickyproxy.sweep import Sweep
from stickyproxy.tls import CertificateStore, client_creator, server_connection_creator, tls_factory
from stickyproxy.wires.proxyprotocol import ProxyProtocolFactory
from stickyproxy.wires.tcp import TCPFrontendFactory

RESET = struct.pack("ii", 1, 0)


def waiting(transport) -> int:
    """Bytes that wait in a transport, libuv's or Twisted's own."""
    if hasattr(transport, "_native"):
        return transport._native.get_write_buffer_size()
    return transport._tempDataLen + len(transport.dataBuffer) - transport.offset


class Server:
    """A backend in threads: ``serve(connection)`` for each connection; what it returns is in ``results``."""

    def __init__(self, serve, context: ssl.SSLContext | None = None) -> None:
        self.results: queue.Queue = queue.Queue()
        self._serve = serve
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=[connection], daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                self.results.put(self._serve(connection))
        except OSError as error:
            self.results.put(error)

    def result(self):
        return self.results.get(timeout=10)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def read_all(connection) -> bytes:
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


class Front:
    """A TCP frontend on loopback before one server."""

    def __init__(self, server: Server, *, proxy=None, wrap_tls=None, tls=None, accept_proxy=False, port=None) -> None:
        backends = (Backend("a", f"tcp:127.0.0.1:{port or server.port}"),)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port or server.port)
        member = Member(backends[0], endpoint, reactor, connect_timeout=5, wrap_tls=wrap_tls)
        spec = ClusterSpec("c", backends, send_proxy_protocol=proxy)
        self.cluster = Cluster(spec, [member], NoAffinity(), RoundRobin())
        sweep = Sweep(reactor, 0.1)
        self.entries = []
        self.factory = factory = TCPFrontendFactory(self.cluster, sweep, record=self.entries.append)
        if tls is not None:
            factory = tls(factory)
        if accept_proxy:
            factory = ProxyProtocolFactory(factory, ["127.0.0.0/8"], sweep, 5)
        self.listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self.listening.getHost().port
        self.server = server

    async def run(self, client):
        """The results of ``client(connection)`` and of the server, from threads; everything is closed afterwards."""

        def connect():
            with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
                connection.settimeout(20)
                return client(connection), self.server.result()

        try:
            return await deferToThread(connect)
        finally:
            self.server.close()
            await self.listening.stopListening()
            for connection in list(self.factory.connections):
                connection.abort()


@pytest.fixture(params=["ours", "Twisted's"])
def tls(request, certificates):
    """What puts TLS under a factory: our transport, and Twisted's, which users may have."""
    if request.param == "ours":
        return lambda factory: tls_factory(certificates[2], factory, reactor)
    return lambda factory: TLSMemoryBIOFactory(certificates[2], False, factory)


@pytest.fixture
def certificates(tmp_path):
    """An authority, and a server's context and creator that it has signed for."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    pem = tmp_path / "server.pem"
    pem.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    return trusted, context, server_connection_creator(CertificateStore.load([pem]), alpn=())


def client_context(trusted, version=None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trusted)
    if version is not None:
        context.maximum_version = version
    return context


@ensureDeferred
async def test_half_close_both_ways():
    """The client ends its stream and still gets the answer; the backend saw the end, and ends its own."""

    def serve(connection):
        asked = read_all(connection)
        connection.sendall(b"answer to " + asked)
        return asked

    def client(connection):
        connection.sendall(b"question")
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)

    server = Server(serve)
    front = Front(server)
    assert await front.run(client) == (b"answer to question", b"question")
    assert front.cluster.members["a"].active == 0
    assert [(entry.received, entry.sent) for entry in front.entries] == [(8, 18)]


@ensureDeferred
async def test_megabytes_cross_whole_past_a_reader_that_pauses():
    """8 MiB each way at once, through small buffers, arrive byte for byte, and the proxy held only a little."""
    data = bytes(range(256)) * 4096 * 8
    held = []

    def serve(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sender = threading.Thread(target=connection.sendall, args=[data])
        sender.start()
        digest = hashlib.sha256()
        while chunk := connection.recv(8192):
            digest.update(chunk)
        sender.join()
        return digest.digest()

    def client(connection):
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        digest, got = hashlib.sha256(), 0
        while chunk := connection.recv(65536):
            digest.update(chunk)
            got += len(chunk)
            for frontend in list(front.factory.connections):
                held.extend(map(waiting, (frontend.transport, frontend.backend.transport)))
        sender.join()
        return got, digest.digest()

    server = Server(serve)
    front = Front(server)
    whole = hashlib.sha256(data).digest()
    assert await front.run(client) == ((len(data), whole), whole)
    assert max(held) <= 64 * 1024 + 256 * 1024  # what a transport lets wait, and one read of libuv beyond it


@ensureDeferred
async def test_a_reset_of_the_client_reaches_the_backend():
    """A client that vanishes is a reset at the backend as well."""

    def serve(connection):
        connection.sendall(b"x")
        return read_all(connection)

    def client(connection):
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    _, seen = await Front(Server(serve)).run(client)
    assert isinstance(seen, ConnectionResetError)


@ensureDeferred
async def test_a_reset_of_the_backend_reaches_the_client():
    """A backend that dies is a reset at the client within a second: a cut answer never looks whole."""
    since: list[float] = []

    def serve(connection):
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        since.append(time.monotonic())

    def client(connection):
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        return time.monotonic() - since[0]

    took, _ = await Front(Server(serve)).run(client)
    assert took < 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@ensureDeferred
async def test_a_backend_ends_its_stream_and_the_tls_client_may_go_on(certificates, tls, version):
    """On TLS the end of the stream is a close_notify, never a bare FIN; the other direction stays open."""
    trusted, _, _ = certificates

    def serve(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)

    def client(connection):
        with client_context(trusted, version).wrap_socket(
            connection, server_hostname="localhost", suppress_ragged_eofs=False
        ) as secured:
            received = read_all(secured)
            secured.sendall(b"still ")
            secured.sendall(b"here")
            secured.unwrap()
            return received

    server = Server(serve)
    assert await Front(server, tls=tls).run(client) == (b"bye", b"still here")


@ensureDeferred
async def test_a_tls_client_that_is_cut_off_is_a_reset_at_the_backend(certificates, tls):
    """Without close_notify nobody knows whether that was all: the backend is not told that it was."""
    trusted, _, _ = certificates

    def serve(connection):
        connection.sendall(b"x")
        return read_all(connection)

    def client(connection):
        secured = client_context(trusted).wrap_socket(connection, server_hostname="localhost")
        secured.recv(1)
        secured.shutdown(socket.SHUT_RDWR)
        secured.close()

    _, seen = await Front(Server(serve), tls=tls).run(client)
    assert isinstance(seen, ConnectionResetError)


@ensureDeferred
async def test_tls_to_the_backend_with_the_proxy_header_before_it(certificates):
    """The header goes in clear before the handshake, as HAProxy's `send-proxy ssl` does."""
    trusted, context, _ = certificates
    header = {}

    def serve(connection):
        parser = HeaderParser()
        while (read := parser.feed(connection.recv(1))) is None:
            pass
        header["source"] = read[0].source
        with context.wrap_socket(connection, server_side=True) as secured:
            data = secured.recv(100)
            secured.sendall(data.upper())
            return data

    def client(connection):
        connection.sendall(b"hello")
        return connection.getsockname(), connection.recv(100)

    creator = client_creator("localhost", ca=trusted, alpn=())
    server = Server(serve)
    front = Front(server, proxy=2, wrap_tls=lambda factory: TLSMemoryBIOFactory(creator, True, factory))
    (name, answer), received = await front.run(client)
    assert (header["source"], answer, received) == (name, b"HELLO", b"hello")


@ensureDeferred
async def test_a_backend_with_the_wrong_certificate_gets_nothing(certificates):
    """Not a byte of the client's goes to a backend that is not who it should be; the client is closed."""
    trusted, context, _ = certificates

    def client(connection):
        connection.sendall(b"secret")
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)

    creator = client_creator("other.example", ca=trusted, alpn=())
    server = Server(read_all, context)
    front = Front(server, wrap_tls=lambda factory: TLSMemoryBIOFactory(creator, True, factory))
    received, seen = await front.run(client)
    assert (received, type(seen)) == (b"", ssl.SSLError)


@pytest.mark.needs("haproxy")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
@ensureDeferred
async def test_haproxy_on_both_sides_understands_us(option, needs, tmp_path):
    """HAProxy's header is read here, ours is read by HAProxy, and the backend learns the client's own address."""

    def serve(connection):
        parser = HeaderParser()
        while (read := parser.feed(connection.recv(1))) is None:
            pass
        connection.sendall(f"{read[0].source.host} {read[0].source.port}".encode())

    server = Server(serve)
    with ExitStack() as stack:
        ports = [stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(2)]
        first, last = (each.getsockname()[1] for each in ports)
        front = Front(server, port=last, proxy=1 if option == "send-proxy" else 2, accept_proxy=True)
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
listen before
    bind fd@{ports[0].fileno()}
    server us 127.0.0.1:{front.port} {option}
listen behind
    bind fd@{ports[1].fileno()} accept-proxy
    server it 127.0.0.1:{server.port} send-proxy-v2
""")
        haproxy = subprocess.Popen(
            [needs("haproxy"), "-db", "-q", "-f", configuration], pass_fds=[each.fileno() for each in ports]
        )

        def client(_):
            with socket.create_connection(("127.0.0.1", first), 10) as connection:
                return connection.getsockname(), read_all(connection)

        try:
            ((host, port), answer), _ = await front.run(client)
        finally:
            haproxy.terminate()
            haproxy.wait(10)
    assert answer == f"{host} {port}".encode()
