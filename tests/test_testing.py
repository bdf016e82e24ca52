"""The test kit itself: it must be as strict as a real connection."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stickyproxy.testing import MemoryEndpoint, MemoryTransport, connect_pair


class Diary(Protocol):
    """Writes down what happens to it, and answers by ``replies``."""

    def __init__(self, **replies) -> None:
        self.events: list[object] = []
        self.replies = replies

    def note(self, event, *details):
        self.events.append((event, *details) if details else event)
        if event in self.replies:
            self.replies[event](self.transport)
            self.events.append(f"end of {event}")

    def connectionMade(self):
        self.note("made")

    def dataReceived(self, data):
        self.note("data", data)

    def connectionLost(self, reason):
        self.note("lost", reason.type)


@implementer(IHalfCloseableProtocol)
class HalfDiary(Diary):
    def readConnectionLost(self):
        self.note("read lost")

    def writeConnectionLost(self):
        self.note("write lost")


class Producer:
    """Notes what it is told; ``on_resume`` is what a pull producer does then."""

    def __init__(self, on_resume=None) -> None:
        self.told: list[str] = []
        self.on_resume = on_resume

    def pauseProducing(self):
        self.told.append("pause")

    def resumeProducing(self):
        self.told.append("resume")
        if self.on_resume:
            self.on_resume()

    def stopProducing(self):
        self.told.append("stop")


def test_it_is_what_twisted_calls_a_tcp_transport():
    """Whatever asks for the interfaces of a TCP connection gets them."""
    transport = MemoryTransport()
    for interface in (ITransport, ITCPTransport, IPushProducer):
        assert verifyObject(interface, transport)
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (True, True)
    assert verifyObject(IStreamClientEndpoint, MemoryEndpoint())


def test_addresses_are_those_given():
    """A test may say who the peer is."""
    peer, host = IPv4Address("TCP", "203.0.113.1", 1), IPv4Address("TCP", "203.0.113.2", 2)
    transport = MemoryTransport(peer=peer, host=host)
    assert (transport.getPeer(), transport.getHost()) == (peer, host)


def test_what_arrives_and_what_is_written():
    """Bytes go both ways, and `take` forgets what it gives."""
    diary = Diary(data=lambda transport: transport.writeSequence([b"an", b"swer"]))
    transport = MemoryTransport(diary)
    transport.deliver(b"question")
    assert diary.events == ["made", ("data", b"question"), "end of data"]
    assert (transport.written, transport.take(), transport.take()) == (b"answer", b"answer", b"")


def test_a_paused_transport_delivers_nothing():
    """Bytes, and the end behind them, wait for resumeProducing and the next turn."""
    diary = HalfDiary()
    transport = MemoryTransport(diary)
    transport.pauseProducing()
    transport.deliver(b"one")
    transport.half_close()
    transport.resumeProducing()
    assert diary.events == ["made"]
    transport.turn()
    assert diary.events == ["made", ("data", b"one"), "read lost"]


def test_pausing_between_two_chunks():
    """A protocol that pauses in dataReceived gets no second chunk."""
    diary = Diary(data=lambda transport: transport.pauseProducing())
    transport = MemoryTransport(diary)
    transport.deliver(b"one")
    transport.deliver(b"two")
    assert diary.events[1:] == [("data", b"one"), "end of data"]


def test_nothing_is_called_within_a_call():
    """loseConnection, abortConnection and resumeProducing never call back at once, as on a reactor."""
    diary = Diary(data=lambda transport: transport.abortConnection())
    MemoryTransport(diary).deliver(b"one")
    assert diary.events == ["made", ("data", b"one"), "end of data", ("lost", ConnectionAborted)]


@pytest.mark.parametrize(("protocol", "events"), [(Diary, [("lost", ConnectionDone)]), (HalfDiary, ["read lost"])])
def test_the_end_of_the_stream(protocol, events):
    """A protocol that knows half-close hears of it; any other is closed."""
    diary = protocol()
    transport = MemoryTransport(diary)
    transport.half_close()
    assert (diary.events[1:], transport.connected) == (events, protocol is HalfDiary)


def test_our_half_close_comes_after_what_was_written():
    """`half_closed` says that the peer has heard it, which is after the bytes; writing more is a bug that shows."""
    diary = HalfDiary()
    transport = MemoryTransport(diary, high_water=100)
    transport.write(b"last words")
    transport.loseWriteConnection()
    transport.turn()
    assert not transport.half_closed
    transport.drain(4)
    assert (transport.half_closed, transport.written) == (False, b"last")
    transport.drain()
    assert (transport.half_closed, diary.events[1:], transport.connected) == (True, ["write lost"], True)
    with pytest.raises(RuntimeError, match="loseWriteConnection"):
        transport.write(b"more")


def test_loss_takes_everything_with_it():
    """A reset drops what had not been delivered, also where reading was paused."""
    diary = Diary()
    transport = MemoryTransport(diary)
    transport.pauseProducing()
    transport.deliver(b"never seen")
    transport.lose()
    transport.lose()
    assert diary.events[1:] == [("lost", ConnectionLost)]
    transport.write(b"into the void")
    assert transport.written == b""
    with pytest.raises(RuntimeError, match="gone"):
        transport.deliver(b"x")


def test_closing_waits_for_what_was_written_and_for_the_producer():
    """loseConnection flushes, and a producer that was never unregistered keeps it open: a bug that shows."""
    diary = Diary()
    transport = MemoryTransport(diary, high_water=100)
    transport.registerProducer(Producer(), True)
    transport.write(b"last words")
    transport.loseConnection()
    transport.deliver(b"too late")
    transport.drain()
    assert (transport.connected, diary.events) == (True, ["made"])
    transport.unregisterProducer()
    transport.turn()
    assert diary.events[1:] == [("lost", ConnectionDone)]


def test_a_push_producer_is_paused_above_the_high_water():
    """More than `high_water` unread bytes pause it, and it goes on when the peer has read them all."""
    transport, producer = MemoryTransport(high_water=10), Producer()
    transport.registerProducer(producer, True)
    transport.write(b"x" * 10)
    assert (producer.told, transport.unread) == ([], 10)
    transport.write(b"x")
    transport.drain(5)
    assert producer.told == ["pause"]
    assert len(transport.drain()) == 6
    assert producer.told == ["pause", "resume"]


def test_a_pull_producer_is_asked_when_there_is_room():
    """Once when it is registered, then whenever everything was read."""
    transport = MemoryTransport(high_water=10)
    parts = [b"a" * 20, b"b", b"c"]

    def produce():
        transport.write(parts.pop(0)) if parts else transport.unregisterProducer()

    producer = Producer(produce)
    transport.registerProducer(producer, False)
    assert (transport.unread, len(parts)) == (20, 2)
    while transport.unread:
        transport.drain()
    assert (transport.written, producer.told) == (b"a" * 20 + b"bc", ["resume"] * 4)


def test_producers_keep_the_rules_of_twisted():
    """Two at once are an error; one that comes after the loss is stopped, and so is one that is there then."""
    transport, first, late = MemoryTransport(), Producer(), Producer()
    transport.registerProducer(first, True)
    with pytest.raises(RuntimeError, match="never unregistered"):
        transport.registerProducer(late, True)
    transport.lose()
    transport.registerProducer(late, True)
    assert (first.told, late.told) == (["stop"], ["stop"])


def test_text_is_not_bytes():
    """Writing a str fails as it does on Twisted's transports."""
    with pytest.raises(TypeError, match="str"):
        MemoryTransport().write("text")


