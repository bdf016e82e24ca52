"""The end of the reactor's turn, and writes at it, on Twisted's own transports over loopback."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.logger import capturedLogs

from stickyproxy.reactor.turn import Turn
from stickyproxy.testing import MemoryTransport


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
    write = Turn.of(reactor).writer(transport)
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
    write = Turn.of(reactor).writer(transport)
    write(b"x" * 20_000_000)
    reactor.callLater(0, client.transport.resumeProducing)
    assert await client.ended == b"x" * 20_000_000 + b"end"
    assert told == ["pause", "resume"]


@needs_own
@pytest_twisted.ensureDeferred
async def test_a_producer_is_paused_within_the_turn() -> None:
    """Who writes until he is told to stop is told, however much the socket takes, and his memory stays his own."""
    transport, client = await connected()
    paused = False

    class Producer:
        def pauseProducing(self) -> None:
            nonlocal paused
            paused = True

        def resumeProducing(self) -> None:
            transport.unregisterProducer()
            transport.loseConnection()

        def stopProducing(self) -> None:
            raise AssertionError

    client.transport.pauseProducing()
    transport.registerProducer(Producer(), True)
    write = Turn.of(reactor).writer(transport)
    written = 0
    while not paused:
        write(b"x" * 10_000)
        written += 10_000
        assert written < 100_000_000
    client.transport.resumeProducing()
    assert len(await client.ended) == written


@needs_own
@pytest_twisted.ensureDeferred
async def test_a_pull_producer_is_asked_for_more() -> None:
    """Also when the socket took all that it had written."""
    transport, client = await connected()
    write = Turn.of(reactor).writer(transport)
    pieces = [b"a", b"b", b"c" * 100_000, b"d"]

    class Producer:
        def resumeProducing(self) -> None:
            if pieces:
                write(pieces.pop(0))
            else:
                transport.unregisterProducer()
                transport.loseConnection()

        def stopProducing(self) -> None:
            raise AssertionError

    transport.registerProducer(Producer(), False)
    assert await client.ended == b"ab" + b"c" * 100_000 + b"d"


@needs_own
@pytest_twisted.ensureDeferred
async def test_abort_drops_what_was_written() -> None:
    """What was not sent yet when the connection is aborted never is."""
    transport, client = await connected()
    Turn.of(reactor).writer(transport)(b"too late")
    transport.abortConnection()
    assert await client.ended == b""


@needs_own
@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_gone() -> None:
    """Writing to it is no error."""
    transport, client = await connected()
    write = Turn.of(reactor).writer(transport)
    write(b"lost")
    transport.abortConnection()
    await client.ended
    write(b"more")
    assert not transport.connected


def test_other_transports_keep_their_own_write() -> None:
    """libuv's, TLS and memory transports know themselves when to send."""
    transport = MemoryTransport()
    assert Turn.of(reactor).writer(transport) == transport.write


def test_all_calls_of_a_turn_share_a_timed_one() -> None:
    """A hundred things for the end of one turn cost the reactor one timed call, and come in their order."""
    clock, done = Clock(), list[int]()
    turn = Turn.of(clock)
    for number in range(100):
        turn.at_end(lambda number=number: done.append(number))  # type: ignore[misc]
    assert (done, len(clock.getDelayedCalls())) == ([], 1)
    clock.advance(0)
    assert (done, clock.getDelayedCalls()) == (list(range(100)), [])


def test_what_is_asked_for_at_the_end_is_done_in_the_same() -> None:
    """TLS encrypts at the end of a turn what TCP then sends, without another turn."""
    clock, done = Clock(), list[str]()
    turn = Turn.of(clock)

    def encrypt(name: str) -> None:
        done.append("encrypt " + name)
        turn.at_end(lambda: done.append("send " + name))

    turn.at_end(lambda: encrypt("a"))
    turn.at_end(lambda: encrypt("b"))
    clock.advance(0)
    assert done == ["encrypt a", "encrypt b", "send a", "send b"]
    assert clock.getDelayedCalls() == []


def test_an_end_comes_to_an_end() -> None:
    """What asks again and again cannot keep the reactor from its sockets: it goes on in the next turn."""
    timed, done = list[int](), list[int]()

    class Counted(Clock):
        def callLater(self, *arguments: Any, **named: Any) -> Any:
            timed.append(len(done))
            return super().callLater(*arguments, **named)

    clock = Counted()
    turn = Turn.of(clock)

    def again() -> None:
        done.append(len(done))
        if len(done) < 50:
            turn.at_end(again)

    turn.at_end(again)
    clock.advance(0)
    assert done == list(range(50))
    assert 2 < len(timed) < 25


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_an_error_stops_nothing_else(error: type[BaseException]) -> None:
    """What one call raises is logged; the others are called, and those of later turns."""
    clock, done = Clock(), list[str]()
    turn = Turn.of(clock)

    def fail() -> None:
        raise error

    turn.at_end(fail)
    turn.at_end(lambda: done.append("other"))
    with capturedLogs() as events:
        clock.advance(0)
    turn.at_end(lambda: done.append("later"))
    clock.advance(0)
    assert done == ["other", "later"]
    assert [event["log_failure"].type for event in events] == [error]
