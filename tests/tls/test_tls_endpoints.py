"""TLS as a factory and an endpoint, over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
from OpenSSL import SSL
from pytest_twisted import ensureDeferred
from twisted.internet import error, reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.testing import MemoryEndpoint
from stickyproxy.tls import (
    CertificateStore,
    PeerCertificateError,
    client_creator,
    server_connection_creator,
    tls_factory,
    wrap_client_endpoint,
)

Pem = Callable[..., Path]


@implementer(IHalfCloseableProtocol)
class Heard(Protocol):
    """Keeps what it hears until the peer has ended, and ends then too."""

    def __init__(self) -> None:
        self.made = 0
        self.data: list[bytes] = []
        self.whole: Deferred[bytes] = Deferred()
        self.lost: Deferred[BaseException] = Deferred()

    def connectionMade(self) -> None:
        self.made += 1

    def dataReceived(self, data: bytes) -> None:
        self.data.append(data)

    def readConnectionLost(self) -> None:
        self.whole.callback(b"".join(self.data))
        self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(reason.value)


class Server:
    """A TLS server on loopback whose protocols are kept."""

    def __init__(self, store: CertificateStore, made: Callable[[], Protocol] = Heard, **options: Any) -> None:
        self.protocols: list[Any] = []

        def build() -> Protocol:
            self.protocols.append(made())
            return self.protocols[-1]  # type: ignore[no-any-return]

        creator = server_connection_creator(store)
        self.factory = tls_factory(creator, Factory.forProtocol(build), reactor, **options)  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory)
        self.number = self.port.getHost().port
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.port.stopListening()


@pytest.fixture
def store(pem: Pem) -> CertificateStore:
    return CertificateStore.load([pem("a.pem", "a.example")])


def _endpoint(number: int, creator: Any, **options: Any) -> Any:
    return wrap_client_endpoint(TCP4ClientEndpoint(reactor, "127.0.0.1", number), creator, reactor, **options)


@pytest.mark.parametrize("size", [0, 100, 5_000_000])
@ensureDeferred
async def test_write_and_close(store: CertificateStore, ca_file: Path, size: int) -> None:
    """A client that writes megabytes and closes at once, reading nothing, has all of it delivered."""
    async with Server(store) as server:
        client = await connectProtocol(_endpoint(server.number, client_creator("a.example", ca=ca_file)), Heard())
        data = bytes(range(256)) * (size // 256)
        client.transport.write(data)
        client.transport.loseConnection()
        assert isinstance(await client.lost, error.ConnectionDone)
        (protocol,) = server.protocols
        assert await protocol.whole == data
        assert isinstance(await protocol.lost, error.ConnectionDone)


@ensureDeferred
async def test_half_close_over_tcp(store: CertificateStore, ca_file: Path) -> None:
    """A client that ends its direction hears the answer to what it said."""

    class Answer(Heard):
        def readConnectionLost(self) -> None:
            self.transport.write(b"".join(self.data)[::-1])  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]

    async with Server(store, Answer) as server:
        client = await connectProtocol(_endpoint(server.number, client_creator("a.example", ca=ca_file)), Heard())
        client.transport.write(b"abc" * 100_000)
        client.transport.loseWriteConnection()
        assert await client.whole == b"cba" * 100_000
        assert isinstance(await client.lost, error.ConnectionDone)
        assert isinstance(await server.protocols[0].lost, error.ConnectionDone)


@ensureDeferred
async def test_abort_over_tcp(store: CertificateStore, ca_file: Path) -> None:
    """An aborted connection is a lost one for the other side, never an ended one."""
    async with Server(store) as server:
        client = await connectProtocol(_endpoint(server.number, client_creator("a.example", ca=ca_file)), Heard())
        client.transport.write(b"half of")
        while not server.protocols or not server.protocols[0].data:
            await _turn()
        client.transport.abortConnection()
        assert isinstance(await server.protocols[0].lost, error.ConnectionLost)
        assert isinstance(await client.lost, error.ConnectionAborted)
        assert not server.protocols[0].whole.called


def _turn() -> Deferred[None]:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)  # type: ignore[attr-defined]
    return turn


@ensureDeferred
async def test_connect_means_that_tls_is_there(store: CertificateStore, ca_file: Path) -> None:
    """connect fires when the handshake is done, with a protocol that is connected and knows its peer."""
    async with Server(store) as server:
        client = await connectProtocol(_endpoint(server.number, client_creator("a.example", ca=ca_file)), Heard())
        assert client.made == 1
        assert client.transport.negotiatedProtocol == b"http/1.1"
        assert client.transport.getPeer().port == server.number
        client.transport.loseConnection()
        await client.lost


@ensureDeferred
async def test_refused_server_fails_to_connect(store: CertificateStore, tmp_path: Path) -> None:
    """connect fails with what is wrong with the certificate, and neither protocol was ever connected."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other"))
    async with Server(store) as server:
        protocol = Heard()
        with pytest.raises(PeerCertificateError, match="not trusted"):
            await connectProtocol(
                _endpoint(server.number, client_creator("a.example", ca=tmp_path / "other")), protocol
            )
        while not server.protocols:
            await _turn()
    assert protocol.made == server.protocols[0].made == 0
    assert not protocol.lost.called


