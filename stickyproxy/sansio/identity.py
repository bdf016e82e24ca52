"""Who the client is, and how the backend is told: X-Forwarded-*, X-Real-IP, Forwarded. Floor 2, pure.

RFC 7239, and for the older fields what nginx, HAProxy and the web frameworks agree upon. What a client says of itself
is removed; what a trusted peer says is believed as far as it is well-formed:

* X-Forwarded-For (or Forwarded, where that is absent) is read from the right. The client is the first address that is
  not itself trusted; garbage ends the walk at the last good address. A Forwarded field with any fault is not believed
  at all, since a quote opened by the client could hide what the proxy has added behind it. Where that hides who the
  client is, it is the last proxy that is known, and ``Identity.sure`` says so: no rule about addresses may rest on it.
* Our peer is appended to both lists. Where only one of them came, or Forwarded tells another story, that is written
  from the believed part of the other.
* Of X-Forwarded-Proto, -Host and -Port one well-formed value each is kept.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from stickyproxy.model import Arrival, Connection, Peer, RequestHead
from stickyproxy.sansio.fields import OURS, THEIRS, names
from stickyproxy.sansio.networks import NOBODY, Networks, address_of

#: Longer chains of proxies than this are not followed.
_MAX_HOPS = 32
#: Bytes of a Forwarded field that are worth their time; a longer one is treated as malformed.
_MAX_FORWARDED = 8192
_SCHEMES = {b"http": b"80", b"ws": b"80", b"https": b"443", b"wss": b"443"}
#: The fields by which a trusted peer may tell of the client.
_TELLING = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"))
#: The fields of which a proxy adds at least one to what it passes on.
_PASSED_ON = (OURS | THEIRS) - names("x-request-id")
_SECURE_SCHEMES = frozenset((b"https", b"wss"))

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_IS_TOKEN = re.compile(_TOKEN).fullmatch
_NODE_PORT = rb"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"  # RFC 7239 section 6
_NODE = re.compile(rb"\[([0-9A-Fa-f:.]+)\]%b|([0-9.]+)%b|([0-9A-Fa-f:.]+)" % (_NODE_PORT, _NODE_PORT))
_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
# Unquoted values may hold ":" and "[" here, against the grammar: host=example.org:8080 is widespread.
_PAIR = re.compile(rb"(%b)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",;\\]+))" % _TOKEN)
_SEPARATOR = re.compile(rb"[ \t]*([;,])[ \t]*")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(rb'(["\\])')


class _Believed(NamedTuple):
    client: str
    secure: bool
    lines: bytes
    sure: bool


class Identity:
    """What is known of one client connection, its constant bytes made once.

    ``peer`` is who connected to us, or whom a PROXY header names; ``local_port`` is the port that it connected to;
    ``secure`` tells of TLS. ``trusted`` holds the proxies that are believed. ``default_host`` stands in where an
    HTTP/1.0 client sends no Host, which some backends refuse to go without. ``connection`` goes with every arrival.
    """

    __slots__ = (
        "_client",
        "_connection",
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
        self,
        peer: Peer,
        local_port: int,
        secure: bool,
        trusted: Networks = NOBODY,
        *,
        default_host: bytes = b"",
        connection: Connection | None = None,
    ) -> None:
        address = address_of(peer.host)
        self._client = peer.host if address is None else str(address)
        self._for = b"unknown" if address is None else self._client.encode()
        self._node = _node(self._client)
        self._local_port = b"%d" % local_port
        self._proto = b"https" if secure else b"http"
        self._networks = trusted
        self._default_host = default_host
        self._connection = connection
        self.trusted = peer.host in trusted  #: the peer is believed
        # What was written last: the next request of this connection is likely to name the same host.
        self._hosts: list[bytes] | None = []
        self._last = b""
        # What was believed last: it is asked for several times for one request.
        self._head: RequestHead | None = None
        self._told = _Believed("", False, b"", True)
        self._own = (self._client, secure)

    def client(self, head: RequestHead | None = None) -> str:
        """The client's IP address as text, as far as it is believed, or ``"unix"``. Without ``head``: the peer's."""
        return self._own[0] if head is None else self.arrival(head).client

    def secure(self, head: RequestHead | None = None) -> bool:
        """The client came over TLS: to us, or to a trusted peer that says so."""
        return self._own[1] if head is None else self.arrival(head).secure

    def sure(self, head: RequestHead) -> bool:
        """``client(head)`` is the client, and not a proxy whose word of him could not be believed."""
        return not self.trusted or _TELLING.isdisjoint(head.named) or self._believe(head).sure

    def asks_itself(self, head: RequestHead) -> bool:
        """The peer is believed, and ``head`` is its own: it does not pass on what a client of its own has sent."""
        return self.trusted and _PASSED_ON.isdisjoint(head.named)

    def arrival(self, head: RequestHead) -> Arrival:
        """Who asks, for affinity, balancers and routes."""
        if self.trusted and not _TELLING.isdisjoint(head.named):
            told = self._believe(head)
            return Arrival(told.client, told.secure, head, None, self._connection)
        return _new(Arrival, (*self._own, head, None, self._connection))

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
        chain, sure = self._walk([element.get(b"for", b"") for element in elements])
        if listed:
            other, (chain, sure) = chain, self._walk(listed.rsplit(b",", _MAX_HOPS))
            if other != chain:
                elements = []  # from before a proxy that knows X-Forwarded-For only
        else:
            sure = sure and bool(elements) == bool(forwarded)
            if chain:
                element = elements[-len(chain)]
                told_proto = told_proto or element.get(b"proto", b"").lower()
                told_host = told_host or element.get(b"host", b"")

        host = self._host(head)
        if told_host and not _HOST.fullmatch(told_host):
            told_host = b""
        proto = told_proto if told_proto in _SCHEMES else self._proto
        port = _one(named, b"x-forwarded-port")
        if not _is_port(port):
            # Our own port beside what another proxy was asked with would make a URL that nobody serves.
            asked = told_host or told_proto in _SCHEMES
            port = _port(told_host or host, proto) if asked else self._local_port
        told_host = told_host or host
        client = chain[0] if chain else self._client
        before = listed or b", ".join([address.encode() for address in chain])
        forwarded = _written(elements) or _told_chain(chain, proto, told_host)
        own = _element(self._node, self._proto, host)
        before = b"%b, %b" % (before, self._for) if before else self._for
        forwarded = b"%b, %b" % (forwarded, own) if forwarded else own
        lines = _write(host, before, proto, told_host, port, client.encode(), forwarded)
        return _Believed(client, proto in _SECURE_SCHEMES, lines, sure)

    def _walk(self, nodes: list[bytes]) -> tuple[list[str], bool]:
        """The believed end of a chain: from the last address that is not itself trusted on; and whether it is there."""
        chain: list[str] = []
        sure = len(nodes) <= _MAX_HOPS
        for node in reversed(nodes[-_MAX_HOPS:]):
            address = _text(node)
            if not address:
                sure = False
                break
            chain.append(address)
            if address not in self._networks:
                sure = True
                break
        chain.reverse()
        return chain, sure


def _text(node: bytes) -> str:
    """The address of a list element (``192.0.2.1:80``, ``[2001:db8::1]:80``, ``2001:db8::1``), or ``""``."""
    return _read_node(node) if len(node) <= 64 else ""


@lru_cache(maxsize=4096)
def _read_node(node: bytes) -> str:
    match = _NODE.fullmatch(node.strip(b" \t"))
    address = address_of((match[1] or match[2] or match[3]).decode("ascii")) if match else None
    return "" if address is None else str(address)


def _list(values: list[bytes] | None) -> bytes:
    """The values of a list field as one (RFC 9110 section 5.3)."""
    return b", ".join([value for value in values if value]) if values else b""


def _elements(forwarded: bytes) -> list[dict[bytes, bytes]]:
    """The elements of a Forwarded field (RFC 7239 section 4), names in lower case; none if it is malformed."""
    elements: list[dict[bytes, bytes]] = [{}]
    if len(forwarded) > _MAX_FORWARDED:
        return []
    position = 0
    while True:
        pair = _PAIR.match(forwarded, position)
        if pair:
            name = pair[1].lower()
            if name in elements[-1]:
                return []
            elements[-1][name] = pair[3] or _ESCAPED.sub(rb"\1", pair[2])
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


def _is_port(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 5 and int(text) <= 65535


def _port(host: bytes, scheme: bytes) -> bytes:
    match = _HOST.fullmatch(host)
    return (match and match[1]) or _SCHEMES[scheme]


@lru_cache(maxsize=4096)
def _node(address: str) -> bytes:
    """A node of RFC 7239 section 6."""
    if address_of(address) is None:
        return b"unknown"
    return b'"[%b]"' % address.encode() if ":" in address else address.encode()


def _element(node: bytes, proto: bytes, host: bytes) -> bytes:
    """An element of RFC 7239 section 4."""
    if not host:
        return b"for=%b;proto=%b" % (node, proto)
    return b"for=%b;host=%b;proto=%b" % (node, _value(host), proto)


def _value(value: bytes) -> bytes:
    """A value as RFC 7239 section 4 has it: a token, or a quoted string."""
    return value if _IS_TOKEN(value) else b'"%b"' % _TO_ESCAPE.sub(rb"\\\1", value)


def _written(elements: list[dict[bytes, bytes]]) -> bytes:
    """What ``_elements`` read, as the grammar has it."""
    return b", ".join([b";".join([b"%b=%b" % (k, _value(v)) for k, v in e.items()]) for e in elements])


def _told_chain(chain: list[str], proto: bytes, host: bytes) -> bytes:
    """Forwarded for the addresses of ``chain``, the first of which asked ``host`` by ``proto``."""
    if not chain:
        return b""
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
