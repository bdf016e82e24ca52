"""Who the client is, and how the backend is told: X-Forwarded-*, X-Real-IP, Forwarded. Floor 2, pure.

RFC 7239, and for the older fields what nginx, HAProxy and the web frameworks agree upon. What a client says of itself
is removed; what a trusted peer says is believed as far as it is well-formed:

* X-Forwarded-For (or Forwarded, where that is absent) is read from the right. The client is the first address that is
  not itself trusted; garbage ends the walk at the last good address. A Forwarded field with any fault is not believed
  at all, since a quote opened by the client could hide what the proxy has added behind it.
* Our peer is appended to both lists. Where only one of them came, the other is written from the believed part of it.
* Of X-Forwarded-Proto, -Host and -Port one well-formed value each is kept.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from stickyproxy.model import Arrival, Peer, RequestHead

#: Longer chains of proxies than this are not followed.
_MAX_HOPS = 32
_SCHEMES = {b"http": b"80", b"ws": b"80", b"https": b"443", b"wss": b"443"}
#: The fields by which a trusted peer may tell of the client.
_TELLING = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"))
_SECURE_SCHEMES = frozenset((b"https", b"wss"))

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_IS_TOKEN = re.compile(_TOKEN).fullmatch
_NODE = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")
_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
# Unquoted values may hold ":" and "[" here, against the grammar: host=example.org:8080 is widespread.
_PAIR = re.compile(rb"(%b)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",;\\]+))" % _TOKEN)
_SEPARATOR = re.compile(rb"[ \t]*([;,])[ \t]*")

_IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=4096)
def _address(text: str) -> _IPAddress | None:
    """An IP address without its zone, an IPv4-mapped one as IPv4; None if ``text`` is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Networks:
    """A list of networks (``"10.0.0.0/8"``, ``"::1"``) that an address as text may be ``in``.

    IPv4-mapped IPv6 addresses count as IPv4. What is no address – ``"unix"`` above all – is in none. Raises ValueError
    for a bad one, also where bits behind the prefix are set (``"10.0.0.1/8"``).
    """

    __slots__ = ("_holds", "_networks")

    def __init__(self, cidrs: Iterable[str] = ()) -> None:
        self._networks = tuple(_network(cidr) for cidr in cidrs)
        self._holds = lru_cache(maxsize=4096)(self._look_up)

    def __contains__(self, address: str) -> bool:
        return bool(self._networks) and self._holds(address)

    def _look_up(self, address: str) -> bool:
        parsed = _address(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __repr__(self) -> str:
        return f"<Networks {' '.join(map(str, self._networks)) or 'none'}>"


#: The networks that hold nobody.
NOBODY = Networks()


def networks(cidrs: Iterable[str]) -> Networks:
    """``Networks`` of configured text; raises ValueError."""
    return Networks(cidrs)


class _Believed(NamedTuple):
    client: str
    secure: bool
    lines: bytes


class Identity:
    """What is known of one client connection, its constant bytes made once.

    ``peer`` is who connected to us, or whom a PROXY header names; ``local_port`` is the port that it connected to;
    ``secure`` tells of TLS. ``trusted`` holds the proxies that are believed. ``default_host`` stands in where an
    HTTP/1.0 client sends no Host, which some backends refuse to go without.
    """

    __slots__ = (
        "_client",
        "_default_host",
        "_for",
        "_head",
        "_hosts",
        "_last",
        "_local_port",
        "_networks",
        "_node",
        "_own",
        "_proto",
        "_told",
        "trusted",
    )  # fmt: skip

    def __init__(
        self, peer: Peer, local_port: int, secure: bool, trusted: Networks = NOBODY, *, default_host: bytes = b""
    ) -> None:
        address = _address(peer.host)
        self._client = peer.host if address is None else str(address)
        self._for = b"unknown" if address is None else self._client.encode()
        self._node = _node(self._client)
        self._local_port = b"%d" % local_port
        self._proto = b"https" if secure else b"http"
        self._networks = trusted
        self._default_host = default_host
        self.trusted = peer.host in trusted  #: the peer is believed
        # What was written last: the next request of this connection is likely to name the same host.
        self._hosts: list[bytes] | None = []
        self._last = b""
        # What was believed last: it is asked for several times for one request.
        self._head: RequestHead | None = None
        self._told = _Believed("", False, b"")
        self._own = (self._client, secure)

    def client(self, head: RequestHead | None = None) -> str:
        """The client's IP address as text, as far as it is believed, or ``"unix"``. Without ``head``: the peer's."""
        return self._own[0] if head is None else self.arrival(head).client

    def secure(self, head: RequestHead | None = None) -> bool:
        """The client came over TLS: to us, or to a trusted peer that says so."""
        return self._own[1] if head is None else self.arrival(head).secure

    def arrival(self, head: RequestHead) -> Arrival:
        """Who asks, for affinity, balancers and routes."""
        if self.trusted and not _TELLING.isdisjoint(head.named):
            told = self._believe(head)
            return Arrival(told.client, told.secure, head)
        return _new(Arrival, (*self._own, head, None))

    def lines(self, head: RequestHead) -> bytes:
        """Complete header lines for the backend: Host, and all of ours that tell of the client."""
        if self.trusted and not _TELLING.isdisjoint(head.named):
            return self._believe(head).lines
        hosts = head.named.get(b"host")
        if hosts is None:
            return self._write_own(self._host(head))
        if hosts != self._hosts:
            self._hosts, self._last = hosts, self._write_own(hosts[0])
        return self._last

    def _host(self, head: RequestHead) -> bytes:
        hosts = head.named.get(b"host")
        return hosts[0] if hosts else head.authority or self._default_host

    def _write_own(self, host: bytes) -> bytes:
        real = b"" if self._client == "unix" else self._for
        own = _element(self._node, self._proto, host)
        return _write(host, self._for, self._proto, host, self._local_port, real, own)

    def _believe(self, head: RequestHead) -> _Believed:
        if head is not self._head:
            self._told = self._read(head)
            self._head = head
        return self._told

    def _read(self, head: RequestHead) -> _Believed:
        named = head.named
        listed = _list(named.get(b"x-forwarded-for"))
        forwarded = _list(named.get(b"forwarded"))
        elements = _elements(forwarded) if forwarded else []
        told_proto, told_host = _one(named, b"x-forwarded-proto").lower(), _one(named, b"x-forwarded-host")
        if listed:
            chain = self._walk(listed.rsplit(b",", _MAX_HOPS)[-_MAX_HOPS:])
        else:
            chain = self._walk([element.get(b"for", b"") for element in elements[-_MAX_HOPS:]])
            if chain:
                element = elements[-len(chain)]
                told_proto = told_proto or element.get(b"proto", b"").lower()
                told_host = told_host or element.get(b"host", b"")

        host = self._host(head)
        if told_host and not _HOST.fullmatch(told_host):
            told_host = b""
        proto = told_proto if told_proto in _SCHEMES else self._proto
        port = _one(named, b"x-forwarded-port")
        if not (port.isdigit() and len(port) <= 5 and int(port) <= 65535):
            # Our own port beside what another proxy was asked with would make a URL that nobody serves.
            asked = told_host or told_proto in _SCHEMES
            port = _port(told_host or host, proto) if asked else self._local_port
        told_host = told_host or host
        client = chain[0] if chain else self._client
        before = listed or b", ".join([address.encode() for address in chain])
        if not elements:
            forwarded = _told_chain(chain, proto, told_host) if chain else b""
        own = _element(self._node, self._proto, host)
        lines = _write(
            host,
            b"%b, %b" % (before, self._for) if before else self._for,
            proto,
            told_host,
            port,
            client.encode(),
            b"%b, %b" % (forwarded, own) if forwarded else own,
        )
        return _Believed(client, proto in _SECURE_SCHEMES, lines)

    def _walk(self, nodes: list[bytes]) -> list[str]:
        """The addresses of the believed end of a chain: from the last that is not itself trusted on."""
        chain: list[str] = []
        for node in reversed(nodes):
            address = _text(node)
            if not address:
                break
            chain.append(address)
            if address not in self._networks:
                break
        chain.reverse()
        return chain


def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    network = ipaddress.ip_network(cidr)
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _text(node: bytes) -> str:
    """The address of a list element (``192.0.2.1:80``, ``[2001:db8::1]:80``, ``2001:db8::1``), or ``""``."""
    return _read_node(node) if len(node) <= 64 else ""


@lru_cache(maxsize=4096)
def _read_node(node: bytes) -> str:
    match = _NODE.fullmatch(node.strip(b" \t"))
    address = _address((match[1] or match[2] or match[3]).decode("ascii")) if match else None
    return "" if address is None else str(address)


def _list(values: list[bytes] | None) -> bytes:
    """The values of a list field as one (RFC 9110 section 5.3)."""
    return b", ".join([value for value in values if value]) if values else b""


def _elements(forwarded: bytes) -> list[dict[bytes, bytes]]:
    """The elements of a Forwarded field (RFC 7239 section 4), names in lower case; none if it is malformed."""
    elements: list[dict[bytes, bytes]] = [{}]
    position = 0
    while True:
        pair = _PAIR.match(forwarded, position)
        if pair:
            name = pair[1].lower()
            if name in elements[-1]:
                return []
            elements[-1][name] = pair[3] or re.sub(rb"\\(.)", rb"\1", pair[2])
            position = pair.end()
        separator = _SEPARATOR.match(forwarded, position)
        if separator is None:
            break
        position = separator.end()
        if separator[1] == b",":
            elements.append({})
    return [element for element in elements if element] if position == len(forwarded) else []


def _one(named: dict[bytes, list[bytes]], name: bytes) -> bytes:
    values = named.get(name)
    return values[0] if values is not None and len(values) == 1 else b""


def _port(host: bytes, scheme: bytes) -> bytes:
    match = _HOST.fullmatch(host)
    return (match and match[1]) or _SCHEMES[scheme]


@lru_cache(maxsize=4096)
def _node(address: str) -> bytes:
    """A node of RFC 7239 section 6."""
    if _address(address) is None:
        return b"unknown"
    return b'"[%b]"' % address.encode() if ":" in address else address.encode()


def _element(node: bytes, proto: bytes, host: bytes) -> bytes:
    """An element of RFC 7239 section 4."""
    if not host:
        return b"for=%b;proto=%b" % (node, proto)
    return b"for=%b;host=%b;proto=%b" % (node, host if _IS_TOKEN(host) else b'"%b"' % host, proto)


def _told_chain(chain: list[str], proto: bytes, host: bytes) -> bytes:
    """Forwarded for the addresses of ``chain``, the first of which asked ``host`` by ``proto``."""
    first = _element(_node(chain[0]), proto, host)
    return b", for=".join([first, *[_node(address) for address in chain[1:]]])


def _write(
    host: bytes, chain: bytes, proto: bytes, told_host: bytes, port: bytes, real: bytes, forwarded: bytes
) -> bytes:
    return b"".join(
        (
            b"Host: ", host, b"\r\nX-Forwarded-For: ", chain, b"\r\nX-Forwarded-Proto: ", proto, b"\r\n",
            b"X-Forwarded-Host: " + told_host + b"\r\n" if told_host else b"",
            b"X-Forwarded-Port: ", port, b"\r\n",
            b"X-Real-IP: " + real + b"\r\n" if real else b"",
            b"Forwarded: ", forwarded, b"\r\n",
        )
    )  # fmt: skip
