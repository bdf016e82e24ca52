"""What a client is known by: every word of the configuration, and whatever a client may send."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stickyproxy.conformance import make_arrival
from stickyproxy.model import Arrival, Connection, RequestHead
from stickyproxy.sansio import bearer
from stickyproxy.sansio.keys import LONGEST, LONGEST_PATH, bearer_key, bounded, find_key

SECRET = b"a shared secret of 32 bytes or so"
EVERY_KEY = [
    "source", "source/24", "source/24/56", "header:X-User", "header:Cookie", "query:sid", "cookie:SRV", "path",
    "path:/room/([^/]+)", "host", "bearer:sub", "sni", "client-certificate", "key",
]  # fmt: skip


def arrival(
    target: bytes = b"/", *fields: tuple[bytes, bytes], cookies: tuple[bytes, ...] = (), host: bytes = b"h"
) -> Arrival:
    """A request with these fields, which have no meaning to a proxy, and these Cookie fields."""
    plain = [piece for name, value in fields for piece in (name, b": ", value, b"\r\n")]
    head = RequestHead(b"GET", target, 1, plain, {b"cookie": list(cookies)} if cookies else {}, 0, host, True, None)
    return Arrival("192.0.2.1", False, head)


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(claims: Any) -> bytes:
    return b".".join((b64(b'{"alg":"none"}'), b64(json.dumps(claims).encode()), b""))


def authorized(value: bytes) -> Arrival:
    return arrival(b"/", (b"authorization", value))


@pytest.mark.parametrize(
    ("text", "client", "key"),
    [
        ("source", "192.0.2.77", b"\xc0\x00\x02\x4d"),
        ("source", "::ffff:192.0.2.77", b"\xc0\x00\x02\x4d"),
        ("source", "2001:db8::1", bytes.fromhex("20010db8") + bytes(12)),
        ("source", "fe80::1%eth0", bytes.fromhex("fe80") + bytes(14)),
        ("source/24", "192.0.2.77", b"\xc0\x00\x02\x00"),
        ("source/24", "2001:db8:0:1::1", bytes.fromhex("20010db800000001") + bytes(8)),
        ("source/24/48", "2001:db8:0:1::1", bytes.fromhex("20010db8") + bytes(12)),
        ("source/32/128", "2001:db8::1", bytes.fromhex("20010db8") + bytes(11) + b"\x01"),
        ("source", "unix", None),
        ("source", "", None),
        ("source", "nonsense", None),
    ],
)
def test_source(text: str, client: str, key: bytes | None) -> None:
    """Clients are known by their address or network; IPv4 on an IPv6 socket is IPv4."""
    assert find_key(text)(Arrival(client, False)) == key


@pytest.mark.parametrize(
    ("text", "request_", "key"),
    [
        ("header:X-User", arrival(b"/", (b"x-user", b" ann \t")), b"ann"),
        ("header:x-user", arrival(b"/", (b"X-User", b"ann")), b"ann"),
        ("header:X-User", arrival(b"/", (b"X-User", b"ann"), (b"X-User", b"ann")), None),
        ("header:X-User", arrival(b"/", (b"X-User", b"")), None),
        ("header:X-User", arrival(), None),
        ("header:Cookie", arrival(cookies=(b"a=b",)), b"a=b"),
        ("query:sid", arrival(b"/?a=b&sid=7%2F8&c"), b"7/8"),
        ("query:sid", arrival(b"/?sid=7%252F"), b"7%2F"),
        ("query:sid", arrival(b"/?s%69d=7"), b"7"),
        ("query:sid", arrival(b"/?sid=7&sid=7"), b"7"),
        ("query:sid", arrival(b"/?sid=7&sid=8"), None),
        ("query:sid", arrival(b"/?xsid=7&side=8"), None),
        ("query:sid", arrival(b"/?sid&sid=7"), None),
        ("query:sid", arrival(b"/?side=8&sid=7"), b"7"),
        ("query:sid", arrival(b"/?sid=7=8&a"), b"7=8"),
        ("query:sid", arrival(b"/?sid="), None),
        ("query:sid", arrival(b"/?sid"), None),
        ("query:sid", arrival(b"/sid=7"), None),
        ("query:größe", arrival(b"/?gr%C3%B6%C3%9Fe=1"), b"1"),
        ("cookie:sid", arrival(cookies=(b"a=b; sid=7",)), b"7"),
        ("cookie:sid", arrival(cookies=(b"sid=7; sid=8",)), None),
        ("cookie:sid", arrival(), None),
        ("path", arrival(b"/a/../b//c%20d?x"), b"/b/c d"),
        ("path", arrival(b"*"), b"/"),
        ("path:/room/([^/]+)", arrival(b"/room/7/chat?x=/room/8"), b"7"),
        ("path:/room/([^/]+)", arrival(b"/r%6Fom/7"), b"7"),
        ("path:/room/([^/]+)", arrival(b"/x/room/7"), None),
        ("path:/room/([^/]+)", arrival(b"/room/7/" + b"x" * LONGEST_PATH), None),
        ("path:/room/(\\d*)", arrival(b"/room/x"), None),
        ("path:(?:/x|/y/(.))", arrival(b"/x"), None),
        ("path:/[^/]+/[^/]+/[^/]+/[^/]+/([^/]+)/x", arrival(b"/a/b/c/d/e/x"), b"e"),
        ("path:/(?:[a-z]+/){3}([^/]+)$", arrival(b"/a/b/c/d"), b"d"),
        ("path:/(?:v[0-9]+/)?(?:room|game)/([^/]+)(?:/|$)", arrival(b"/v2/game/7/x"), b"7"),
        ("path:/.*/room/([^/]+)", arrival(b"/a/b/room/7"), b"7"),
        ("path:/größe/(.)", arrival(b"/gr%C3%B6%C3%9Fe/1"), b"1"),
        ("host", arrival(host=b"A.example.org.:8080"), b"a.example.org"),
        ("host", arrival(host=b"[::0:1]:80"), b"[::1]"),
        ("host", arrival(host=b""), None),
    ],
)
def test_requests(text: str, request_: Arrival, key: bytes | None) -> None:
    """A field, a parameter, a cookie, a path or a host names the client where it is there, and says one thing."""
    assert find_key(text)(request_) == key


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"Bearer " + token({"sub": "ann", "exp": 1}), b"ann"),
        (b"bEARER   " + token({"sub": "ann"}), b"ann"),
        (b"Bearer " + token({"sub": 7}), b"7"),
        (b"Bearer " + token({"sub": "ö"}), "ö".encode()),
        (b"Bearer " + token({"sub": True}), None),
        (b"Bearer " + token({"sub": ["ann"]}), None),
        (b"Bearer " + token({"sub": ""}), None),
        (b"Bearer " + token({"sub": "\ud800"}), None),
        (b"Bearer " + token({}), None),
        (b"Bearer " + token(["sub"]), None),
        (b"Bearer " + token({"sub": "ann"}) + b".x", None),
        (b"Bearer a.b!.c", None),
        (b"Bearer a." + b64(b"[" * 5000) + b".c", None),
        (b"Bearer a." + b64(b'{"sub":' + b"1" * 5000 + b"}") + b".c", None),
        (b"Bearer " + token({"sub": "ann", "x": "y" * 8192}), None),
        (b"Bearer", None),
        (b"Basic " + token({"sub": "ann"}), None),
    ],
)
def test_bearer_unverified(value: bytes, key: bytes | None) -> None:
    """A claim of a bearer token names the client; a token that is none names nobody."""
    assert find_key("bearer:sub")(authorized(value)) == key


def test_two_bearer_tokens() -> None:
    """Two Authorization fields say nothing."""
    field = (b"Authorization", b"Bearer " + token({"sub": "ann"}))
    assert find_key("bearer:sub")(arrival(b"/", field)) == b"ann"
    assert find_key("bearer:sub")(arrival(b"/", field, field)) is None


def test_connection() -> None:
    """What TLS said, and what was read from the first bytes, are keys also where there is no request."""
    tcp = Arrival("192.0.2.1", True, None, b"client-7", Connection("Shop.example.org".lower().encode(), b"d" * 32))
    assert find_key("sni")(tcp) == b"shop.example.org"
    assert find_key("client-certificate")(tcp) == b"d" * 32
    assert find_key("key")(tcp) == b"client-7"
    for text in ("sni", "client-certificate", "key"):
        assert find_key(text)(Arrival("192.0.2.1", True, None, None, Connection())) is None
        assert find_key(text)(Arrival("192.0.2.1", True)) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("tlv:authority", b"shop.example.org"),
        ("tlv:0x02", b"shop.example.org"),
        ("tlv:0xEA", b"\x01vpce-1"),
        ("tlv:alpn", None),
        ("tlv:unique-id", None),  # told twice, differently
    ],
)
def test_tlvs(text: str, key: bytes | None) -> None:
    """What a PROXY header told beside the addresses is a key, if it is told once."""
    tlvs = ((2, b"shop.example.org"), (0xEA, b"\x01vpce-1"), (5, b"a"), (5, b"b"))
    assert find_key(text)(Arrival("192.0.2.1", False, None, None, Connection(None, None, tlvs))) == key
    assert find_key(text)(Arrival("192.0.2.1", False)) is None


def test_long_keys_are_hashed() -> None:
    """However long a key is, what a table keeps is short, the same each time, and different for different keys."""
    assert bounded(b"x" * LONGEST) == b"x" * LONGEST
    long, longer = (find_key("query:sid")(arrival(b"/?sid=" + b"x" * size)) for size in (5000, 5001))
    assert long is not None and len(long) == 32 and long != longer
    assert long == find_key("query:sid")(arrival(b"/?sid=" + b"x" * 5000))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "unknown key"),
        ("cokie:SRV", 'unknown key "cokie:SRV"; expected one of: "source" or "source/24/56", "header:NAME"'),
        ("header", 'expected "header:NAME", found "header"'),
        ("header:", 'expected "header:NAME"'),
        ("header/X", 'expected "header:NAME"'),
        ("header:X User", "expected a name of letters, digits and dashes"),
        ("cookie:a;b", "expected a name"),
        ("host:x", 'expected "host"'),
        ("source:x", '"source/24/56"'),
        ("source/0", '"source/24/56"'),
        ("source/33", '"source/24/56"'),
        ("source/24/129", '"source/24/56"'),
        ("source/24/56/1", '"source/24/56"'),
        ("source/²", '"source/24/56"'),
        ("path:/room/(", "is not a regular expression"),
        ("path:/room", 'expected one group "(…)" that captures the key, found 0'),
        ("path:/(a)/(b)", "found 2"),
        ("path:(a+)+b", "may take for ever"),
        ("path:/((?:a|a)*)b", "may take for ever"),
        ("path:/((?:a?a?)*)b", "may take for ever"),
        ("path:/(?=((?:a+)*)b)", "may take for ever"),
        ("path:/(?:(?:x(a{1,9}){1,9})b)?", "may take for ever"),
        ("path:/(?:a*){8}(b)", "may take for ever"),
        ("path:/.*/.*/.*/.*/([^/]+)/x", "may take for ever"),
        ("path:/" + "a?" * 30 + "(" + "a" * 30 + ")b", "may take for ever"),
        ("path:/(?:a|b|ab){12}(x)", "may take for ever"),
        (r"path:/(?!a*a*a*a*b)(c)", "may take for ever"),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    """What is no key says what one looks like."""
    with pytest.raises(ValueError, match=re.escape(expected)):
        find_key(text)


@pytest.mark.parametrize(
    "pattern", [r"/(a+)b", r"/((?:ab)+)", r"/(?P<k>[\w-]{8,32})(?:/|$)", r"/(?:x/)?(.*?)/", r"(\d++)"]
)
def test_usual_patterns(pattern: str) -> None:
    """The patterns that one writes for a path are taken."""
    find_key(f"path:{pattern}")


@pytest.mark.parametrize("text", EVERY_KEY)
def test_the_conformance_kit_has_keys(text: str) -> None:
    """The arrivals that are handed to extensions' tests have no surprises for any key."""
    assert isinstance(find_key(text)(make_arrival(3)), bytes | None)


