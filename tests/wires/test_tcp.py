"""TCP passthrough over memory transports, with a real cluster."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface import alsoProvides, implementer

from stickyproxy.cluster import Cluster
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.interfaces import IAffinity
from stickyproxy.member import Member
from stickyproxy.model import Backend, BackendState, Entry, OpenEntry, Outcome, Peer, RelayEntry, Side
from stickyproxy.sansio.affinity import NoAffinity, TableAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.proxyprotocol import header_v1, header_v2
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryEndpoint, MemoryTransport
from stickyproxy.wires.tcp import BackendProtocol, FrontendProtocol, TCPFrontendFactory

CLIENT = IPv4Address("TCP", "203.0.113.9", 50000)
HOST = IPv4Address("TCP", "192.0.2.2", 80)


@implementer(IAffinity)
class KeyAffinity:
    """Remembers who came with which key."""

    remembers = True
    renews = False
    cookie = None

    def __init__(self) -> None:
        self.seen: dict[bytes, str] = {}

    def members(self, ids):
        pass

    def recall(self, arrival):
        return self.seen.get(arrival.key)

    def bind(self, arrival, backend_id, lifetime=None):
        if arrival.key is not None:
            self.seen[arrival.key] = backend_id


class Site:
    """A TCP frontend before the backends a and b."""

    def __init__(self, *, affinity=None, proxy=None, high_water=None, **options) -> None:
        self.clock = Clock()
        self.a = MemoryEndpoint(high_water=high_water)
        self.b = MemoryEndpoint(high_water=high_water)
        members = [
            Member(Backend(id, f"tcp:{id}:1"), endpoint, self.clock, connect_timeout=5)
            for id, endpoint in (("a", self.a), ("b", self.b))
        ]
        spec = ClusterSpec("games", tuple(Backend(id, f"tcp:{id}:1") for id in "ab"), send_proxy_protocol=proxy)
        self.cluster = Cluster(spec, members, NoAffinity() if affinity is None else affinity, RoundRobin())
        self.entries: list[Entry] = []
        self.factory = TCPFrontendFactory(
            self.cluster,
            Sweep(self.clock, 0.5),
            record=self.entries.append,
            now=lambda: 1000 + self.clock.seconds(),
            **{"idle": 60, **options},
        )

    def connect(self, address=CLIENT, *, secure=False, high_water=None, host=HOST) -> MemoryTransport:
        transport = MemoryTransport(host=host, peer=IPv4Address("TCP", "10.0.0.1", 1), high_water=high_water)
        if secure:
            alsoProvides(transport, ISSLTransport)
            transport.getPeerCertificate = lambda: None
        transport.protocol = self.factory.buildProtocol(address)
        transport.protocol.makeConnection(transport)
        return transport

    @property
    def active(self) -> dict[str, int]:
        return {id: member.active for id, member in self.cluster.members.items()}

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(seconds * 2))


@pytest.fixture
def logged():
    """Everything that is logged, formatted by whoever looks."""
    events: list[dict] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


class Keyed(FrontendProtocol):
    peek_bytes = 64
    peek_timeout = 2.0

    def affinity_key(self, data):
        line, newline, _ = data.partition(b"\n")
        return line if newline else None


def test_bytes_pass_both_ways_and_the_end_is_recorded():
    """A client talks to a backend, and the access log has who, where, how much and how long."""
    site = Site()
    client = site.connect()
    client.deliver(b"ping")
    site.a.transports[0].deliver(b"pong!")
    assert (site.a.transports[0].written, client.written) == (b"ping", b"pong!")
    assert site.active == {"a": 1, "b": 0}
    site.wait(3)
    client.half_close()
    site.a.transports[0].turn()
    site.a.transports[0].half_close()
    client.turn()
    assert (client.connected, site.factory.connections, site.active) == (False, set(), {"a": 0, "b": 0})
    assert site.entries == [
        RelayEntry("203.0.113.9", "tcp", 4, 5, 1003.0, 3.0, "games", "a", Outcome.NONE, Side.CLIENT, reason="closed")
    ]


def test_the_beginning_is_told_where_asked_for():
    """With opens = true I see a connection in the log while it lasts."""
    site = Site()
    site.factory.opens = True
    site.connect()
    assert site.entries == [OpenEntry("203.0.113.9", 1000.0, "games", "a")]


def test_a_server_that_speaks_first_is_heard():
    """SMTP, MySQL and the like: the backend is connected and greets before the client says anything."""
    site = Site()
    client = site.connect()
    site.a.transports[0].deliver(b"220 ready")
    assert client.written == b"220 ready"


def test_what_the_client_says_before_the_backend_is_there_is_kept():
    """The connect takes its time; no byte is lost, and none is read beyond what had come."""
    site = Site()
    site.a.hold = True
    client = site.connect()
    client.protocol.dataReceived(b"early ")  # libuv may have read it before it was paused
    client.deliver(b"later")
    assert (client.paused, len(site.a.transports)) == (True, 0)
    backend = site.a.accept()
    client.turn()
    assert (client.paused, backend.written) == (False, b"early later")


def test_a_half_close_before_the_backend_is_there_is_passed_on():
    """`echo question | nc`: the client is done before the backend was even reached."""
    site = Site()
    site.a.hold = True
    client = site.connect()
    client.protocol.dataReceived(b"question")
    client.protocol.readConnectionLost()
    backend = site.a.accept()
    backend.turn()
    assert (backend.written, backend.half_closed) == (b"question", True)
    backend.deliver(b"answer")
    assert client.written == b"answer"


@pytest.mark.parametrize("side", ["client", "backend"])
def test_back_pressure_reaches_the_other_side(side):
    """Who does not read stops the one who sends."""
    site = Site(high_water=100)
    client = site.connect(high_water=100)
    backend = site.a.transports[0]
    sender, reader = (client, backend) if side == "client" else (backend, client)
    sender.deliver(b"x" * 101)
    assert sender.paused
    reader.drain()
    assert not sender.paused


def test_another_backend_is_tried_when_one_cannot_be_reached(logged):
    """A backend that refuses is left out for this client, and said so once."""
    site = Site()
    site.a.error = ConnectError()
    client = site.connect()
    client.deliver(b"hello")
    assert (site.b.transports[0].written, site.active) == (b"hello", {"a": 0, "b": 1})
    assert [event["member"].id for event in logged if "cannot be reached" in event.get("log_format", "")] == ["a"]


def test_a_connect_that_takes_too_long_is_given_up():
    """A backend that does not answer the connect within its five seconds is as one that refuses."""
    site = Site()
    site.a.hold = True
    client = site.connect()
    site.wait(6)
    client.deliver(b"hello")
    assert (site.b.transports[0].written, site.active) == (b"hello", {"a": 0, "b": 1})


def test_nobody_there_closes_the_client(logged):
    """With no backend left the client is closed, and nothing stays behind."""
    site = Site()
    site.a.error = site.b.error = ConnectError()
    client = site.connect()
    client.turn()
    assert (client.connected, site.factory.connections, site.active) == (False, set(), {"a": 0, "b": 0})
    assert [event["peer"] for event in logged if "is refused" in event.get("log_format", "")] == [
        Peer("203.0.113.9", 50000)
    ]
    site.wait(1)
    assert site.clock.getDelayedCalls() == []


def test_a_protocol_can_tell_its_clients_that_nobody_is_there():
    """`connection_refused` is for the error message of the protocol; a client who ignores it is dropped."""

    class Polite(FrontendProtocol):
        def connection_refused(self):
            self.transport.write(b"-ERR busy\r\n")
            super().connection_refused()

    site = Site(frontend_protocol=Polite)
    site.a.error = site.b.error = ConnectError()
    client = site.connect(high_water=5)
    client.deliver(b"ignored")
    assert (client.connected, client.paused) == (True, False)
    site.wait(6)
    client.turn()
    assert (client.aborted, client.connected) == (True, False)
    quick = site.connect()
    quick.turn()
    assert (quick.written, quick.aborted, quick.connected) == (b"-ERR busy\r\n", False, False)


def test_a_client_that_leaves_during_the_connect_leaves_nothing_behind():
    """The attempt is called off, and the backend is not counted as serving anybody."""
    site = Site()
    site.a.hold = True
    client = site.connect()
    client.lose()
    assert (site.active, site.a.attempts, site.b.attempts, site.entries) == ({"a": 0, "b": 0}, 1, 0, [])
    assert (site.factory.connections, len(site.a.transports)) == (set(), 0)


@pytest.mark.parametrize("side", ["client", "backend"])
def test_an_abrupt_loss_reaches_the_other_side(side):
    """A reset of one side resets the other."""
    site = Site()
    client = site.connect()
    backend = site.a.transports[0]
    lost, other = (client, backend) if side == "client" else (backend, client)
    lost.lose(ConnectionLost())
    site.wait(1)
    other.turn()
    assert (other.aborted, site.active, len(site.entries)) == (True, {"a": 0, "b": 0}, 1)


def test_silence_ends_a_connection():
    """After `idle` seconds without a byte both connections are closed."""
    site = Site(idle=10)
    client = site.connect()
    site.wait(12)
    client.turn()
    site.a.transports[0].turn()
    assert (client.connected, site.a.transports[0].connected, site.entries[0].closed_by) == (False, False, None)


def test_abort_drops_both_sides():
    """Stopping the service ends every open connection, the one that still waits for its backend too."""
    site = Site()
    first = site.connect()
    site.b.hold = True
    second = site.connect()
    assert len(site.factory.connections) == 2
    for connection in list(site.factory.connections):
        connection.abort()
    for transport in (first, second, site.a.transports[0]):
        transport.turn()
        assert not transport.connected
    assert (site.factory.connections, site.active) == (set(), {"a": 0, "b": 0})


def test_affinity_by_source_brings_a_client_back():
    """Every connection of one address goes to one backend, which is whom the PROXY header named, not the proxy."""
    site = Site(affinity=TableAffinity(find_key("source"), "source", SessionTable(lambda: 0.0)))
    for host in ("203.0.113.9", "203.0.113.10"):
        for port in range(3):
            site.connect(IPv4Address("TCP", host, port))
    open_ones = site.factory.connections
    served = {(one.peer.host, one.backend.transport in site.a.transports) for one in open_ones}
    assert (len(open_ones), served) == (6, {("203.0.113.9", True), ("203.0.113.10", False)})


def test_affinity_outcomes_are_recorded():
    """new, kept, and rebound when the backend is gone: the log tells which."""
    site = Site(affinity=TableAffinity(find_key("source"), "source", SessionTable(lambda: 0.0)))

    def visit():
        client = site.connect()
        client.lose(ConnectionDone())
        for transport in site.a.transports + site.b.transports:
            transport.turn()

    visit()
    visit()
    site.a.error = ConnectError()
    visit()
    site.cluster.members["a"].state = BackendState.MAINTENANCE
    visit()
    assert [(entry.backend, entry.outcome.value) for entry in site.entries] == [
        ("a", "new"),
        ("a", "kept"),
        ("b", "rebound"),
        ("b", "kept"),
    ]


def test_a_key_from_the_first_line_is_sticky_however_it_comes():
    """The line may come in pieces; the same key meets the same backend, and the backend gets every byte."""
    site = Site(affinity=KeyAffinity(), frontend_protocol=Keyed)
    first = site.connect()
    first.deliver(b"ali")
    assert (site.a.attempts, first.paused) == (0, False)
    first.deliver(b"ce\nmove")
    second = site.connect()
    second.deliver(b"bob\n")
    third = site.connect()
    third.deliver(b"alice\nagain")
    assert [transport.written for transport in site.a.transports] == [b"alice\nmove", b"alice\nagain"]
    assert [transport.written for transport in site.b.transports] == [b"bob\n"]


@pytest.mark.parametrize("end", ["bytes", "time", "half close", "no key"])
def test_a_client_without_a_key_is_served_all_the_same(end):
    """Too many bytes, too much time, the end of the stream or the protocol's word: it goes on without a key."""

    class Any(Keyed):
        def affinity_key(self, data):
            return b"" if data.startswith(b"?") else super().affinity_key(data)

    affinity = KeyAffinity()
    site = Site(affinity=affinity, frontend_protocol=Any)
    client = site.connect()
    sent = {"bytes": b"x" * 64, "no key": b"?"}.get(end, b"x")
    client.deliver(sent)
    if end == "time":
        assert site.a.attempts == 0
        site.wait(3)
    elif end == "half close":
        client.half_close()
    assert (site.a.transports[0].written, affinity.seen) == (sent, {})


