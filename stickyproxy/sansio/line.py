"""A line of those who wait for a place with a backend: first come, first served. Floor 2, pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

W = TypeVar("W")


class Line(Generic[W]):
    """Who waits, by number, each for the place of one backend (its id) or of any (None).

    Numbers say who came first. Every step takes about the same time, however long the line is.
    """

    def __init__(self) -> None:
        self.length = 0
        self._places: dict[str | None, OrderedDict[int, W]] = {}

    def join(self, number: int, place: str | None, waiter: W) -> None:
        """``waiter`` waits, behind the others for that place; before them, if it came before all of them."""
        here = self._places.setdefault(place, OrderedDict())
        goes_first = bool(here) and number < next(iter(here))
        here[number] = waiter
        if goes_first:
            here.move_to_end(number, last=False)
        self.length += 1

    def leave(self, number: int, place: str | None) -> None:
        """That one waits no more."""
        here = self._places[place]
        del here[number]
        if not here:
            del self._places[place]
        self.length -= 1

    def first(self, place: str, may: Callable[[W], bool] | None) -> W | None:
        """Who is next for the place of a backend: those who wait for it; and for any, as far as they ``may`` have it.

        None instead of ``may``: nobody of those.
        """
        own = next(iter(self._places.get(place, {}).items()), None)
        anybody: Mapping[int, W] = self._places.get(None, {}) if may is not None else {}
        other = next(((number, each) for number, each in anybody.items() if may is not None and may(each)), None)
        if own is None or (other is not None and other[0] < own[0]):
            return None if other is None else other[1]
        return own[1]

    def waiting(self, place: str | None) -> int:
        """How many wait for that place."""
        return len(self._places.get(place, ()))

    def everybody(self) -> list[W]:
        """All who wait, in the order in which they came."""
        numbered = [item for here in self._places.values() for item in here.items()]
        return [waiter for _, waiter in sorted(numbered, key=lambda item: item[0])]