def test_a_pair_talks():
    """Two protocols, connected: pumping carries everything, the half-close and the end."""
    server = HalfDiary(
        data=lambda transport: transport.write(b"echo"), **{"read lost": lambda transport: transport.loseConnection()}
    )
    client = HalfDiary(made=lambda transport: transport.write(b"hello"))
    pair = connect_pair(client, server)
    assert client.events == ["made", "end of made", ("data", b"echo")]
    pair.client.loseWriteConnection()
    pair.pump()
    assert server.events[3:] == ["read lost", "end of read lost", ("lost", ConnectionDone)]
    assert client.events[3:] == ["write lost", "read lost"]


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_pair_passes_an_abort_on(side):
    """What one side aborts the other has lost."""
    diaries = {"client": Diary(), "server": Diary()}
    pair = connect_pair(diaries["client"], diaries["server"])
    getattr(pair, side).abortConnection()
    pair.pump()
    assert diaries.pop(side).events[1:] == [("lost", ConnectionAborted)]
    assert diaries.popitem()[1].events[1:] == [("lost", ConnectionLost)]


def test_a_pair_answers_bytes_to_the_dead_with_a_reset():
    """Who writes to a peer that has closed is reset, as TCP does."""
    client, server = HalfDiary(), Diary()
    pair = connect_pair(client, server)
    pair.server.loseConnection()
    pair.pump()
    assert client.events[1:] == ["read lost"]
    pair.client.write(b"anybody there?")
    pair.pump()
    assert client.events[2:] == [("lost", ConnectionLost)]


def test_a_pair_has_back_pressure():
    """A side that does not read stops the other's producer."""
    client, server = Diary(made=lambda transport: transport.pauseProducing()), Diary()
    pair = connect_pair(client, server, high_water=10)
    producer = Producer()
    pair.server.registerProducer(producer, True)
    pair.server.write(b"x" * 11)
    pair.pump()
    assert (producer.told, client.events[2:]) == (["pause"], [])
    pair.client.resumeProducing()
    pair.pump()
    assert (producer.told, client.events[2:]) == (["pause", "resume"], [("data", b"x" * 11)])


def test_an_endpoint_connects_refuses_and_makes_wait():
    """A place to connect to does what the test wants of it."""
    built: list[Diary] = []
    factory = Factory.forProtocol(lambda: built.append(Diary()) or built[-1])
    endpoint = MemoryEndpoint()
    assert endpoint.connect(factory).result is built[0]
    assert endpoint.transports[0].protocol is built[0]

    endpoint.error = ConnectError()
    failed: list[object] = []
    endpoint.connect(factory).addErrback(lambda failure: failed.append(failure.type))
    endpoint.error = None

    endpoint.hold = True
    waiting, refused, cancelled = (endpoint.connect(factory) for _ in range(3))
    assert not waiting.called
    endpoint.accept().deliver(b"hello")
    assert (waiting.result, built[1].events) == (built[1], ["made", ("data", b"hello")])
    for deferred in (refused, cancelled):
        deferred.addErrback(lambda failure: failed.append(failure.type))
    endpoint.refuse(ConnectionLost())
    cancelled.cancel()
    assert failed == [ConnectError, ConnectionLost, ConnectingCancelledError]
    assert endpoint.attempts == 5
