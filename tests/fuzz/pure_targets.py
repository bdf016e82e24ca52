"""Fuzz targets that decide: identity fields, cookies and tokens, routes, handshakes, the configuration."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from datetime import date, datetime, time
from functools import cache, partial
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

from stickyproxy.config import ConfigurationErrors, load
from stickyproxy.config.reading import from_tables
from stickyproxy.config.specs import Limits, Route
from stickyproxy.errors import BadAnswer, BadRequest, HTTPError
from stickyproxy.extensions import Extensions, find_extensions
from stickyproxy.model import Peer
from stickyproxy.sansio.cookies import find, strip
from stickyproxy.sansio.forwarding import forward_request
from stickyproxy.sansio.http1 import parse_request_head, parse_response_head
from stickyproxy.sansio.identity import Identity, Networks
from stickyproxy.sansio.routing import RouteTable
from stickyproxy.sansio.tokens import KeyRing, Tokens, parse_key_file
from stickyproxy.sansio.upgrade import check_answer, check_request, is_upgrade

CONF = Path(__file__).parent.parent.parent / "conf"
LIMITS = Limits()

# Identity: lines of fields behind a good request line.

_PROXIES = Networks(["10.0.0.0/8", "2001:db8::/32"])
_OURS = rb"Host|X-Forwarded-(?:For|Proto|Host|Port)|X-Real-IP|Forwarded|X-Request-ID|Via"
_IDENTITY_LINES = re.compile(rb"(?:(?:%b): [^\r\n]*\r\n)+" % _OURS)


def identities(data: bytes) -> None:
    """Any fields of a proxy or a client: an address comes out, and whole lines; a client's own word is not believed."""
    try:
        head = parse_request_head(b"GET / HTTP/1.1\r\nHost: example.org\r\n%b\r\n\r\n" % data.strip(b"\r\n"), LIMITS)
    except HTTPError:
        return
    if head.named.get(b"host") != [b"example.org"]:
        return
    stranger = Identity(Peer("192.0.2.7", 1), 80, False, _PROXIES)
    assert stranger.client(head) == "192.0.2.7" and not stranger.secure(head)
    lines = stranger.lines(head)
    assert lines == stranger.lines(parse_request_head(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", LIMITS))
    proxy = Identity(Peer("10.0.0.1", 1), 80, False, _PROXIES)
    ip_address(proxy.client(head))
    for identity in (stranger, proxy):
        assert _IDENTITY_LINES.fullmatch(identity.lines(head)), identity.lines(head)
        forwarded = forward_request(head, identity, partial(strip, mark=b"SRV="), b"1")
        again = parse_request_head(forwarded, SimpleNamespace(target=1 << 20, head=1 << 20, fields=1 << 20))
        listed = b",".join(again.named[b"x-forwarded-for"])
        assert listed.rpartition(b",")[2].strip() == identity._for
        if identity is stranger:
            assert listed == b"192.0.2.7"


IDENTITIES = [
    b"X-Forwarded-For: 1.2.3.4, 10.0.0.3:80",
    b'Forwarded: for="[2001:db8::1]:80";proto=https;host="a\\"b", for=_x',
    b"X-Forwarded-For: [::1]:1\r\nX-Forwarded-For: ::ffff:1.2.3.4\r\nX-Forwarded-Proto: https",
    b"X-Forwarded-Host: a:80\r\nX-Forwarded-Port: 1\r\nForwarded: for=unknown",
    b"X_Forwarded_For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4;by=x",
]

# Cookies and tokens.

_TOKENS = Tokens(KeyRing([bytes(32), b"k" * 32]), "app", b"SRV")
_TOKENS.members(["a", "b"])
_GENUINE = {_TOKENS.issue("a", 1_000_000): "a", _TOKENS.issue("b", 2_000_000): "b"}


def cookies(data: bytes) -> None:
    """Any Cookie fields: ours is found as browsers mean it, and hidden; no token is genuine that was not issued."""
    fields = [line for line in re.split(rb"[\r\n\0]+", data) if line]
    pairs = [pair.lstrip(b" \t") for field in fields for pair in field.split(b";")]
    values = {pair[4:] for pair in pairs if pair.startswith(b"SRV=")}
    found = find(fields, b"SRV=")
    assert found == (next(iter(values)) if len(values) == 1 else None), (fields, found)
    for field in fields:
        left = strip(field, b"SRV=")
        kept = [pair.strip(b" \t") for pair in field.split(b";") if not pair.lstrip(b" \t").startswith(b"SRV=")]
        if any(kept):
            assert [pair.strip(b" \t") for pair in left.split(b";")] == kept or left == field, (field, left)
        assert find([left], b"SRV=") is None
    for value in (data, found or b"", *values):
        said = _TOKENS.recall(value)
        assert said == _GENUINE.get(value), value
    try:
        parse_key_file(data.decode("latin-1"))
    except ValueError as error:
        assert len(str(error)) < 100


COOKIES = [
    b"a=b; SRV=" + next(iter(_GENUINE)) + b"; c=d",
    b"SRV=x\nSRV=y; xSRV=z",
    b"SRV=x;SRV=x; \tSRV=",
    next(iter(_GENUINE)),
    b"\x01" + bytes(43),
    b"# key\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
]

# Routes: a host, a space, and a target.

_PLACES = (
    Route("admin", path="/admin"),
    Route("files", path="/files/"),
    Route("api", host="api.example.org"),
    Route("wild", host="*.example.org", path="/v1"),
    Route("six", host="[2001:db8::1]"),
)
_ROUTES = RouteTable([(route, route.cluster) for route in _PLACES], "app")


def routes(data: bytes) -> None:
    """Any host and target: a cluster of the table; no spelling of a path leads past the route that protects it."""
    host, _, target = data.partition(b" ")
    cluster = _ROUTES.find(host, target)
    assert cluster in {"admin", "files", "api", "wild", "six", "app"}
    if host == b"other" and target[:1] == b"/":
        segments: list[bytes] = []
        for segment in unquote_to_bytes(target.partition(b"?")[0]).split(b"/"):
            if segment == b"..":
                del segments[-1:]
            elif segment not in (b"", b"."):
                segments.append(segment)
        assert (cluster == "admin") is (segments[:1] == [b"admin"]), (target, cluster)
    for path, name in ((data.decode("latin-1"), None), ("/", data.decode("latin-1"))):
        try:
            RouteTable([(Route("x", path=path, host=name), True)], False).find(b"example.org", b"/x")
        except ValueError:
            pass


ROUTES = [
    b"other /admin/x",
    b"other //admin?x",
    b"other /x/%2e%2e/admin/",
    b"other /adm%69n%3fx",
    b"a.example.org:80 /v1?x",
    b"[2001:db8:0::1]:80 /",
    b"api.example.org. *",
    b"/x /.%2e/..",
]

# Handshakes: the fields of a request, an empty line, a whole answer.


def handshakes(data: bytes) -> None:
    """Any handshake of either side: an offer and an answer that agree, or an error of the side that is at fault."""
    fields, _, answer = data.partition(b"\n\n")
    try:
        head = parse_request_head(b"GET /x HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % fields.strip(b"\r\n"), LIMITS)
        if not is_upgrade(head):
            return
        offer = check_request(head)
    except BadRequest:
        return
    assert re.fullmatch(rb"[A-Za-z0-9+/]{22}==", offer.key)
    try:
        said = parse_response_head(answer, b"GET")
        check_answer(offer, said)
    except BadAnswer:
        return
    assert said.status == 101 and set(said.named.get(b"sec-websocket-protocol", ())) <= set(offer.protocols)


_OFFER = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
_AGREED = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + _ACCEPT
HANDSHAKES = [
    _OFFER + b"\n\n" + _AGREED + b"\r\n",
    _OFFER + b"Sec-WebSocket-Protocol: chat, x\r\n\n\n" + _AGREED + b"Sec-WebSocket-Protocol: x\r\n\r\n",
    _OFFER
    + b'Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10, x; y="z"\r\n\n\n'
    + _AGREED
    + b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n\r\n",
]

# The configuration: a file; or, behind a byte below 16, what to put in which place of a good one.


@cache
def _extensions() -> Extensions:
    return find_extensions()


@cache
def _directory() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def configurations(data: bytes) -> None:
    """Any file: a configuration, or mistakes that name their place; and nothing is written by looking at it."""
    directory = Path(_directory().name)
    path = directory / "proxy.toml"
    try:
        if data[:1] and data[0] < 16:
            from_tables(_changed(data), _extensions(), path)
        else:
            path.write_bytes(data)
            load(path, _extensions())
    except ConfigurationErrors as errors:
        assert errors.mistakes
        for mistake in errors.mistakes:
            assert mistake.message
    assert {entry.name for entry in directory.iterdir()} <= {"proxy.toml"}


def _changed(data: bytes) -> dict[str, Any]:
    """A good configuration with other values: each pair of bytes says where, and what."""
    document: dict[str, Any] = tomllib.loads(CONFIGURATIONS[data[0] % len(CONFIGURATIONS)].decode())
    for where, what in zip(data[1::2], data[2::2], strict=False):
        places = list(_places(document))
        table, key = places[where % len(places)]
        table[key] = deepcopy(VALUES[what % len(VALUES)])
    return document


def _places(table: Any) -> Iterator[tuple[Any, Any]]:
    for key in table if isinstance(table, dict) else range(len(table)):
        yield table, key
        if isinstance(table[key], dict | list):
            yield from _places(table[key])


VALUES: list[Any] = [
    *(
        "",
        "x",
        "app",
        "cookie",
        "source",
        "none",
        "tcp",
        "http",
        "unlimited",
        "5s",
        "0s",
        "1KiB",
        "tcp:80",
        "unix:/x",
        "-",
    ),
    *(
        "tcp:127.0.0.1:80",
        "ssl:x:443:privateKey=/x",
        "\0",
        "\n",
        "ä",
        "*.x",
        "/",
        "::1/128",
        "10.0.0.1/8",
        "%",
        "x" * 300,
    ),
    *(
        True,
        False,
        0,
        1,
        -1,
        10**30,
        1.5,
        float("inf"),
        float("nan"),
        date(1979, 5, 27),
        time(1),
        datetime(1979, 5, 27),
    ),
    *(
        [],
        [[]],
        ["x"],
        [1],
        [{}],
        {},
        {"by": "cookie"},
        {"by": []},
        {"by": "cookie", "name": "S", "max_age": -1},
        {"": {}},
    ),
    *(
        {"x": {"y": []}},
        {"endpoint": "tcp:x:1", "weight": "1"},
        {"path": 1, "host": [], "cluster": {}},
        [{"cluster": "app"}],
    ),
]

CONFIGURATIONS = [path.read_bytes() for path in sorted(CONF.glob("*.toml"))]
CONFIGURATIONS += [
    (
        b'frontend.web={listen="tcp:80",cluster="a",routes=[{host="*.x",path="/",cluster="a"}],trusted_proxies=["::/0"]}\n'
        b'cluster.a={backends={a="tcp:x:1"},affinity={by="cookie",name="S",same_site="none"},keys=["0123456789abcdef"]}\n'
    ),
    (
        b'frontend.a={listen=["tcp:1","unix:/x"],protocol="tcp",cluster="a",timeouts={tunnel="1s"}}\n'
        b'cluster.a.backends.b={endpoint="tcp:x:1",weight=2}\n'
        b'cluster.a.affinity="source"\ncluster.a.tls={verify=false}\n'
    ),
]
CHANGES = [bytes((seed, where, what)) for seed in range(len(CONFIGURATIONS)) for where, what in ((0, 30), (9, 43))]
