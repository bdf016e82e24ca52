"""Affinity by a cookie that is the application's (HAProxy: ``cookie NAME rewrite``, ``cookie NAME prefix``). Floor 2.

The application decides who is bound, when and for how long; whoever answers with the cookie is whom the client is bound
to. The token in it is as opaque and as genuine as that in a cookie of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAnsweringAffinity, IHidingAffinity
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.cookies import find, set_value, with_value
from stickyproxy.sansio.fields import changed
from stickyproxy.sansio.tokens import Scheme, looks_like_token


@implementer(IAnsweringAffinity)
class RewriteAffinity:
    """What the application gives as the value does not matter, and it gets our token back. An empty value ends it.

    ``name`` is the application's cookie, ``clock()`` gives seconds since the epoch.
    """

    remembers, renews = True, False
    cookie: bytes | None = None

    def __init__(self, name: str, tokens: Scheme, clock: Callable[[], float]) -> None:
        self._mark = name.encode("ascii") + b"="
        self._tokens = tokens
        self._clock = clock

    def members(self, ids: Iterable[str]) -> None:
        self._tokens.members(ids)

    def recall(self, arrival: Arrival) -> str | None:
        head = arrival.head
        fields = None if head is None else head.named.get(b"cookie")
        value = None if fields is None else find(fields, self._mark)
        token = None if value is None else self._token(value)
        return None if token is None else self._tokens.recall(token, arrival)

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        """The application sets its cookie when it wants to."""
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        """Only the application can end its cookie."""
        return None

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        def mark(set_cookie: bytes) -> bytes:
            value = set_value(set_cookie, self._mark)
            if not value:
                return set_cookie
            token = self._tokens.issue(backend_id, self._clock(), arrival, None, None)
            return with_value(set_cookie, self._value(token, value))

        return head._replace(plain=changed(head.plain, b"set-cookie", mark))

    def _token(self, value: bytes) -> bytes | None:
        """The token in a value that a client sends."""
        return value

    def _value(self, token: bytes, value: bytes) -> bytes:
        """What the client gets for the application's ``value``."""
        return token


@implementer(IHidingAffinity)
class PrefixAffinity(RewriteAffinity):
    """``Set-Cookie: ID=value`` becomes ``ID=TOKEN~value``, and the backend gets ``ID=value`` again.

    For clients that take no second cookie. What has the form of a token is taken off, genuine or not: the application
    never sees one.
    """

    def hide(self, value: bytes) -> bytes:
        if self._mark not in value:
            return value
        return b";".join([self._without_token(pair) for pair in value.split(b";")])

    def _without_token(self, pair: bytes) -> bytes:
        bare = pair.lstrip(b" \t")
        if not bare.startswith(self._mark):
            return pair
        token, tilde, own = bare[len(self._mark) :].partition(b"~")
        if not tilde or not looks_like_token(token):
            return pair
        return pair[: len(pair) - len(bare)] + self._mark + own

    def _token(self, value: bytes) -> bytes | None:
        token, tilde, _ = value.partition(b"~")
        return token if tilde else None

    def _value(self, token: bytes, value: bytes) -> bytes:
        return token + b"~" + value
