"""What other proxies write into the cookies by which they keep a client at its backend. Floor 2, pure.

Each function here gives a ``Reader`` for the backends of one cluster, which says whose value it is. Most values follow
from a backend's address, so that all of them are known in advance, and a reader only looks them up; those that follow
from a secret are compared in constant time. A proxy that resolved a host name hashed the address that it got, which
nobody knows here: only what it took as it was written is recognised then. Values may be quoted, as Envoy's are.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from xxhash import xxh64_hexdigest

#: From the value of a cookie (bytes) to the id of a backend, or None. It never raises.
Reader = Callable[[bytes], str | None]


class Place(NamedTuple):
    """A backend and where it listens: ``host`` as it is configured, empty where there is none (a Unix socket)."""

    id: str
    host: str
    port: int

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str | None:
        """``127.0.0.1:80``, ``[::1]:80``, ``localhost:80``."""
        if not self.host:
            return None
        address = self.address
        host = self.host if address is None else f"[{address}]" if address.version == 6 else str(address)
        return f"{host}:{self.port}"


def haproxy(places: Sequence[Place], dynamic_key: str | None) -> Reader:
    """``cookie NAME insert``: the value that ``server … cookie VALUE`` has, which is to be the backend's id.

    With ``maxidle`` or ``maxlife``, ``|`` and dates follow, which are not judged: a session that we could keep is
    not to be lost. ``dynamic``: XXH64, seed 0, of the ``dynamic-cookie-key``, the address (4 or 16 bytes) and the
    port (4 bytes), in 16 hexadecimal digits. Source: HAProxy's configuration manual (``cookie``,
    ``dynamic-cookie-key``), ``srv_set_dyncookie`` in its ``src/server.c``, and HAProxy 2.6 itself.
    """
    named = {place.id.encode(): place.id for place in places}
    hashed: dict[bytes, str] = {}
    if dynamic_key is not None:
        for place in places:
            if (address := place.address) is not None:
                told = dynamic_key.encode() + address.packed + place.port.to_bytes(4, "big")
                hashed[xxh64_hexdigest(told).encode()] = place.id
    of_hash = _secretly(hashed)

    def read(value: bytes) -> str | None:
        value = value.partition(b"|")[0]
        return named.get(value) or of_hash(value)

    return read


def nginx(places: Sequence[Place]) -> Reader:
    """``sticky cookie NAME``: MD5 of the address and port, in hexadecimal, or the ``route`` of the server.

    The latter is to be the backend's id. Source: ngx_http_upstream_module, ``sticky``, and nginx 1.31 itself.
    """
    values = {place.id.encode(): place.id for place in places}
    for place, text in _authorities(places):
        if place.address is not None:
            values[_md5(text)] = place.id
    return values.get


def sticky_module(places: Sequence[Place], hmac_key: str | None, index: bool, delimiter: str | None) -> Reader:
    """nginx-sticky-module(-ng): MD5 or SHA-1 of the server as it is written, or that as it is (``text=raw``).

    ``hmac_key``: HMAC-MD5 or HMAC-SHA1 instead. ``index``: the position in the list, from 0. ``delimiter``: where a
    value ends to which another cookie was added (``transfer``). Source: README.md, ngx_http_sticky_module.c and
    ngx_http_sticky_misc.c of nginx-sticky-module-ng.
    """
    values: dict[bytes, str] = {}
    for place, text in _authorities(places):
        for server in (text, text.removesuffix(":80")):
            if hmac_key is None:
                values |= dict.fromkeys((_md5(server), _hex(hashlib.sha1, server), server.encode()), place.id)
            else:
                for digest in ("md5", "sha1"):
                    values[hmac.new(hmac_key.encode(), server.encode(), digest).hexdigest().encode()] = place.id
    if index:
        values |= {b"%d" % position: place.id for position, place in enumerate(places)}
    read = values.get if hmac_key is None else _secretly(values)
    if not delimiter:
        return read
    until = delimiter.encode()
    return lambda value: read(value.partition(until)[0])


def traefik(places: Sequence[Place]) -> Reader:
    """The first 16 hexadecimal digits of SHA-256 of the server's URL; to 3.3.3 FNV-1 of its FNV-1a, both of 64 bits.

    Before that it was the URL itself, or its FNV-1, once or twice: Traefik still honours those. The URL is taken as
    HTTP or HTTPS, with and without a slash at its end. Source: pkg/server/service/service.go and
    pkg/server/service/loadbalancer/sticky.go, and Traefik 3.0 to 3.7 itself.
    """
    values: dict[bytes, str] = {}
    for place, text in _authorities(places):
        for scheme, port in (("http", ":80"), ("h2c", ":80"), ("https", ":443")):
            for host in {text, text.removesuffix(port)}:
                for url in (f"{scheme}://{host}", f"{scheme}://{host}/"):
                    names = (f"{_fnv(url, variant_a=True):016x}", f"{_fnv(url):x}")
                    older = (url, names[1], *(f"{_fnv(name):x}" for name in names))
                    values |= dict.fromkeys((known.encode() for known in older), place.id)
                    values[_hex(hashlib.sha256, url)[:16]] = place.id
    return values.get


def caddy(places: Sequence[Place], secret: str) -> Reader:
    """``lb_policy cookie``: HMAC-SHA256 of ``host:port`` as it is written, with the secret, in hexadecimal.

    Source: CookieHashSelection in modules/caddyhttp/reverseproxy/selectionpolicies.go, and Caddy 2.11 itself.
    """
    key = secret.encode()
    return _secretly(
        {hmac.new(key, text.encode(), "sha256").hexdigest().encode(): place.id for place, text in _authorities(places)}
    )


def envoy(places: Sequence[Place]) -> Reader:
    """Cookie-based stateful sessions: Base64 of the address and port, or of a message that begins with them.

    The message (``address = 1; expires = 2`` in Protocol Buffers) is what newer versions write. When it expires is not
    judged: the browser has the same time from Max-Age, and the clock was once that of the machine's start. Source:
    source/extensions/http/stateful_session/cookie/cookie.h and cookie.proto, and Envoy 1.40 itself.
    """
    values = {text.encode(): place.id for place, text in _authorities(places) if place.address is not None}

    def read(value: bytes) -> str | None:
        try:
            told = binascii.a2b_base64(value)
        except binascii.Error:
            return None
        if told[:1] == b"\n" and len(told) > 1:  # field 1, a string; its length stands in one byte below 128
            told = told[2 : 2 + told[1]]
        return values.get(told)

    return read


def unquoted(read: Reader) -> Reader:
    """``read`` for values that may stand in double quotes."""
    return lambda value: read(value[1:-1] if value[:1] == b'"' == value[-1:] else value)


def _authorities(places: Sequence[Place]) -> Iterator[tuple[Place, str]]:
    for place in places:
        if (text := place.authority) is not None:
            yield place, text


def _secretly(values: Mapping[bytes, str]) -> Reader:
    """Looks ``values`` up without telling by the time that it takes how near a guess was."""
    pairs = tuple(values.items())

    def read(value: bytes) -> str | None:
        found = [id for known, id in pairs if hmac.compare_digest(known, value)]
        return found[0] if found else None

    return read


def _hex(algorithm: Callable[[bytes], hashlib._Hash], text: str) -> bytes:
    return algorithm(text.encode()).hexdigest().encode()


def _md5(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().encode()


def _fnv(text: str, *, variant_a: bool = False) -> int:
    """FNV-1 of 64 bits, or FNV-1a: the same in the other order."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 if variant_a else state * 0x100000001B3 ^ byte
        state &= 0xFFFFFFFFFFFFFFFF
    return state
