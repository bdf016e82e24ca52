"""Affinity by a prefix of the application's own cookie (HAProxy: ``cookie NAME prefix``). Floor 2.

For clients that take no second cookie: ``Set-Cookie: ID=value`` of an answer becomes ``ID=TOKEN~value``, and the
backend gets ``ID=value`` again. The token is as opaque and as genuine as that in a cookie of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAnsweringAffinity, IHidingAffinity
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.cookies import find, set_value, with_value
from stickyproxy.sansio.fields import changed
from stickyproxy.sansio.tokens import Scheme, looks_like_token


@implementer(IAnsweringAffinity, IHidingAffinity)
class PrefixAffinity:
    """``name`` is the application's cookie, ``clock()`` gives seconds since the epoch.

    Whoever answers with the cookie is whom the client is bound to; an empty value, which ends a session, stays as it
    is. What has the form of a token is taken off, genuine or not: the application never sees one.
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
        if value is None:
            return None
        token, tilde, _ = value.partition(b"~")
        return self._tokens.recall(token, arrival) if tilde else None

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        """The application sets its cookie when it wants to."""
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        """Only the application can end its cookie."""
        return None

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

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        def mark(set_cookie: bytes) -> bytes:
            value = set_value(set_cookie, self._mark)
            if not value:
                return set_cookie
            token = self._tokens.issue(backend_id, self._clock(), arrival, None, None)
            return with_value(set_cookie, token + b"~" + value)

        return head._replace(plain=changed(head.plain, b"set-cookie", mark))
