"""What a client may be known by, for affinities and for balancers that hash. Floor 2, pure.

A key is written in one word of the configuration (``"source/24"``, ``"header:X-User"``), and found in every arrival by
the function that ``find_key`` makes of it. What is found is a few bytes whatever was sent: a key longer than
``LONGEST`` is its hash, so that no table keeps what strangers make up. An empty key is none.

Elsewhere: HAProxy's sample fetches in ``stick on`` and ``balance`` (``src``, ``hdr``, ``url_param``, ``cook``,
``path``, ``ssl_fc_sni``, ``ssl_c_sha1``), nginx's variables in ``hash``, Envoy's ``hash_policy``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from ipaddress import IPv4Address
from urllib.parse import unquote_to_bytes

from stickyproxy.model import Arrival
from stickyproxy.sansio.bearer import token_of, unverified_claim, verifier
from stickyproxy.sansio.cookies import find
from stickyproxy.sansio.networks import address_of
from stickyproxy.sansio.patterns import LONGEST_TEXT, capturing
from stickyproxy.sansio.routing import bare_host, routed_path

#: The key of an arrival; None: it has none. It never raises, whatever was sent.
KeyFinder = Callable[[Arrival], bytes | None]

#: A longer key is its BLAKE2b hash of 32 bytes.
LONGEST = 64
#: A pattern is not tried on a longer path: it has no key.
LONGEST_PATH = LONGEST_TEXT

#: How each kind of key is written.
FORMS = {
    "source": '"source" or "source/24/56"',
    "header": '"header:NAME"',
    "query": '"query:NAME"',
    "cookie": '"cookie:NAME"',
    "path": '"path" or "path:PATTERN"',
    "host": '"host"',
    "bearer": '"bearer:CLAIM"',
    "sni": '"sni"',
    "client-certificate": '"client-certificate"',
    "tlv": '"tlv:NAME" or "tlv:0xEA"',
    "key": '"key"',
}
#: Types of TLVs in a PROXY v2 header (HAProxy's ``proxy-protocol.txt``, section 2.2; 0xEA is Amazon's).
TLVS = {"alpn": 0x01, "authority": 0x02, "unique-id": 0x05}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_PREFIXES = re.compile(r"source/([0-9]{1,2})(?:/([0-9]{1,3}))?")


def find_key(text: str, pattern: str | None = None) -> KeyFinder:
    """What finds the key that ``text`` names. ValueError, with what is expected, for what names none.

    * ``source``: the client's address as far as it is believed, or its network: ``source/24/56`` are the bits of IPv4
      and IPv6 that count (32 and 64 if not given). A Unix socket has none.
    * ``header:NAME``: the value of a field that is there once.
    * ``query:NAME``: a parameter of the target's query, decoded once; of several all have to be equal.
    * ``cookie:NAME``: a cookie (``cookies.find``), not decoded.
    * ``path``: the path as routes see it (``routing.routed_path``). ``path:PATTERN``: what the one group of a regular
      expression (Python's) captures, which is tried at the path's beginning only, and not on a path above
      ``LONGEST_PATH`` bytes. One that may take too long is refused (``patterns.capturing``).
    * ``host``: the host that is asked for, without port.
    * ``bearer:CLAIM``: a claim of the JSON Web Token in ``Authorization``, **unverified**; see ``bearer_key``.
    * ``sni``, ``client-certificate``: what TLS said (``model.Connection``).
    * ``tlv:NAME``: what a PROXY v2 header told beside the addresses, by one of ``TLVS``, or by its type as ``0xEA``.
    * ``key``: what was read from the first bytes of a TCP connection (``Arrival.key``).

    With ``pattern``, which ``header:`` and ``query:`` may have, only what its one group captures is the key; the rules
    are those of ``path:PATTERN``.
    """
    kind = re.split("[:/]", text, maxsplit=1)[0]
    if kind not in FORMS:
        raise ValueError(f'unknown key "{text}"; expected one of: {", ".join(FORMS.values())}')
    if pattern is not None and kind not in _WITH_PATTERN:
        raise ValueError(f'"{kind}" has no pattern')
    name = text[len(kind) + 1 :]
    if text != kind and text[len(kind)] == ":" and name and kind in _NAMED:
        return _NAMED[kind](name) if pattern is None else _WITH_PATTERN[kind](name, _captured(pattern))
    if text == kind and kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "source":
        return _source(text)
    raise ValueError(f'expected {FORMS[kind]}, found "{text}"')


def bearer_key(
    claim: str,
    *,
    key: str | bytes,
    algorithms: Sequence[str],
    clock: Callable[[], float],
    audience: str | None = None,
    issuer: str | None = None,
) -> KeyFinder:
    """What finds a claim of the bearer token where the token is good (``bearer.verifier``, which may raise)."""
    read = verifier(claim, key=key, algorithms=algorithms, clock=clock, audience=audience, issuer=issuer)

    def find_claim(arrival: Arrival) -> bytes | None:
        head = arrival.head
        token = None if head is None else token_of(head.values(b"authorization"))
        return None if token is None else bounded(read(token))

    return find_claim


def _captured(pattern: str) -> Callable[[bytes | None], bytes | None]:
    """What gives the key that is in a part of a value."""
    match = capturing(pattern).match

    def part(value: bytes | None) -> bytes | None:
        found = match(value) if value is not None and len(value) <= LONGEST_PATH else None
        return None if found is None else bounded(found[1])

    return part


def bounded(key: bytes | None) -> bytes | None:
    """``key``, its hash where it is long, None where it is empty."""
    if not key:
        return None
    return key if len(key) <= LONGEST else blake2b(key, digest_size=32).digest()


def _source(text: str) -> KeyFinder:
    match = _PREFIXES.fullmatch(text)
    ipv4, ipv6 = (32, 64) if text == "source" else (int(match[1]), int(match[2] or 64)) if match else (0, 0)
    if not (0 < ipv4 <= 32 and 0 < ipv6 <= 128):
        raise ValueError(f'expected "source", or with the bits of IPv4 and IPv6 "source/24/56", found "{text}"')
    network = lru_cache(maxsize=4096)(partial(_network, 32 - ipv4, 128 - ipv6))
    return lambda arrival: network(arrival.client)


def _network(ipv4_shift: int, ipv6_shift: int, client: str) -> bytes | None:
    """The address, 4 or 16 bytes, with nothing behind its prefix; IPv4-mapped ones are IPv4."""
    address = address_of(client)
    if address is None:
        return None
    size, shift = (4, ipv4_shift) if isinstance(address, IPv4Address) else (16, ipv6_shift)
    return (int(address) >> shift << shift).to_bytes(size, "big")


def _header(name: str, part: Callable[[bytes | None], bytes | None] = bounded) -> KeyFinder:
    _expect_token(name, "header")
    lower = name.lower().encode()

    def find_header(arrival: Arrival) -> bytes | None:
        head = arrival.head
        if head is None:
            return None
        values = head.values(lower)
        return part(values[0].strip(b" \t")) if len(values) == 1 else None

    return find_header


def _query(name: str, part: Callable[[bytes | None], bytes | None] = bounded) -> KeyFinder:
    wanted = name.encode()
    start, mark = b"&" + wanted, b"&" + wanted + b"="

    def find_parameter(arrival: Arrival) -> bytes | None:
        head = arrival.head
        if head is None:
            return None
        query = head.target.partition(b"?")[2]
        if 0x25 not in query:
            padded = b"&" + query
            _, found, rest = padded.partition(mark)
            if (times := padded.count(start)) == 0 or (times == 1 and found):  # the usual way
                return part(rest.partition(b"&")[0]) if found else None
        pairs = (pair.partition(b"=") for pair in query.split(b"&"))
        values = {value for left, _, value in pairs if left == wanted or (0x25 in left and _decoded(left) == wanted)}
        return part(_decoded(values.pop())) if len(values) == 1 else None

    return find_parameter


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text) if 0x25 in text else text


def _cookie(name: str) -> KeyFinder:
    _expect_token(name, "cookie")
    mark = name.encode() + b"="

    def find_cookie(arrival: Arrival) -> bytes | None:
        head = arrival.head
        fields = None if head is None else head.named.get(b"cookie")
        return None if fields is None else bounded(find(fields, mark))

    return find_cookie


def _path(pattern: str) -> KeyFinder:
    match = capturing(pattern).match

    def find_in_path(arrival: Arrival) -> bytes | None:
        head = arrival.head
        if head is None:
            return None
        path = routed_path(head.target)
        found = match(path) if len(path) <= LONGEST_PATH else None
        return None if found is None else bounded(found[1])

    return find_in_path


def _bearer(claim: str) -> KeyFinder:
    def find_claim(arrival: Arrival) -> bytes | None:
        head = arrival.head
        token = None if head is None else token_of(head.values(b"authorization"))
        return None if token is None else bounded(unverified_claim(token, claim))

    return find_claim


def _expect_token(name: str, what: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{what} {name!r}: expected a name of letters, digits and dashes")


def _whole_path(arrival: Arrival) -> bytes | None:
    return None if arrival.head is None else bounded(routed_path(arrival.head.target))


def _host(arrival: Arrival) -> bytes | None:
    return None if arrival.head is None else bounded(bare_host(arrival.head.authority))


def _sni(arrival: Arrival) -> bytes | None:
    return None if arrival.connection is None else bounded(arrival.connection.server_name)


def _certificate(arrival: Arrival) -> bytes | None:
    return None if arrival.connection is None else bounded(arrival.connection.certificate)


def _inspected(arrival: Arrival) -> bytes | None:
    return bounded(arrival.key)


def _tlv(name: str) -> KeyFinder:
    known = re.fullmatch(r"0x([0-9A-Fa-f]{2})", name)
    kind = int(known[1], 16) if known else TLVS.get(name)
    if kind is None:
        raise ValueError(f'tlv "{name}": expected one of: {", ".join(TLVS)}, or a type such as 0xEA')

    def find_tlv(arrival: Arrival) -> bytes | None:
        tlvs = () if arrival.connection is None else arrival.connection.tlvs
        values = {value for found, value in tlvs if found == kind}
        return bounded(values.pop()) if len(values) == 1 else None

    return find_tlv


_NAMED: dict[str, Callable[[str], KeyFinder]] = {
    "tlv": _tlv, "header": _header, "query": _query, "cookie": _cookie, "path": _path, "bearer": _bearer
}  # fmt: skip
_WITH_PATTERN: dict[str, Callable[[str, Callable[[bytes | None], bytes | None]], KeyFinder]] = {
    "header": _header, "query": _query
}  # fmt: skip
_PLAIN: dict[str, KeyFinder] = {
    "path": _whole_path, "host": _host, "sni": _sni, "client-certificate": _certificate, "key": _inspected
}  # fmt: skip
