"""The TLS transport over memory transports, beside Twisted's own where both keep the same rules."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stickyproxy.testing import MemoryTransport, Pair
from stickyproxy.tls import (
    CertificateStore,
    ClientConnectionCreator,
    PeerCertificateError,
    TLSFactory,
    client_creator,
    server_connection_creator,
)
from stickyproxy.tls.contexts import new_context, trust

Maker = Callable[..., Any]
#: Of a server, and of a client that trusts it: by TLS 1.3, and by no more than TLS 1.2.
Creators = tuple[Any, Any, Any]


@pytest.fixture(scope="module")
def creators(tmp_path_factory: pytest.TempPathFactory) -> Creators:
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca"))
    pem = directory / "a.pem"
    pem.write_bytes(authority.issue_cert("a.example").private_key_and_cert_chain_pem.bytes())
    old = new_context(SSL.TLS_CLIENT_METHOD, "1.2")
    old.set_max_proto_version(SSL.TLS1_2_VERSION)
    trust(old, directory / "ca")
    return (
        server_connection_creator(CertificateStore.load([pem])),
        client_creator("a.example", ca=directory / "ca"),
        ClientConnectionCreator(old, "a.example", verify=True),
    )


def ours(creator: Any, is_client: bool, factory: Any, clock: Clock) -> Any:
    return TLSFactory(creator, is_client, factory, clock)


def late(creator: Any, is_client: bool, factory: Any, clock: Clock) -> Any:
    return TLSFactory(creator, is_client, factory, clock, await_handshake=True)


def twisted(creator: Any, is_client: bool, factory: Any, clock: Clock) -> Any:
    return TLSMemoryBIOFactory(creator, is_client, factory, clock)


class Plain(Protocol):
    """Keeps what it hears, and how it ended."""

    def __init__(self) -> None:
        self.made = 0
        self.heard = b""
        self.chunks = 0
        self.lost: list[BaseException] = []
        self.on_made: Callable[[Any], object] = lambda transport: None
        self.on_data: Callable[[bytes], object] = lambda data: None

    def connectionMade(self) -> None:
        self.made += 1
        self.on_made(self.transport)

    def dataReceived(self, data: bytes) -> None:
        assert not self.lost
        self.heard += data
        self.chunks += 1
        self.on_data(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost.append(reason.value)


@implementer(IHandshakeListener)
class Listening(Plain):
    """Hears of the handshake too."""

    def __init__(self) -> None:
        super().__init__()
        self.handshakes = 0

    def handshakeCompleted(self) -> None:
        assert self.made
        self.handshakes += 1


@implementer(IHalfCloseableProtocol)
class Half(Listening):
    """Hears of half-closes too."""

    def __init__(self) -> None:
        super().__init__()
        self.half: list[str] = []
        self.on_read_end: Callable[[], object] = lambda: None

    def readConnectionLost(self) -> None:
        self.half.append("read")
        self.on_read_end()

    def writeConnectionLost(self) -> None:
        self.half.append("write")


class Below(MemoryTransport):
    """Keeps the sizes of what TLS writes."""

    def __init__(self, high_water: int | None) -> None:
        super().__init__(high_water=high_water)
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))
        super().write(data)


class Link:
    """A client and a server in memory, each with TLS by a maker. ``settle`` lets everything happen that will."""

    def __init__(
        self,
        creators: Creators,
        client_maker: Maker = ours,
        server_maker: Maker = ours,
        client: Plain | None = None,
        server: Plain | None = None,
        high_water: int | None = None,
    ) -> None:
        self.clock = Clock()
        self.client, self.server = client or Listening(), server or Listening()
        self.below = Pair(Below(high_water), Below(high_water))
        address = self.below.client.getPeer()
        self.tls: list[Any] = []
        sides = (
            (server_maker, creators[0], False, self.server, self.below.server),
            (client_maker, creators[1], True, self.client, self.below.client),
        )
        for maker, creator, is_client, inner, transport in sides:
            factory = Factory.forProtocol(lambda inner=inner: inner)  # type: ignore[misc]
            protocol = maker(creator, is_client, factory, self.clock).buildProtocol(address)
            transport.protocol = protocol
            self.tls.append(protocol)
            protocol.makeConnection(transport)

    def settle(self) -> Link:
        for _ in range(100_000):
            self.below.pump()
            if not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return self
            self.clock.advance(0)
        raise AssertionError("it never comes to rest")


class Numbers:
    """A push producer of ``size`` bytes: so many at every turn of ``run``, while it is not paused."""

    def __init__(self, transport: Any, size: int, piece: int = 20_000) -> None:
        self.data = bytes(range(256)) * (size // 256)
        self.transport, self.piece = transport, piece
        self.at = 0
        self.paused = self.stopped = False
        self.pauses = 0

    def pauseProducing(self) -> None:
        self.paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True

    def run(self) -> bool:
        while not self.paused and self.at < len(self.data):
            piece = self.data[self.at : self.at + self.piece]
            self.at += len(piece)
            self.transport.write(piece)
        return self.at == len(self.data)


class Pulled(Numbers):
    """A pull producer: one piece each time that it is asked, then it unregisters itself."""

    def resumeProducing(self) -> None:
        self.transport.write(self.data[self.at : self.at + self.piece])
        self.at += self.piece
        if self.at >= len(self.data):
            self.transport.unregisterProducer()
            self.transport.loseConnection()


both = pytest.mark.parametrize("maker", [ours, twisted])
all_three = pytest.mark.parametrize("maker", [ours, late, twisted])
every_pair = pytest.mark.parametrize(
    ("client_maker", "server_maker"), [(ours, ours), (ours, twisted), (twisted, ours), (late, late), (twisted, twisted)]
)


# Bytes


@every_pair
def test_bytes_go_both_ways(creators: Creators, client_maker: Maker, server_maker: Maker) -> None:
    """What one side writes is what the other hears, and both hear once that the handshake is done."""
    link = Link(creators, client_maker, server_maker).settle()
    link.client.transport.write(b"ping")
    link.settle()
    link.server.transport.writeSequence([b"po", b"ng"])
    link.settle()
    assert (link.server.heard, link.client.heard) == (b"ping", b"pong")
    assert (link.client.handshakes, link.server.handshakes) == (1, 1)
    assert (link.client.made, link.server.made) == (1, 1)
    link.client.transport.loseConnection()
    link.settle()
    assert [type(lost) for lost in link.client.lost + link.server.lost] == [ConnectionDone, ConnectionDone]


@all_three
def test_written_before_the_handshake(creators: Creators, maker: Maker) -> None:
    """A protocol may write as soon as it is connected: it arrives when the handshake is done, and is not lost."""
    client, server = Listening(), Listening()
    client.on_made = lambda transport: (transport.write(b"first, "), transport.write(b"second"))
    server.on_made = lambda transport: transport.write(b"welcome")
    link = Link(creators, maker, maker, client, server).settle()
    assert (server.heard, client.heard) == (b"first, second", b"welcome")
    assert not client.lost
    assert link.below.client.connected


@all_three
def test_written_and_closed_before_the_handshake(creators: Creators, maker: Maker) -> None:
    """A protocol that writes and closes in one go has its bytes delivered all the same."""
    client, server = Listening(), Listening()
    client.on_made = lambda transport: (transport.write(b"all that I say"), transport.loseConnection())
    Link(creators, maker, maker, client, server).settle()
    assert server.heard == b"all that I say"
    assert [type(lost) for lost in client.lost + server.lost] == [ConnectionDone, ConnectionDone]


@every_pair
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 3_000_000])
def test_large_writes(creators: Creators, client_maker: Maker, server_maker: Maker, size: int) -> None:
    """One write of any size arrives whole: the transport cuts it into records."""
    link = Link(creators, client_maker, server_maker).settle()
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    link.client.transport.write(data)
    link.server.transport.write(data)
    link.settle()
    assert link.server.heard == data
    assert link.client.heard == data


@both
def test_one_byte_at_a_time(creators: Creators, maker: Maker) -> None:
    """A network that delivers single bytes changes nothing: neither in the handshake nor in records or alerts."""
    link = Link(creators, maker, maker)
    link.client.transport.write(b"x" * 40_000)
    link.client.transport.loseConnection()
    for _ in range(200):
        link.clock.advance(0)
        for here, there in ((link.below.client, link.below.server), (link.below.server, link.below.client)):
            here.turn()
            for byte in here.take():
                if there.connected:
                    there.deliver(bytes([byte]))
    assert link.server.heard == b"x" * 40_000
    assert [type(lost) for lost in link.client.lost + link.server.lost] == [ConnectionDone, ConnectionDone]


def test_writes_of_one_turn_leave_together(creators: Creators) -> None:
    """Many small writes in one turn are one record and one write below, in an answer and out of the blue."""
    link = Link(creators).settle()
    written = link.below.server.sizes
    written.clear()
    link.server.on_data = lambda data: [link.server.transport.write(b"word ") for _ in range(50)]
    link.client.transport.write(b"?")
    link.settle()
    assert link.client.heard == b"word " * 50
    assert len(written) == 1
    assert written[0] < 300
    for _ in range(50):
        link.server.transport.write(b"more ")
    assert len(written) == 1
    link.settle()
    assert len(written) == 2
    assert link.client.heard == b"word " * 50 + b"more " * 50


def test_turns_are_shared(creators: Creators) -> None:
    """A hundred connections that write in one turn cost one timed call."""
    clock = Clock()
    factory = TLSFactory(creators[0], False, Factory.forProtocol(Plain), clock)
    links = []
    for _ in range(100):
        link = Link(creators, server_maker=lambda creator, is_client, wrapped, _: factory)
        link.settle()
        links.append(link)
    timed = len(clock.getDelayedCalls())
    for link in links:
        link.tls[0].wrappedProtocol.transport.write(b"news")
    assert len(clock.getDelayedCalls()) == timed + 1
    clock.advance(0)
    assert all(link.settle().client.heard == b"news" for link in links)


def test_many_bytes_in_one_turn_do_not_pile_up(creators: Creators) -> None:
    """Who writes megabytes in one turn has them passed on at once, not kept."""
    link = Link(creators).settle()
    for _ in range(100):
        link.client.transport.write(b"x" * 10_000)
    assert len(link.below.client.written) > 900_000


@both
def test_only_bytes_are_written(creators: Creators, maker: Maker) -> None:
    """Text is a TypeError at the call; a buffer that changes after the call does not change what is sent."""
    link = Link(creators, maker, maker).settle()
    with pytest.raises(TypeError):
        link.client.transport.write("text")
    buffer = bytearray(b"then")
    link.client.transport.write(buffer)
    buffer[:] = b"now!"
    link.settle()
    assert link.server.heard == b"then"


def test_empty_writes(creators: Creators) -> None:
    """Writing nothing sends nothing and harms nothing."""
    link = Link(creators).settle()
    link.below.client.take()
    link.client.transport.write(b"")
    link.client.transport.writeSequence([])
    link.clock.advance(0)
    assert link.below.client.written == b""
    assert not link.client.lost


# Back-pressure


@every_pair
def test_slow_reader(creators: Creators, client_maker: Maker, server_maker: Maker) -> None:
    """A reader that pauses stops the writer, so that little is kept on the way; in the end all has arrived."""
    link = Link(creators, client_maker, server_maker, high_water=50_000).settle()
    source = Numbers(link.client.transport, 2_000_000)
    link.client.transport.registerProducer(source, True)
    paused = False

    def stop_reading(data: bytes) -> None:
        nonlocal paused
        paused = True
        link.server.transport.pauseProducing()

    link.server.on_data = stop_reading
    most = 0
    for _ in range(1000):
        source.run()
        link.clock.advance(0)
        most = max(most, link.below.client.unread)
        link.settle()
        if paused:
            heard = len(link.server.heard)
            link.settle()
            assert len(link.server.heard) == heard
            paused = False
            link.server.transport.resumeProducing()
            link.settle()
        if source.at == len(source.data) and len(link.server.heard) == source.at:
            break
    assert link.server.heard == source.data
    assert source.pauses > 5
    assert most < 200_000
    link.client.transport.unregisterProducer()


def test_paused_before_the_handshake(creators: Creators) -> None:
    """A protocol that does not want to read yet does not hinder the handshake, and gets its bytes later."""
    server = Listening()
    server.on_made = lambda transport: transport.pauseProducing()
    link = Link(creators, server=server)
    link.client.transport.write(b"early")
    link.settle()
    assert (server.handshakes, server.heard) == (1, b"")
    assert link.below.server.paused
    server.transport.resumeProducing()
    link.settle()
    assert server.heard == b"early"


def test_paused_when_the_handshake_ends_with_data(creators: Creators) -> None:
    """Data that comes in one piece with the end of the handshake waits too, without a byte more from the peer."""
    server = Listening()
    server.on_made = lambda transport: transport.pauseProducing()
    link = Link(creators, client=Listening(), server=server, server_maker=late)
    link.client.transport.write(b"early")
    link.settle()
    assert (server.handshakes, server.heard) == (1, b"")
    server.transport.resumeProducing()
    link.clock.advance(0)
    assert server.heard == b"early"


def test_bytes_that_arrive_though_paused(creators: Creators) -> None:
    """Where the transport below delivers once more after it was paused, the bytes are kept until they are wanted."""
    link = Link(creators).settle()
    link.server.transport.pauseProducing()
    link.client.transport.write(b"a" * 100)
    link.clock.advance(0)
    for piece in (link.below.client.take(),):
        link.tls[0].dataReceived(piece[:30])
        link.tls[0].dataReceived(piece[30:])
    link.clock.advance(0)
    assert link.server.heard == b""
    link.server.transport.resumeProducing()
    assert link.server.heard == b""  # never from within a call of the protocol's own
    link.clock.advance(0)
    assert link.server.heard == b"a" * 100


def test_producer_waits_for_the_handshake(creators: Creators) -> None:
    """A producer that is registered before the handshake is paused before it has filled the memory, then goes on."""
    client = Listening()
    sources: list[Numbers] = []

    def begin(transport: Any) -> None:
        sources.append(Numbers(transport, 1_000_000))
        transport.registerProducer(sources[0], True)
        assert not sources[0].run()

    client.on_made = begin
    link = Link(creators, client=client, high_water=50_000)
    assert sources[0].at < 150_000
    link.settle()
    while not sources[0].run():
        link.settle()
    link.settle()
    client.transport.unregisterProducer()
    assert link.server.heard == sources[0].data


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("high_water", [None, 30_000])
def test_pull_producer(creators: Creators, early: bool, high_water: int | None) -> None:
    """A pull producer is asked each time that there is room, from the handshake on, until it has no more."""
    client = Listening()
    sources: list[Pulled] = []

    def begin(transport: Any) -> None:
        sources.append(Pulled(transport, 500_000 - 500_000 % 256))
        transport.registerProducer(sources[0], False)

    if early:
        client.on_made = begin
    link = Link(creators, client=client, high_water=high_water)
    assert not (early and sources[0].at)
    link.settle()
    if not early:
        begin(client.transport)
    link.settle()
    assert link.server.heard == sources[0].data
    assert [type(lost) for lost in client.lost + link.server.lost] == [ConnectionDone, ConnectionDone]


@both
def test_producers_are_kept_apart(creators: Creators, maker: Maker) -> None:
    """A second producer is an error; one for a connection that is gone is stopped at once."""
    link = Link(creators, maker, maker).settle()
    first, second = Numbers(link.client.transport, 256), Numbers(link.client.transport, 256)
    link.client.transport.registerProducer(first, True)
    with pytest.raises(RuntimeError):
        link.client.transport.registerProducer(second, True)
    link.client.transport.unregisterProducer()
    link.client.transport.loseConnection()
    link.settle()
    link.client.transport.registerProducer(second, True)
    assert second.stopped
    assert not first.stopped


@both
@pytest.mark.parametrize("end", ["close", "lose"])
def test_producer_is_stopped(creators: Creators, maker: Maker, end: str) -> None:
    """The producer of a connection that ends at the peer's will is stopped."""
    link = Link(creators, maker, maker).settle()
    source = Numbers(link.client.transport, 256)
    link.client.transport.registerProducer(source, True)
    if end == "close":
        link.server.transport.loseConnection()
        link.settle()
        link.below.client.lose(ConnectionDone()) if link.below.client.connected else None
    else:
        link.below.client.lose()
    assert source.stopped
    assert link.client.lost


