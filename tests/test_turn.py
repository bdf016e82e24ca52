"""Writes at the end of the reactor's turn, on Twisted's own transports over loopback."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Server

from stickyproxy.testing import MemoryTransport
from stickyproxy.turn import Turn


class Collecting(Protocol):
    """Keeps what comes; ``ended`` fires when the connection is over."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: defer.Deferred[bytes] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self.data)


async def connected() -> tuple[Any, Collecting]:
    """A transport of Twisted's that a server has accepted, and the protocol at its other end."""
    accepted: defer.Deferred[Any] = defer.Deferred()

    class Accepted(Protocol):
        def connectionMade(self) -> None:
            accepted.callback(self.transport)

    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Accepted))
    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), Collecting())
    transport = await accepted
    await port.stopListening()
    return transport, client


needs_own = pytest.mark.skipif(
    not hasattr(Server, "_maybePauseProducer"), reason="Twisted's transports have changed: Turn is to be looked at"
)


@needs_own
@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("close", ["loseConnection", "loseWriteConnection"])
async def test_what_was_written_comes_before_the_close(close: str) -> None:
    """Pieces of one turn arrive whole and in order, also when the connection is closed in that turn."""
    transport, client = await connected()
    write = Turn(reactor).writer(transport)
    assert write is not transport.write
    write(b"a")
    write(b"b")
    transport.write(b"c")
    write(b"d")
    getattr(transport, close)()
    assert await client.ended == b"abcd"


@needs_own
@pytest_twisted.ensureDeferred
async def test_more_than_a_socket_takes() -> None:
    """What does not fit waits in the transport, pauses its producer, and arrives in order with what comes behind."""
    transport, client = await connected()
    told: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            told.append("pause")

        def resumeProducing(self) -> None:
            told.append("resume")
            transport.unregisterProducer()
            write(b"end")
            transport.loseConnection()

        def stopProducing(self) -> None:
            told.append("stop")

    client.transport.pauseProducing()
    transport.registerProducer(Producer(), True)
    write = Turn(reactor).writer(transport)
    write(b"x" * 20_000_000)
    reactor.callLater(0, client.transport.resumeProducing)
    assert await client.ended == b"x" * 20_000_000 + b"end"
    assert told == ["pause", "resume"]


@needs_own
@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_gone() -> None:
    """Writing to it is no error."""
    transport, client = await connected()
    write = Turn(reactor).writer(transport)
    write(b"lost")
    transport.abortConnection()
    await client.ended
    write(b"more")
    assert not transport.connected


def test_other_transports_keep_their_own_write() -> None:
    """libuv's, TLS and memory transports know themselves when to send."""
    transport = MemoryTransport()
    assert Turn(reactor).writer(transport) == transport.write
