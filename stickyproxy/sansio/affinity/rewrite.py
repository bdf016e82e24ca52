"""Affinity by a cookie that the application sets, and whose value is ours (HAProxy: ``cookie NAME rewrite``). Floor 2.

The application decides who is bound, when and for how long; what it gives as the value does not matter, and it gets
our token back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAnsweringAffinity
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.cookies import find, set_value, with_value
from stickyproxy.sansio.fields import changed
from stickyproxy.sansio.tokens import Scheme


@implementer(IAnsweringAffinity)
class RewriteAffinity:
    """``name`` is the application's cookie, ``clock()`` gives seconds since the epoch. An empty value ends it."""

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
        token = None if fields is None else find(fields, self._mark)
        return None if token is None else self._tokens.recall(token, arrival)

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        """The application sets its cookie when it wants to."""
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        """Only the application can end its cookie."""
        return None

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        def rewrite(set_cookie: bytes) -> bytes:
            if not set_value(set_cookie, self._mark):
                return set_cookie
            return with_value(set_cookie, self._tokens.issue(backend_id, self._clock(), arrival, None, None))

        return head._replace(plain=changed(head.plain, b"set-cookie", rewrite))