def test_close_waits_for_the_producer(creators: Creators) -> None:
    """loseConnection lets a registered producer finish, as on TCP."""
    link = Link(creators).settle()
    source = Numbers(link.client.transport, 256_000)
    link.client.transport.registerProducer(source, True)
    link.client.transport.loseConnection()
    link.settle()
    assert not link.client.lost
    assert source.run()
    link.client.transport.unregisterProducer()
    link.settle()
    assert link.server.heard == source.data
    assert [type(lost) for lost in link.client.lost] == [ConnectionDone]


# Ends


@pytest.mark.parametrize(
    "order",
    [
        ["client.loseConnection"],
        ["server.loseConnection"],
        ["client.loseConnection", "server.loseConnection"],
        ["client.loseWriteConnection", "server.loseConnection"],
        ["client.loseWriteConnection", "server.loseWriteConnection"],
        ["server.loseWriteConnection", "client.loseWriteConnection"],
        ["client.loseWriteConnection", "client.loseConnection"],
        ["client.loseWriteConnection", "client.loseWriteConnection", "server.loseConnection", "client.loseConnection"],
    ],
)
@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
def test_orderly_ends(creators: Creators, order: list[str], settled: bool, minimum: str) -> None:
    """However two sides close in order, each hears ConnectionDone once, and has what the first wrote before."""
    client, server = Half(), Half()
    link = Link(creators if minimum == "1.3" else _old(creators), client=client, server=server).settle()
    first, other = (client, server) if order[0].startswith("client") else (server, client)
    first.transport.write(b"the last words")
    if len(order) > 1 and not settled:
        link.settle()
    for step in order:
        side, _, call = step.partition(".")
        getattr(getattr(link, side).transport, call)()
        if settled:
            link.settle()
    link.settle()
    for side in (client, server):
        if not side.lost:
            side.transport.loseConnection()  # it was told that the other has ended, and ends too
    link.settle()
    assert [type(lost) for lost in client.lost] == [ConnectionDone]
    assert [type(lost) for lost in server.lost] == [ConnectionDone]
    assert other.heard == b"the last words"


