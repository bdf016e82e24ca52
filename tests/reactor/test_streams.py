"""What a Twisted program may rely on of a TCP transport: the same programs on our reactor and on Twisted's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL
from programs import Counted, OneProtocol, Program, Recorder, connected, turns
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IOpenSSLContextFactory,
    IPushProducer,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
)
from twisted.internet.ssl import CertificateOptions
from twisted.python import log
from zope.interface import implementer
from zope.interface.verify import verifyObject

Run = Callable[[Program], None]
MEGABYTE = 1 << 20
LOT = 16 * MEGABYTE  # more than the system takes for a peer that does not read


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    def readConnectionLost(self) -> None:
        self.tell("read lost")

    def writeConnectionLost(self) -> None:
        self.tell("write lost")


class PushProducer:
    """Writes pieces while it is not paused."""

    def __init__(self, transport: Any) -> None:
        self.events: list[str] = []
        self._transport = transport

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


class PullProducer:
    """Writes one of ``pieces`` each time when it is asked, then unregisters."""

    def __init__(self, transport: Any, pieces: list[bytes]) -> None:
        self._transport = transport
        self._pieces = pieces

    def resumeProducing(self) -> None:
        if self._pieces:
            self._transport.write(self._pieces.pop(0))
        else:
            self._transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._pieces.clear()


@pytest.fixture
def logged() -> Any:
    """The failures that were logged."""
    failures: list[Any] = []

    def observe(event: Any) -> None:
        if "failure" in event:
            failures.append(event["failure"])

    log.addObserver(observe)
    yield failures
    log.removeObserver(observe)


def test_interfaces(run: Run) -> None:
    """The transport is what it says: every method of the interfaces is there."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        for transport in (server.transport, client.transport):
            for interface in (ITCPTransport, ITLSTransport, ISystemHandle, IConsumer, IPushProducer):
                assert verifyObject(interface, transport)

    run(program)


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
def test_bytes_and_addresses(run_both: Run, interface: str) -> None:
    """What one end writes, the other gets, on IPv4 and IPv6; each end knows both addresses."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client, interface)
        client.transport.writeSequence([b"a" * MEGABYTE, b"", b"b" * MEGABYTE])
        client.transport.write(b"c")
        await server.until_received(2 * MEGABYTE + 1)
        assert server.received == b"a" * MEGABYTE + b"b" * MEGABYTE + b"c"
        assert server.transport.getPeer() == client.transport.getHost()
        assert client.transport.getPeer() == server.transport.getHost()
        assert server.transport.getHost().host == interface

    run_both(program)


def test_order_of_all_ways_to_write(run: Run) -> None:
    """Whatever way bytes are written in one turn, they arrive in order and once, before a close or a half-close."""

    async def program(reactor: Any) -> None:
        server, client = HalfCloseable(), Recorder()
        await connected(reactor, server, client)
        write, buffer = client.transport.write, bytearray(b"b")
        write(b"a")
        write(buffer)
        buffer[:] = b"x"  # the caller's own again
        client.transport.write_at_once(b"c")
        write(b"")
        client.transport.writeSequence([b"d", b"e"])
        with pytest.raises(TypeError):
            write("f")  # type: ignore[arg-type]
        write(b"f")
        client.transport.loseWriteConnection()
        await server.until("read lost")
        assert server.received == b"abcdef"
        server.transport.write(b"good")
        server.transport.write(b"bye")
        server.transport.loseConnection()
        await client.until("lost")
        assert client.received == b"goodbye"

    run(program)


def test_options_and_handle(run_both: Run) -> None:
    """Socket options are read and set; the handle is a socket."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        transport = client.transport
        for enabled in (True, False):
            transport.setTcpNoDelay(enabled)
            transport.setTcpKeepAlive(enabled)
            assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (enabled, enabled)
        assert transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert transport.getHandle().fileno() == transport.fileno() > 0

    run_both(program)


def test_pausing_when_connected(run_both: Run) -> None:
    """A protocol that pauses in connectionMade sees nothing until it resumes, and then everything."""

    class Pausing(Recorder):
        def connectionMade(self) -> None:
            self.transport.pauseProducing()
            super().connectionMade()

    async def program(reactor: Any) -> None:
        server, client = Pausing(), Recorder()
        await connected(reactor, server, client)
        client.transport.write(b"early")
        client.transport.loseConnection()
        await turns(reactor)
        assert server.events == ["made"]
        server.transport.resumeProducing()
        assert server.events == ["made"]
        await server.until("lost")
        assert server.received == b"early"
        assert server.reason.check(ConnectionDone)

    run_both(program)