def test_a_client_that_leaves_while_it_is_peeked_at_leaves_nothing():
    """A port scan costs no backend connection."""
    site = Site(frontend_protocol=Keyed)
    site.connect().lose()
    site.wait(4)
    assert (site.a.attempts, site.factory.connections, site.clock.getDelayedCalls()) == (0, set(), [])


@pytest.mark.parametrize(("version", "header"), [(1, header_v1), (2, header_v2)])
def test_a_proxy_header_goes_before_everything(version, header):
    """The backend learns the client's address, and the one that it connected to, before the first byte."""
    site = Site(proxy=version)
    client = site.connect()
    client.deliver(b"hello")
    expected = header(Peer("203.0.113.9", 50000), Peer("192.0.2.2", 80))
    assert site.a.transports[0].written == expected + b"hello"


@pytest.mark.parametrize("address", [UNIXAddress("/run/x"), IPv6Address("TCP", "2001:db8::1", 1), None])
def test_a_proxy_header_does_not_make_addresses_up(address):
    """A client of a Unix socket, or of another family, is told as unknown."""
    site = Site(proxy=1)
    site.connect(address)
    assert site.a.transports[0].written == b"PROXY UNKNOWN\r\n"


def test_tls_comes_before_the_backend():
    """A client that does not finish its handshake costs no backend connection, and is dropped."""
    site = Site(handshake=3)
    slow, good = site.connect(secure=True), site.connect(secure=True)
    assert site.a.attempts == 0
    good.protocol.handshakeCompleted()
    good.deliver(b"hello")
    assert site.a.transports[0].written == b"hello"
    site.wait(4)
    slow.turn()
    assert (slow.aborted, good.connected, site.b.attempts) == (True, True, 0)