def _old(creators: Creators) -> Creators:
    """The same with TLS 1.2."""
    return creators[0], creators[2], creators[2]


@pytest.mark.parametrize("old", [True, False])
def test_half_close(creators: Creators, old: bool) -> None:
    """A client that has said all can still hear a long answer; no FIN is sent before close_notify."""
    client, server = Half(), Half()
    link = Link(_old(creators) if old else creators, client=client, server=server).settle()
    client.transport.write(b"a question")
    client.transport.loseWriteConnection()
    client.transport.write(b"too late")
    link.settle()
    assert server.heard == b"a question"
    assert (client.half, server.half) == (["write"], ["read"])
    assert not link.below.client.half_closed
    server.transport.write(b"a long answer " * 10_000)
    link.settle()
    assert client.heard == b"a long answer " * 10_000
    server.transport.loseConnection()
    link.settle()
    assert client.half == ["write", "read"]
    assert [type(lost) for lost in client.lost + server.lost] == [ConnectionDone, ConnectionDone]


def test_half_close_by_a_peer_that_ends_tcp_too(creators: Creators) -> None:
    """Some peers send a FIN right behind close_notify, and still listen: they get their answer."""
    client, server = Half(), Half()
    link = Link(creators, client=client, server=server).settle()
    client.transport.loseWriteConnection()
    link.settle()
    link.below.server.half_close()
    link.settle()
    assert (server.half, server.lost) == (["read"], [])
    server.transport.write(b"an answer")
    link.settle()
    assert client.heard == b"an answer"


