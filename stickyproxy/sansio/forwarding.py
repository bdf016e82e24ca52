"""Heads as they are sent on: requests to the backend, answers to the client. Floor 2, pure.

RFC 9110 section 7.6 and RFC 9112 as an intermediary. One pass over the fields drops what belongs to one connection only
and what is ours to say; framing, Via, Date, the client's identity and our cookie are then written anew.

A field that imitates one of ours or a framing field by another separator (``Content_Length``, ``X_Forwarded.For``) is
dropped from requests: CGI, WSGI and their kind make one variable of all of them. So is ``Proxy``, which CGI makes the
variable HTTP_PROXY of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus

from stickyproxy.errors import BadRequest, HTTPError
from stickyproxy.model import CHUNKED, UNTIL_CLOSE, Field, RequestHead, ResponseHead
from stickyproxy.sansio.fields import (
    FRAMING,
    HANDSHAKE,
    HOP_BY_HOP,
    IMITATIONS,
    OURS,
    STEERING,
    THEIRS,
    imitations,
    names,
    removable,
)
from stickyproxy.sansio.http1 import tokens_of
from stickyproxy.sansio.identity import Identity

_NOT_TRAILING = (
    HOP_BY_HOP
    | OURS
    | THEIRS
    | FRAMING
    | IMITATIONS
    | HANDSHAKE.keys()
    | imitations(HOP_BY_HOP, "_")
    | STEERING
    | names("host cookie expect proxy")
    | names(
        "age authorization cache-control content-encoding content-location content-range content-type date expires "
        "if-match if-modified-since if-none-match if-range if-unmodified-since location max-forwards pragma range "
        "retry-after set-cookie trailer vary warning www-authenticate authentication-info"
    )
)

#: What of a request is written by ``_unusual``, where it is there at all.
_UNUSUAL = names("via expect max-forwards") | THEIRS | HANDSHAKE.keys()
_LENGTH_EXPECTED = frozenset((b"POST", b"PUT", b"PATCH"))
_COUNTED = frozenset((b"OPTIONS", b"TRACE"))
_HOPS = re.compile(rb"[0-9]{1,9}").fullmatch
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

Hide = Callable[[bytes], bytes]


def forward_request(
    head: RequestHead, identity: Identity, hide: Hide | None, request_id: bytes, upgrade: bool = False
) -> bytes:
    """The complete request head for the backend, its empty line included.

    ``hide`` makes of the value of a Cookie field what the backend is to see; ``request_id`` is what X-Request-ID shall
    say (``request_id_of``); ``upgrade`` asks the backend for a WebSocket. The content that follows is ``head.body``.
    """
    method, target, minor, plain, named, body, _, _, _ = head
    out = [method, b" ", target, b" HTTP/1.1\r\n", identity.lines(head), *plain]
    for value in named.get(b"cookie", ()):
        left = value if hide is None else hide(value)
        if left:
            out += (b"Cookie: ", left, b"\r\n")
    if _UNUSUAL.isdisjoint(named):
        out += (b"X-Request-ID: ", request_id, b"\r\nVia: ", _VIA[minor])
    else:
        out.append(_unusual(head, request_id, trusted=identity.trusted, upgrade=upgrade))
    if body:
        out.append(_CHUNKED if body == CHUNKED else b"Content-Length: %d\r\n" % body)
    elif method in _LENGTH_EXPECTED or b"content-length" in named:
        out.append(b"Content-Length: 0\r\n")
    out.append(_UPGRADE_END if upgrade else _END)
    return b"".join(out)


def request_id_of(head: RequestHead, identity: Identity, fresh: bytes) -> bytes:
    """The X-Request-ID that a trusted peer sent, where there is one and it is well-formed; else ``fresh``.

    Anyone else could make two requests one in every log behind us (nginx ``$request_id``, Envoy at an edge).
    """
    ids = head.named.get(b"x-request-id") if identity.trusted else None
    return ids[0] if ids is not None and len(ids) == 1 and _REQUEST_ID(ids[0]) else fresh


def check_hops(head: RequestHead) -> None:
    """Raise ``HTTPError`` for a request that Max-Forwards forbids to forward any further (RFC 9110 section 7.6.2)."""
    hops = head.named.get(b"max-forwards")
    if hops is None or head.method not in _COUNTED:
        return
    if len(hops) != 1 or not _HOPS(hops[0]):
        raise BadRequest("Max-Forwards is not one decimal number")
    if not int(hops[0]):
        raise HTTPError("Max-Forwards ends here", status=501 if head.method == b"TRACE" else 200)


def forward_answer(
    head: ResponseHead,
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
    status, reason, minor, plain, named, _, _ = head
    out = [_STATUS_LINES.get((status, reason)) or b"HTTP/1.1 %d %b\r\n" % (status, reason), *plain]
    dates = named.get(b"date")
    out += (b"Date: ", date if dates is None else dates[0], b"\r\n")
    if set_cookie is not None:
        out += (b"Set-Cookie: ", set_cookie, b"\r\n")
    if body > 0:
        out.append(b"Content-Length: %d\r\n" % body)
    elif body != UNTIL_CLOSE:
        out.append(_CHUNKED if body == CHUNKED else _empty_framing(status, named, head_only))
    out += (b"Via: ", _via(named[b"via"], minor) if b"via" in named else _VIA[minor])
    if upgrade:
        out += (_handshake(named), _UPGRADE_END)
    else:
        if status == 426:
            out.append(_upgrade_required(named))
        out.append(_ENDS[client_minor] if keep_alive and body != UNTIL_CLOSE else _CLOSE_END)
    return b"".join(out)


def forward_interim(head: ResponseHead) -> bytes:
    """The complete head of a 1xx answer other than 101, its empty line included. HTTP/1.0 clients never get one."""
    return b"".join((b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason), *head.plain, b"\r\n"))


def forward_trailers(fields: Iterable[Field], head: RequestHead | None = None) -> list[Field]:
    """``fields`` without those that are never trailers: framing, routing, identity … (RFC 9110, 6.5.1).

    Nor do those go further that the Connection of ``head`` names (section 7.6.1).
    """
    named = removable(tokens_of(head.named[b"connection"])) if head and b"connection" in head.named else ()
    return [field for field in fields if field[0] not in _NOT_TRAILING and field[0] not in named]


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


def _unusual(head: RequestHead, request_id: bytes, *, trusted: bool, upgrade: bool) -> bytes:
    """What becomes of the less usual fields with a meaning; X-Request-ID and Via with or without them."""
    named, minor = head.named, head.minor
    out = [b"X-Request-ID: %b\r\nVia: %b" % (request_id, _via(named.get(b"via", []), minor))]
    if minor and head.body and b"expect" in named:
        out.append(b"Expect: 100-continue\r\n")
    if b"max-forwards" in named:
        left = named[b"max-forwards"][0]
        if head.method in _COUNTED:
            left = b"%d" % (int(left) - 1)
        out.append(b"Max-Forwards: %b\r\n" % left)
    if trusted:
        out += [b"%b: %b\r\n" % (name, value) for name in THEIRS & named.keys() for value in named[name]]
    if upgrade:
        out.append(_handshake(named))
    return b"".join(out)


def _handshake(named: dict[bytes, list[bytes]]) -> bytes:
    """The fields of a WebSocket's handshake; where there is none they mean nothing, and are dropped."""
    present = [(spelled, value) for name, spelled in HANDSHAKE.items() for value in named.get(name, ())]
    return b"".join([b"%b: %b\r\n" % field for field in present])


def _upgrade_required(named: dict[bytes, list[bytes]]) -> bytes:
    """What makes a 426 worth its name (RFC 9110 section 15.5.22)."""
    upgrade = named.get(b"upgrade")
    return _handshake(named) + (
        b"Upgrade: %b\r\nConnection: Upgrade\r\n" % b", ".join(upgrade) if upgrade is not None else b""
    )


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
