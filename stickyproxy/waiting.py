"""Clients that wait for a place: no backend serves more than it may, and who comes first is served first. Floor 3.

What HAProxy has as ``maxconn``, ``timeout queue`` and ``maxqueue``, nginx as ``max_conns`` and ``queue``. A client that
is bound waits for its own backend, anybody else for any.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from itertools import count
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from stickyproxy.errors import NoPlace
from stickyproxy.model import Arrival, BackendState, Outcome
from stickyproxy.sansio.line import Line
from stickyproxy.sansio.selection import Choice, Selected, has_room

if TYPE_CHECKING:
    from stickyproxy.member import Member

_LATER = b"Retry-After: 5\r\n"
_KEPT = Outcome.KEPT


class Waiter:
    """One client. ``told`` fires with the member whose place it has; with None where it is to ask anew."""

    __slots__ = ("end", "number", "place", "told", "tried")

    def __init__(self, number: int, place: str | None, tried: AbstractSet[str], told: Deferred[Member | None]) -> None:
        self.number = number
        self.place = place
        self.tried = tried
        self.told = told
        self.end: IDelayedCall


class LimitedSelection:
    """``inner``, with an awaitable of a choice where there is no place: it fails with ``NoPlace`` in the end.

    ``down()``: the ids of those that are not to be asked. ``size`` clients may wait, each for ``patience`` seconds;
    ``backups_when_full``: also for a place with those that are there for when all others are gone.
    """

    def __init__(self, members: Mapping[str, Member], down: Callable[[], AbstractSet[str]]) -> None:
        self.inner: Callable[..., Selected[Member]]
        self.size = 0
        self.patience = 0.0
        self.backups_when_full = False
        self._members = members
        self._down = down
        self._line: Line[Waiter] = Line()
        self._numbers = count()
        self._freed: dict[str, Member] = {}
        self._serving = False

    def select(self, arrival: Arrival, tried: AbstractSet[str] = frozenset()) -> Selected[Member]:
        """Who serves ``arrival``; see ``selection.select``."""
        selected = self.inner(arrival, tried)
        if selected is None or (isinstance(selected, Choice) and has_room(selected.candidate)):
            return selected
        return self._select_later(arrival, tried, selected)

    def waiting(self, id: str | None) -> int:
        """How many wait for that backend; None: for any."""
        return self._line.waiting(id)

    def freed(self, member: Member) -> None:
        """``member`` serves one client less."""
        if not self._line.length:
            return
        self._freed[member.id] = member
        if self._serving:  # somebody who was just given a place has lost it already
            return
        self._serving = True
        try:
            while self._freed:
                self._serve(self._freed.popitem()[1])
        finally:
            self._serving = False

    def changed(self) -> None:
        """Members are there, or are in a state, that were not: everybody asks anew, in the order in which they came."""
        for waiter in self._line.everybody():
            self._tell(waiter, None)

    async def _select_later(
        self, arrival: Arrival, tried: AbstractSet[str], selected: Selected[Member]
    ) -> Choice[Member] | None:
        choice = await _known(selected)
        number, until = -1, 0.0
        while choice is not None and not has_room(choice.candidate):
            if number < 0:
                number, until = next(self._numbers), choice.candidate.seconds() + self.patience
                if self._line.length >= self.size:
                    raise NoPlace("too many are waiting to be served", fields=_LATER)
            place = choice.candidate.id if choice.outcome is _KEPT else None
            given = await self._wait(number, place, tried, until - choice.candidate.seconds(), choice.candidate)
            if given is not None:
                return choice._replace(candidate=given)
            choice = await _known(self.inner(arrival, tried))
        return choice

    def _wait(
        self, number: int, place: str | None, tried: AbstractSet[str], seconds: float, clock: Member
    ) -> Deferred[Member | None]:
        told: Deferred[Member | None] = Deferred(lambda _: self._leave(waiter))
        waiter = Waiter(number, place, tried, told)
        self._line.join(number, place, waiter)
        waiter.end = clock.later(max(0.0, seconds), lambda: self._give_up(waiter))
        return told

    def _leave(self, waiter: Waiter) -> None:
        self._line.leave(waiter.number, waiter.place)
        if waiter.end.active():
            waiter.end.cancel()

    def _tell(self, waiter: Waiter, member: Member | None) -> None:
        self._leave(waiter)
        waiter.told.callback(member)

    def _give_up(self, waiter: Waiter) -> None:
        self._leave(waiter)
        waiter.told.errback(NoPlace("no place was free in time", fields=_LATER))

    def _serve(self, member: Member) -> None:
        """Whoever is next has the places that ``member`` has now."""
        while self._may_serve(member):
            may = (lambda waiter: member.id not in waiter.tried) if self._takes_new(member) else None
            waiter = self._line.first(member.id, may)
            if waiter is None:
                break
            before = member.active
            if member.health is not None:
                member.health.asked()
            self._tell(waiter, member)
            if member.active == before and not self._freed:  # it has left, or it is slow to take its place
                break

    def _may_serve(self, member: Member) -> bool:
        there = self._members.get(member.id) is member and member.state is not BackendState.MAINTENANCE
        return there and has_room(member) and member.id not in self._down()

    def _takes_new(self, member: Member) -> bool:
        if member.state is not BackendState.UP or not member.weight:
            return False
        if not member.backup or self.backups_when_full:
            return True
        down = self._down()
        first = (each for each in self._members.values() if not each.backup and each.id not in down)
        return not any(each.state is BackendState.UP and each.weight for each in first)


async def _known(selected: Selected[Member]) -> Choice[Member] | None:
    if selected is None or isinstance(selected, Choice):
        return selected
    awaited: Awaitable[Choice[Member] | None] = selected
    return await awaited