@both
def test_peer_without_half_close(creators: Creators, maker: Maker) -> None:
    """A protocol that knows nothing of half-close ends with its peer, after all that the peer wrote."""
    link = Link(creators, ours, maker, client=Half()).settle()
    link.client.transport.write(b"bye")
    link.client.transport.loseWriteConnection()
    link.settle()
    assert link.server.heard == b"bye"
    assert [type(lost) for lost in link.server.lost] == [ConnectionDone]
    assert [type(lost) for lost in link.client.lost] == [ConnectionDone]


@every_pair
@pytest.mark.parametrize("written", [b"", b"the beginning of"])
def test_truncation(creators: Creators, client_maker: Maker, server_maker: Maker, written: bytes) -> None:
    """A TCP stream that just ends, without close_notify, is a loss: an attacker can end it too."""
    link = Link(creators, client_maker, server_maker).settle()
    link.client.transport.write(written)
    link.settle()
    link.below.server.half_close()
    link.settle()
    assert link.server.heard == written
    assert [type(lost) for lost in link.server.lost] == [ConnectionLost]


def test_truncated_record(creators: Creators) -> None:
    """Half a record is not delivered, and its connection counts as lost."""
    link = Link(creators, client=Half(), server=Half()).settle()
    link.client.transport.write(b"x" * 5000)
    link.clock.advance(0)
    link.below.server.deliver(link.below.client.take()[:3000])
    link.below.server.half_close()
    link.settle()
    assert link.server.heard == b""
    assert [type(lost) for lost in link.server.lost] == [ConnectionLost]