FIELDS = st.lists(
    st.tuples(st.sampled_from([b"X-User", b"authorization", b"Accept"]), st.binary(max_size=80)), max_size=3
)
TARGETS = st.binary(max_size=80) | st.builds(b"/room/%b?sid=%b&%b".__mod__, st.tuples(*[st.binary(max_size=20)] * 3))
HOSTS = st.binary(max_size=40)
COOKIES = st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(b"SRV=".__add__), max_size=3)


@given(TARGETS, FIELDS, COOKIES, HOSTS, st.text(max_size=60), st.none() | st.binary(max_size=200))
@example(b"/", [(b"Authorization", b"Bearer a.W10.c")], [], b"[::", "::ffff:1.2.3.4", b"")
def test_nothing_raises(
    target: bytes, fields: list[tuple[bytes, bytes]], cookies: list[bytes], host: bytes, client: str, key: bytes | None
) -> None:
    """Whatever is sent, a key is a few bytes or there is none."""
    arrived = arrival(target, *fields, cookies=tuple(cookies), host=host)
    arrived = arrived._replace(client=client, key=key, connection=Connection(host, key))
    for text in EVERY_KEY:
        for each in (arrived, arrived._replace(head=None)):
            found = find_key(text)(each)
            assert found is None or 0 < len(found) <= LONGEST
    assert CHECKED(arrived) is None