@ensureDeferred
async def test_server_without_tls(ca_file: Path) -> None:
    """connect fails where the server speaks something else, or nothing until the time is over."""

    class Rude(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[union-attr]

    creator = client_creator("a.example", ca=ca_file)
    for protocol, expected in ((Rude, SSL.Error), (Protocol, error.TimeoutError)):
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(protocol))
        try:
            with pytest.raises(expected):
                await connectProtocol(_endpoint(port.getHost().port, creator, handshake_timeout=0.2), Heard())
        finally:
            await port.stopListening()


@ensureDeferred
async def test_nobody_listens(ca_file: Path) -> None:
    """Where there is no connection the endpoint's own error is what connect fails with."""
    endpoint = wrap_client_endpoint(
        MemoryEndpoint(error=error.ConnectionRefusedError()), client_creator("a.example", ca=ca_file), reactor
    )
    with pytest.raises(error.ConnectionRefusedError):
        await connectProtocol(endpoint, Heard())


@pytest.mark.parametrize("hold", [True, False])
@ensureDeferred
async def test_cancelled_while_connecting(ca_file: Path, hold: bool) -> None:
    """connect can be cancelled before TCP is there, and during the handshake; nothing stays open."""
    below = MemoryEndpoint(hold=hold)
    endpoint = wrap_client_endpoint(below, client_creator("a.example", ca=ca_file), reactor)
    protocol = Heard()
    connecting = connectProtocol(endpoint, protocol)
    connecting.cancel()
    with pytest.raises((CancelledError, error.ConnectingCancelledError)):
        await connecting
    for transport in below.transports:
        transport.turn()
        assert transport.aborted
        assert not transport.connected
    assert len(below.transports) == (0 if hold else 1)
    assert protocol.made == 0


@ensureDeferred
async def test_slow_client_of_a_server(store: CertificateStore) -> None:
    """A client that connects and says nothing is dropped when its time is over, and no protocol knows of it."""
    async with Server(store, handshake_timeout=0.1) as server:
        client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", server.number), Closes())
        await client.lost
        assert [protocol.made for protocol in server.protocols] == [0]


class Closes(Protocol):
    """A protocol of plain TCP that tells of its end."""

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.callback(None)


@ensureDeferred
async def test_unix_socket(store: CertificateStore, ca_file: Path, tmp_path: Path) -> None:
    """TLS needs no TCP below: a UNIX socket will do."""
    protocols: list[Heard] = []

    def build() -> Heard:
        protocols.append(Heard())
        return protocols[-1]

    factory = tls_factory(server_connection_creator(store), Factory.forProtocol(build), reactor)  # type: ignore[arg-type]
    address = str(tmp_path / "socket")
    port = await UNIXServerEndpoint(reactor, address).listen(factory)
    try:
        below = UNIXClientEndpoint(reactor, address)
        endpoint = wrap_client_endpoint(below, client_creator("a.example", ca=ca_file), reactor)
        client = await connectProtocol(endpoint, Heard())
        client.transport.write(b"hello")
        client.transport.loseWriteConnection()
        assert await protocols[0].whole == b"hello"
        assert isinstance(await protocols[0].lost, error.ConnectionDone)
        assert await client.whole == b""
        await client.lost  # Twisted's epoll reactor has ConnectionLost for a UNIX socket whose peer went first
    finally:
        await port.stopListening()
