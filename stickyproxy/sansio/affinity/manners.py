"""When, and how, a cookie of our own is set: each manner is a function, made at configuration. Floor 2, pure."""

from __future__ import annotations

from collections.abc import Callable

from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.cookies import attributes_of, find, set_value

#: What becomes of an answer's head and of the Set-Cookie that is to be added to it (None: there is none).
Manner = Callable[[Arrival, ResponseHead, bytes | None], tuple[ResponseHead, bytes | None]]

#: What a cookie takes from that of the application; whether scripts may read it is its own matter.
_MIRRORED = frozenset((b"path", b"domain", b"max-age", b"expires", b"samesite", b"secure", b"partitioned"))


def post_only(arrival: Arrival, head: ResponseHead, set_cookie: bytes | None) -> tuple[ResponseHead, bytes | None]:
    """Set in answers to POST alone (HAProxy: ``postonly``)."""
    assert arrival.head is not None
    return head, set_cookie if arrival.head.method == b"POST" else None


def not_cached(arrival: Arrival, head: ResponseHead, set_cookie: bytes | None) -> tuple[ResponseHead, bytes | None]:
    """No shared cache keeps an answer that sets it (HAProxy: ``nocache``)."""
    if set_cookie is None:
        return head, None
    said = b",".join(head.values(b"cache-control")).lower().replace(b" ", b"").split(b",")
    if b"private" in said or b"no-store" in said:
        return head, set_cookie
    return head._replace(plain=[*head.plain, b"Cache-Control", b": ", b"private", b"\r\n"]), set_cookie


def preserving(name: bytes) -> Manner:
    """The application may set, or end, the cookie ``name`` itself, and that is what the client gets.

    (HAProxy: ``preserve``.)
    """
    mark = name + b"="

    def preserve(arrival: Arrival, head: ResponseHead, set_cookie: bytes | None) -> tuple[ResponseHead, bytes | None]:
        own = any(set_value(value, mark) is not None for value in head.values(b"set-cookie"))
        return head, None if own else set_cookie

    return preserve


def mirroring(name: bytes, application: bytes, http_only: bool) -> Manner:
    """Our cookie ``name`` lives as long and goes as far as that of the application: it is set when that is set.

    What was set before is set again, with the attributes that the answer gives to ``application``.
    """
    ours, theirs = name + b"=", application + b"="
    ending = b"; HttpOnly" if http_only else b""

    def mirror(arrival: Arrival, head: ResponseHead, set_cookie: bytes | None) -> tuple[ResponseHead, bytes | None]:
        given = [value for value in head.values(b"set-cookie") if set_value(value, theirs) is not None]
        assert arrival.head is not None
        token = find(arrival.head.named.get(b"cookie", ()), ours) if set_cookie is None else set_value(set_cookie, ours)
        if not given or not token:
            return head, set_cookie
        mirrored = (b"; " + text for text, name in attributes_of(given[-1]) if name in _MIRRORED)
        return head, b"".join((ours, token, *mirrored, ending))

    return mirror
