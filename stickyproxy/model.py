"""The values that every floor speaks in.

Floor 0: frozen, without behaviour beyond reading themselves. What is made once at configuration is an attrs class;
what is made for every request is a ``NamedTuple``, which is as frozen and costs half as much to make.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import attrs

#: ``body`` of a head whose length is told by chunks (RFC 9112 section 7.1).
CHUNKED = -1
#: ``body`` of an answer that ends where the backend closes (RFC 9112 section 6.3, rule 8).
UNTIL_CLOSE = -2

#: What affinity recalls as the id of a backend that is not in the cluster any more. No backend has it.
GONE = ""

#: A field of a trailer section: its name in lower case, its name as received, its value without white space around.
Field = tuple[bytes, bytes, bytes]


class Side(enum.Enum):
    """Which of the two connections of a relay."""

    CLIENT = "client"
    BACKEND = "backend"


class BackendState(enum.Enum):
    """What an operator wants of a backend. ``DRAIN`` keeps the bound clients and takes no new ones."""

    UP = "up"
    DRAIN = "drain"
    MAINTENANCE = "maintenance"


class Outcome(enum.Enum):
    """What affinity had to say to a choice; the value is the word in the access log."""

    NONE = "none"  # the cluster has no affinity
    NEW = "new"  # an unbound client: the balancer chose, and the client is bound now
    KEPT = "kept"  # recalled, and served by the backend that it is bound to
    REBOUND = "rebound"  # recalled, but that backend is gone or unreachable: the balancer chose another
    AWAY = "away"  # the same, but the client stays bound to its own, which serves it again when it can

    __hash__ = object.__hash__  # Enum's own is in Python, and asked for by every look-up


class Peer(NamedTuple):
    """The far end of a connection. ``host`` is an IP address as text, or ``"unix"`` (then ``port`` is 0)."""

    host: str
    port: int


@attrs.frozen
class Backend:
    """One place we forward to. ``id`` is its key in the configuration: affinity knows it by nothing else."""

    id: str
    endpoint: str
    weight: int = 1
    state: BackendState = BackendState.UP
    max_connections: int | None = None  #: at a time; None: as its cluster says
    backup: bool = False


def _plain_values(plain: list[bytes], name: bytes) -> list[bytes]:
    return [value for spelling, value in zip(plain[::4], plain[2::4], strict=True) if spelling.lower() == name]


class RequestHead(NamedTuple):
    """A request without its body, already judged well-formed (``sansio.http1``)."""

    method: bytes  #: ``b"GET"``
    target: bytes  #: origin-form (``b"/a?b"``), or ``b"*"``; absolute-form has been taken apart already
    minor: int  #: 1 for HTTP/1.1, 0 for HTTP/1.0
    plain: list[bytes]  #: the fields without a meaning to a proxy, to be joined (``sansio.fields.FieldReader``)
    named: dict[bytes, list[bytes]]  #: the values of the others, by lower-case name
    body: int  #: bytes of content (0: none), or ``CHUNKED``
    authority: bytes  #: host and perhaps port, lower case (``b"example.org:8080"``); empty in HTTP/1.0 without Host
    keep_alive: bool  #: the client would go on after this answer
    upgrade: bytes | None  #: the protocols that the client asks to change to, lower case, else None

    def values(self, name: bytes) -> list[bytes]:
        """The values of the field ``name`` (lower case), in order."""
        return self.named.get(name) or _plain_values(self.plain, name)


class ResponseHead(NamedTuple):
    """An answer of a backend without its body, already judged well-formed."""

    status: int
    reason: bytes
    minor: int
    plain: list[bytes]  #: as in ``RequestHead``
    named: dict[bytes, list[bytes]]
    body: int  #: bytes of content that will follow (0 for HEAD, 204, 304), ``CHUNKED`` or ``UNTIL_CLOSE``
    keep_alive: bool  #: the backend connection may be used again afterwards

    def values(self, name: bytes) -> list[bytes]:
        """The values of the field ``name`` (lower case), in order."""
        return self.named.get(name) or _plain_values(self.plain, name)


class Connection(NamedTuple):
    """What is known of a client's connection beside its address: made once for all that arrives on it."""

    server_name: bytes | None = None  #: the host name that the client asked TLS for (SNI), lower case
    certificate: bytes | None = None  #: SHA-256 of the certificate that the client showed (DER), 32 bytes
    tlvs: tuple[tuple[int, bytes], ...] = ()  #: what a PROXY header told beside the addresses: type and value


class Arrival(NamedTuple):
    """A client that wants a backend: all that affinity, balancers and routes may look at."""

    client: str  #: the client's IP address as text, as far as it is believed
    secure: bool  #: it came over TLS
    head: RequestHead | None = None  #: None for TCP
    key: bytes | None = None  #: what a TCP protocol read from the first bytes, else None
    connection: Connection | None = None  #: what is known of the connection, else None


class Trace(NamedTuple):
    """Where a request stands in a trace (W3C Trace Context). Ids are lower-case hexadecimal digits."""

    trace: str  #: 32 digits
    span: str  #: 16 digits: ours, which the backend is told as its parent
    parent: str = ""  #: 16 digits: whose request it is for the trace; empty: it begins here
    flags: int = 1  #: 1: whoever began it wants it kept


class HTTPEntry(NamedTuple):
    """An answered request, an upgrade by its 101 included. Times are seconds, ``ended`` since the epoch."""

    client: str  #: IP address as text, as far as it is believed
    head: RequestHead | None  #: None if none could be read
    status: int
    sent: int  #: bytes of content to the client
    ended: float
    duration: float
    cluster: str = ""  #: empty: none was chosen
    backend: str = ""
    outcome: Outcome = Outcome.NONE
    request_id: bytes = b""  #: what the backend was told, or would have been
    frontend: str = ""
    trace: Trace | None = None


class RelayEntry(NamedTuple):
    """A WebSocket or TCP relay that has ended. Times as in ``HTTPEntry``."""

    client: str
    protocol: str  #: ``"websocket"`` or ``"tcp"``
    received: int  #: bytes from the client
    sent: int  #: bytes to the client
    ended: float
    duration: float
    cluster: str = ""
    backend: str = ""
    outcome: Outcome = Outcome.NONE
    closed_by: Side | None = None  #: who ended it first; None: the proxy (silence, shutdown)
    head: RequestHead | None = None  #: of a WebSocket
    request_id: bytes = b""
    frontend: str = ""
    trace: Trace | None = None
    code: int | None = None  #: of the Close frame that ended a WebSocket, where one was seen
    messages_received: int | None = None  #: whole messages of a WebSocket from the client, where they are counted
    messages_sent: int | None = None
    reason: str = ""  #: why it ended: the value of a ``relay.EndReason``


class OpenEntry(NamedTuple):
    """A TCP connection that has reached its backend, where that is to be told before it ends."""

    client: str
    ended: float  #: when; seconds since the epoch
    cluster: str = ""
    backend: str = ""
    outcome: Outcome = Outcome.NONE
    frontend: str = ""


#: What has happened, for logs, metrics and traces.
Entry = HTTPEntry | RelayEntry | OpenEntry
