"""Header fields: which have a meaning to a proxy, and a head's fields sorted by that. Floor 2, pure.

Most fields are passed on as they are. Only those that the proxy reads, rewrites or drops have a meaning to it; which
those are is decided once for each spelling of a name (``FieldNames``), since every field of every head comes by here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Set


def names(text: str) -> frozenset[bytes]:
    """Lower-case field names, separated by white space."""
    return frozenset(text.encode().split())


def imitations(real: Iterable[bytes], separators: str) -> frozenset[bytes]:
    """Every spelling of ``real`` that has another of ``separators`` for a ``-``."""
    spellings: set[bytes] = set()
    for name in real:
        parts = name.decode().split("-")
        for chosen in itertools.product("-" + separators, repeat=len(parts) - 1):
            spellings.add("".join(itertools.chain(*zip(parts, (*chosen, ""), strict=True))).encode())
    return frozenset(spellings - set(real))


#: Fields of one connection only (RFC 9110 section 7.6.1), with those that were once thought to be.
HOP_BY_HOP = names(
    "connection keep-alive proxy-connection te transfer-encoding upgrade http2-settings proxy-authenticate "
    "proxy-authorization proxy-authentication-info"
)
#: What we say of the client, and of the way that a message took.
OURS = names("x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip forwarded via x-request-id")
#: What other proxies say of a client: passed on from a trusted peer, removed from anyone else's request.
THEIRS = names(
    "client-ip x-client-ip true-client-ip x-cluster-client-ip cf-connecting-ip cf-connecting-ipv6 fastly-client-ip "
    "x-remote-ip x-remote-addr remote-addr x-originating-ip x-envoy-external-address x-azure-clientip "
    "x-appengine-user-ip proxy-client-ip wl-proxy-client-ip x-real-port forwarded-for x-forwarded "
    "x-original-forwarded-for x-original-host x-host x-forwarded-by x-forwarded-server x-forwarded-prefix "
    "x-forwarded-protocol x-forwarded-scheme x-forwarded-ssl x-scheme x-url-scheme front-end-https "
    # Where the request was going, and who a proxy before us has found the user to be.
    "x-original-url x-original-uri x-rewrite-url x-forwarded-uri x-forwarded-path x-forwarded-method "
    "x-original-method x-forwarded-client-cert x-forwarded-user x-forwarded-email x-forwarded-groups "
    "x-forwarded-preferred-username x-forwarded-access-token x-auth-request-user x-auth-request-email "
    "x-auth-request-groups x-remote-user remote-user x-webauth-user"
)
FRAMING = names("content-length transfer-encoding")
#: Spellings that CGI, WSGI and their kind make the same variable of.
IMITATIONS = imitations(OURS | FRAMING, "_!#$%&'*+.^`|~") | imitations(THEIRS, "_")
#: The opening handshake of a WebSocket (RFC 6455 section 4), as it is spelled there.
HANDSHAKE = {
    name.lower(): name
    for name in (
        b"Sec-WebSocket-Key",
        b"Sec-WebSocket-Version",
        b"Sec-WebSocket-Protocol",
        b"Sec-WebSocket-Extensions",
        b"Sec-WebSocket-Accept",
    )
}

#: What Connection may not remove. (The others that it may not name are ours to write, or have a meaning.)
NOT_REMOVED = THEIRS | names(
    "authorization set-cookie date max-forwards cache-control origin "
    "content-type content-encoding content-language content-location content-range"
)
#: Options of Connection that name no field.
_OPTIONS = names("close keep-alive upgrade")

#: What a backend says of a session (``steering``): for us, and for nobody else.
STEERING = names("sticky-pin sticky-release sticky-move sticky-ttl")

_REQUEST = HOP_BY_HOP | OURS | THEIRS | IMITATIONS | FRAMING | HANDSHAKE.keys() | names("host cookie expect proxy")
_REQUEST |= names("max-forwards x-sticky-explain") | STEERING
_RESPONSE = HOP_BY_HOP | FRAMING | HANDSHAKE.keys() | names("via date") | STEERING


class FieldNames(dict[bytes, bytes | None]):
    """From the spelling of a field's name to the lower-case name where it has a meaning, else None.

    Spellings are remembered, up to a bound, so that a name costs one look-up.
    """

    SIZE = 4096

    def __init__(self, meaning: Iterable[bytes]) -> None:
        super().__init__()
        self._meaning = frozenset(meaning)

    def __missing__(self, spelling: bytes) -> bytes | None:
        lower = spelling.lower()
        known = lower if lower in self._meaning else None
        if len(self) < self.SIZE and len(spelling) <= 64:
            self[spelling] = known
        return known


#: The names of requests and of responses.
REQUEST_NAMES = FieldNames(_REQUEST)
RESPONSE_NAMES = FieldNames(_RESPONSE)


class FieldReader:
    """Takes the fields that llhttp reads from one head, and sorts them.

    ``plain`` are the fields without a meaning, ready to be joined: name, ``b": "``, value, line end, name …; ``named``
    are the values of the others by lower-case name. llhttp leaves white space behind a value: it is stripped where it
    could matter.
    """

    __slots__ = ("_names", "named", "plain", "repeated")

    def __init__(self, known: FieldNames) -> None:
        self._names = known
        self.plain: list[bytes] = []
        self.named: dict[bytes, list[bytes]] = {}
        self.repeated = 0  #: fields whose name is in ``named`` already

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        lower = self._names[name]
        if lower is None:
            self.plain += (name, b": ", value, b"\r\n")
        elif lower in self.named:
            self.repeated += 1
            self.named[lower].append(value.rstrip())
        else:
            self.named[lower] = [value.rstrip()]


def removable(options: Iterable[bytes]) -> frozenset[bytes]:
    """The names among the ``options`` of a Connection field that it may remove."""
    return frozenset(options) - _OPTIONS - NOT_REMOVED


def changed(plain: list[bytes], name: bytes, change: Callable[[bytes], bytes | None]) -> list[bytes]:
    """Plain fields with what ``change`` makes of each value of the field ``name`` (lower case); None drops it."""
    out: list[bytes] = []
    for spelling, value in zip(plain[::4], plain[2::4], strict=True):
        kept = change(value) if spelling.lower() == name else value
        if kept is not None:
            out += (spelling, b": ", kept, b"\r\n")
    return out


def without(plain: list[bytes], unwanted: Set[bytes]) -> list[bytes]:
    """Plain fields without those of the lower-case names ``unwanted``."""
    fields = zip(plain[::4], plain[2::4], strict=True)
    return [piece for name, value in fields if name.lower() not in unwanted for piece in (name, b": ", value, b"\r\n")]
