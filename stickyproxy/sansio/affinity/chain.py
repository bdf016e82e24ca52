"""Several affinities as one: the first that knows a client is right, and all remember it. Floor 2.

So a client that lost its cookie is still known by its user name, and gets a new cookie. Affinities that keep their
sessions in a table make one session of all their keys; their store is the same one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from zope.interface import alsoProvides, implementer

from stickyproxy.interfaces import (
    IAffinity,
    IAnsweringAffinity,
    IHidingAffinity,
    IRankingAffinity,
    IReadingAffinity,
    ISettingAffinity,
    IStrictAffinity,
)
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.affinity.table import TableAffinity
from stickyproxy.sansio.cookies import strip


@implementer(IAnsweringAffinity, IHidingAffinity, IRankingAffinity, IStrictAffinity)
class ChainAffinity:
    """``links`` are asked in order. At most one of them may have a cookie of its own; a ValueError says so."""

    remembers = True
    renews = True  # what one link knows all are to know

    def __init__(self, links: Sequence[IAffinity]) -> None:
        cookies = [link.cookie for link in links if link.cookie is not None]
        if len(cookies) > 1:
            raise ValueError("only one affinity of a chain may have a cookie of its own")
        self.cookie: bytes | None = cookies[0] if cookies else None
        self.links = tuple(links)
        self._tables = tuple(link for link in links if isinstance(link, TableAffinity))
        self._others = tuple(link for link in links if not isinstance(link, TableAffinity))
        self._ranking = tuple(link for link in links if IRankingAffinity.providedBy(link))
        self._answering = tuple(link for link in links if IAnsweringAffinity.providedBy(link))
        self._strict = tuple(link for link in links if IStrictAffinity.providedBy(link))
        self._reading = tuple(link for link in links if IReadingAffinity.providedBy(link))
        if self._reading:  # else nobody asks for it
            alsoProvides(self, IReadingAffinity)
        self._setting = tuple(link for link in links if ISettingAffinity.providedBy(link))
        if self._setting:
            alsoProvides(self, ISettingAffinity)
        self._hides = tuple(hide for link in links if (hide := hiding(link)) is not None)
        self._ids: frozenset[str] = frozenset()

    def members(self, ids: Iterable[str]) -> None:
        self._ids = frozenset(ids)
        for link in self.links:
            link.members(self._ids)

    def recall(self, arrival: Arrival) -> str | Awaitable[str | None] | None:
        return self._recall(arrival, self.links, None)

    def _recall(
        self, arrival: Arrival, links: Sequence[IAffinity], gone: str | None
    ) -> str | Awaitable[str | None] | None:
        """What the first of ``links`` says that knows a backend of the cluster, else what one says of a former one."""
        for place, link in enumerate(links, 1):
            recalled = link.recall(arrival)
            if isinstance(recalled, str):
                if recalled in self._ids:
                    return recalled
                gone = recalled
            elif recalled is not None:
                return self._recall_later(arrival, recalled, links[place:], gone)
        return gone

    async def _recall_later(
        self, arrival: Arrival, recalled: Awaitable[str | None], links: Sequence[IAffinity], gone: str | None
    ) -> str | None:
        known = await recalled
        if known in self._ids:
            return known
        rest = self._recall(arrival, links, known or gone)
        return rest if rest is None or isinstance(rest, str) else await rest

    def ranking(self, arrival: Arrival) -> Sequence[str]:
        return next((ranking for link in self._ranking if (ranking := link.ranking(arrival))), ())

    def weights(self, weights: Mapping[str, int]) -> None:
        for link in self._ranking:
            link.weights(weights)

    def bind(self, arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        keys = [key for table in self._tables if (key := table.key(arrival)) is not None]
        if keys:
            self._tables[0].sessions.bind(keys, backend_id, lifetime)
        set_cookie = [link.bind(arrival, backend_id, lifetime) for link in self._others]
        return next(filter(None, set_cookie), None)

    def forget(self, arrival: Arrival) -> bytes | None:
        return next(filter(None, [link.forget(arrival) for link in self.links]), None)

    def hide(self, value: bytes) -> bytes:
        for hide in self._hides:
            value = hide(value)
        return value

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        for link in self._answering:
            head = link.answered(arrival, backend_id, head)
        return head

    def lost_status(self, arrival: Arrival) -> int:
        return next((status for link in self._strict if (status := link.lost_status(arrival))), 0)

    def reader(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> Callable[[bytes, bool], bool] | None:
        """Of the first link that wants the content: there is no answer that two of them look at."""
        readers = (link.reader(arrival, backend_id, head) for link in self._reading)
        return next((reader for reader in readers if reader is not None), None)

    def setting(
        self, arrival: Arrival, head: ResponseHead, set_cookie: bytes | None
    ) -> tuple[ResponseHead, bytes | None]:
        for link in self._setting:
            head, set_cookie = link.setting(arrival, head, set_cookie)
        return head, set_cookie


def hiding(affinity: IAffinity) -> Callable[[bytes], bytes] | None:
    """What makes of the value of a Cookie field what the backend is to see, if that is not all of it."""
    if IHidingAffinity.providedBy(affinity):
        hide: Callable[[bytes], bytes] = affinity.hide
        return hide
    if affinity.cookie is None:
        return None
    mark = affinity.cookie + b"="
    return lambda value: strip(value, mark)
