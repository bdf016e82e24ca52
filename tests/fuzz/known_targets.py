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
