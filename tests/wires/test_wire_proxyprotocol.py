"""The PROXY header in front of a protocol: over memory transports, then over real TCP and real TLS."""

from __future__ import annotations

import socket
import ssl
from random import Random

import pytest
import trustme
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from zope.interface import implementer

from stickyproxy.addresses import proxied_address
from stickyproxy.cluster import Cluster
from stickyproxy.config import specs
from stickyproxy.interfaces import IBalancer
from stickyproxy.member import Member
from stickyproxy.model import Backend, Peer
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.proxyprotocol import header_v1, header_v2
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryEndpoint, MemoryTransport
from stickyproxy.tls import CertificateStore, server_connection_creator, tls_factory
from stickyproxy.wires.http import HTTPFrontendFactory
from stickyproxy.wires.proxyprotocol import ProxyProtocolFactory, RefusingFactory
from stickyproxy.wires.tcp import TCPFrontendFactory

PROXY = IPv4Address("TCP", "10.1.2.3", 1234)
CLIENT, SERVER = Peer("192.0.2.1", 56324), Peer("198.51.100.7", 443)
V1 = header_v1(CLIENT, SERVER)


@implementer(IHalfCloseableProtocol)
class Behind(Protocol):
    """What the header is in front of."""

    received = b""
    lost = None
    half_closed = False

    def dataReceived(self, data):
        self.received += data
        if self.received.endswith(b"?"):
            self.transport.write(f"{self.factory.addresses[-1].host} {self.transport.getPeer().host}".encode())

    def readConnectionLost(self):
        self.half_closed = True
        self.transport.write(b" bye")
        self.transport.loseConnection()

    def writeConnectionLost(self):
        pass

    def connectionLost(self, reason):
        self.lost = reason


class BehindFactory(Factory):
    protocol = Behind
    started = stopped = False
    full = False

    def __init__(self) -> None:
        self.addresses: list[object] = []
        self.built: list[Behind] = []

    def buildProtocol(self, addr):
        self.addresses.append(addr)
        if self.full:
            return None
        self.built.append(super().buildProtocol(addr))
        return self.built[-1]

    def startFactory(self):
        self.started = True

    def stopFactory(self):
        self.stopped = True


class Front:
    def __init__(self) -> None:
        self.clock = Clock()
        self.behind = BehindFactory()
        trusted = ["10.0.0.0/8", "2001:db8::/32"]
        self.factory = ProxyProtocolFactory(self.behind, trusted, Sweep(self.clock, 0.5), 3)

    def connect(self, address=PROXY) -> MemoryTransport:
        return MemoryTransport(self.factory.buildProtocol(address), peer=PROXY)


@pytest.fixture
def logged():
    """What is logged at the level that operators see."""
    events: list[dict] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.mark.parametrize("header", [V1, header_v2(CLIENT, SERVER, [(2, b"example.org")])])
def test_the_client_is_whom_the_header_names(header):
    """The protocol behind is built with the client's address, when the header is whole, and gets all that follows."""
    front = Front()
    transport = front.connect()
    for at in range(len(header) - 1):
        transport.deliver(header[at : at + 1])
    assert front.behind.addresses == []
    transport.deliver(header[-1:] + b"hello")
    assert front.behind.addresses == [IPv4Address("TCP", "192.0.2.1", 56324)]
    assert transport.protocol is front.behind.built[0]
    transport.deliver(b" world?")
    assert front.behind.built[0].received == b"hello world?"
    transport.half_close()
    assert (transport.written, transport.connected) == (b"192.0.2.1 10.1.2.3 bye", False)


@pytest.mark.parametrize("late", [False, True])
def test_an_ipv6_client_is_an_ipv6_address(late):
    """IPv6 clients are named as such, whether bytes follow at once or not."""
    front = Front()
    transport = front.connect()
    transport.deliver(header_v2(Peer("2001:db8::1", 4124), Peer("::1", 443)) + (b"" if late else b"hello"))
    assert front.behind.addresses == [IPv6Address("TCP", "2001:db8::1", 4124)]
    assert front.behind.built[0].received == (b"" if late else b"hello")


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", header_v2(None, None), header_v2(CLIENT, Peer("::1", 1))])
def test_a_proxy_that_speaks_for_itself_is_itself(header):
    """Health checks of the proxy (LOCAL) come with the proxy's own address."""
    front = Front()
    front.connect().deliver(header)
    assert front.behind.addresses == [PROXY]


def test_a_client_of_a_unix_socket_is_one():
    """What has no IP address is not given one."""
    front = Front()
    front.connect().deliver(header_v2(Peer("unix", 0), Peer("unix", 0)))
    assert isinstance(front.behind.addresses[0], UNIXAddress)