def test_end_of_tcp_after_our_end(creators: Creators) -> None:
    """A peer that answers our half-close with a bare FIN has truncated its answer."""
    link = Link(creators, client=Half(), server=Half()).settle()
    link.client.transport.loseWriteConnection()
    link.settle()
    link.below.client.half_close()
    link.settle()
    assert [type(lost) for lost in link.client.lost] == [ConnectionLost]


def test_flood_after_the_end(creators: Creators) -> None:
    """A peer that says close_notify and then goes on sending does not fill our memory."""
    link = Link(creators, server=Half()).settle()
    link.client.transport.loseWriteConnection()
    link.settle()
    handle, link.tls[0]._connection = link.tls[0]._connection, None  # whoever gives it something raises
    link.below.server.deliver(b"\x17\x03\x03\x10\x00" + b"x" * 4096)
    link.tls[0]._connection = handle
    link.server.transport.write(b"still here")
    link.settle()
    assert link.client.heard == b"still here"


def test_reset(creators: Creators) -> None:
    """What the connection below says of its loss is what the protocol hears."""
    link = Link(creators).settle()
    link.below.server.lose(ConnectionLost("reset by peer"))
    assert [str(lost.args[0]) for lost in link.server.lost] == ["reset by peer"]


@both
@pytest.mark.parametrize("moment", ["made", "handshake", "data", "later"])
def test_abort(creators: Creators, maker: Maker, moment: str) -> None:
    """A connection can be aborted at any moment; the other side sees a loss, never an orderly end."""
    server, client = Listening(), Listening()
    if moment == "made":
        server.on_made = lambda transport: transport.abortConnection()
    if moment == "data":
        server.on_data = lambda data: server.transport.abortConnection()
    link = Link(creators, ours, maker, client, server)
    if moment == "handshake":
        server.transport.abortConnection()
    client.transport.write(b"x" * 50_000)
    link.settle()
    if moment == "later":
        heard = server.heard
        server.transport.write(b"never seen")
        server.transport.abortConnection()
        server.transport.write(b"nor this")
        link.settle()
        assert server.heard == heard
    assert client.heard == b""
    assert len(client.lost) == len(server.lost) == 1
    assert isinstance(server.lost[0], ConnectionAborted if maker is ours else ConnectionLost)
    assert isinstance(client.lost[0], ConnectionLost) or maker is twisted  # whose abort sends close_notify


