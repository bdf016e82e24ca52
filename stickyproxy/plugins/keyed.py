"""Affinities by something that the client shows: an address, a field, a parameter … Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from stickyproxy.config.units import FieldName, KeyPattern, ParameterName, TLVName, Told, whole
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IAffinity, ISessionStore
from stickyproxy.sansio.affinity import HashAffinity, NamedAffinity, TableAffinity
from stickyproxy.sansio.keys import KeyFinder, bearer_key, find_key

_TABLE_OR_HASH = (
    '`"table"` learns who is where, so that adding a backend moves nobody. `"hash"` computes it: nothing is kept, '
    "every process agrees, and about one in n clients moves when one of n backends comes or goes."
)
_Memory = Annotated[
    Literal["table", "hash"],
    Told(_TABLE_OR_HASH, "HAProxy `stick on` / `balance … hash-type consistent`"),
]
_MemoryOrName = Annotated[
    Literal["table", "hash", "name"],
    Told(
        _TABLE_OR_HASH + ' `"name"`: the key is the name of a backend, by which the application says who serves; '
        "a client that knows the names may choose.",
        "HAProxy `stick on` / `balance … hash-type consistent` / `use-server`",
    ),
]
_Pattern = Annotated[
    KeyPattern | None,
    Told(
        "A regular expression, matched from the beginning; what its one group captures is the key. Absent: all of it."
    ),
]
_Space = Annotated[
    str | None,
    Told(
        "What the key means. Affinities of one `sessions.group` that say the same here know a client by the same key, "
        "wherever it is found. Absent: a meaning of its own."
    ),
]


def _keyed(
    sessions: ISessionStore, word: str, memory: str, space: str | None, find: KeyFinder | None = None
) -> IAffinity:
    finder = find or find_key(word)
    if memory == "name":
        named: IAffinity = NamedAffinity(finder)
        return named
    if memory == "hash":
        hashed: IAffinity = HashAffinity(finder)
        return hashed
    learned: IAffinity = TableAffinity(finder, space or word, sessions)
    return learned


def _part(word: str, pattern: str | None) -> str:
    """What the key means: another thing for every pattern."""
    return word if pattern is None else f"{word} {pattern}"


def _source(
    sessions: ISessionStore,
    ipv4_prefix: Annotated[
        int, whole(1, 32), Told("The bits of an IPv4 address that tell clients apart.", "HAProxy `src,ipmask()`")
    ] = 32,
    ipv6_prefix: Annotated[int, whole(1, 128), Told("The same for IPv6.", "HAProxy `src,ipmask()`")] = 64,
    memory: _Memory = "table",
    space: _Space = None,
) -> IAffinity:
    """The client's address, or its network. Clients behind one address share a backend."""
    return _keyed(sessions, f"source/{ipv4_prefix}/{ipv6_prefix}", memory, space)


def _header(
    sessions: ISessionStore,
    name: Annotated[FieldName, Told("What it is called.")],
    pattern: _Pattern = None,
    memory: _MemoryOrName = "table",
    space: _Space = None,
) -> IAffinity:
    """A field of the request that is there once (HAProxy: ``stick on hdr(NAME)``). HTTP only."""
    return _keyed(sessions, _part(f"header:{name}", pattern), memory, space, find_key(f"header:{name}", pattern))


def _query(
    sessions: ISessionStore,
    name: Annotated[ParameterName, Told("What it is called.")],
    pattern: _Pattern = None,
    memory: _MemoryOrName = "table",
    space: _Space = None,
) -> IAffinity:
    """A parameter in the query of the request target (HAProxy: ``stick on url_param(NAME)``). HTTP only."""
    return _keyed(sessions, _part(f"query:{name}", pattern), memory, space, find_key(f"query:{name}", pattern))


def _path(
    sessions: ISessionStore,
    pattern: Annotated[KeyPattern, Told("A regular expression; what its one group captures is the key.")],
    memory: _Memory = "table",
    space: _Space = None,
) -> IAffinity:
    """A part of the path (HAProxy: ``stick on path,regsub(…)``). HTTP only.

    The pattern is matched from the beginning of the path, as routes see it.
    """
    return _keyed(sessions, f"path:{pattern}", memory, space)


def _host(sessions: ISessionStore, memory: _Memory = "table", space: _Space = None) -> IAffinity:
    """The host that is asked for, without port. HTTP only."""
    return _keyed(sessions, "host", memory, space)


def _bearer(
    sessions: ISessionStore,
    clock: Callable[[], float],
    claim: Annotated[str, Told("The claim, as `sub`.")],
    key: Annotated[
        str | None,
        Told("The key that the token must be signed with: a secret, or a public key in PEM. Absent: not verified."),
    ] = None,
    algorithms: Annotated[tuple[str, ...], Told("How it may be signed, as `RS256`. Needed with `key`.")] = (),
    memory: _Memory = "table",
    space: _Space = None,
) -> IAffinity:
    """A claim of the JSON Web Token in ``Authorization: Bearer`` (RFC 7519). HTTP only.

    Without ``key`` anybody can make up a token and share the backend of another: that is no harm to most.
    """
    if bool(key) != bool(algorithms):
        raise ValueError("bearer: key and algorithms go together")
    find = bearer_key(claim, key=key, algorithms=algorithms, clock=clock) if key else None
    return _keyed(sessions, f"bearer:{claim}", memory, space, find)


def _sni(sessions: ISessionStore, memory: _Memory = "table", space: _Space = None) -> IAffinity:
    """The server name that the client asked TLS for (HAProxy: ``ssl_fc_sni``)."""
    return _keyed(sessions, "sni", memory, space)


def _certificate(sessions: ISessionStore, memory: _Memory = "table", space: _Space = None) -> IAffinity:
    """The certificate that the client has shown (HAProxy: ``ssl_c_sha1``)."""
    return _keyed(sessions, "client-certificate", memory, space)


def _tlv(
    sessions: ISessionStore,
    name: Annotated[
        TLVName, Told('`"authority"` (the name asked for), `"alpn"`, `"unique-id"`, or a type such as `"0xEA"`.')
    ],
    memory: _Memory = "table",
    space: _Space = None,
) -> IAffinity:
    """What a PROXY v2 header tells beside the addresses (HAProxy: ``fc_pp_authority``, ``fc_pp_unique_id``).

    Of a frontend with `accept_proxy_protocol`.
    """
    return _keyed(sessions, f"tlv:{name}", memory, space)


def _key(sessions: ISessionStore, memory: _Memory = "table", space: _Space = None) -> IAffinity:
    """What was found in the first bytes of a TCP connection, by a stream inspector or a protocol of your own."""
    return _keyed(sessions, "key", memory, space)


source = Extension("source", IAffinity, _source)
header = Extension("header", IAffinity, _header)
query = Extension("query", IAffinity, _query)
path = Extension("path", IAffinity, _path)
host = Extension("host", IAffinity, _host)
bearer = Extension("bearer", IAffinity, _bearer)
sni = Extension("sni", IAffinity, _sni)
client_certificate = Extension("client-certificate", IAffinity, _certificate)
tlv = Extension("tlv", IAffinity, _tlv)
key = Extension("key", IAffinity, _key)
