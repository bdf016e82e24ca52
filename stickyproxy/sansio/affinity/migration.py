"""Affinity by the cookies of another proxy, whose place we take: no session is lost. Floor 2, pure.

It only recalls. In a chain behind a cookie of our own, who is known by the other's cookie is bound to the same backend
and gets ours in the same answer. When that has come back, the other one is ended: before, a browser that refuses ours
would be left without any.

A forged cookie chooses a backend of the cluster, as it did at the other proxy, and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zope.interface import implementer

from stickyproxy.interfaces import IAffinity, IAnsweringAffinity
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.affinity.foreign import Reader
from stickyproxy.sansio.cookies import CookieTemplate, find


class ForeignCookie(NamedTuple):
    """``mark``: the name and ``=``. ``template``: what ends it, None: it is not to be ended."""

    mark: bytes
    read: Reader
    template: CookieTemplate | None


@implementer(IAnsweringAffinity)
class MigrationAffinity:
    """The first of ``accepted`` that names a member is right. ``own`` is the affinity by our own cookie.

    A cookie that is there twice with different values is as if absent, as everywhere.
    """

    remembers = True
    renews = False
    cookie: bytes | None = None

    def __init__(self, accepted: Sequence[ForeignCookie], own: IAffinity) -> None:
        self._accepted = tuple(accepted)
        self._ended = tuple(cookie for cookie in accepted if cookie.template is not None)
        self._own = own
        self._ids: frozenset[str] = frozenset()

    def members(self, ids: Iterable[str]) -> None:
        self._ids = frozenset(ids)

    def recall(self, arrival: Arrival) -> str | None:
        fields = _cookies(arrival)
        if not fields:
            return None
        for cookie in self._accepted:
            value = find(fields, cookie.mark)
            if value is not None and (known := cookie.read(value)) in self._ids:
                return known
        return None

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        return None

    def forget(self, arrival: Arrival) -> bytes | None:
        return None

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        """Ends the other's cookies of a client that shows ours already."""
        fields = _cookies(arrival)
        if not fields:
            return head
        plain = list(head.plain)
        for cookie in self._ended:
            value = find(fields, cookie.mark)
            if value is None or cookie.read(value) is None or not isinstance(self._own.recall(arrival), str):
                continue
            assert cookie.template is not None
            plain += (b"Set-Cookie", b": ", cookie.template.end(arrival.secure), b"\r\n")
        return head if len(plain) == len(head.plain) else head._replace(plain=plain)


def _cookies(arrival: Arrival) -> Sequence[bytes]:
    head = arrival.head
    return () if head is None else head.named.get(b"cookie", ())