@pytest.mark.parametrize("maker", [ours, late])
def test_close_during_the_handshake(creators: Creators, maker: Maker) -> None:
    """Who closes during the handshake, with nothing written, is not made to wait for it."""
    link = Link(creators, maker, maker)
    link.tls[1].loseConnection()
    link.settle()
    assert [type(lost) for lost in link.client.lost] == ([ConnectionDone] if maker is ours else [])
    assert link.client.handshakes == 0
    assert not link.below.client.connected
    assert not link.below.server.connected


def test_peer_that_does_not_close(creators: Creators) -> None:
    """A peer that goes on sending after we closed is listened to no more, and after five seconds the line is cut."""
    link = Link(creators, client=Half()).settle()
    link.server.transport.pauseProducing()
    link.server.transport.write(b"enough")
    link.server.transport.loseConnection()
    link.settle()
    assert (link.client.heard, link.client.half) == (b"enough", ["read"])
    link.client.transport.write(b"x" * 100_000)
    link.settle()
    assert link.server.heard == b""
    assert link.below.server.connected
    link.clock.advance(4.9)
    assert link.below.server.connected
    link.clock.advance(0.2)
    link.settle()
    assert not link.below.server.connected
    assert [type(lost) for lost in link.server.lost] == [ConnectionDone]
    assert link.clock.getDelayedCalls() == []


def test_slow_reader_of_the_last_words(creators: Creators) -> None:
    """A peer that takes longer than that for what we wrote before is not cut off."""
    link = Link(creators, high_water=50_000).settle()
    link.server.transport.write(b"x" * 500_000)
    link.server.transport.loseConnection()
    link.clock.advance(0)
    link.clock.advance(60)
    assert link.below.server.connected
    link.settle()
    assert len(link.client.heard) == 500_000
    assert [type(lost) for lost in link.client.lost + link.server.lost] == [ConnectionDone, ConnectionDone]


def test_peer_that_answers_our_close_with_a_fin(creators: Creators) -> None:
    """A peer that just goes when we close has done nothing wrong."""
    link = Link(creators, client=Half()).settle()
    link.server.transport.loseConnection()
    link.settle()
    link.below.server.half_close()
    assert [type(lost) for lost in link.server.lost] == [ConnectionDone]


def test_calls_after_the_end(creators: Creators) -> None:
    """A protocol that goes on talking to a transport that is gone does no harm, and gets no surprises."""
    link = Link(creators).settle()
    transport = link.client.transport
    transport.loseConnection()
    link.settle()
    for call in ("loseConnection", "loseWriteConnection", "abortConnection", "pauseProducing", "resumeProducing"):
        getattr(transport, call)()
    transport.write(b"anyone?")
    transport.unregisterProducer()
    link.settle()
    assert len(link.client.lost) == 1
    assert transport.getPeerCertificate() is None
    assert transport.negotiatedProtocol is None
    assert transport.server_name is None
    assert transport.getHandle() is None
    assert not transport.connected


def test_nothing_is_delivered_after_close(creators: Creators) -> None:
    """After loseConnection a protocol hears no more data."""
    link = Link(creators).settle()
    link.client.transport.write(b"too late")
    link.clock.advance(0)
    link.server.transport.loseConnection()
    link.settle()
    assert link.server.heard == b""


def test_nothing_is_left_behind(creators: Creators) -> None:
    """A connection that is gone is freed at once: no cycle waits for the collector, no timer runs."""
    link = Link(creators).settle()
    transport, handle = weakref.ref(link.client.transport), weakref.ref(link.client.transport.getHandle())
    link.client.transport.loseConnection()
    link.settle()
    assert link.clock.getDelayedCalls() == []
    link.tls.clear()
    link.below.client.protocol = None
    link.client.transport = None
    gc.disable()
    try:
        assert handle() is None
        assert transport() is None
    finally:
        gc.enable()


# Failures