def test_both_halves_may_change_the_bytes():
    """A subclass sees every byte of its side, the first ones too, and passes on what it likes."""

    class Loud(FrontendProtocol):
        def dataReceived(self, data):
            super().dataReceived(data.upper())

    class Greeting(BackendProtocol):
        def connectionMade(self):
            super().connectionMade()
            self.transport.write(f"from {self.frontend.peer.host}\n".encode())

        def dataReceived(self, data):
            super().dataReceived(data.replace(b"secret", b"******"))

    site = Site(frontend_protocol=Loud, backend_protocol=Greeting)
    site.a.hold = True
    client = site.connect()
    client.protocol.dataReceived(b"hello")
    backend = site.a.accept()
    backend.deliver(b"the secret")
    assert (backend.written, client.written) == (b"from 203.0.113.9\nHELLO", b"the ******")
    assert client.protocol.backend is backend.protocol


def test_a_bug_in_an_affinity_drops_the_connection_and_is_logged(logged):
    """An extension that raises does not leave a client waiting for ever."""

    class Broken(KeyAffinity):
        def recall(self, arrival):
            raise LookupError("bug")

    site = Site(affinity=Broken())
    client = site.connect()
    client.turn()
    assert (client.connected, site.active) == (False, {"a": 0, "b": 0})
    assert [event for event in logged if event.get("log_failure")]
