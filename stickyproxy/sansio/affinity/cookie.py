"""Affinity by a cookie of our own, which the backends never see (HAProxy: ``cookie NAME insert indirect``). Floor 2.

The client keeps the memory, in a signed token, so it outlives restarts and is good in every process that has the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zope.interface import implementer

from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Arrival
from stickyproxy.sansio.cookies import CookieTemplate, find
from stickyproxy.sansio.tokens import KeyRing, Tokens


@implementer(IAffinity)
class CookieAffinity:
    """``clock()`` gives seconds since the epoch.

    A cookie that is forged, cut, of another cluster, or there twice with different values is as if it were absent. A
    token of an older key is honoured, and replaced by one of the newest. TCP has no cookies: there nobody is bound.
    """

    remembers = True

    def __init__(self, template: CookieTemplate, key_ring: KeyRing, cluster: str, clock: Callable[[], float]) -> None:
        self.cookie = template.name.encode("ascii")
        self._mark = self.cookie + b"="
        self._template = template
        self._tokens = Tokens(key_ring, cluster, self.cookie)
        self._clock = clock
        self.renews = len(key_ring) > 1

    def members(self, ids: Iterable[str]) -> None:
        self._tokens.members(ids)

    def recall(self, arrival: Arrival) -> str | None:
        head = arrival.head
        if head is None:
            return None
        fields = head.named.get(b"cookie")
        if fields is None:
            return None
        token = find(fields, self._mark)
        return None if token is None else self._tokens.recall(token)

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        head = arrival.head
        if head is None:
            return None
        fields = head.named.get(b"cookie")
        if fields is not None and lifetime is None:
            token = find(fields, self._mark)
            if token is not None and self._tokens.is_current(token, backend_id):
                return None
        return self._template.set(self._tokens.issue(backend_id, self._clock()), arrival.secure, lifetime)

    def forget(self, arrival: Arrival) -> bytes | None:
        head = arrival.head
        if head is None or find(head.named.get(b"cookie", ()), self._mark) is None:
            return None
        return self._template.end(arrival.secure)