def test_pausing_later(run_both: Run) -> None:
    """A paused protocol gets nothing more, however much there is; resumed, nothing is missing."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        client.transport.write(b"x" * LOT)
        await server.until("data")
        server.transport.pauseProducing()
        have = len(server.received)
        await turns(reactor)
        assert len(server.received) == have < LOT
        server.transport.resumeProducing()
        await server.until_received(LOT)

    run_both(program)


def test_push_producer(run_both: Run) -> None:
    """A push producer pauses when the peer does not read, and resumes when it reads again."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        server.transport.pauseProducing()
        producer = PushProducer(client.transport)
        client.transport.registerProducer(producer, True)
        client.transport.write(b"x" * LOT)
        assert producer.events == ["pause"]
        await turns(reactor)
        assert producer.events == ["pause"]
        server.transport.resumeProducing()
        await server.until_received(LOT)
        await turns(reactor)
        assert producer.events == ["pause", "resume"]
        client.transport.abortConnection()
        await client.until("lost")
        assert producer.events == ["pause", "resume", "stop"]

    run_both(program)


def test_registered_when_full(run: Run) -> None:
    """A producer that registers when more waits than it may add is paused at once."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        server.transport.pauseProducing()
        client.transport.write(b"x" * LOT)
        producer = PushProducer(client.transport)
        client.transport.registerProducer(producer, True)
        assert producer.events == ["pause"]
        server.transport.resumeProducing()
        await server.until_received(LOT)
        await turns(reactor)
        assert producer.events == ["pause", "resume"]

    run(program)


def test_pull_producer(run_both: Run) -> None:
    """A pull producer is asked again and again, for small pieces and for large ones."""
    pieces = [b"small", b"x" * LOT, b"y" * 100_000, b"end"]

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        client.transport.registerProducer(PullProducer(client.transport, list(pieces)), False)
        client.transport.loseConnection()
        await server.until("lost")
        assert server.received == b"".join(pieces)
        assert client.reason.check(ConnectionDone)

    run_both(program)


def test_second_producer(run_both: Run) -> None:
    """A second producer is refused; one that comes when all is over is stopped."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        producer = PushProducer(client.transport)
        client.transport.registerProducer(producer, True)
        with pytest.raises(RuntimeError, match="unregistered"):
            client.transport.registerProducer(PushProducer(client.transport), True)
        client.transport.unregisterProducer()
        client.transport.loseConnection()
        await client.until("lost")
        client.transport.registerProducer(producer, True)
        assert producer.events == ["stop"]

    run_both(program)


def test_losing_waits_for_paused_producer(run_both: Run) -> None:
    """loseConnection first lets a paused producer write the rest."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        server.transport.pauseProducing()
        producer = PushProducer(client.transport)
        client.transport.registerProducer(producer, True)
        client.transport.write(b"x" * LOT)
        client.transport.loseConnection()
        server.transport.resumeProducing()
        await server.until_received(LOT)
        await turns(reactor)
        assert (client.events, producer.events) == (["made"], ["pause", "resume"])
        client.transport.write(b"rest")
        client.transport.unregisterProducer()
        await server.until("lost")
        await client.until("lost")
        assert len(server.received) == LOT + 4
        assert client.reason.check(ConnectionDone) and server.reason.check(ConnectionDone)

    run_both(program)


def test_losing_does_not_wait_for_idle_producer(run_both: Run) -> None:
    """A push producer that may write, and does not, does not keep the connection open."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        producer = PushProducer(client.transport)
        client.transport.registerProducer(producer, True)
        client.transport.write(b"all")
        client.transport.loseConnection()
        await server.until("lost")
        await client.until("lost")
        assert (server.received, producer.events) == (b"all", ["stop"])
        assert client.reason.check(ConnectionDone) and server.reason.check(ConnectionDone)

    run_both(program)


def test_half_close(run_both: Run) -> None:
    """One end says that it has ended after what waits is written, and still gets the answer."""

    async def program(reactor: Any) -> None:
        server, client = HalfCloseable(), HalfCloseable()
        await connected(reactor, server, client)
        server.transport.pauseProducing()
        client.transport.write(b"x" * LOT)
        client.transport.loseWriteConnection()
        await turns(reactor)
        assert client.events == ["made"]
        server.transport.resumeProducing()
        await server.until("read lost")
        assert len(server.received) == LOT
        assert client.events[-1] == "write lost"
        client.transport.write(b"too late")
        server.transport.write(b"answer")
        server.transport.loseConnection()
        await client.until("read lost")
        assert client.received == b"answer"
        client.transport.loseConnection()
        await client.until("lost")
        assert client.reason.check(ConnectionDone) and server.reason.check(ConnectionDone)
        assert server.events.count("read lost") == 1

    run_both(program)


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), FileNotFoundError(2, "no such file")])
def test_raising(run_both: Run, logged: list[Any], error: Exception) -> None:
    """What dataReceived raises is logged, and is the reason of connectionLost."""

    class Raising(Recorder):
        def dataReceived(self, data: bytes) -> None:
            raise error

    async def program(reactor: Any) -> None:
        server, client = Raising(), Recorder()
        await connected(reactor, server, client)
        client.transport.write(b"x")
        await server.until("lost")
        assert server.reason.value is error
        await client.until("lost")
        assert {failure.value for failure in logged} == {error}

    run_both(program)