@pytest.mark.parametrize(
    ("host", "required"),
    [
        ("10.255.0.1", True),
        ("::ffff:10.0.0.1", True),
        ("2001:db8::5", True),
        ("11.0.0.1", False),
        ("::ffff:11.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_the_header_is_required_from_the_listed_networks_alone(host, required):
    """Anybody else is a direct client: his PROXY header is just bytes to the protocol behind."""
    front = Front()
    address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 1)
    transport = front.connect(address)
    assert front.behind.addresses == ([] if required else [address])
    transport.deliver(V1)
    assert front.behind.built[0].received == (b"" if required else V1)


def test_a_unix_peer_is_in_no_network():
    """A Unix socket has no address: it is a direct client."""
    front = Front()
    assert isinstance(front.factory.buildProtocol(UNIXAddress("/run/x")), Behind)


def test_anything_but_a_header_is_dropped_at_once(logged):
    """Somebody in those networks who speaks HTTP is refused, with one line that says who."""
    front = Front()
    transport = front.connect()
    transport.deliver(b"GET / HTTP/1.1\r\n\r\n")
    assert (transport.aborted, transport.connected, front.behind.addresses) == (True, False, [])
    told = [event for event in logged if "is dropped" in event.get("log_format", "")]
    assert [(event["peer"], event["log_level"].name) for event in told] == [(PROXY, "info")]
    front.clock.pump([0.5] * 3)
    assert front.clock.getDelayedCalls() == []


def test_a_header_that_does_not_come_is_not_waited_for():
    """A peer that is silent, or slow on purpose, is dropped after the time allowed, however many bytes came."""
    front = Front()
    silent, slow = front.connect(), front.connect()
    for at in range(7):
        slow.deliver(V1[at : at + 1])
        front.clock.advance(0.5)
    for transport in (silent, slow):
        transport.turn()
        assert (transport.aborted, transport.connected) == (True, False)
    assert front.behind.addresses == []


def test_a_header_in_time_ends_the_waiting():
    """Once the header is there, its timeout is no more."""
    front = Front()
    transport = front.connect()
    transport.deliver(V1)
    front.clock.pump([0.5] * 20)
    assert (transport.connected, front.clock.getDelayedCalls()) == (True, [])


def test_a_proxy_that_leaves_early_leaves_nothing():
    """A connection that is closed before its header was whole costs nothing."""
    front = Front()
    transport = front.connect()
    transport.deliver(V1[:5])
    transport.half_close()
    front.clock.pump([0.5] * 3)
    assert (transport.connected, front.behind.addresses, front.clock.getDelayedCalls()) == (False, [], [])


def test_the_factory_behind_may_decline():
    """A factory that takes no more connections closes this one too."""
    front = Front()
    front.behind.full = True
    transport = front.connect()
    transport.deliver(V1 + b"hello")
    assert (transport.connected, transport.aborted) == (False, False)


async def _listen(factory, ask):
    """Let ``ask(port)`` talk to the factory in a thread, over loopback."""
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        return await deferToThread(ask, port.getHost().port)
    finally:
        await port.stopListening()


def _until_end(connection) -> bytes:
    received = b""
    while data := connection.recv(1000):
        received += data
    return received


@ensureDeferred
async def test_real_tcp_is_handed_over_for_good():
    """Over a real connection: address from the header, real half-close, and no wrapper left in the path."""
    behind = BehindFactory()
    factory = ProxyProtocolFactory(behind, ["127.0.0.0/8"], Sweep(reactor), 3)

    def ask(port):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(V1)):
                connection.send(V1[at : at + 1])
            connection.send(b"who?")
            connection.shutdown(socket.SHUT_WR)
            return _until_end(connection)

    assert await _listen(factory, ask) == b"192.0.2.1 127.0.0.1 bye"
    assert (behind.built[0].half_closed, behind.started, behind.stopped) == (True, True, True)


@ensureDeferred
async def test_real_tls_comes_behind_the_header(tmp_path):
    """The header is on the wire before the handshake, and TLS behind it works as ever."""
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    pem.write_bytes(authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
    behind = BehindFactory()
    secure = tls_factory(server_connection_creator(CertificateStore.load([pem])), behind, reactor)
    factory = ProxyProtocolFactory(secure, ["127.0.0.0/8"], Sweep(reactor), 3)
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def ask(port):
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.send(header_v2(CLIENT, SERVER))
            with context.wrap_socket(connection, server_hostname="localhost") as secured:
                secured.send(b"who?")
                return secured.recv(1000)

    assert await _listen(factory, ask) == b"192.0.2.1 127.0.0.1"
    assert behind.addresses == [IPv4Address("TCP", "192.0.2.1", 56324)]


class Watching(Front):
    def __init__(self) -> None:
        super().__init__()
        behind = RefusingFactory(self.behind)
        self.factory = ProxyProtocolFactory(behind, ["10.0.0.0/8"], Sweep(self.clock, 0.5), 3)
        self.transport = self.connect(IPv4Address("TCP", "192.0.2.9", 1))


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("header", [V1, header_v2(CLIENT, SERVER)])
@pytest.mark.parametrize("step", [1, 1000])
def test_a_header_from_somebody_who_may_not_send_one_ends_it(header, step, proxied):
    """A client cannot lend himself an address, alone or through a proxy: a backend that believes it never sees his."""
    front = Watching()
    if proxied:
        front.transport.lose()
        front.behind.built.clear()
        front.transport = front.connect()
        front.transport.deliver(header_v2(CLIENT, SERVER))
    for at in range(0, len(header), step):
        if front.transport.connected and not front.transport.aborted:
            front.transport.deliver(header[at : at + step])
    assert front.transport.aborted
    assert front.behind.built[0].received == b""


@pytest.mark.parametrize("data", [b"hello", b"PROX", b"\r\n", b"P", b"PROXIES"])
def test_whoever_says_anything_else_is_served(data):
    """First bytes that only look like a header for a while get through, at the latest at the end of the stream."""
    front = Watching()
    for byte in data:
        front.transport.deliver(bytes([byte]))
    front.transport.half_close()
    (behind,) = front.behind.built
    assert (behind.received, behind.half_closed) == (data, True)


def test_a_watched_client_is_connected_at_once():
    """A server that speaks first need not wait for the client's first byte, and the loss of the client is told."""
    front = Watching()
    (behind,) = front.behind.built
    assert behind.transport is front.transport
    front.transport.lose()
    assert behind.lost is not None


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("header", [V1, header_v2(CLIENT, SERVER)])
def test_http_knows_no_header_that_is_not_awaited(house, header, trusted, step):
    """In front of a request it is a bad request, in whatever pieces, also from whose fields are believed."""
    it = house(trusted_proxies=("198.51.100.0/24",) if trusted else ())
    client = it.client()
    data = header + b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
    for at in range(0, len(data), step):
        client.deliver(data[at : at + step])
    assert client.written.startswith(b"HTTP/1.1 400 ") and client.written.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in client.written
    assert [endpoint.attempts for endpoint in it.endpoints.values()] == [0, 0]


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("header", [V1, header_v2(CLIENT, SERVER)])
@ensureDeferred
async def test_a_header_within_tls_is_refused(tmp_path, header, proxied):
    """What a client says within TLS is as little believed; all else passes, and the handshake is told of."""
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    pem.write_bytes(authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
    behind = BehindFactory()
    creator = server_connection_creator(CertificateStore.load([pem]))
    secure = tls_factory(creator, RefusingFactory(behind), reactor)
    factory = ProxyProtocolFactory(secure, ["127.0.0.0/8"] if proxied else ["10.0.0.0/8"], Sweep(reactor), 3)
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def ask(port):
        answers = []
        for said in (header + b"who?", b"who?"):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                if proxied:
                    connection.send(header_v2(CLIENT, SERVER))
                try:
                    with context.wrap_socket(connection, server_hostname="localhost") as secured:
                        secured.send(said)
                        answers.append(secured.recv(1000))
                except (ConnectionError, ssl.SSLError):
                    answers.append(b"")
        return answers

    peer = b"192.0.2.1" if proxied else b"127.0.0.1"
    assert await _listen(factory, ask) == [b"", peer + b" 127.0.0.1"]
    assert [protocol.received for protocol in behind.built] == [b"", b"who?"]


@pytest.mark.parametrize(("peer", "kind"), [(CLIENT, IPv4Address), (Peer("2001:db8::1", 5), IPv6Address)])
def test_tlvs_reach_the_affinity(peer, kind):
    """What a proxy says beside the addresses, as the name that the client asked for, is known of HTTP and of TCP."""
    clock = Clock()
    member = Member(Backend("a", ""), MemoryEndpoint(), clock, connect_timeout=5)
    seen = []

    @implementer(IBalancer)
    class Looking:
        def choose(self, candidates, arrival):
            seen.append(arrival.connection)
            return candidates[0]

    cluster = Cluster(specs.Cluster("app", ()), [member], NoAffinity(), Looking())
    sweep = Sweep(clock)
    header = header_v2(peer, peer, [(2, b"shop.example.org"), (0xEA, b"x")])
    http = HTTPFrontendFactory(specs.Frontend("web", (), "app"), {"app": cluster}, sweep, Random(1), clock.seconds)
    for factory in (http, TCPFrontendFactory(cluster, sweep)):
        outer = ProxyProtocolFactory(factory, ["10.0.0.0/8"], sweep, timeout=5)
        client = MemoryTransport(outer.buildProtocol(PROXY), peer=PROXY)
        client.deliver(header + b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert [known.tlvs for known in seen] == [((2, b"shop.example.org"), (0xEA, b"x"))] * 2
    assert isinstance(proxied_address(peer, ((2, b"x"),)), kind) and proxied_address(peer, ()) == kind("TCP", *peer)