class Verified:
    """PyJWT's tokens, and a clock that can be set."""

    now = 1000.0

    def finder(self, **options: Any) -> Any:
        return bearer_key("sub", **{"key": SECRET, "algorithms": ["HS256"], "clock": lambda: self.now, **options})

    def request(self, claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256") -> Arrival:
        import jwt

        return authorized(b"Bearer " + jwt.encode(claims, key, algorithm).encode())


CHECKED = Verified().finder()


def test_bearer_verified() -> None:
    """Only a token that the key verifies, and that holds now, names its client."""
    scene = Verified()
    find = scene.finder()
    assert find(scene.request({"sub": "ann", "exp": 1001})) == b"ann"
    assert find(scene.request({"sub": "ann"})) == b"ann"
    assert find(scene.request({"sub": "ann", "exp": 1000})) is None
    assert find(scene.request({"sub": "ann", "nbf": 1001})) is None
    assert find(scene.request({"sub": "ann", "exp": "soon"})) is None
    assert find(scene.request({"sub": "ann"}, b"another secret of thirty-two bytes")) is None
    assert find(authorized(b"Bearer " + token({"sub": "ann"}))) is None
    assert find(Arrival("192.0.2.1", False)) is None


def test_bearer_for_whom_and_by_whom() -> None:
    """Audience and issuer count where they are asked for."""
    scene = Verified()
    find = scene.finder(audience="shop", issuer="login")
    assert find(scene.request({"sub": "ann", "aud": ["shop", "x"], "iss": "login"})) == b"ann"
    assert find(scene.request({"sub": "ann", "aud": "bank", "iss": "login"})) is None
    assert find(scene.request({"sub": "ann", "aud": "shop"})) is None
    assert scene.finder()(scene.request({"sub": "ann", "aud": "bank"})) == b"ann"


def test_a_remembered_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is verified once, is good until it expires, and the memory of good ones is bounded."""
    import jwt

    scene, verified = Verified(), []
    real = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *given, **options: (verified.append(1), real(*given, **options))[1])
    find, ann = scene.finder(), scene.request({"sub": "ann", "exp": 2000})
    assert [find(ann) for _ in range(5)] == [b"ann"] * 5
    assert len(verified) == 1
    monkeypatch.setattr(bearer, "REMEMBERED", 3)
    for number in range(5):
        assert find(scene.request({"sub": f"user-{number}"})) == b"user-%d" % number
    assert find(ann) == b"ann" and len(verified) == 7
    scene.now = 2000.0
    assert find(ann) is None and find(ann) is None


def test_bearer_with_a_public_key() -> None:
    """A token that is signed with a private key is verified with the public one, which is no shared secret."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    pem = private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    scene = Verified()
    find = scene.finder(key=public, algorithms=["ES256"])
    assert find(scene.request({"sub": "ann"}, private, "ES256")) == b"ann"
    assert find(scene.request({"sub": "ann"})) is None
    for options, expected in (
        ({"key": public}, "cannot be used with HS256"),
        ({"key": pem, "algorithms": ["ES256"]}, "private"),
        ({"key": b"x", "algorithms": ["ES256"]}, "cannot be used with ES256"),
        ({"algorithms": ["none"]}, "expected one of"),
        ({"algorithms": []}, "expected one or more"),
        ({"algorithms": ["HS256", "ES256"]}, "the same kind of key"),
    ):
        with pytest.raises(ValueError, match=expected):
            scene.finder(**options)


def test_a_pattern_takes_no_time() -> None:
    """A pattern that is taken is quick on the longest path, also where it does not match."""
    find = find_key(r"path:/(a*)a*b")
    begun = time.perf_counter()
    assert find(arrival(b"/" + b"a" * (LONGEST_PATH - 1))) is None
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    ("text", "request_", "key"),
    [
        ("header:Last-Event-ID", arrival(b"/", (b"last-event-id", b" a-17 ")), b"a"),
        ("header:Last-Event-ID", arrival(b"/", (b"Last-Event-ID", b"a-" + b"7" * 300)), b"a"),
        ("header:Last-Event-ID", arrival(b"/", (b"Last-Event-ID", b"17")), None),
        ("header:Last-Event-ID", arrival(b"/", (b"Last-Event-ID", b"-17")), None),
        ("header:Last-Event-ID", arrival(b"/", (b"Last-Event-ID", b"a-" * LONGEST_PATH)), None),
        ("header:Last-Event-ID", arrival(), None),
        ("query:last", arrival(b"/?last=a%2D17"), b"a"),
        ("query:last", arrival(b"/?last=%2Da"), None),
        ("query:last", arrival(), None),
    ],
)
def test_a_part(text: str, request_: Arrival, key: bytes | None) -> None:
    """Of a field or a parameter a pattern takes a part, from the beginning, and what does not match is no key."""
    assert find_key(text, "([^-]*)-")(request_) == key


def test_a_part_of_what() -> None:
    """Where no pattern belongs it is refused, and so is one that may take for ever."""
    with pytest.raises(ValueError, match='"cookie" has no pattern'):
        find_key("cookie:SRV", "(a)")
    with pytest.raises(ValueError, match="may take for ever"):
        find_key("header:X", "(a+)+b")
