"""Heads as they are sent on: requests to the backend, answers to the client. Floor 2, pure.

RFC 9110 section 7.6 and RFC 9112 as an intermediary. One pass over the fields drops what belongs to one connection only
and what is ours to say; framing, Via, Date, the client's identity and our cookie are then written anew.

A field that imitates one of ours or a framing field by another separator (``Content_Length``, ``X_Forwarded.For``) is
dropped from requests: CGI, WSGI and their kind make one variable of all of them. So is ``Proxy``, which CGI makes the
variable HTTP_PROXY of.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from stickyproxy.errors import HTTPError
from stickyproxy.model import CHUNKED, UNTIL_CLOSE, Field, RequestHead, ResponseHead
from stickyproxy.sansio.cookies import strip
from stickyproxy.sansio.http1 import connection_tokens
from stickyproxy.sansio.identity import Identity


def _names(text: str) -> frozenset[bytes]:
    return frozenset(text.encode().split())


def _imitations(names: Iterable[bytes], separators: str) -> frozenset[bytes]:
    """Every spelling of ``names`` that has another of ``separators`` for a ``-``."""
    spellings: set[bytes] = set()
    for name in names:
        parts = name.decode().split("-")
        for chosen in itertools.product("-" + separators, repeat=len(parts) - 1):
            spellings.add("".join(itertools.chain(*zip(parts, (*chosen, ""), strict=True))).encode())
    return frozenset(spellings - set(names))


_HOP_BY_HOP = _names(
    "connection keep-alive proxy-connection te transfer-encoding upgrade http2-settings proxy-authenticate "
    "proxy-authorization proxy-authentication-info"
)
_OURS = _names(
    "x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip forwarded via x-request-id"
)
#: What other proxies say of a client: passed on from a trusted peer, removed from anyone else's request.
_THEIRS = _names(
    "client-ip x-client-ip true-client-ip x-cluster-client-ip cf-connecting-ip fastly-client-ip forwarded-for "
    "x-forwarded x-original-forwarded-for x-original-host x-forwarded-by x-forwarded-server x-forwarded-prefix "
    "x-forwarded-protocol x-forwarded-scheme x-forwarded-ssl x-scheme x-url-scheme front-end-https"
)
_FRAMING = _names("content-length transfer-encoding")
_IMITATIONS = _imitations(_OURS | _FRAMING, "_!#$%&'*+.^`|~") | _imitations(_THEIRS, "_")

_NOT_FORWARDED = _HOP_BY_HOP | _OURS | _IMITATIONS | _names("host cookie content-length expect proxy")
_NOT_FORWARDED_UNTRUSTED = _NOT_FORWARDED | _THEIRS
_NOT_ANSWERED = _HOP_BY_HOP | _names("content-length via")
#: ``Connection`` never removes these (the others that it may not name are written anew in any case).
_NOT_CONNECTION_NAMED = _THEIRS | _names("authorization set-cookie date")
_NOT_TRAILING = (
    _NOT_FORWARDED_UNTRUSTED
    | _imitations(_HOP_BY_HOP, "_")
    | _names(
        "age authorization cache-control content-encoding content-location content-range content-type date expires "
        "if-match if-modified-since if-none-match if-range if-unmodified-since location max-forwards pragma range "
        "retry-after set-cookie trailer vary warning www-authenticate authentication-info"
    )
)

#: Values of a Connection field that name no other field.
_NAMES_NOTHING = frozenset(
    (b"close", b"keep-alive", b"Close", b"Keep-Alive", b"upgrade", b"Upgrade", b"keep-alive, Upgrade", b"")
)
_UNUSUAL = _names("x-request-id via expect")
_LENGTH_EXPECTED = frozenset((b"POST", b"PUT", b"PATCH"))
_COUNTED = frozenset((b"OPTIONS", b"TRACE"))
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}").fullmatch

_VIA = (b"1.0 stickyproxy\r\n", b"1.1 stickyproxy\r\n")
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_END = b"\r\n"
_CLOSE_END = b"Connection: close\r\n\r\n"
_KEEP_ALIVE_END = b"Connection: keep-alive\r\n\r\n"
_ENDS = (_KEEP_ALIVE_END, _END)  # by the minor version of the client
_UPGRADE_END = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
_STATUS_LINES = {
    (status.value, status.phrase.encode()): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())
    for status in HTTPStatus
}


def forward_request(
    head: RequestHead, identity: Identity, *, strip_cookie: bytes | None, request_id: bytes, upgrade: bool = False
) -> bytes:
    """The complete request head for the backend, its empty line included.

    ``strip_cookie`` is the name of the affinity cookie, ``request_id`` the id of a request that brings none of its own;
    ``upgrade`` asks the backend for a WebSocket. The content that follows is ``head.body``.
    """
    method, target, minor, fields, named, body, _, _, _ = head
    lines = [method, b" ", target, b" HTTP/1.1\r\n", identity.lines(head)]
    if b"connection" in named:
        fields = _without_named(fields, named[b"connection"])
    if method in _COUNTED:
        fields = [_count_down(field) if field[0] == b"max-forwards" else field for field in fields]
    dropped = _NOT_FORWARDED if identity.trusted else _NOT_FORWARDED_UNTRUSTED
    for name, original, value in fields:
        if name not in dropped:
            lines += (original, b": ", value, b"\r\n")
    if b"cookie" in named:
        lines.append(_cookies(named[b"cookie"], strip_cookie))
    if _UNUSUAL.isdisjoint(named):
        lines += (b"X-Request-ID: ", request_id, b"\r\nVia: ", _VIA[minor])
    else:
        lines.append(_unusual(head, request_id))
    if body:
        lines.append(_CHUNKED if body == CHUNKED else b"Content-Length: %d\r\n" % body)
    elif method in _LENGTH_EXPECTED or b"content-length" in named:
        lines.append(b"Content-Length: 0\r\n")
    lines.append(_UPGRADE_END if upgrade else _END)
    return b"".join(lines)


def own_request_id(head: RequestHead) -> bytes | None:
    """The X-Request-ID that the client sent, where there is one and it is well-formed."""
    ids = head.named.get(b"x-request-id")
    return ids[0] if ids is not None and len(ids) == 1 and _REQUEST_ID(ids[0]) else None


def stops_here(head: RequestHead) -> bool:
    """It is an OPTIONS or TRACE that Max-Forwards forbids to forward any further (RFC 9110 section 7.6.2)."""
    return head.method in _COUNTED and any(field[0] == b"max-forwards" and field[2] == b"0" for field in head.fields)


def forward_answer(
    head: ResponseHead,
    *,
    body: int,
    client_minor: int,
    keep_alive: bool,
    set_cookie: bytes | None,
    date: bytes,
    head_only: bool = False,
    upgrade: bool = False,
) -> bytes:
    """The complete response head for the client, its empty line included.

    ``body`` is the framing towards this client: bytes, ``CHUNKED`` (never to HTTP/1.0) or ``UNTIL_CLOSE``.
    ``head_only`` (an answer to HEAD) and a 304 keep the backend's Content-Length, which tells of what is not sent.
    ``set_cookie`` is a value of Set-Cookie, ``date`` stands in where the backend sent none, ``upgrade`` is a
    verified 101.
    """
    status, reason, minor, fields, named, _, _ = head
    lines = [_STATUS_LINES.get((status, reason)) or b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    if b"connection" in named:
        fields = _without_named(fields, named[b"connection"])
    for name, original, value in fields:
        if name not in _NOT_ANSWERED:
            lines += (original, b": ", value, b"\r\n")
    if b"date" not in named:
        lines += (b"Date: ", date, b"\r\n")
    if set_cookie is not None:
        lines += (b"Set-Cookie: ", set_cookie, b"\r\n")
    if body > 0:
        lines.append(b"Content-Length: %d\r\n" % body)
    elif body != UNTIL_CLOSE:
        lines.append(_CHUNKED if body == CHUNKED else _empty_framing(status, named, head_only))
    lines += (b"Via: ", _via(named[b"via"], minor) if b"via" in named else _VIA[minor])
    if upgrade:
        lines.append(_UPGRADE_END)
    else:
        if status == 426 and b"upgrade" in named:
            lines += (b"Upgrade: ", b", ".join(named[b"upgrade"]), b"\r\nConnection: Upgrade\r\n")
        lines.append(_ENDS[client_minor] if keep_alive and body != UNTIL_CLOSE else _CLOSE_END)
    return b"".join(lines)


def forward_interim(head: ResponseHead) -> bytes:
    """The complete head of a 1xx answer other than 101, its empty line included. HTTP/1.0 clients never get one."""
    fields = _without_named(head.fields, head.named[b"connection"]) if b"connection" in head.named else head.fields
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    lines += [b"%b: %b\r\n" % (original, value) for name, original, value in fields if name not in _NOT_ANSWERED]
    return b"".join(lines) + _END


def forward_trailers(fields: Iterable[Field]) -> list[Field]:
    """``fields`` without those that are never trailers: framing, routing, identity … (RFC 9110, 6.5.1)."""
    return [field for field in fields if field[0] not in _NOT_TRAILING]


def error_page(error: HTTPError, *, keep_alive: bool, head_only: bool, date: bytes) -> bytes:
    """A complete small answer that tells the client of ``error``; without its content for ``head_only``."""
    content = f"{error.status} {error.reason}\n\n{error.detail}\n".encode("utf-8", "replace")
    head = b"HTTP/1.1 %d %b\r\nDate: %b\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n%b" % (
        error.status,
        error.reason.encode(),
        date,
        error.fields,
    )
    end = _KEEP_ALIVE_END if keep_alive else _CLOSE_END
    return b"%bContent-Length: %d\r\n%b%b" % (head, len(content), end, b"" if head_only else content)


def http_date(seconds: float) -> bytes:
    """The value of a Date field (RFC 9110 section 5.6.7) for ``seconds`` since the epoch."""
    return formatdate(int(seconds), usegmt=True).encode()


class DateClock:
    """``http_date`` that remembers the current second."""

    __slots__ = ("_date", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._date = b""

    def at(self, seconds: float) -> bytes:
        """The value of a Date field for ``seconds`` since the epoch."""
        second = int(seconds)
        if second != self._second:
            self._second, self._date = second, http_date(second)
        return self._date


def _without_named(fields: list[Field], connection: list[bytes]) -> list[Field]:
    """``fields`` without those that ``Connection`` names and may name."""
    if len(connection) == 1 and connection[0] in _NAMES_NOTHING:
        return fields
    named = set(connection_tokens(connection)) - _NOT_CONNECTION_NAMED
    return [field for field in fields if field[0] not in named]


def _count_down(field: Field) -> Field:
    name, original, value = field
    return name, original, b"%d" % max(0, int(value) - 1) if value.isdigit() and len(value) < 10 else value


def _cookies(values: list[bytes], strip_cookie: bytes | None) -> bytes:
    if strip_cookie is not None:
        values = [rest for value in values if (rest := strip(value, strip_cookie))]
    return b"Cookie: %b\r\n" % b"\r\nCookie: ".join(values) if values else b""


def _unusual(head: RequestHead, request_id: bytes) -> bytes:
    """What becomes of an X-Request-ID, Via or Expect from the client."""
    named, minor = head.named, head.minor
    line = b"X-Request-ID: %b\r\nVia: %b" % (own_request_id(head) or request_id, _via(named.get(b"via", []), minor))
    expect = [value.lower() for value in named.get(b"expect", ())]
    return line + b"Expect: 100-continue\r\n" if minor and head.body and expect == [b"100-continue"] else line


def _via(values: list[bytes], minor: int) -> bytes:
    return b", ".join([*values, _VIA[minor]])


def _empty_framing(status: int, named: dict[bytes, list[bytes]], head_only: bool) -> bytes:
    """The framing of an answer without content (RFC 9110 section 8.6)."""
    if status < 200 or status == 204:
        return b""
    if head_only or status == 304:
        length = named.get(b"content-length", ())
        return b"Content-Length: %b\r\n" % length[0] if len(length) == 1 and length[0].isdigit() else b""
    return b"Content-Length: 0\r\n"