@both
@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"\x00" * 100,
        b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
        b"SSH-2.0-x\r\n",
    ],
)
def test_garbage_instead_of_a_handshake(creators: Creators, maker: Maker, garbage: bytes) -> None:
    """Whoever does not speak TLS is thrown out, and the protocol never hears his bytes."""
    server = Listening()
    transport = MemoryTransport()
    clock = Clock()
    tls = maker(creators[0], False, Factory.forProtocol(lambda: server), clock).buildProtocol(None)
    transport.protocol = tls
    tls.makeConnection(transport)
    for at in range(0, len(garbage), 1000):
        if transport.connected:
            transport.deliver(garbage[at : at + 1000])
    transport.turn()
    assert not transport.connected
    assert [type(lost) for lost in server.lost] == [SSL.Error]
    assert (server.heard, server.handshakes) == (b"", 0)
    if maker is ours:
        assert clock.getDelayedCalls() == []


@both
def test_garbage_in_a_record(creators: Creators, maker: Maker) -> None:
    """A record that was tampered with ends the connection on both sides, and is not delivered."""
    link = Link(creators, maker, maker).settle()
    link.client.transport.write(b"pay 100")
    link.clock.advance(0)
    data = bytearray(link.below.client.take())
    data[-1] ^= 1
    link.below.server.deliver(bytes(data))
    link.settle()
    assert link.server.heard == b""
    assert isinstance(link.server.lost[0], SSL.Error)
    assert "bad record mac" in str(link.client.lost[0])


@pytest.mark.parametrize("maker", [ours, late])
def test_silence_instead_of_a_handshake(creators: Creators, maker: Maker) -> None:
    """Who connects and never finishes the handshake is dropped after its time, however slowly he drips."""
    server = Listening()
    transport, clock = MemoryTransport(), Clock()
    tls = maker(creators[0], False, Factory.forProtocol(lambda: server), clock).buildProtocol(None)
    transport.protocol = tls
    tls.makeConnection(transport)
    hello = b"\x16\x03\x01\x02\x00"
    for byte in hello:
        clock.advance(1.9)
        assert transport.connected
        transport.deliver(bytes([byte]))
    clock.advance(0.6)
    transport.turn()
    assert transport.aborted
    assert [type(lost) for lost in server.lost] == ([error.TimeoutError] if maker is ours else [])
    assert server.made == (maker is ours)


@pytest.mark.parametrize("maker", [ours, late, twisted])
def test_refused_certificate(tmp_path: Path, creators: Creators, maker: Maker) -> None:
    """The client's protocol hears why its server was refused; the server hears the alert."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other"))
    link = Link((creators[0], client_creator("a.example", ca=tmp_path / "other"), None), maker, maker).settle()
    if maker is late:
        assert (link.client.made, link.server.made) == (0, 0)
    else:
        assert isinstance(link.client.lost[0], PeerCertificateError)
        assert "alert" in str(link.server.lost[0])
    assert (link.client.handshakes, link.client.heard) == (0, b"")
    assert not link.below.client.connected
    assert not link.below.server.connected


def test_error_of_a_protocol_in_its_turn(creators: Creators, caplog: pytest.LogCaptureFixture) -> None:
    """A protocol that raises when it is resumed loses its connection, and no other suffers."""
    clock = Clock()
    factory = TLSFactory(creators[0], False, Factory.forProtocol(Plain), clock)
    links = [Link(creators, server_maker=lambda *_: factory).settle() for _ in range(2)]
    servers = [link.tls[0].wrappedProtocol for link in links]
    for link, server in zip(links, servers, strict=True):
        server.transport.pauseProducing()
        link.client.transport.write(b"hello")
        link.clock.advance(0)
        link.tls[0].dataReceived(link.below.client.take())
        server.transport.resumeProducing()

    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    servers[0].on_data = fail
    clock.advance(0)
    for link in links:
        link.settle()
    assert [type(lost) for lost in servers[0].lost] == [ConnectionAborted]
    assert (servers[1].heard, servers[1].lost) == (b"hello", [])


def test_broken_callback_of_a_creator(creators: Creators) -> None:
    """A creator whose verification raises ends the connection with that error."""

    class Broken:
        def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
            context = SSL.Context(SSL.TLS_METHOD)

            def verify(*arguments: object) -> bool:
                raise ZeroDivisionError

            context.set_verify(SSL.VERIFY_PEER, verify)
            return SSL.Connection(context)

    link = Link((creators[0], Broken(), None)).settle()
    assert [type(lost) for lost in link.client.lost] == [ZeroDivisionError]
    assert isinstance(link.server.lost[0], SSL.Error)


# What can be asked


def test_what_the_handshake_found(creators: Creators) -> None:
    """Protocols can read the peer's certificate, the application protocol and the name that was asked for."""
    link = Link(creators)
    assert link.client.transport.negotiatedProtocol is None
    link.settle()
    client, server = link.client.transport, link.server.transport
    assert client.negotiatedProtocol == server.negotiatedProtocol == b"http/1.1"
    assert server.server_name == "a.example"
    assert client.getPeerCertificate().to_cryptography() == creators[0].store.default.chain[0]
    assert server.getPeerCertificate() is None
    assert isinstance(client.getHandle(), SSL.Connection)
    assert client.getPeer() == link.below.client.getPeer()
    assert client.getHost() == link.below.client.getHost()
    client.setTcpKeepAlive(True)
    assert client.getTcpKeepAlive() is link.below.client.keep_alive is True
    assert client.getTcpNoDelay() is True
    client.setTcpNoDelay(False)
    assert link.below.client.no_delay is False


