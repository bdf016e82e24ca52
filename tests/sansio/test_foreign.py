"""The cookies of other proxies: whose they are, by the documented formulas and as the proxies themselves set them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.affinity import foreign
from stickyproxy.sansio.affinity.foreign import Place, Reader

#: Those that the real proxies had when they set the cookies below.
PLACES = [Place("a", "127.0.0.1", 9301), Place("b", "127.0.0.1", 9302), Place("c", "127.0.0.1", 9303)]
OTHERS = [Place("six", "::1", 80), Place("named", "app.example.org", 80), Place("socket", "", 0)]
URL = b"http://127.0.0.1:9302"

SEEN = {
    "HAProxy 2.6": (foreign.haproxy(PLACES, None), [b"a", b"b", b"c"]),
    "HAProxy 2.6, maxidle, maxlife": (
        foreign.haproxy(PLACES, None),
        [b"a|awQbi|awQbi", b"b|awQbi|awQbi", b"c|awQbi|awQbi"],
    ),
    "HAProxy 2.6, dynamic": (
        foreign.haproxy(PLACES, "secret"),
        [b"54de1f99b6652fad", b"1e481a0e579fa4a0", b"b89682bebb857524"],
    ),
    "nginx 1.31, c with a route": (
        foreign.nginx(PLACES),
        [b"bae83c72847065faafa019d6939c04a1", b"819a51485518ac8653162f5380dc87eb", b"c"],
    ),
    "Traefik 3.7, b with a slash": (
        foreign.traefik(PLACES),
        [b"71c737602a326fae", b"dc1d0799f76c80b0", b"fd3f129f0c01b87e"],
    ),
    "Traefik 3.0 to 3.3.3": (
        foreign.traefik(PLACES),
        [b"114afd2937e6b9e5", b"61267e100f46aad2", b"ccc75afb60215d8a"],
    ),
    "Caddy 2.11": (
        foreign.caddy(PLACES, ""),
        [
            b"0ec872920d4845e3975d37d1ab1ae38577dc38616fc025130ee848bc99dd9fbc",
            b"4162fc5ba4b706161e5195d8c5cbf8a0211f7be125741fb23411f1eb4e5b51d1",
            b"f2f26bd7e14f4b5b5ec1d180b0d65e6051b7e5188e9bcdb5d43eb5a1f7ea5d1f",
        ],
    ),
    "Caddy 2.11, secret": (
        foreign.caddy(PLACES[:2], "secret"),
        [
            b"d164816f552bf57fbc76ebdd00e7bf174c38a586671f12595c3bb8ca644a6819",
            b"8fe10b3eaf12912edc95331e5236e546ef68e76c6f2817775521d1a25752e7c2",
        ],
    ),
    "Envoy 1.40, ttl": (
        foreign.unquoted(foreign.envoy(PLACES)),
        [
            b'"Cg4xMjcuMC4wLjE6OTMwMRCnuJDYBg=="',
            b'"Cg4xMjcuMC4wLjE6OTMwMhCnuJDYBg=="',
            b'"Cg4xMjcuMC4wLjE6OTMwMxCnuJDYBg=="',
        ],
    ),
    "Envoy 1.40": (
        foreign.unquoted(foreign.envoy(PLACES)),
        [
            b'"Cg4xMjcuMC4wLjE6OTMwMQ=="',
            b'"Cg4xMjcuMC4wLjE6OTMwMg=="',
            b'"Cg4xMjcuMC4wLjE6OTMwMw=="',
        ],
    ),
}


def md5(text: bytes) -> bytes:
    return hashlib.md5(text).hexdigest().encode()


def xxh64(key: bytes, address: bytes, port: int) -> bytes:
    return b"%016x" % xxhash.xxh64_intdigest(key + address + struct.pack(">I", port), 0)


def fnv1(data: bytes) -> bytes:
    state = 14695981039346656037
    for byte in data:
        state = state * 1099511628211 % 2**64 ^ byte
    return b"%x" % state


def fnv1a(data: bytes) -> bytes:
    state = 14695981039346656037
    for byte in data:
        state = (state ^ byte) * 1099511628211 % 2**64
    return b"%016x" % state


def module(**options: object) -> Reader:
    given = {"hmac_key": None, "index": False, "delimiter": None, **options}
    return foreign.sticky_module([*PLACES, *OTHERS], **given)  # type: ignore[arg-type]


BY_FORMULA = [
    (foreign.haproxy(OTHERS, "k"), xxh64(b"k", socket.inet_pton(socket.AF_INET6, "::1"), 80), "six"),
    (foreign.haproxy(OTHERS, "k"), xxh64(b"k", socket.inet_pton(socket.AF_INET6, "::1"), 80) + b"|abcde", "six"),
    (foreign.haproxy(OTHERS, "k"), b"named|abcde|fghij", "named"),
    (foreign.haproxy(OTHERS, "another"), xxh64(b"k", socket.inet_pton(socket.AF_INET6, "::1"), 80), None),
    (foreign.haproxy(OTHERS, None), b"d", None),
    (foreign.nginx(OTHERS), md5(b"[::1]:80"), "six"),
    (foreign.nginx(OTHERS), md5(b"app.example.org:80"), None),
    (foreign.nginx(OTHERS), b"socket", "socket"),
    (module(), md5(b"127.0.0.1:9302"), "b"),
    (module(), hashlib.sha1(b"127.0.0.1:9302").hexdigest().encode(), "b"),
    (module(), b"127.0.0.1:9302", "b"),
    (module(), md5(b"app.example.org"), "named"),
    (module(), md5(b"app.example.org:80"), "named"),
    (module(), md5(b"[::1]"), "six"),
    (module(), b"1", None),
    (module(index=True), b"1", "b"),
    (module(index=True), b"6", None),
    (module(hmac_key="k"), hmac.new(b"k", b"127.0.0.1:9303", "md5").hexdigest().encode(), "c"),
    (module(hmac_key="k"), hmac.new(b"k", b"127.0.0.1:9303", "sha1").hexdigest().encode(), "c"),
    (module(hmac_key="k"), md5(b"127.0.0.1:9303"), None),
    (module(delimiter="."), md5(b"127.0.0.1:9302") + b".d5f0ab.node", "b"),
    (module(), md5(b"127.0.0.1:9302") + b".d5f0ab.node", None),
    (foreign.traefik(PLACES), hashlib.sha256(URL).hexdigest()[:16].encode(), "b"),
    (foreign.traefik(PLACES), hashlib.sha256(b"https://127.0.0.1:9302/").hexdigest()[:16].encode(), "b"),
    (foreign.traefik(PLACES), URL, "b"),
    (foreign.traefik(PLACES), fnv1(URL), "b"),
    (foreign.traefik(PLACES), fnv1(fnv1(URL)), "b"),
    (foreign.traefik(PLACES), fnv1(fnv1a(URL)), "b"),
    (foreign.traefik(OTHERS), b"http://app.example.org", "named"),
    (foreign.traefik(OTHERS), b"https://app.example.org", None),
    (foreign.caddy(OTHERS, "k"), hmac.new(b"k", b"app.example.org:80", "sha256").hexdigest().encode(), "named"),
    (foreign.caddy(OTHERS, "k"), hmac.new(b"j", b"app.example.org:80", "sha256").hexdigest().encode(), None),
    (foreign.envoy(PLACES), base64.b64encode(b"127.0.0.1:9302"), "b"),
    (foreign.envoy(OTHERS), base64.b64encode(b"[::1]:80"), "six"),
    (foreign.envoy(OTHERS), base64.b64encode(b"\n\x08[::1]:80"), "six"),
    (foreign.envoy(PLACES), base64.b64encode(b"\n\xff127.0.0.1:9302"), "b"),  # a length beyond the end
    (foreign.envoy(PLACES), base64.b64encode(b"\n"), None),
    (foreign.envoy(PLACES), b"a", None),
]


@pytest.mark.parametrize(("read", "values"), SEEN.values(), ids=SEEN)
def test_as_the_proxies_set_them(read: Reader, values: list[bytes]) -> None:
    """What the real proxy set for its backends a, b and c is recognised as theirs."""
    assert [read(value) for value in values] == ["a", "b", "c"][: len(values)]


@pytest.mark.parametrize(("read", "value", "expected"), BY_FORMULA)
def test_by_the_formula(read: Reader, value: bytes, expected: str | None) -> None:
    """What the documented formula gives for a backend is recognised as its value, and nothing else."""
    assert read(value) == expected


READERS = [
    foreign.unquoted(read)
    for read in (
        foreign.haproxy([*PLACES, *OTHERS], "k"),
        foreign.nginx([*PLACES, *OTHERS]),
        module(),
        module(hmac_key="k", delimiter="|", index=True),
        foreign.traefik([*PLACES, *OTHERS]),
        foreign.caddy([*PLACES, *OTHERS], "k"),
        foreign.envoy([*PLACES, *OTHERS]),
    )
]
IDS = {place.id for place in (*PLACES, *OTHERS)}


@given(st.binary(max_size=80) | st.binary(max_size=60).map(base64.b64encode))
def test_any_bytes(value: bytes) -> None:
    """No value raises, or names somebody who is not of the cluster."""
    for read in READERS:
        assert read(value) in IDS | {None}
