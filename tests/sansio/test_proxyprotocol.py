"""The PROXY protocol as tables: what is read, what is refused, what is written."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.model import Peer
from stickyproxy.sansio.proxyprotocol import (
    V2_LIMIT,
    BadProxyHeader,
    HeaderParser,
    ProxyHeader,
    header_v1,
    header_v2,
    proxy_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
FOUR = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack("!HH", 56324, 443)
SIX = bytes.fromhex("20010db8000000000000000000000001") + bytes(15) + b"\x01" + struct.pack("!HH", 4124, 443)
CLIENT, SERVER = Peer("192.0.2.1", 56324), Peer("198.51.100.7", 443)


def v2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


GOOD = {
    "v1 tcp4": (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", ProxyHeader(CLIENT, SERVER)),
    "v1 tcp6": (b"PROXY TCP6 2001:DB8::0:1 ::1 4124 443\r\n", ProxyHeader(Peer("2001:db8::1", 4124), Peer("::1", 443))),
    "v1 longest": (
        b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n",
        ProxyHeader(Peer("ffff:" * 7 + "ffff", 65535), Peer("ffff:" * 7 + "ffff", 65535)),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", ProxyHeader(None, None)),
    "v1 unknown with anything": (b"PROXY UNKNOWN ff:ff x 1 2 3 4\r\n", ProxyHeader(None, None)),
    "v2 tcp4": (v2(0x21, 0x11, FOUR), ProxyHeader(CLIENT, SERVER)),
    "v2 tcp6": (v2(0x21, 0x21, SIX), ProxyHeader(Peer("2001:db8::1", 4124), Peer("::1", 443))),
    "v2 tlvs": (
        v2(0x21, 0x11, FOUR + b"\x02\x00\x0bexample.org" + b"\x04\x00\x00"),
        ProxyHeader(CLIENT, SERVER, ((2, b"example.org"), (4, b""))),
    ),
    "v2 unix": (v2(0x21, 0x31, bytes(216)), ProxyHeader(Peer("unix", 0), Peer("unix", 0))),
    "v2 local": (v2(0x20, 0x00, b""), ProxyHeader(None, None)),
    "v2 local with a block that nobody reads": (v2(0x20, 0xFF, b"garbage"), ProxyHeader(None, None)),
    "v2 unspec with a tlv": (v2(0x21, 0x00, b"\x05\x00\x02id"), ProxyHeader(None, None, ((5, b"id"),))),
    "v2 udp": (v2(0x21, 0x12, FOUR), ProxyHeader(None, None)),
    "v2 at the limit": (
        v2(0x21, 0x11, FOUR + struct.pack("!BH", 4, V2_LIMIT - 15) + bytes(V2_LIMIT - 15)),
        ProxyHeader(CLIENT, SERVER, ((4, bytes(V2_LIMIT - 15)),)),
    ),
}

BAD = {
    "http": b"GET / HTTP/1.1\r\n",
    "tls": b"\x16\x03\x01",
    "lower case": b"proxy TCP4",
    "v1 no space": b"PROXY\r\n",
    "v1 too long": b"PROXY UNKNOWN " + b"x" * 93,
    "v1 too long in one piece": b"PROXY UNKNOWN " + b"x" * 500 + b"\r\n",
    "v1 family": b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "v1 not an address": b"PROXY TCP4 999.0.2.1 192.0.2.2 1 2\r\n",
    "v1 octal address": b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    "v1 address of the other family": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "v1 not ascii": b"PROXY TCP4 192.0.2.\xd9\xa1 192.0.2.2 1 2\r\n",
    "v1 port too large": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
    "v1 port not a number": b"PROXY TCP4 192.0.2.1 192.0.2.2 a 2\r\n",
    "v1 port with a sign": b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
    "v1 port with a zero in front": b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    "v1 port missing": b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    "v1 two spaces": b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
    "v1 word too many": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    "v1 tab": b"PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n",
    "v2 version": v2(0x11, 0x11, FOUR),
    "v2 command": v2(0x22, 0x11, FOUR),
    "v2 family": v2(0x21, 0x41, FOUR),
    "v2 transport": v2(0x21, 0x13, FOUR),
    "v2 too short for ipv4": v2(0x21, 0x11, FOUR[:-1]),
    "v2 too short for ipv6": v2(0x21, 0x21, FOUR),
    "v2 too short for unix": v2(0x21, 0x31, FOUR),
    "v2 too long": SIGNATURE + b"\x21\x11" + struct.pack("!H", V2_LIMIT + 1),
    "v2 tlv cut within its length": v2(0x21, 0x11, FOUR + b"\x02\x00"),
    "v2 tlv cut within its value": v2(0x21, 0x11, FOUR + b"\x02\x00\x03ab"),
}


@pytest.mark.parametrize(("data", "header"), GOOD.values(), ids=GOOD)
def test_a_header_is_read_however_it_comes(data, header):
    """Whole, a byte at a time or cut anywhere: the same header, and nothing of what follows is lost."""
    rest = b"\r\nPROXY and what follows"
    assert HeaderParser().feed(data + rest) == (header, rest)
    assert HeaderParser().feed(data) == (header, b"")
    slow = HeaderParser()
    assert [slow.feed(data[at : at + 1]) for at in range(len(data))] == [None] * (len(data) - 1) + [(header, b"")]
    for cut in {1, 5, 6, 8, 12, 15, 16, 17, len(data) - 1} & set(range(len(data))):
        parser = HeaderParser()
        assert parser.feed(data[:cut]) is None
        assert parser.feed(data[cut:] + rest) == (header, rest)


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_anything_else_is_refused_however_it_comes(data):
    """What is not exactly a header is refused, whole and a byte at a time, and never waited for."""
    with pytest.raises(BadProxyHeader):
        HeaderParser().feed(data)
    slow = HeaderParser()
    with pytest.raises(BadProxyHeader):
        for at in range(len(data)):
            assert slow.feed(data[at : at + 1]) is None


def test_garbage_is_refused_at_its_first_byte():
    """A client that speaks HTTP to a port for proxies is not left waiting."""
    with pytest.raises(BadProxyHeader):
        HeaderParser().feed(b"G")


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_no_input_does_anything_else(noise, prefix):
    """Whatever is sent, the answer is a header, 'more', or BadProxyHeader."""
    try:
        result = HeaderParser().feed(prefix + noise)
    except BadProxyHeader:
        return
    assert result is None or isinstance(result[0], ProxyHeader)


ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4).map(str), st.ip_addresses(v=4).map(str)),
    st.tuples(*[st.ip_addresses(v=6).filter(lambda a: a.ipv4_mapped is None).map(str)] * 2),
)
PORTS = st.integers(0, 65535)


@given(ADDRESSES, PORTS, PORTS, st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=20)), max_size=5))
def test_what_we_write_we_can_read(hosts, client_port, server_port, tlvs):
    """Both versions carry any two addresses of one family, and version 2 its TLVs."""
    client, server = Peer(hosts[0], client_port), Peer(hosts[1], server_port)
    assert HeaderParser().feed(header_v1(client, server)) == (ProxyHeader(client, server), b"")
    assert HeaderParser().feed(header_v2(client, server, tlvs)) == (ProxyHeader(client, server, tuple(tlvs)), b"")


def test_the_bytes_are_those_of_the_specification():
    """Other implementations read what we write: the examples of the specification, byte for byte."""
    assert header_v1(CLIENT, SERVER) == b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
    assert header_v2(CLIENT, SERVER) == v2(0x21, 0x11, FOUR)
    assert [proxy_header(version, CLIENT, SERVER) for version in (None, 1, 2)] == [
        b"",
        header_v1(CLIENT, SERVER),
        header_v2(CLIENT, SERVER),
    ]
    assert header_v2(CLIENT, SERVER, [(2, b"abc")]) == v2(0x21, 0x11, FOUR + b"\x02\x00\x03abc")


@pytest.mark.parametrize(
    ("source", "destination", "one", "two"),
    [
        (None, None, b"UNKNOWN", v2(0x20, 0, b"")),
        (None, SERVER, b"UNKNOWN", v2(0x20, 0, b"")),
        (CLIENT, Peer("::1", 443), b"UNKNOWN", v2(0x21, 0, b"")),
        (CLIENT, Peer("unix", 0), b"UNKNOWN", v2(0x21, 0, b"")),
        (Peer("unix", 0), Peer("unix", 0), b"UNKNOWN", v2(0x21, 0x31, bytes(216))),
    ],
)
def test_what_cannot_be_told_is_not_made_up(source, destination, one, two):
    """Mixed families and Unix sockets say so, instead of naming a wrong address."""
    assert header_v1(source, destination) == b"PROXY " + one + b"\r\n"
    assert header_v2(source, destination) == two


def test_ipv4_clients_of_an_ipv6_socket_are_ipv4():
    """A dual-stack listener says ::ffff:192.0.2.1; the backend is told 192.0.2.1."""
    mapped = Peer("::ffff:192.0.2.1", 56324)
    assert header_v1(mapped, SERVER) == header_v1(CLIENT, SERVER)
    assert header_v2(mapped, Peer("::ffff:198.51.100.7", 443)) == header_v2(CLIENT, SERVER)


def test_tlvs_that_do_not_fit_are_an_error():
    """More than the length field can tell is refused when it is written."""
    with pytest.raises(ValueError, match="at most 65535"):
        header_v2(CLIENT, SERVER, [(1, bytes(40000)), (1, bytes(40000))])