def test_interfaces(creators: Creators) -> None:
    """It is a transport by every interface that a TCP or TLS transport of Twisted has."""
    transport = Link(creators).settle().client.transport
    for interface in (ISSLTransport, ITCPTransport, IConsumer, IPushProducer, INegotiated, ISystemHandle):
        verifyObject(interface, transport)


def test_protocol_may_be_changed(creators: Creators) -> None:
    """A protocol that hands its connection to another, as on an upgrade, sets ``transport.protocol``."""
    link = Link(creators).settle()
    successor = Plain()
    link.server.on_data = lambda data: setattr(link.server.transport, "protocol", successor)
    link.client.transport.write(b"upgrade")
    link.settle()
    link.client.transport.write(b"data")
    link.settle()
    assert (link.server.heard, successor.heard) == (b"upgrade", b"data")
    assert link.server.transport.wrappedProtocol is successor


def test_no_protocol(creators: Creators) -> None:
    """Where the wrapped factory builds no protocol there is none with TLS."""

    class Refusing(Factory):
        def buildProtocol(self, addr: Any) -> None:
            self.asked = addr

    refusing = Refusing()
    assert TLSFactory(creators[0], False, refusing, Clock()).buildProtocol("where") is None  # type: ignore[arg-type]
    assert refusing.asked == "where"


def test_tls_within_tls(creators: Creators) -> None:
    """The transport below may be TLS itself."""
    clock = Clock()
    client, server = Half(), Half()

    def twice(creator: Any, is_client: bool, factory: Any, _: Clock) -> TLSFactory:
        return TLSFactory(creator, is_client, TLSFactory(creator, is_client, factory, clock), clock)

    link = Link(creators, twice, twice, client, server)

    def settle() -> None:
        for _ in range(20):
            clock.advance(0)
            link.settle()

    settle()
    client.transport.write(b"deep " * 50_000)
    client.transport.loseWriteConnection()
    settle()
    assert server.heard == b"deep " * 50_000
    assert server.half == ["read"]
    server.transport.loseConnection()
    settle()
    assert [type(lost) for lost in client.lost + server.lost] == [ConnectionDone, ConnectionDone]


@pytest.mark.parametrize("name", ["a.example", "b.example"])
def test_creators_of_twisted(tmp_path: Path, name: str) -> None:
    """CertificateOptions and optionsForClientTLS work on this transport as on Twisted's, also where they refuse."""
    authority = trustme.CA()
    leaf = authority.issue_cert("a.example")
    certificate = PrivateCertificate.loadPEM(leaf.private_key_and_cert_chain_pem.bytes())
    root = Certificate.loadPEM(authority.cert_pem.bytes())
    server = CertificateOptions(
        privateKey=certificate.privateKey.original,
        certificate=certificate.original,
        acceptableProtocols=[b"http/1.1"],
    )
    client = optionsForClientTLS(name, trustRoot=root, acceptableProtocols=[b"http/1.1"])
    link = Link((server, client, None)).settle()
    if name == "a.example":
        assert link.client.transport.negotiatedProtocol == b"http/1.1"
    else:
        assert type(link.client.lost[0]).__name__ == "VerificationError"


def test_truncated_sessions_are_resumed(creators: Creators) -> None:
    """A connection that was cut off leaves its session good for the next handshake, on both sides."""
    old = _old(creators)
    seen = []
    for _ in range(3):
        link = Link(old).settle()
        link.client.transport.write(b"x")
        link.settle()
        seen.append(ssl_session_reused(link.client.transport.getHandle()))
        link.below.client.lose()
        link.below.server.lose()
    assert seen[1:] == [True, True]


def ssl_session_reused(connection: SSL.Connection) -> bool:
    from OpenSSL._util import lib

    return bool(lib.SSL_session_reused(connection._ssl))
