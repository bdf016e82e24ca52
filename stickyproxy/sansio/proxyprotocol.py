"""The PROXY protocol, versions 1 and 2: who the client of a proxy is, told in front of its bytes. Floor 2, pure.

Specification: HAProxy's ``proxy-protocol.txt`` (2020/03/05), sections 2.1 and 2.2.

Why not ``twisted.protocols.haproxy`` (seen in 26.10): it refuses a header whose first piece is below 8 bytes (v1)
or 16 (v2), takes addresses such as 999.2.3.4 and raises ``ValueError`` for a port that is no number, bounds neither a
v1 line that comes in one piece nor a v2 header, keeps no TLVs, and tells the protocol behind it that it is connected
before the header is there, so that the address it gets is the proxy's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

from stickyproxy.errors import StickyproxyError
from stickyproxy.model import Peer

#: Bytes of the longest v1 line, with its CRLF.
V1_LIMIT = 107
#: Bytes that may follow the 16 of a v2 header: addresses (at most 216) and TLVs.
V2_LIMIT = 2048

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_LOCAL, _PROXY = 0x20, 0x21
_UNIX = 0x31
#: Family and transport → struct of source and destination address, ports. The others tell us nothing about a stream.
_ADDRESSES = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH"), _UNIX: struct.Struct("!108s108s")}
_SIZES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}  # of the addresses, by family


class ProxyHeader(NamedTuple):
    """Who speaks through the proxy. ``source`` and ``destination`` are None where the proxy speaks for itself or does
    not know (LOCAL, UNKNOWN, UNSPEC): then the real ends of the connection count. ``tlvs`` are (type, value).
    """

    source: Peer | None
    destination: Peer | None
    tlvs: tuple[tuple[int, bytes], ...] = ()


class BadProxyHeader(StickyproxyError):
    """What came is not a PROXY header."""


def announces(data: bytes) -> bool | None:
    """Whether a stream that begins with ``data`` begins with a PROXY header; None: more is needed to say."""
    for signature in (_V1, _V2):
        if data.startswith(signature):
            return True
        if signature.startswith(data):
            return None
    return False


class HeaderParser:
    """Reads the header from the beginning of a connection, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        """The header and the bytes behind it; None: more is needed. Raises ``BadProxyHeader``, as early as it shows."""
        self._buffer += data
        buffer = self._buffer
        if buffer.startswith(_V2):
            return _read_v2(buffer)
        if buffer.startswith(_V1):
            return _read_v1(buffer)
        if _V2.startswith(buffer) or _V1.startswith(buffer):
            return None
        raise BadProxyHeader("The connection does not begin with a PROXY header, which is required from this peer")


def proxy_header(version: Literal[1, 2] | None, source: Peer | None, destination: Peer | None) -> bytes:
    """The header that a backend is sent, as its cluster's ``send_proxy_protocol`` says; None: nothing."""
    if version is None:
        return b""
    return header_v1(source, destination) if version == 1 else header_v2(source, destination)


def header_v1(source: Peer | None, destination: Peer | None) -> bytes:
    """A version 1 line. Addresses that it cannot tell (Unix sockets, two families, None) make it ``UNKNOWN``."""
    ends = _same_family(source, destination)
    if ends is None:
        return b"PROXY UNKNOWN\r\n"
    (client, client_port), (server, server_port) = ends
    return f"PROXY TCP{client.version} {client} {server} {client_port} {server_port}\r\n".encode("ascii")


def header_v2(source: Peer | None, destination: Peer | None, tlvs: Iterable[tuple[int, bytes]] = ()) -> bytes:
    """A version 2 header. Without a source it is LOCAL; addresses that it cannot tell (two families …) are UNSPEC."""
    ends = _same_family(source, destination)
    command, family, block = _LOCAL if source is None else _PROXY, 0x00, b""
    if ends is not None:
        (client, client_port), (server, server_port) = ends
        family = 0x11 if client.version == 4 else 0x21
        block = _ADDRESSES[family].pack(client.packed, server.packed, client_port, server_port)
    elif source is not None and destination is not None and source.host == destination.host == "unix":
        family, block = _UNIX, bytes(_SIZES[3])
    for kind, value in tlvs:
        block += struct.pack("!BH", kind, len(value)) + value
    if len(block) > 0xFFFF:
        raise ValueError(f"A PROXY header cannot carry {len(block)} bytes: at most 65535")
    return _V2 + struct.pack("!BBH", command, family, len(block)) + block


