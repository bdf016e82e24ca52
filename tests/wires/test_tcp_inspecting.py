"""A TCP frontend with a stream inspector: the key leads to the backend, and nothing is lost on the way."""

from __future__ import annotations

import pytest
from test_tcp import KeyAffinity, Site
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from zope.interface import implementer

from stickyproxy.interfaces import IStreamInspector
from stickyproxy.model import Peer
from stickyproxy.sansio.inspecting import BoundedInspector, MQTTInspector
from stickyproxy.sansio.proxyprotocol import header_v2
from stickyproxy.testing import MemoryTransport
from stickyproxy.wires.proxyprotocol import ProxyProtocolFactory, RefusingFactory
from stickyproxy.wires.tcp import FrontendProtocol


@implementer(IStreamInspector)
class FirstLine:
    """The key is the first line; one that begins with a question mark is none."""

    peek_bytes = 64
    peek_timeout = 2.0

    def inspect(self, data):
        line, newline, _ = data.partition(b"\n")
        return b"" if line.startswith(b"?") else line if newline else None


def connect_packet(client: bytes) -> bytes:
    content = b"\0\4MQTT\4\2\0\x3c" + len(client).to_bytes(2) + client
    return b"\x10" + bytes((len(content),)) + content


@pytest.mark.parametrize("pieces", ["whole", "bytewise"])
def test_a_client_is_known_by_what_the_inspector_finds(pieces):
    """The MQTT client comes back to its broker from the same address as the others, in whatever pieces it speaks."""
    site = Site(affinity=KeyAffinity(), inspector=MQTTInspector())
    for name in (b"one", b"two", b"three", b"two", b"one", b"three", b"one"):
        client = site.connect()
        sent = connect_packet(name) + b"\xc0\0"
        for piece in [sent] if pieces == "whole" else [sent[at : at + 1] for at in range(len(sent))]:
            client.deliver(piece)
    seen = [[transport.written for transport in each.transports] for each in (site.a, site.b)]
    of = {name: connect_packet(name) + b"\xc0\0" for name in (b"one", b"two", b"three")}
    assert seen == [[of[b"one"], of[b"three"], of[b"one"], of[b"three"], of[b"one"]], [of[b"two"]] * 2]


@pytest.mark.parametrize("end", ["bytes", "time", "half close", "no key", "too late"])
def test_without_a_key_nothing_is_lost(end):
    """Too many bytes, too much time, the end of the stream, no key: the backend gets all that was sent."""
    affinity = KeyAffinity()
    site = Site(affinity=affinity, inspector=FirstLine())
    client = site.connect()
    sent = {"bytes": b"x" * 64, "no key": b"?", "too late": b"x" * 64 + b"\nmore"}.get(end, b"x")
    client.deliver(sent)
    if end == "time":
        site.wait(1)
        assert site.a.attempts == 0
        site.wait(2)
    elif end == "half close":
        client.half_close()
    assert (site.a.transports[0].written, affinity.seen) == (sent, {})
    if end != "half close":
        client.deliver(b"more")
        assert site.a.transports[0].written == sent + b"more"


def test_the_bounds_are_those_of_the_configuration():
    """Fewer bytes and less time than the inspector would like."""
    site = Site(affinity=KeyAffinity(), inspector=BoundedInspector(FirstLine(), 3, 0.5))
    quick, slow = site.connect(), site.connect()
    quick.deliver(b"abcd")
    assert site.a.transports[0].written == b"abcd"
    slow.deliver(b"ab")
    site.wait(1.5)
    assert site.b.transports[0].written == b"ab"


def test_tls_and_a_proxy_header_come_first():
    """Behind another proxy, and within TLS that ends here: the key is in what comes then, and nobody waits for less."""
    affinity = KeyAffinity()
    site = Site(affinity=affinity, inspector=FirstLine())
    secure = site.connect(secure=True)
    site.wait(3)  # longer than a key may take; TLS has its own time
    assert site.a.attempts == 0
    secure.protocol.handshakeCompleted()
    secure.deliver(b"alice\n")
    sweep, proxy = site.factory.sweep, IPv4Address("TCP", "10.0.0.1", 1)
    outer = ProxyProtocolFactory(RefusingFactory(site.factory), ["10.0.0.1"], sweep, timeout=5)
    for sent in (b"bob\nmore", b"alice\nmore"):
        client = MemoryTransport(peer=proxy)
        client.protocol = outer.buildProtocol(proxy)
        client.protocol.makeConnection(client)
        for byte in header_v2(Peer("192.0.2.1", 5), Peer("192.0.2.2", 80)) + sent:
            client.deliver(bytes((byte,)))
    assert affinity.seen == {b"alice": "a", b"bob": "b"}
    written = [[transport.written for transport in each.transports] for each in (site.a, site.b)]
    assert written == [[b"alice\n", b"alice\nmore"], [b"bob\nmore"]]


def test_a_subclass_has_the_last_word():
    """`affinity_key` of my own may change what the inspector has found."""

    class Folding(FrontendProtocol):
        def affinity_key(self, data):
            key = super().affinity_key(data)
            return key and key.lower()

    affinity = KeyAffinity()
    site = Site(affinity=affinity, inspector=FirstLine(), frontend_protocol=Folding)
    site.connect().deliver(b"Alice\n")
    site.connect().deliver(b"ALICE\n")
    assert (affinity.seen, len(site.a.transports)) == ({b"alice": "a"}, 2)


def test_the_key_may_name_the_cluster():
    """Each key to its own cluster; who belongs nowhere is closed, and the access log names the cluster."""
    one, two = Site(), Site()
    two.cluster.name = "two"
    clusters = {b"one": one.cluster, b"two": two.cluster}
    one.factory.inspector, one.factory.cluster_for = FirstLine(), clusters.get
    for line in (b"two\n", b"one\n", b"three\n", b"?"):
        client = one.connect()
        client.deliver(line)
        client.turn()
        assert client.connected is (line.strip() in clusters)
        if client.connected:
            client.lose(ConnectionDone())
            for transport in one.a.transports + two.a.transports:
                transport.turn()
    assert [transport.written for transport in one.a.transports] == [b"one\n"]
    assert [transport.written for transport in two.a.transports] == [b"two\n"]
    assert [entry.cluster for entry in one.entries] == ["two", "games"]
    assert (one.active, two.active) == ({"a": 0, "b": 0}, {"a": 0, "b": 0})


def test_an_inspector_that_raises_drops_the_connection():
    """A bug in somebody's inspector costs a connection, and no more."""

    class Broken(FirstLine):
        def inspect(self, data):
            raise LookupError("bug")

    site = Site(inspector=Broken())
    client = site.connect()
    with pytest.raises(LookupError):
        client.deliver(b"x")
    client.lose()
    site.wait(4)
    assert (site.a.attempts, site.factory.connections, site.clock.getDelayedCalls()) == (0, set(), [])