def test_reset(run_both: Run) -> None:
    """abortConnection drops what waits; the peer sees a lost connection, not an end. Later writes are ignored."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        client.transport.write(b"x")
        await server.until("data")
        client.transport.abortConnection()
        client.transport.abortConnection()
        assert client.events == ["made"]
        await client.until("lost")
        await server.until("lost")
        assert client.reason.check(ConnectionAborted)
        assert server.reason.check(ConnectionLost)
        for transport in (client.transport, server.transport):
            assert (transport.connected, transport.disconnected) == (0, 1)
            transport.write(b"ignored")
            transport.writeSequence([b"ignored"])
            transport.loseConnection()
            transport.abortConnection()
            transport.resumeProducing()

    run_both(program)


def test_answer_before_a_reset(run_both: Run) -> None:
    """A peer that answers and closes while we still write: we get its answer, though our writes end in a reset."""
    listener = socket.create_server(("127.0.0.1", 0))

    async def program(reactor: Any) -> None:
        client = Recorder()
        reactor.connectTCP(*listener.getsockname(), Counted(client))
        await client.until("made")
        peer, _ = listener.accept()
        client.transport.write(b"x" * 100_000)
        await turns(reactor)
        assert peer.recv(10) == b"x" * 10
        peer.sendall(b"refused")
        peer.close()  # with bytes unread: a reset
        client.transport.write(b"more")
        client.transport.write(b"more")
        await client.until("lost")
        assert client.received == b"refused"
        assert client.reason is not None and client.reason.check(ConnectionLost)

    run_both(program)
    listener.close()


def test_end_with_bytes_waiting(run_both: Run) -> None:
    """When the peer ends, a protocol that knows no half-close is told at once, whatever it still wanted to write."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), HalfCloseable()
        await connected(reactor, server, client)
        client.transport.pauseProducing()
        server.transport.write(b"x" * LOT)
        client.transport.loseWriteConnection()
        await server.until("lost")
        assert server.reason.check(ConnectionDone)

    run_both(program)


def test_another_protocol(run_both: Run) -> None:
    """transport.protocol may be replaced, also from within dataReceived: the next bytes are the new one's."""

    class Upgrading(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            other.makeConnection(self.transport)
            self.transport.protocol = other
            self.transport.write(b"upgraded")

    other = Recorder()

    async def program(reactor: Any) -> None:
        server, client = Upgrading(), Recorder()
        await connected(reactor, server, client)
        client.transport.write(b"first")
        await client.until_received(8)
        client.transport.write(b"second")
        await other.until_received(6)
        client.transport.loseConnection()
        await other.until("lost")
        assert server.events == ["made", "data"]

    run_both(program)


def test_start_tls(run_both: Run, tmp_path: Any) -> None:
    """startTLS puts Twisted's TLS on the connection; large bodies and orderly ends pass through it."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    context = SSL.Context(SSL.TLS_METHOD)
    certificate.configure_cert(context)

    @implementer(IOpenSSLContextFactory)
    class Server:
        def getContext(self) -> SSL.Context:
            return context

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        server.transport.startTLS(Server())
        client.transport.startTLS(CertificateOptions())
        client.transport.write(b"x" * MEGABYTE)
        await server.until_received(MEGABYTE)
        assert client.transport.getPeerCertificate() is not None
        server.transport.registerProducer(PushProducer(server.transport), True)
        server.transport.write(b"y" * MEGABYTE)
        server.transport.writeSequence([b"z"])
        server.transport.loseConnection()
        server.transport.unregisterProducer()
        await client.until("lost")
        assert client.received == b"y" * MEGABYTE + b"z"
        assert client.reason.check(ConnectionDone)
        client.transport.write(b"ignored")

    run_both(program)


def test_stopping_the_reactor(run_both: Run) -> None:
    """A reactor that stops tells every connection that it is lost, and the peer sees it."""
    server = Recorder()
    peer = socket.socket()
    peer.settimeout(5)

    async def program(reactor: Any) -> None:
        port = reactor.listenTCP(0, OneProtocol(server), interface="127.0.0.1")
        peer.connect(("127.0.0.1", port.getHost().port))
        await server.until("made")

    run_both(program)
    assert server.events == ["made", "lost"]
    assert server.reason is not None and server.reason.check(ConnectionLost)
    assert peer.recv(1) == b""
    peer.close()
