"""Affinity by a cookie of our own, which the backends never see (HAProxy: ``cookie NAME insert indirect``). Floor 2.

The client keeps the memory, in a signed token, so it outlives restarts and is good in every process that has the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from zope.interface import alsoProvides, implementer

from stickyproxy.interfaces import IAffinity, IHidingAffinity, ISettingAffinity
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.affinity.manners import Manner
from stickyproxy.sansio.cookies import CookieTemplate, find
from stickyproxy.sansio.tokens import Scheme


@implementer(IAffinity)
class CookieAffinity:
    """``clock()`` gives seconds since the epoch.

    A cookie that is forged, cut, of another cluster, or there twice with different values is as if it were absent. A
    token of an older key is honoured, and replaced by one of the newest. TCP has no cookies: there nobody is bound.

    ``tokens`` are of the cluster and the cookie's name. ``manners`` say when it is set, one after another.
    ``indirect`` False: backends see it.
    """

    remembers = True

    def __init__(
        self,
        template: CookieTemplate,
        tokens: Scheme,
        clock: Callable[[], float],
        *,
        manners: Sequence[Manner] = (),
        indirect: bool = True,
    ) -> None:
        self.cookie = template.name.encode("ascii")
        self._mark = self.cookie + b"="
        self._template = template
        self._tokens = tokens
        self._clock = clock
        self._manners = tuple(manners)
        self.renews = self._tokens.renews
        if manners:
            alsoProvides(self, ISettingAffinity)
        if not indirect:
            alsoProvides(self, IHidingAffinity)

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
        return None if token is None else self._tokens.recall(token, arrival)

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        head = arrival.head
        if head is None:
            return None
        fields = head.named.get(b"cookie")
        token = None if fields is None else find(fields, self._mark)
        if token is not None and lifetime is None and self._tokens.is_current(token, backend_id, arrival):
            return None
        issued = self._tokens.issue(backend_id, self._clock(), arrival, token, lifetime)
        return self._template.set(issued, arrival.secure, lifetime)

    def forget(self, arrival: Arrival) -> bytes | None:
        head = arrival.head
        if head is None or find(head.named.get(b"cookie", ()), self._mark) is None:
            return None
        return self._template.end(arrival.secure)

    def hide(self, value: bytes) -> bytes:
        """Nothing: where this is asked for, backends see the cookie."""
        return value

    def setting(
        self, arrival: Arrival, head: ResponseHead, set_cookie: bytes | None
    ) -> tuple[ResponseHead, bytes | None]:
        for manner in self._manners:
            head, set_cookie = manner(arrival, head, set_cookie)
        return head, set_cookie
