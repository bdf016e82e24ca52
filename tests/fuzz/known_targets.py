"""Fuzz targets of who a client is known by, and let in: keys, bearer tokens, passwords, lists."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode

from stickyproxy.config.limits import Limits
from stickyproxy.errors import HTTPError
from stickyproxy.model import Arrival, Connection
from stickyproxy.sansio.access import AccessList
from stickyproxy.sansio.basicauth import UsersFileError, credentials, read_users
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.inspecting import (
    MQTTInspector,
    PostgreSQLInspector,
    RDPInspector,
    RedisInspector,
    TLSInspector,
)
from stickyproxy.sansio.keys import LONGEST, bearer_key, find_key
from stickyproxy.sansio.patterns import capturing
from stickyproxy.sansio.ratelimit import TokenBuckets, bucket_of

_LIMITS = Limits()
_SECRET = "a secret that nobody who sends bytes here knows"
_FINDERS = [
    find_key(form)
    for form in (
        *("source", "source/24/56", "header:X-User", "query:u", "cookie:SRV", "path", "path:/([^/]+)/x", "host"),
        *("bearer:sub", "sni", "client-certificate", "key"),
    )
]
_VERIFIED = bearer_key("sub", key=_SECRET, algorithms=["HS256"], clock=lambda: 1_000_000.0)


def keys(data: bytes) -> None:
    """Any target and fields: what a client is known by is a few bytes or nothing, and no token is good by chance."""
    target, _, fields = data.partition(b"\n")
    raw = b"GET %b HTTP/1.1\r\nHost: example.org\r\n%b\r\n\r\n" % (target, fields.strip(b"\r\n"))
    try:
        head = parse_request_head(raw.replace(b"\r\n\r\n\r\n", b"\r\n\r\n"), _LIMITS)
    except HTTPError:
        return
    for arrival in (
        Arrival("192.0.2.7", False, head, connection=Connection(data[:100], data[:40])),
        Arrival(data.decode("latin-1"), True, head, data),
    ):
        for find in _FINDERS:
            found = find(arrival)
            assert found is None or (isinstance(found, bytes) and 0 < len(found) <= LONGEST)
        assert _VERIFIED(arrival) is None


def _token(claims: object, head: object = None) -> bytes:
    parts = (json.dumps(part).encode() for part in (head or {"alg": "HS256"}, claims))
    return b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts) + b".c2lnbmVk"


KEYS = [
    b"/a/x?u=1&u=%31\nX-User: ann\r\nCookie: SRV=1; a=b",
    b"/%2e%2e//x?%75=2\nAuthorization: Bearer " + _token({"sub": "ann", "exp": 2e9}),
    b"/\nAuthorization: bearer " + _token({"sub": 10**400, "nbf": "x"}, {"alg": "none"}),
    b"/\nAuthorization: Bearer " + _token({"sub": "\ud800"}),
    b"/\nX-User: " + b"x" * 80,
]


def doors(data: bytes) -> None:
    """Any Authorization, file of users, pattern and address: read as meant, or refused by the error that is told."""
    values = data.split(b"\n")
    given = credentials(values[:1])
    if given is not None:
        name, password = given
        assert b":" not in name and values[0].strip(b" \t")[:5].lower() == b"basic"
    try:
        users = read_users(data)
    except UsersFileError as error:
        assert str(error).startswith("line ") or str(error) == "there is nobody in it"
    else:
        assert all(len(hashed) == 60 and b":" not in name for name, hashed in users.items())
    text = data.decode("utf-8", "replace")
    try:
        capturing(text).match(b"/aaaaaaaaaaaaaaaaaaaaaaaa!")
    except ValueError:
        pass
    try:
        lists = AccessList(text.split("\n")[:3], text.split("\n")[3:6])
    except ValueError:
        lists = AccessList(["10.0.0.0/8"], ["10.6.0.0/16"])
    assert lists.admits(text) in (True, False)
    assert TokenBuckets(1, 1.0, 1).take(bucket_of(text), 0.0) == 0


_HASHED = b"$2y$04$" + b"a" * 53
DOORS = [
    b"Basic " + b64encode(b"ann:secret"),
    b"ann:" + _HASHED + b"\n# nobody\nbob:" + _HASHED,
    rb"/([^/]+)/x(?:ab)+",
    b"10.0.0.0/8\n::1\n::ffff:10.0.0.1\n10.6.0.0/16\n\n2001:db8::/32",
    b"::ffff:192.0.2.1",
]


_INSPECTORS = [
    *(MQTTInspector(), MQTTInspector("user"), PostgreSQLInspector(), PostgreSQLInspector("database")),
    *(RDPInspector(), RedisInspector(), TLSInspector(), TLSInspector("alpn")),
]


def inspectors(data: bytes) -> None:
    """Any first bytes of a TCP connection: an inspector waits, and then stands by what it has said."""
    for inspector in _INSPECTORS:
        whole = data[: inspector.peek_bytes]
        said = None
        for end in sorted({*range(1, min(len(whole), 64)), len(whole) // 2, len(whole)}):
            found = inspector.inspect(whole[:end])
            if found is not None:
                assert len(found) <= len(whole) and said in (None, found), (inspector, said, found)
                said = found
        assert inspector.inspect(whole) == said or said is None


def _hello() -> bytes:
    extension = b"\x00\x00\x00\x0e\x00\x0c\x00\x00\x09a.example"
    body = b"\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00" + len(extension).to_bytes(2, "big") + extension
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


def _mqtt(rest: bytes) -> bytes:
    return b"\x10" + bytes([len(rest)]) + rest


_STARTUP = b"\x00\x03\x00\x00user\x00ann\x00database\x00x\x00\x00"
INSPECTORS = [
    _mqtt(b"\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x03ann\x00\x00"),
    _mqtt(b"\x00\x04MQTT\x05\x84\x00\x3c\x00\x00\x02id\x00\x00\x01t\x00\x01m\x00\x01a"),
    (len(_STARTUP) + 4).to_bytes(4, "big") + _STARTUP,
    b"\x03\x00\x00\x26\x21\xe0\x00\x00\x00\x00\x00Cookie: mstshash=ann\r\n\x01\x00\x08\x00\x03\x00\x00\x00",
    b"*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$1\r\nx\r\n",
    b"HELLO 3 AUTH default x SETNAME ann\r\n",
    _hello(),
]