def _read_v1(buffer: bytes) -> tuple[ProxyHeader, bytes] | None:
    end = buffer.find(b"\r\n", 0, V1_LIMIT)
    if end < 0:
        if len(buffer) >= V1_LIMIT:
            raise BadProxyHeader(f"A PROXY v1 line has to end within {V1_LIMIT} bytes")
        return None
    rest = buffer[end + 2 :]
    words = buffer[len(_V1) : end].split(b" ")
    if words[0] == b"UNKNOWN":
        return ProxyHeader(None, None), rest
    if len(words) != 5 or words[0] not in (b"TCP4", b"TCP6"):
        raise BadProxyHeader("A PROXY v1 line is TCP4 or TCP6 with two addresses and two ports, or UNKNOWN")
    make = IPv4Address if words[0] == b"TCP4" else IPv6Address
    try:
        hosts = [str(make(word.decode("ascii"))) for word in words[1:3]]
    except ValueError:
        raise BadProxyHeader("A PROXY v1 line names something that is not an IP address of its family") from None
    if any(b"%" in word for word in words):
        raise BadProxyHeader("A PROXY v1 line names an address with a zone, which means nothing elsewhere")
    ports = [_port(word) for word in words[3:5]]
    return ProxyHeader(Peer(hosts[0], ports[0]), Peer(hosts[1], ports[1])), rest


def _port(word: bytes) -> int:
    if not (word.isdigit() and len(word) <= 5 and int(word) <= 0xFFFF and (word == b"0" or word[:1] != b"0")):
        raise BadProxyHeader("A PROXY v1 line names a port that is not a number from 0 to 65535")
    return int(word)


def _read_v2(buffer: bytes) -> tuple[ProxyHeader, bytes] | None:
    if len(buffer) < 16:
        return None
    command, family, size = struct.unpack_from("!BBH", buffer, 12)
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader("A PROXY v2 header has another version, or a command that is neither LOCAL nor PROXY")
    if size > V2_LIMIT:
        raise BadProxyHeader(f"A PROXY v2 header says that {size} bytes follow: at most {V2_LIMIT} are accepted")
    end = 16 + size
    if len(buffer) < end:
        return None
    block, rest = buffer[16:end], buffer[end:]
    if command == _LOCAL:
        return ProxyHeader(None, None), rest
    addresses = _SIZES.get(family >> 4)
    if addresses is None or family & 0x0F > 2:
        raise BadProxyHeader("A PROXY v2 header names an address family or a transport that does not exist")
    if size < addresses:
        raise BadProxyHeader("A PROXY v2 header is too short for the addresses that it announces")
    source, destination = _addresses_v2(family, block)
    return ProxyHeader(source, destination, tuple(_read_tlvs(block[addresses:]))), rest


def _addresses_v2(family: int, block: bytes) -> tuple[Peer | None, Peer | None]:
    form = _ADDRESSES.get(family)
    if form is None:
        return None, None
    if family == _UNIX:
        return Peer("unix", 0), Peer("unix", 0)
    client, server, client_port, server_port = form.unpack_from(block)
    return Peer(str(ip_address(client)), client_port), Peer(str(ip_address(server)), server_port)


def _read_tlvs(block: bytes) -> Iterable[tuple[int, bytes]]:
    while block:
        size = int.from_bytes(block[1:3]) if len(block) >= 3 else len(block)
        if len(block) < 3 + size:
            raise BadProxyHeader("A PROXY v2 header ends within a TLV")
        yield block[0], block[3 : 3 + size]
        block = block[3 + size :]


_End = tuple[IPv4Address | IPv6Address, int]


def _same_family(source: Peer | None, destination: Peer | None) -> tuple[_End, _End] | None:
    """Both ends as addresses, IPv4 where it came mapped into IPv6; None where they do not go into one header."""
    ends: list[_End] = []
    for peer in (source, destination):
        if peer is None:
            return None
        try:
            address = ip_address(peer.host.partition("%")[0])
        except ValueError:
            return None
        ends.append(((address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address, peer.port))
    return (ends[0], ends[1]) if ends[0][0].version == ends[1][0].version else None
